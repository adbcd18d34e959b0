"""Handedness is read from the coordinates: mirroring swaps it and changes nothing else."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from scipy.stats import binom

import molgen.evaluate
from molgen.evaluate.chirality import chirality_balance, chirality_p_value, stereocentres
from molgen.evaluate.prepared import Prepared
from tests.molgen.test_evaluate import embedded
from tests.molgen.test_evaluate_geometry import moved


def mirrored(mol: Chem.Mol) -> Chem.Mol:
    return moved(mol, np.array(mol.GetConformer().GetPositions()) * [1, 1, -1])


def test_labels_are_those_of_the_smiles() -> None:
    for smiles, label in {
        "C[C@H](O)F": "R",
        "C[C@@H](O)F": "S",
        "CCO": "",
        "C[C@H](O)[C@@H](O)F": None,
    }.items():
        mol = Chem.MolFromSmiles(smiles)
        expected = "".join(code for _, code in Chem.FindMolChiralCenters(mol))
        assert label is None or expected == label
        assert stereocentres(Prepared(embedded(smiles))) == expected


def test_mirroring_shows_in_the_balance_and_nowhere_else() -> None:
    mols = [embedded(s) for s in ("C[C@H](O)F", "C[C@H](N)O", "CC[C@H](C)O", "CCO")]
    given = molgen.evaluate(mols, progress=False)
    mirror = molgen.evaluate([mirrored(mol) for mol in mols], progress=False)
    swap = str.maketrans("RS", "SR")
    expected = [cell.translate(swap) for cell in given.table["stereocentres"]]
    assert mirror.table["stereocentres"].tolist() == expected and any(expected)
    shares = given.value("chirality_balance"), mirror.value("chirality_balance")
    assert sum(shares) == pytest.approx(100) and shares[0] != shares[1]
    for name in ("strict_valid", "molecule_stability", "uniqueness", "novelty"):
        same = given.value(name), mirror.value(name)
        assert same[0] == same[1] or all(map(math.isnan, same))
    assert given.value("strict_valid") == 100
    assert mirror.value("mmff_strain") == pytest.approx(given.value("mmff_strain"), abs=0.5)


def test_a_set_of_one_hand_is_noticed_and_a_racemic_one_is_not() -> None:
    one_hand = pd.DataFrame({"stereocentres": ["R"] * 12 + ["", None]})
    assert chirality_balance(one_hand) == (1.0, 12)
    assert chirality_p_value(one_hand) == (pytest.approx(2 * 0.5**12), 12)
    both = pd.DataFrame({"stereocentres": ["R", "S"] * 20})
    assert chirality_balance(both) == (0.5, 40) and chirality_p_value(both)[0] == 1
    assert math.isnan(chirality_balance(pd.DataFrame({"stereocentres": ["", None]}))[0])


def test_the_sign_test_counts_molecules_not_centres() -> None:
    """Two molecules with five R each are two coins, not ten; RS is none."""
    table = pd.DataFrame({"stereocentres": ["RRRRR", "RRRRR", "RS"]})
    value, n = chirality_p_value(table)
    assert n == 2 and value == pytest.approx(2 * binom.pmf(2, 2, 0.5))


def test_no_hand_without_coordinates_or_with_an_incomplete_graph() -> None:
    assert stereocentres(Prepared(Chem.AddHs(Chem.MolFromSmiles("C[C@H](O)F")))) is None
    radical = Chem.RWMol(embedded("C[C@H](O)F"))
    radical.RemoveAtom(radical.GetNumAtoms() - 1)
    assert stereocentres(Prepared(radical.GetMol())) is None
