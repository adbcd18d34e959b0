"""Frechet ChemNet distance (Preuer et al. 2018, J. Chem. Inf. Model. 58, 1736).

The distance between two normal distributions fitted to the last layer of ChemNet, of which the
package `fcd` brings the weights. The reference's mean and covariance ship with the reference. It
knows SMILES only, and is biased upwards for few molecules.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molgen.evaluate.metric import Counted

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

LEAST, MOST = 1000, 10_000
"""Fewer molecules than the first say nothing; of more than the second an even choice is taken."""


_memo: dict[str, NDArray[np.float32]] = {}
"""The subsets of a set are made of molecules that were seen with the whole: 2 kB a molecule."""


def activations(smiles: Sequence[str]) -> NDArray[np.float32]:
    """Last layer of ChemNet, [K, 512]; needs the package `fcd`."""
    known = dict(_memo)
    fresh = list(dict.fromkeys(one for one in smiles if one not in known))
    if fresh:
        if len(_memo) + len(fresh) > 2 * MOST:
            _memo.clear()
        made = dict(zip(fresh, _computed(fresh), strict=True))
        _memo.update(made)
        known |= made
    return np.stack([known[one] for one in smiles])


def _computed(smiles: list[str]) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fcd

        model = fcd.load_ref_model()
        found = fcd.get_predictions(model, smiles, n_jobs=0, device="cpu")
    return np.asarray(found, dtype=np.float32)


def frechet(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    other_mean: NDArray[np.float64],
    other_covariance: NDArray[np.float64],
) -> float:
    """Squared Frechet distance of two normal distributions.

    |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), the last trace by the eigenvalues of the symmetric
    C^(1/2) C' C^(1/2).
    """
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other_covariance @ root), 0, None)).sum()
    shift = float(((mean - other_mean) ** 2).sum())
    return float(shift + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def moments(found: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean [512] and covariance [512, 512] of activations [K, 512]."""
    wide = found.astype(np.float64)
    return wide.mean(axis=0), np.cov(wide, rowvar=False)


def fcd(table: pd.DataFrame, reference: Reference) -> Counted:
    """Distance of the strictly valid molecules, duplicates still in, from the reference."""
    smiles = table.loc[table["strict_valid"], "smiles"].tolist()
    if len(smiles) < LEAST or reference.chemnet is None:
        return math.nan, len(smiles)
    if len(smiles) > MOST:
        chosen = np.linspace(0, len(smiles) - 1, MOST).round().astype(int)
        smiles = [smiles[i] for i in chosen.tolist()]
    made = moments(activations(smiles))
    return frechet(*made, *reference.chemnet), len(smiles)
