"""The one input space of all data sets: whitened principal components, sorted by what they tell.

A table of any number of features becomes at most D columns of zero mean and unit variance, without
correlation. The map is affine, so that it can be folded into a network's first layer: what a user
gets works on the raw features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore.errors import DataError
from structgen.netweights.networks import Perceptron

Floats = NDArray[np.float64]

MOST_FEATURES = 2000
"""More features are refused: the components of a few rows in so many dimensions tell nothing."""

SMALLEST = 1e-3
"""Components with less than this share of the mean variance are left out: whitening would blow up
what is rounding or a copy of another feature."""


@dataclass(frozen=True)
class Encoding:
    """z = (x - centre) @ matrix.

    Attributes:
        centre: [F].
        matrix: [F, D]; columns beyond the number of components are zero.
        used: number of components.
    """

    centre: Floats
    matrix: Floats
    used: int

    def __call__(self, x: Floats) -> Tensor:
        """Encoded rows [n, D] float32 of raw rows [n, F].

        Raises:
            DataError: another number of features.
        """
        if x.ndim != 2 or x.shape[1] != len(self.centre):
            raise DataError(f"expected {len(self.centre)} features, got {x.shape[-1]}")
        return torch.from_numpy((x - self.centre) @ self.matrix).float()

    def fold(self, net: Perceptron, flat: Tensor, classes: int) -> tuple[Perceptron, Tensor]:
        """Networks [M, P] on the raw features, with the classes that the data set has.

        Returns:
            The architecture F-H-classes and its weights, float32.
        """
        w1, b1, w2, b2 = (part.double() for part in net.parts(flat))
        matrix, centre = torch.from_numpy(self.matrix), torch.from_numpy(self.centre)
        raw = Perceptron(len(self.centre), net.hidden, classes)
        first = w1 @ matrix.T
        rows = raw.join(first, b1 - first @ centre, w2[:, :classes], b2[:, :classes])
        return raw, rows.float()


def fit_encoding(x: Floats, y: NDArray[np.int64], width: int) -> Encoding:
    """The encoding of labelled rows.

    Features are standardised; the principal components are whitened and sorted by the share of
    their variance that lies between the classes (the correlation ratio); the first ``width`` stay.

    Args:
        x: [n, F].
        y: classes [n].
        width: D.

    Raises:
        DataError: too many features, or none that varies.
    """
    if x.shape[1] > MOST_FEATURES:
        raise DataError(f"expected at most {MOST_FEATURES} features, got {x.shape[1]}")
    centre, spread = x.mean(0), x.std(0)
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(centre))
    if not varies.any():
        raise DataError("expected a feature that varies; all of them are constant")
    scale = np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0)
    z = (x - centre) * scale
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    kept = values > SMALLEST * values.sum() / varies.sum()
    matrix = vectors[:, kept] / np.sqrt(values[kept])
    white = z @ matrix
    told = separation(white, y)
    order = np.argsort(-told, kind="stable")[:width]
    matrix, white = matrix[:, order], white[:, order]
    # the sign of a component is arbitrary: its larger tail points up
    signs = np.where((white**3).sum(0) < 0, -1.0, 1.0)
    padded = np.zeros((x.shape[1], width))
    padded[:, : len(order)] = scale[:, None] * matrix * signs
    return Encoding(centre, padded, len(order))


def pixels(x: Floats, width: int) -> Encoding:
    """Pixels from 0 to 16 as numbers from 0 to 1.

    Raises:
        DataError: another number of features, or values outside this range.
    """
    if x.shape[1] != width:
        side = round(width**0.5)
        raise DataError(
            f"expected {width} features ({side} x {side} pixels), got {x.shape[1]}: this model "
            "takes images of that size alone; tabular-mlp takes any number of features"
        )
    if x.min() < 0 or x.max() > 16:
        raise DataError(f"expected pixels from 0 to 16, got {x.min():g} to {x.max():g}")
    return Encoding(np.zeros(width), np.eye(width) / 16, width)


def separation(z: Floats, y: NDArray[np.int64]) -> Floats:
    """Share of each column's variance that lies between the classes, [D]."""
    total = z.var(0)
    between = np.zeros(z.shape[1])
    mean = z.mean(0)
    for k in np.unique(y):
        rows = z[y == k]
        between += len(rows) / len(z) * (rows.mean(0) - mean) ** 2
    return np.asarray(between / np.maximum(total, 1e-12))
