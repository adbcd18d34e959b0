"""Measures of a whole set: uniqueness, novelty, diversity; each of a table with one row a molecule.

Every function takes the row table of `molgen.evaluate` (or a subset of its rows) and returns
(value, number of items it is a mean over); the value is NaN where there is nothing to count.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

DIVERSITY_MOLECULES = 1000
"""Internal diversity is taken over at most so many molecules, evenly spread over the set."""

Counted = tuple[float, int]


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
