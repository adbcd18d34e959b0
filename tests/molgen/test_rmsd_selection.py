"""RMSD and the choice of conformers, against independent implementations and known symmetries."""

import itertools

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem
from scipy.spatial.transform import Rotation

from diffcore.errors import DataError
from molgen.evaluate.rmsd import aligned_rmsd, in_place_rmsd
from molgen.selection import choose, pairwise_rmsd, symmetric_rmsd


def embedded(smiles, n=1, seed=1):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMultipleConfs(mol, n, randomSeed=seed)
    return mol


def moved(mol, rotation, shift):
    out = Chem.Mol(mol)
    for conformer in out.GetConformers():
        conformer.SetPositions(rotation.apply(conformer.GetPositions()) + shift)
    return out


def test_aligned_rmsd_sees_no_rotation_and_in_place_does():
    mol = embedded("CC(=O)Nc1ccc(O)cc1", 3)
    before = mol.GetConformer(0).GetPositions().copy()
    turned = moved(mol, Rotation.from_euler("xyz", [1, 2, 3]), [5.0, 0, 0])
    assert aligned_rmsd(turned, mol)[0] == pytest.approx(0, abs=1e-3)
    shifted = moved(mol, Rotation.identity(), [3.0, 4.0, 0])
    assert in_place_rmsd(shifted, mol)[0] == pytest.approx(5, abs=1e-6)
    assert np.array_equal(mol.GetConformer(0).GetPositions(), before)
    assert len(aligned_rmsd(mol, mol)) == 3


def test_a_flipped_phenyl_ring_is_the_same_conformer():
    mol = embedded("c1ccccc1CC(=O)O")
    ring = [a.GetIdx() for a in mol.GetAtoms() if a.GetIsAromatic()]
    flip = list(range(mol.GetNumAtoms()))
    for i, j in ((0, 4), (1, 3)):
        flip[ring[i]], flip[ring[j]] = ring[j], ring[i]
    flipped = Chem.Mol(mol)
    flipped.GetConformer().SetPositions(mol.GetConformer().GetPositions()[flip])
    assert in_place_rmsd(flipped, mol)[0] == pytest.approx(0, abs=1e-6)
    assert aligned_rmsd(flipped, mol)[0] == pytest.approx(0, abs=1e-3)


def test_atom_order_and_hydrogens_do_not_matter():
    mol = embedded("CCOC(=O)CN")
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    other = Chem.RemoveHs(Chem.RenumberAtoms(mol, order))
    assert aligned_rmsd(other, mol)[0] == pytest.approx(0, abs=1e-3)


def test_different_molecules_are_refused():
    with pytest.raises(DataError, match="one molecule"):
        aligned_rmsd(embedded("CCCO"), embedded("CCCN"))
    with pytest.raises(DataError, match="without positions"):
        aligned_rmsd(Chem.MolFromSmiles("CCCO"), embedded("CCCO"))


def test_pairwise_rmsd_is_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 7, 3)), rng.normal(size=(5, 7, 3))
    b[0] = a[0] * [-1, 1, 1]  # a mirror image is not superimposable
    found = pairwise_rmsd(a, b)
    for i, j in itertools.product(range(6), range(5)):
        x, y = a[i] - a[i].mean(0), b[j] - b[j].mean(0)
        expected = Rotation.align_vectors(x, y)[1] / np.sqrt(7)
        assert found[i, j] == pytest.approx(expected, abs=1e-7)
    assert found[0, 0] > 0.1
    assert pairwise_rmsd(a, a).diagonal() == pytest.approx(np.zeros(6), abs=1e-6)


def test_pairwise_rmsd_of_flat_and_linear_molecules():
    line = np.zeros((2, 4, 3))
    line[0, :, 0], line[1, :, 1] = np.arange(4), np.arange(4)
    assert pairwise_rmsd(line, line) == pytest.approx(np.zeros((2, 2)), abs=1e-5)


def test_symmetric_rmsd_takes_the_best_mapping():
    pos = np.random.default_rng(1).normal(size=(1, 5, 3))
    swapped = pos[:, [1, 0, 2, 3, 4]]
    both = np.concatenate([pos, swapped])
    mappings = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4]])
    assert symmetric_rmsd(both, mappings[:1])[0, 1] > 0.1
    assert symmetric_rmsd(both, mappings)[0, 1] == pytest.approx(0, abs=1e-6)


def test_the_first_choice_is_the_medoid_and_shares_add_up():
    points = np.random.default_rng(2).normal(size=(30, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    chosen, share = choose(distance, 5)
    assert chosen[0] == distance.mean(0).argmin()
    assert len(set(chosen.tolist())) == 5
    assert share.sum() == pytest.approx(1)
    greedy = distance[:, chosen[:2]].min(1).mean()
    best = min(
        distance[:, list(pair)].min(1).mean() for pair in itertools.combinations(range(30), 2)
    )
    assert best <= greedy <= 1.4 * best


def test_choices_are_nested_and_limited_by_the_pool():
    points = np.random.default_rng(3).normal(size=(8, 2))
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert choose(distance, 3)[0].tolist() == choose(distance, 20)[0][:3].tolist()
    assert sorted(choose(distance, 20)[0].tolist()) == list(range(8))


def test_weights_pull_the_choice():
    distance = np.abs(np.arange(5.0)[:, None] - np.arange(5.0)[None])
    assert choose(distance, 1, np.array([0, 0, 0, 0, 1.0]))[0].tolist() == [4]
