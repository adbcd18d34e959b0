"""Measures of a whole set: uniqueness, novelty, diversity, distances from the reference.

Every function takes the row table of `molgen.evaluate` (or a subset of its rows), those that
compare also the reference, and returns (value, number of items it is a mean over); the value is
NaN where there is nothing to count.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molgen.evaluate.geometry import column_values, merged, wasserstein, weighted_distance
from molgen.evaluate.metric import Counted
from molgen.evaluate.substructure import total_variation

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

DIVERSITY_MOLECULES = 1000
"""Internal diversity is taken over at most so many molecules, evenly spread over the set."""


def mean(table: pd.DataFrame, column: str) -> Counted:
    """Mean of a column; rows without a value are left out and not counted."""
    values = table[column].dropna().astype(float)
    return (float(values.mean()), len(values)) if len(values) else (math.nan, 0)


def mean_over_atoms(table: pd.DataFrame, column: str) -> Counted:
    """Mean of a per-molecule fraction over all atoms of the set: weighted by molecule size."""
    rows = table.dropna(subset=[column, "n_atoms"])
    weight = rows["n_atoms"].astype(float)
    if not weight.sum():
        return math.nan, 0
    return float((rows[column].astype(float) * weight).sum() / weight.sum()), int(weight.sum())


def average(column: str) -> Callable[[pd.DataFrame], Counted]:
    """The mean of a column, as a function of the table."""
    return partial(mean, column=column)


def average_over_atoms(column: str) -> Callable[[pd.DataFrame], Counted]:
    """The mean of a column over atoms, as a function of the table."""
    return partial(mean_over_atoms, column=column)


def _valid_smiles(table: pd.DataFrame) -> pd.Series:
    return table.loc[table["strict_valid"], "smiles"]


def uniqueness(table: pd.DataFrame) -> Counted:
    """Different canonical SMILES over all strictly valid molecules, duplicates still in."""
    smiles = _valid_smiles(table)
    return (smiles.nunique() / len(smiles), len(smiles)) if len(smiles) else (math.nan, 0)


def uniqueness_after_dedup(table: pd.DataFrame) -> Counted:
    """The same after duplicates were removed: 100 % by construction, whatever the set."""
    kept = _valid_smiles(table).drop_duplicates()
    return (kept.nunique() / len(kept), len(kept)) if len(kept) else (math.nan, 0)


def novelty(table: pd.DataFrame) -> Counted:
    """Fraction of the different strictly valid molecules that the training set does not hold."""
    rows = table.loc[table["strict_valid"]].drop_duplicates("smiles")
    return mean(rows, "novel")


def valid_unique_novel(table: pd.DataFrame) -> Counted:
    """Different, strictly valid and novel molecules per molecule asked for."""
    rows = table.loc[table["strict_valid"]].drop_duplicates("smiles")
    if table["novel"].isna().all():
        return math.nan, 0
    return float(rows["novel"].fillna(False).astype(bool).sum()) / len(table), len(table)


def internal_diversity(table: pd.DataFrame) -> Counted:
    """Mean of 1 - Tanimoto over all pairs (Morgan, radius 2, 2048 bits) of strictly valid ones."""
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    smiles = _valid_smiles(table)
    if len(smiles) > DIVERSITY_MOLECULES:
        chosen = np.linspace(0, len(smiles) - 1, DIVERSITY_MOLECULES).round().astype(int)
        smiles = smiles.iloc[chosen]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    mols = [mol for mol in map(Chem.MolFromSmiles, smiles) if mol is not None]
    prints = [generator.GetFingerprint(mol) for mol in mols]
    if len(prints) < 2:
        return math.nan, len(prints)
    total = sum(
        sum(DataStructs.BulkTanimotoSimilarity(prints[i], prints[:i]))
        for i in range(1, len(prints))
    )
    return 1 - total / (len(prints) * (len(prints) - 1) / 2), len(prints)


def share_with(table: pd.DataFrame, column: str) -> Counted:
    """Share of the molecules that sanitise whose text in `column` is not empty."""
    cells = [cell for cell in table[column] if isinstance(cell, str)]
    return (sum(map(bool, cells)) / len(cells), len(cells)) if cells else (math.nan, 0)


# ----------------------------------------------------------------- distances from the reference


def size_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Wasserstein-1 distance of the numbers of atoms; molecules that could be read."""
    sizes = table["n_atoms"].dropna().astype(float)
    if not len(sizes):
        return math.nan, 0
    known = sorted(reference.n_atoms)
    counts = np.array([reference.n_atoms[k] for k in known], dtype=float)
    made = np.sort(sizes.to_numpy())
    ones = np.ones(len(made))
    return wasserstein((made, ones), (np.array(known, dtype=float), counts)), len(made)


