"""Evaluators and a generator that cost next to nothing: for trials and tests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


def heavy_atoms(mol: Any) -> int:
    """Atoms that are no hydrogens."""
    return int(mol.GetNumHeavyAtoms())


def first(vector: Sequence[float]) -> float:
    """First number: the first objective of ZDT1."""
    return float(vector[0])


def zdt1(vector: Sequence[float]) -> float:
    """Second objective of ZDT1: its front with `first` is f2 = 1 - sqrt(f1), at x_2 = ... = 0.

    Zitzler, Deb and Thiele 2000 (Evolutionary Computation 8, 173), equation 7.
    """
    g = 1 + 9 * sum(vector[1:]) / max(1, len(vector) - 1)
    return float(g * (1 - math.sqrt(max(0.0, vector[0]) / g)))


class Numbers:
    """Vectors of uniform numbers between 0 and 1; number `i` depends on the seed and `i` alone.

    Args:
        dimensions: numbers in a vector.
        step: standard deviation of a mutation.
    """

    def __init__(self, *, dimensions: int = 4, step: float = 0.1) -> None:
        """See the class."""
        self.dimensions, self.step = dimensions, step

    def sample(self, seed: int, start: int, count: int) -> Iterator[list[float]]:
        """Vectors `start` to `start + count` of a seed."""
        for index in range(start, start + count):
            yield np.random.default_rng([seed, index]).random(self.dimensions).round(9).tolist()

    def vary(self, parents: Sequence[list[float]], rng: np.random.Generator) -> list[float]:
        """A child of one or two parents: uniform crossover and Gaussian steps, kept in [0, 1]."""
        both = np.stack([np.asarray(parents[0]), np.asarray(parents[-1])])
        child = np.where(rng.random(self.dimensions) < 0.5, both[0], both[1])
        moved = child + self.step * rng.normal(size=self.dimensions) * (
            rng.random(self.dimensions) < 0.5
        )
        mixed: list[float] = np.clip(moved, 0, 1).round(9).tolist()
        return mixed
