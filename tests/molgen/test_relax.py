"""Relaxation: energies against RDKit's own call and against physics, arguments left alone."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from diffcore.errors import ConfigError, DataError
from molgen.relax import relax_mmff, relax_xtb, superpose


def embedded(smiles: str, seed: int = 1) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=seed) == 0
    return mol


def strained(mol: Chem.Mol, size: float = 0.1) -> Chem.Mol:
    """A copy with every atom displaced."""
    copy = Chem.Mol(mol)
    positions = copy.GetConformer().GetPositions()
    noise = np.random.default_rng(0).normal(scale=size, size=positions.shape)
    copy.GetConformer().SetPositions(positions + noise)
    return copy


def test_superposition_undoes_a_rotation_and_is_never_a_reflection() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(7, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    assert np.allclose(superpose(points @ rotation + 3.0, points), points)
    mirrored = superpose(points * [1, 1, -1], points)
    assert np.abs(mirrored - points).max() > 0.1


def test_mmff_reaches_the_minimum_that_rdkit_reports() -> None:
    mol = strained(embedded("CC(=O)OCC"))
    before = mol.GetConformer().GetPositions().copy()
    relaxed = relax_mmff(mol)
    assert np.array_equal(mol.GetConformer().GetPositions(), before)
    again = Chem.Mol(relaxed.mol)
    (_, energy), *_ = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(again, mmffVariant="MMFF94s")
    assert relaxed.converged
    assert relaxed.energy_after == pytest.approx(energy, abs=0.01)
    assert relaxed.energy > 5
    assert 0.02 < relaxed.rmsd < 1


def test_a_minimum_stays_where_it_is() -> None:
    first = relax_mmff(embedded("CCO"))
    second = relax_mmff(first.mol)
    assert second.energy == pytest.approx(0, abs=1e-3)
    assert second.rmsd < 0.01


@pytest.mark.parametrize("relax", [relax_mmff, relax_xtb])
def test_what_cannot_be_relaxed_is_a_data_error(relax: object) -> None:
    if relax is relax_xtb:
        pytest.importorskip("tblite")
    with pytest.raises(DataError, match="3D conformer"):
        relax(Chem.AddHs(Chem.MolFromSmiles("CC")))  # type: ignore[operator]
    broken = Chem.RWMol(embedded("CC"))
    broken.AddBond(0, 7, Chem.BondType.DOUBLE)
    with pytest.raises(DataError, match="RDKit refuses"):
        relax(broken.GetMol())  # type: ignore[operator]


def test_mmff_says_which_molecules_it_does_not_know() -> None:
    with pytest.raises(DataError, match="no parameters"):
        relax_mmff(embedded("C[Se]C"))


def test_xtb_finds_the_water_molecule_from_a_stretched_one() -> None:
    """GFN2-xTB's own minimum lies at 0.959 Angstrom and 107 degrees (within a per cent)."""
    pytest.importorskip("tblite")
    water = embedded("O")
    water.GetConformer().SetPositions(np.array([[0, 0, 0], [1.2, 0, 0], [0, 1.2, 0.0]]))
    relaxed = relax_xtb(water, fmax=0.01)
    oxygen, *hydrogens = relaxed.mol.GetConformer().GetPositions()
    arms = [h - oxygen for h in hydrogens]
    lengths = [float(np.linalg.norm(arm)) for arm in arms]
    angle = np.degrees(np.arccos(arms[0] @ arms[1] / (lengths[0] * lengths[1])))
    assert relaxed.converged
    assert lengths == pytest.approx([0.959, 0.959], rel=0.01)
    assert angle == pytest.approx(107, rel=0.01)
    assert relaxed.energy > 20


def test_xtb_agrees_with_a_single_point_of_its_own_interface() -> None:
    interface = pytest.importorskip("tblite.interface")
    mol = embedded("C[NH3+]")
    relaxed = relax_xtb(mol, max_steps=3)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    for one, energy in ((mol, relaxed.energy_before), (relaxed.mol, relaxed.energy_after)):
        positions = one.GetConformer().GetPositions() / 0.529177210903
        method = interface.Calculator("GFN2-xTB", numbers, positions, charge=1)
        method.set("verbosity", 0)
        found = float(method.singlepoint()["energy"]) * 627.5094740631
        assert energy == pytest.approx(found, abs=1e-3)
    assert not relaxed.converged and relaxed.steps <= 5


def test_water_pulls_a_zwitterion_down_and_an_unknown_solvent_is_refused() -> None:
    pytest.importorskip("tblite")
    zwitterion = relax_mmff(embedded("[NH3+]CC(=O)[O-]")).mol
    vacuum = relax_xtb(zwitterion, max_steps=1).energy_before
    water = relax_xtb(zwitterion, solvent="water", max_steps=1).energy_before
    assert water < vacuum - 10
    with pytest.raises(ConfigError, match="solvent 'beer'"):
        relax_xtb(zwitterion, solvent="beer")


def test_without_tblite_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tblite", None)
    with pytest.raises(ConfigError, match=r'pip install "designloom\[energy\]"'):
        relax_xtb(embedded("C"))
