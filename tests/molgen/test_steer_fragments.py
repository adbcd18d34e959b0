"""Fragments: what is kept, where it is open, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore.errors import ConfigError
from molgen.chem import mol_from_arrays
from molgen.steer.fragments import Fragment, fragment_from_mol, fragment_from_smiles


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


def graph(part: Fragment) -> Chem.Mol:
    """The kept atoms, every open bond end a hydrogen, through another road than the code's."""
    n, ends = len(part), np.repeat(np.arange(len(part)), part.open)
    orders = np.zeros((n + len(ends), n + len(ends)), dtype=int)
    orders[:n, :n] = part.bond_order
    orders[ends, n + np.arange(len(ends))] = orders[n + np.arange(len(ends)), ends] = 1
    mol = mol_from_arrays(
        [*part.atomic_number, *[1] * len(ends)],
        [*part.charge, *[0] * len(ends)],
        orders,
        np.zeros((n + len(ends), 3)),
    )
    Chem.SanitizeMol(mol)
    return mol


def canonical(mol: Chem.Mol) -> str:
    return str(Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol))))


@pytest.mark.parametrize(
    "smiles",
    ["c1ccccc1", "CC(=O)N", "C1CC1", "c1cc[nH]c1", "C[N+](C)(C)CC([O-])=O", "C#N", "O", "CC.OC=O"],
)
def test_filling_the_open_sites_with_hydrogens_gives_the_scaffold(smiles: str) -> None:
    part = fragment_from_smiles(smiles)
    assert (part.atomic_number > 1).all() and not part.placed.any()
    assert (part.hydrogens == -1).all()
    assert canonical(graph(part)) == Chem.CanonSmiles(smiles)
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert part.pieces == len(Chem.GetMolFrags(mol))
    assert part.saturated == mol.GetNumAtoms() - 2 * (part.pieces - 1)


@pytest.mark.parametrize(
    ("smarts", "smiles"),
    [
        ("[#6]-[#8]", "CO"),
        ("[C]=[O]", "C=O"),
        ("c1ccccc1-[C]#[N]", "N#Cc1ccccc1"),
        ("[N+](=O)[O-]", "[O-][NH+]=O"),
    ],
)
def test_patterns_that_name_one_thing_are_as_good_as_smiles(smarts: str, smiles: str) -> None:
    assert canonical(graph(fragment_from_smiles(smarts))) == Chem.CanonSmiles(smiles)


def test_dummies_say_where_it_is_open_and_hydrogens_stay_hydrogens() -> None:
    part = fragment_from_smiles("[*]c1ccc([*])cc1")
    assert part.formula == {6: 6, 1: 4} and sorted(part.open.tolist()) == [0] * 8 + [1] * 2
    assert part.hydrogens.tolist() == [0] * 10  # beside those that are kept
    assert canonical(graph(part)) == "c1ccccc1"
    assert fragment_from_smiles("[*]=CC").open.tolist() == [2] + [0] * 5
    assert fragment_from_smiles("[*]=CC").formula == {6: 2, 1: 4}


def test_coordinates_are_kept_to_the_last_bit_and_hydrogens_are_not() -> None:
    mol = embedded("CC(=O)N")
    before = mol.ToBinary()
    part = fragment_from_mol(mol)
    heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
    assert np.array_equal(part.pos, mol.GetConformer().GetPositions()[heavy])
    assert part.open.tolist() == [3, 0, 0, 2] and part.placed.all()
    assert mol.ToBinary() == before
    bare = fragment_from_mol(Chem.RemoveHs(mol))
    assert np.array_equal(bare.pos, part.pos) and np.array_equal(bare.open, part.open)


def test_hydrogens_beside_a_dummy_are_kept_where_their_place_was_given() -> None:
    mol = embedded("[*]C(=O)N")
    whole = fragment_from_mol(mol)
    assert whole.formula == {6: 1, 8: 1, 7: 1, 1: 2} and whole.placed.all()
    assert whole.open.tolist() == [1, 0, 0, 0, 0] and whole.hydrogens.tolist() == [0] * 5
    without = fragment_from_mol(Chem.RemoveHs(mol))
    assert without.formula == {6: 1, 8: 1, 7: 1} and without.placed.all()
    assert without.open.tolist() == [1, 0, 2] and without.hydrogens.tolist() == [0, 0, 2]


def test_a_fragment_that_was_cut_out_is_open_where_it_was_cut() -> None:
    mol = Chem.RWMol(embedded("CCO"))
    mol.RemoveAtom(0)  # its three hydrogens stay behind as lone atoms
    for atom in reversed([a.GetIdx() for a in mol.GetAtoms() if not a.GetDegree()]):
        mol.RemoveAtom(atom)
    for atom in mol.GetAtoms():
        atom.SetNoImplicit(True)
    part = fragment_from_mol(mol.GetMol())
    assert part.atomic_number.tolist() == [6, 8] and part.open.tolist() == [3, 1]


def test_a_molecule_without_a_conformer_keeps_its_graph() -> None:
    part = fragment_from_mol(Chem.MolFromSmiles("CC(=O)N"))
    assert not part.placed.any() and part.what == "keep"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c1ccc", "expected SMILES, or SMARTS"),
        ("nonsense", "got 'nonsense'"),
        ("", "expected SMILES or SMARTS, got ''"),
        ("[C,N]C", "every atom is one element"),
        ("C~O", "expected single, double or triple bonds"),
        ("[CH2;R]C", "every atom is one element"),
        ("[H][H]", "at least one atom other than hydrogen"),
        ("[*]", "at least one atom other than hydrogen"),
    ],
)
def test_scaffolds_that_cannot_be_used_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        fragment_from_smiles(text)
    assert message in str(error.value) and str(error.value).startswith("scaffold: ")


def test_fragments_that_cannot_be_used_are_refused() -> None:
    five = Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    for wrong, message in ((five, "RDKit refuses"), ("CCO", "expected an rdkit.Chem.Mol, got str")):
        with pytest.raises(ConfigError, match=message):
            fragment_from_mol(wrong)  # type: ignore[arg-type]
    mol = embedded("CCO")
    mol.GetConformer().SetAtomPosition(0, (float("nan"), 0.0, 0.0))
    with pytest.raises(ConfigError, match="finite coordinates"):
        fragment_from_mol(mol)
