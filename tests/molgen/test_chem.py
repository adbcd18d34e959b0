"""Molecules to arrays and back, and bonds from geometry."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import DataError
from molgen.chem import (
    aromatic_bond_flags,
    arrays_from_mol,
    atom_labels,
    canonical_smiles,
    mol_from_arrays,
    perceive_bonds,
    sanitised,
    to_xyz_block,
)

SMILES = [
    "C",
    "O",
    "C#C",
    "CC#N",
    "c1ccccc1",
    "c1cc[nH]c1",
    "c1ccoc1",
    "Cc1ncco1",
    "C1CC1",
    "C12C3C4C1C5C2C3C45",
    "C1C2CC1C2",
    "[NH3+]CC(=O)[O-]",
    "C[N+](C)(C)[O-]",
    "[O-][N+](=O)C=C",
    "FC(F)(F)C#CC=O",
    "c1ccc2ccccc2c1",
    "N=C1NC=NO1",
]


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


@pytest.mark.parametrize("smiles", SMILES)
def test_round_trip_keeps_the_molecule(smiles: str) -> None:
    mol = embedded(smiles)
    before = mol.ToBinary()
    arrays = arrays_from_mol(mol)
    assert mol.ToBinary() == before  # the argument is untouched
    built = mol_from_arrays(**arrays)
    clean = sanitised(built)
    assert clean is not None
    assert canonical_smiles(clean) == Chem.CanonSmiles(smiles, useChiral=0)
    again = arrays_from_mol(clean)
    assert all(np.array_equal(again[name], arrays[name]) for name in ("atomic_number", "charge"))
    np.testing.assert_allclose(again["pos"], arrays["pos"])
    assert (arrays["bond_order"] == arrays["bond_order"].T).all()
    assert set(np.unique(arrays["bond_order"])) <= {0, 1, 2, 3}


def test_built_molecules_are_taken_literally() -> None:
    """A carbon with three hydrogens keeps three: nothing is added."""
    order = np.zeros((4, 4), dtype=int)
    order[0, 1:] = order[1:, 0] = 1
    mol = mol_from_arrays([6, 1, 1, 1], [0, 0, 0, 0], order, np.eye(4, 3))
    assert mol.GetNumAtoms() == 4
    assert all(atom.GetNoImplicit() for atom in mol.GetAtoms())
    assert mol.GetNumConformers() == 1 and mol.GetConformer().Is3D()
    clean = sanitised(mol)
    assert clean is not None
    assert clean.GetAtomWithIdx(0).GetTotalNumHs(includeNeighbors=True) == 3
    assert clean.GetAtomWithIdx(0).GetNumRadicalElectrons() == 1


def test_impossible_valence_is_none_not_an_exception() -> None:
    order = np.zeros((6, 6), dtype=int)
    order[0, 1:] = order[1:, 0] = 1
    mol = mol_from_arrays([6, 1, 1, 1, 1, 1], [0] * 6, order, np.zeros((6, 3)))
    assert sanitised(mol) is None
    assert mol.GetNumBonds() == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"atomic_number": [0, 1, 1]}, "atomic numbers 1 to 118, got 0"),
        ({"charge": [0, 0]}, r"charge of shape \(3,\), got \(2,\)"),
        ({"bond_order": np.eye(3)[[1, 2, 0]]}, "symmetric"),
        ({"bond_order": np.full((3, 3), 4)}, "bond orders 0 to 3"),
        ({"pos": np.zeros((3, 2))}, r"pos of shape \(3, 3\)"),
        ({"pos": np.full((3, 3), np.nan)}, "finite"),
    ],
)
def test_arrays_that_are_no_molecule_are_refused(change: dict, message: str) -> None:
    arrays = {
        "atomic_number": [8, 1, 1],
        "charge": [0, 0, 0],
        "bond_order": np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]]),
        "pos": np.eye(3),
    }
    with pytest.raises(DataError, match=message):
        mol_from_arrays(**{**arrays, **change})


def test_molecules_that_are_no_arrays_are_refused() -> None:
    with pytest.raises(DataError, match="with a conformer"):
        arrays_from_mol(Chem.MolFromSmiles("C"))
    heavy = Chem.RemoveHs(embedded("CC"))
    with pytest.raises(DataError, match="explicit hydrogens"):
        arrays_from_mol(heavy)
    dative = Chem.RWMol(embedded("CN"))
    dative.GetBondWithIdx(0).SetBondType(Chem.BondType.DATIVE)
    with pytest.raises(DataError, match="single, double or triple bonds, got DATIVE"):
        arrays_from_mol(dative)


@pytest.mark.parametrize("smiles", ["C", "C#C", "C=O", "c1ccccc1", "CC#N", "C1CC1", "c1ccoc1"])
def test_bonds_are_perceived_from_geometry(smiles: str) -> None:
    arrays = arrays_from_mol(embedded(smiles))
    mol = perceive_bonds(arrays["atomic_number"].tolist(), arrays["pos"])
    assert canonical_smiles(mol) == Chem.CanonSmiles(smiles)


def test_a_lone_far_atom_has_no_bonds() -> None:
    with pytest.raises(DataError, match="cannot perceive bonds"):
        perceive_bonds([6, 1, 1, 1], [[0, 0, 0], [1.09, 0, 0], [0, 1.09, 0], [0, 0, 50.0]])


def test_labels_of_furan_and_propyne() -> None:
    furan = atom_labels(embedded("c1ccoc1"))
    assert furan["aromatic"].tolist() == [1] * 5 + [0] * 4
    assert furan["ring"].tolist() == [1] * 5 + [0] * 4
    assert furan["hybridisation"].tolist() == [3] * 5 + [1] * 4
    propyne = atom_labels(embedded("CC#C"))
    assert propyne["hybridisation"].tolist() == [4, 2, 2, 1, 1, 1, 1]


def test_aromatic_flags_do_not_depend_on_the_kekule_form() -> None:
    for first in (1, 2):
        orders = [first if k % 2 == 0 else 3 - first for k in range(6)] + [1] * 6
        atoms = [(k, (k + 1) % 6) for k in range(6)] + [(k, k + 6) for k in range(6)]
        flags = aromatic_bond_flags([6] * 6 + [1] * 6, [0] * 12, atoms, orders)
        assert flags.tolist() == [True] * 6 + [False] * 6


def test_biphenyl_bridge_is_not_aromatic() -> None:
    mol = embedded("c1ccccc1-c1ccccc1")
    arrays = arrays_from_mol(mol)
    bonds = np.stack(np.nonzero(np.triu(arrays["bond_order"])), axis=1)
    orders = arrays["bond_order"][bonds[:, 0], bonds[:, 1]]
    flags = aromatic_bond_flags(arrays["atomic_number"], arrays["charge"], bonds, orders)
    assert flags.sum() == 12


def test_xyz_block_is_what_rdkit_reads() -> None:
    mol = embedded("CCO")
    block = to_xyz_block(mol, comment="an\nalcohol")
    assert block.splitlines()[:2] == ["9", "an alcohol"]
    read = Chem.MolFromXYZBlock(block)
    np.testing.assert_allclose(
        read.GetConformer().GetPositions(), mol.GetConformer().GetPositions(), atol=1e-7
    )
