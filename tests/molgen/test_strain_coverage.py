"""Strain of poses, coverage of ensembles, RMSD of very symmetric molecules."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms

from diffcore.errors import ConfigError, DataError
from molgen.evaluate import coverage, rmsd, strain


def relaxed(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=2) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol, "MMFF94s", 2000)
    return mol


def twisted(mol: Chem.Mol, angle: float) -> Chem.Mol:
    copy = Chem.Mol(mol)
    rdMolTransforms.SetDihedralDeg(copy.GetConformer(), 0, 1, 2, 3, angle)
    return copy


# -------------------------------------------------------------------------------------- strain


def test_the_best_conformer_has_no_strain_and_an_eclipsed_one_its_barrier() -> None:
    butane = relaxed("CCCC")
    anti = strain.mmff_strain(twisted(butane, 180))
    gauche = strain.mmff_strain(twisted(butane, 65))
    eclipsed = strain.mmff_strain(twisted(butane, 0))
    assert anti == pytest.approx(0, abs=0.05)
    assert 0.3 < gauche < 1.2  # 0.6 to 0.9 kcal/mol by experiment
    assert eclipsed > gauche + 1  # 5 without the slack of 0.3 Angstrom


def test_a_distorted_pose_relaxes_only_as_far_as_it_may() -> None:
    mol = relaxed("CCO")
    start = mol.GetConformer().GetPositions().copy()
    found = strain.conformations(twisted(mol, 0), n=5)
    assert np.linalg.norm(found.held - twisted(mol, 0).GetConformer().GetPositions(), axis=1).max()
    moved = np.linalg.norm(found.held - twisted(mol, 0).GetConformer().GetPositions(), axis=1)
    assert moved.max() < strain.SLACK + 0.15
    assert np.array_equal(start, mol.GetConformer().GetPositions())
    assert list(found.free.energies) == sorted(found.free.energies)
    assert found.held_energy >= found.free.energies[0] - 1e-6


def test_free_conformers_can_be_shared_between_poses() -> None:
    mol = relaxed("OCCCN")
    free = strain.free_conformers(strain.with_hydrogens(mol), n=10)
    own, shared = strain.conformations(mol, n=10), strain.conformations(mol, free=free)
    assert own.strain == pytest.approx(shared.strain, abs=1e-6)


def test_what_has_no_strain() -> None:
    with pytest.raises(DataError, match="expected a molecule with a 3D conformer"):
        strain.mmff_strain(Chem.MolFromSmiles("CC"))
    with pytest.raises(DataError, match="expected one fragment, got 2"):
        strain.mmff_strain(relaxed("C.C"))
    odd = Chem.AddHs(Chem.MolFromSmiles("C[Se]C"))
    rdDistGeom.EmbedMolecule(odd, randomSeed=1)
    with pytest.raises(DataError, match="MMFF94s has no parameters"):
        strain.mmff_strain(odd)


def test_water_takes_the_strain_off_an_open_zwitterion() -> None:
    """In vacuo the charges of a stretched amino acid pull; water screens them."""
    pytest.importorskip("tblite")
    mol = relaxed("[NH3+]CCCC(=O)[O-]")
    for i, j, k, m in ((0, 1, 2, 3), (1, 2, 3, 4)):
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), i, j, k, m, 180)
    found = strain.conformations(mol, n=5)
    vacuum, water = (strain.xtb_strain(found, solvent) for solvent in (None, "water"))
    assert water < vacuum - 5 and found.strain > water
    with pytest.raises(ConfigError, match="solvent 'soup'"):
        strain.xtb_strain(found, "soup")


# ------------------------------------------------------------------------------------ coverage


def test_coverage_by_hand() -> None:
    distances = np.array([[0.1, 2.0, 3.0], [0.6, 0.7, 3.0]])  # 2 generated, 3 known
    found = coverage.coverage(distances, threshold=0.75)
    assert found.cov_recall == pytest.approx(2 / 3)
    assert found.mat_recall == pytest.approx((0.1 + 0.7 + 3.0) / 3)
    assert found.cov_precision == 1
    assert found.mat_precision == pytest.approx((0.1 + 0.6) / 2)
    total = coverage.summarise([found, coverage.coverage(distances * 10, 0.75)])
    assert total["threshold"] == 0.75 and total["molecules"] == 2
    assert total["cov_recall_mean"] == pytest.approx(1 / 3)
    assert total["mat_precision_median"] == pytest.approx((0.35 + 3.5) / 2)


def test_recall_and_precision_change_places_with_the_roles() -> None:
    matrix = np.random.default_rng(0).uniform(0, 2, (7, 4))
    a, b = coverage.coverage(matrix), coverage.coverage(matrix.T)
    assert (a.cov_recall, a.mat_recall) == (b.cov_precision, b.mat_precision)


def test_an_ensemble_covers_itself() -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("CCCO"))
    rdDistGeom.EmbedMultipleConfs(mol, 4, randomSeed=1)
    matrix = coverage.rmsd_matrix(mol, mol)
    assert matrix.shape == (4, 4) and np.allclose(np.diag(matrix), 0, atol=1e-3)
    assert coverage.coverage(matrix, 0.01).cov_recall == 1


def test_coverage_refuses_nonsense() -> None:
    with pytest.raises(ConfigError, match="threshold"):
        coverage.coverage(np.ones((2, 2)), 0)
    for wrong in (np.ones((0, 2)), np.full((2, 2), np.nan)):
        with pytest.raises(DataError, match="finite RMSD"):
            coverage.coverage(wrong)
    with pytest.raises(DataError, match="one threshold"):
        coverage.summarise([])


# ----------------------------------------------------------------------------- heavy symmetry


def test_spyrmsd_finds_what_a_thousand_mappings_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("spyrmsd")
    mol = relaxed("CC(C)(C)c1cc(C(C)(C)C)cc(C(C)(C)C)c1")  # 1,296 mappings
    bare = Chem.RemoveHs(mol)
    order = np.random.default_rng(0).permutation(bare.GetNumAtoms()).tolist()
    shuffled = Chem.RenumberAtoms(bare, order)
    assert rmsd._many_mappings(bare)
    assert rmsd.in_place_rmsd(shuffled, bare)[0] == pytest.approx(0, abs=1e-6)
    assert rmsd.aligned_rmsd(shuffled, bare)[0] == pytest.approx(0, abs=1e-3)
    moved = Chem.Mol(shuffled)
    moved.GetConformer().SetPositions(moved.GetConformer().GetPositions() + [3.0, 4.0, 0.0])
    assert rmsd.in_place_rmsd(moved, bare)[0] == pytest.approx(5, abs=1e-4)
    monkeypatch.setattr(rmsd, "_many_mappings", lambda _: False)
    monkeypatch.setattr(rmsd, "MAX_MATCHES", 100_000)
    assert rmsd.in_place_rmsd(moved, bare)[0] == pytest.approx(5, abs=1e-4)
