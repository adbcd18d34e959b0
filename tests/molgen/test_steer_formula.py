"""Formulas: read as RDKit writes them, refused where no molecule can have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from diffcore.errors import ConfigError
from molgen.steer.formula import check_formula, parse_formula, write_formula

QM9 = (1, 6, 7, 8, 9)

SMILES = [
    "C", "O", "N", "CF", "CC(=O)N", "c1ccccc1", "C1CC1C#N", "OCC(F)(F)F", "C[N+](C)(C)[O-]",
    "[NH3+]CC([O-])=O", "N#N", "FC(F)(F)C(F)(F)F", "O=C=O", "C#C", "NN", "OO",
]  # fmt: skip


@pytest.mark.parametrize("smiles", SMILES)
def test_real_molecules_are_read_as_rdkit_writes_them_and_pass(smiles: str) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    text = rdMolDescriptors.CalcMolFormula(mol, False, False)
    counts = parse_formula(text)
    assert sum(counts.values()) == mol.GetNumAtoms()
    assert all(k == sum(a.GetAtomicNum() == z for a in mol.GetAtoms()) for z, k in counts.items())
    assert write_formula(counts) == text
    check_formula(counts, Chem.GetFormalCharge(mol), QM9)


@pytest.mark.parametrize("smiles", ["[NH4+]", "C[NH3+]", "CC([O-])=O", "[O-]c1ccccc1", "[OH3+]"])
def test_ions_pass_at_their_charge_and_no_other(smiles: str) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    counts = parse_formula(rdMolDescriptors.CalcMolFormula(mol).rstrip("+-"))
    charge = Chem.GetFormalCharge(mol)
    check_formula(counts, charge, QM9)
    with pytest.raises(ConfigError, match="odd number of electrons"):
        check_formula(counts, charge + 1, QM9)


@given(st.dictionaries(st.sampled_from(QM9), st.integers(1, 99), min_size=1))
def test_reading_undoes_writing(counts: dict[int, int]) -> None:
    assert parse_formula(write_formula(counts)) == counts


def test_repeated_elements_add_up() -> None:
    assert parse_formula(" CH3CH2OH ") == {6: 2, 1: 6, 8: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one like C7H10O2, got ''"),
        ("c6h6", "expected one like"),
        ("C6H6+", "give the charge separately"),
        ("(CH3)2O", "expected one like"),
        ("C6 H6", "expected one like"),
        ("CXx2", "'Xx' in 'CXx2' is no element"),
        ("C0", "at least one atom"),
        (7, "expected one like C7H10O2, got 7"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_formula(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "charge", "message"),
    [
        ("C7H9O2", 0, "odd number of electrons"),
        ("C6H6", 1, "C6H6 at charge +1 has an odd number of electrons"),
        ("CH6", 0, "CH6 is impossible: its atoms have 2 bond ends too few"),
        ("C2H8O", 0, "too many hydrogens"),
        ("F4", 0, "is impossible"),
        ("C6H5Cl", 0, "the model knows H, C, N, O, F, got Cl in C6H5Cl"),
    ],
)
def test_impossible_formulas_are_refused(text: str, charge: int, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_formula(parse_formula(text), charge, QM9)
    assert message in str(error.value)
