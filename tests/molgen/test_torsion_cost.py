"""What a torsional model thinks of a conformer's torsions: closed forms, invariance, chemistry."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rdkit.Chem import rdDistGeom, rdMolTransforms

from diffcore import random
from molgen.conformers import ConformerGenerator
from molgen.embedding import positions_of, prepared, with_conformers
from molgen.tasks.conformers import ConformerTask
from molgen.torsion_cost import torsion_nats
from molgen.weights.files import shipped
from tests.molgen.test_conformers import TASK


def embedded(smiles: str, angle: float | None = None, atoms: tuple[int, ...] = (0, 1, 2, 3)):
    mol = prepared(smiles)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    if angle is not None:
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), *atoms, angle)
    return mol


def test_values_between_grid_points_go_round_the_circle() -> None:
    process = ConformerTask().process()
    grid = process.grid(torch.zeros(1))
    values = torch.stack([grid.cos(), grid.sin()])
    for angle in (-math.pi, -3.13, -0.3, 0.0, 1.234, 3.1, math.pi, 2 * math.pi + 0.5):
        found = process.at(values, torch.full((2,), angle))
        assert found[0].item() == pytest.approx(math.cos(angle), abs=2e-3)
        assert found[1].item() == pytest.approx(math.sin(angle), abs=2e-3)


@pytest.mark.parametrize("kappa", [0.0, 0.7, 3.0])
def test_a_von_mises_density_by_hand(kappa: float) -> None:
    """-log p = log I0(kappa) - kappa cos(tau - mu), against a uniform density of zero."""
    process = ConformerTask().process()

    def network(encoded, angles, sigma, grid):
        assert sigma.shape == (3,)
        return (kappa * torch.cos(grid - 0.4)).expand(*angles.shape, -1)

    network.encode = lambda batch: None
    mols = [embedded("CCCC", degrees) for degrees in (180.0, 60.0, 22.9)]
    positions = np.concatenate([positions_of(mol) for mol in mols])
    denoiser = SimpleNamespace(network=network, process=process)
    found = torsion_nats(denoiser, mols[0], positions)
    angles = np.radians([180.0, 60.0, 22.9])
    expected = np.log(np.i0(kappa)) - kappa * np.cos(angles - 0.4)
    assert found == pytest.approx(expected, abs=0.01)


def test_turning_and_mirroring_change_nothing_and_rigid_molecules_cost_nothing() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(1).get_state())
        network = TASK.build().eval()
    denoiser = SimpleNamespace(network=network, process=TASK.process())
    mol = embedded("CC(C)CCOC(=O)c1ccccc1")
    pos = positions_of(mol)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    for q in (turn, -turn):  # one of both is a mirror
        assert torsion_nats(denoiser, mol, pos @ q + 5.0) == pytest.approx(
            torsion_nats(denoiser, mol, pos), abs=1e-4
        )
    benzene = embedded("c1ccccc1")
    assert torsion_nats(denoiser, benzene, positions_of(benzene)).tolist() == [0.0]
    assert torsion_nats(denoiser, mol, pos[:0]).shape == (0,)


def test_the_shipped_model_knows_its_torsions() -> None:
    if "bound" not in shipped():
        pytest.skip("the weights bound are not in this checkout")
    denoiser = ConformerGenerator.from_pretrained("bound").denoiser
    for smiles, atoms, usual, unusual in (
        ("CCCCC", (0, 1, 2, 3), 180.0, 0.0),
        ("COc1ccccc1", (0, 1, 2, 3), 0.0, 90.0),  # an aryl ether is flat
        ("CC(=O)Nc1ccccc1", (0, 1, 3, 4), 180.0, 90.0),  # an amide is trans
    ):
        mols = [embedded(smiles, angle, atoms) for angle in (usual, unusual)]
        good, bad = (torsion_nats(denoiser, m, positions_of(m))[0] for m in mols)
        assert good < bad - 1, smiles
    both = with_conformers(mols[0], np.concatenate([positions_of(m) for m in mols]))
    together = torsion_nats(denoiser, both, positions_of(both))
    assert together == pytest.approx([good, bad], abs=1e-4)