def element_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Total variation of the frequencies of elements over all atoms."""
    from rdkit.Chem import GetPeriodicTable

    made: Counter[str] = Counter()
    for formula in table["formula"]:
        if isinstance(formula, str):
            for symbol, count in re.findall(r"([A-Z][a-z]?|\*)(\d*)", formula):
                made[symbol] += int(count or 1)
    symbol_of = GetPeriodicTable().GetElementSymbol
    known = {symbol_of(number): count for number, count in reference.elements.items()}
    return total_variation(made, known), sum(made.values())


def bond_length_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Mean Wasserstein-1 distance over types of bond (elements and order), Angstrom."""
    return weighted_distance(column_values(table, "bond_lengths"), reference.bond_lengths)


def bond_angle_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Mean Wasserstein-1 distance over types of angle (elements, neighbours), degrees."""
    return weighted_distance(column_values(table, "bond_angles"), reference.bond_angles)


def torsion_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Mean Wasserstein-1 distance over types of torsion (the bond in the middle), degrees."""
    return weighted_distance(column_values(table, "torsion_angles"), reference.torsion_angles)


def unseen_bonds(table: pd.DataFrame, reference: Reference) -> Counted:
    """Share of the bonds whose type (elements and order) the reference lacks."""
    made = column_values(table, "bond_lengths")
    n = sum(map(len, made.values()))
    if not n or not reference.bond_lengths:
        return math.nan, 0
    return sum(len(v) for name, v in made.items() if name not in reference.bond_lengths) / n, n


def midi_bond_lengths(table: pd.DataFrame, reference: Reference) -> Counted:
    """MiDi's: types are the four bond orders alone."""
    made = column_values(table, "bond_lengths")
    key = {name: re.sub(r"[A-Za-z*]", "", name) for name in {*made, *reference.bond_lengths}}
    return weighted_distance(_joined(made, key), merged(reference.bond_lengths, key))


def midi_bond_angles(table: pd.DataFrame, reference: Reference) -> Counted:
    """MiDi's: types are the elements of the centre, weighted by atoms with a valency above 1."""
    made = column_values(table, "bond_angles")
    key = {name: re.sub(r"\d", "", name.split("-")[1]) for name in {*made, *reference.bond_angles}}
    return weighted_distance(
        _joined(made, key), merged(reference.bond_angles, key), _multivalent(reference)
    )


def _joined(
    made: dict[str, NDArray[np.float64]], key: dict[str, str]
) -> dict[str, NDArray[np.float64]]:
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for name, values in made.items():
        parts.setdefault(key[name], []).append(values)
    return {name: np.concatenate(group) for name, group in parts.items()}


def _multivalent(reference: Reference) -> dict[str, float]:
    """Element -> atoms with a valency above 1."""
    from rdkit.Chem import GetPeriodicTable

    counts: dict[str, float] = {}
    for (number, _), totals in reference.total_valence.items():
        symbol = GetPeriodicTable().GetElementSymbol(number)
        counts[symbol] = counts.get(symbol, 0.0) + sum(c for v, c in totals.items() if v > 1)
    return counts
