"""Coverage and matching of ensembles of conformers: COV and MAT, recall and precision.

Xu et al. 2021 (ICLR, Learning neural generative dynamics for molecular conformation generation)
and Ganea et al. 2021 (NeurIPS, GeoMol). Recall asks how many known conformers were found,
precision how many generated ones are near a known one. MAT is AMR in other papers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from diffcore.errors import ConfigError, DataError
from molgen.evaluate.rmsd import aligned_rmsd

QM9_THRESHOLD = 0.5
DRUGS_THRESHOLD = 0.75
"""Angstrom, as later papers have it (1.25 in the first ones): always say which was taken."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """COV as a share (0 to 1) and MAT in Angstrom, of one molecule.

    Attributes:
        threshold: Angstrom, below which a conformer counts as found.
        cov_recall: known conformers with a generated one within the threshold.
        mat_recall: mean distance of known conformers to the nearest generated one.
        cov_precision: generated conformers with a known one within the threshold.
        mat_precision: mean distance of generated conformers to the nearest known one.
    """

    threshold: float
    cov_recall: float
    mat_recall: float
    cov_precision: float
    mat_precision: float


def rmsd_matrix(generated: Chem.Mol, known: Chem.Mol) -> Floats:
    """Aligned, symmetry-corrected RMSD of heavy atoms [G, K], Angstrom.

    Args:
        generated: [G] conformers.
        known: the same molecule with [K] conformers.

    Raises:
        DataError: the molecules are not the same, or one has no conformer.
    """
    ids = [conformer.GetId() for conformer in known.GetConformers()]
    if not ids:
        raise DataError("expected known conformers, got a molecule without positions")
    return np.stack([aligned_rmsd(generated, known, k) for k in ids], axis=1)


def coverage(rmsd: Floats, threshold: float = DRUGS_THRESHOLD) -> Coverage:
    """COV and MAT of a matrix of RMSD [G, K] in Angstrom.

    Raises:
        ConfigError: the threshold is not above 0.
        DataError: the matrix is empty or not finite.
    """
    if not threshold > 0:
        raise ConfigError(f"threshold: expected Angstrom above 0, got {threshold}")
    if rmsd.ndim != 2 or not rmsd.size or not np.isfinite(rmsd).all():
        raise DataError(f"expected finite RMSD of G x K conformers, got shape {rmsd.shape}")
    known, generated = rmsd.min(0), rmsd.min(1)
    return Coverage(
        threshold,
        float((known <= threshold).mean()),
        float(known.mean()),
        float((generated <= threshold).mean()),
        float(generated.mean()),
    )


def summarise(found: Iterable[Coverage]) -> dict[str, float]:
    """Mean and median over molecules of every figure, with the threshold in the names' place.

    Raises:
        DataError: there is none, or the thresholds differ.
    """
    listed = list(found)
    if not listed or len({one.threshold for one in listed}) != 1:
        raise DataError("expected figures of at least one molecule with one threshold")
    out = {"threshold": listed[0].threshold, "molecules": float(len(listed))}
    for name in ("cov_recall", "mat_recall", "cov_precision", "mat_precision"):
        values = np.array([getattr(one, name) for one in listed])
        out |= {f"{name}_mean": float(values.mean()), f"{name}_median": float(np.median(values))}
    return out
