"""Growing the forests of `molgen.solvents.liquid`, and measuring them on systems held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffcore.errors import DataError
from molgen.solvents.forest import Floats
from molgen.solvents.liquid import LineModel, axis, mixture, offset
from molgen.solvents.training import Ints, folds_of, grow, row_weights

if TYPE_CHECKING:
    import pandas as pd

SPAN = 15.0
"""K between the lowest and highest temperature of a mixture whose slope is learnt from."""

SLOPES = {"density": (1e-4, 2e-3), "viscosity": (600.0, 12000.0)}
"""Expansion in 1/K, and 5 to 100 kJ/mol of flow over the gas constant in K; others are slips."""


@dataclass(frozen=True)
class Lines:
    """Measurements as the forests are taught them: one line a mixture of one composition.

    Attributes:
        quantity: one of `molgen.solvents.liquid.QUANTITIES`.
        rows: features of each measurement, [m, features].
        known: of `molgen.solvents.liquid.offset`, [m].
        along: of `molgen.solvents.liquid.axis`, [m].
        answers: natural logarithm of the measured value, [m].
        line: number of the mixture and composition of each measurement, [m].
        systems: components of each measurement, whatever the composition, [m].
    """

    quantity: str
    rows: Floats
    known: Floats
    along: Floats
    answers: Floats
    line: Ints
    systems: list[str]


def splits_of(systems: Sequence[str], by: str, seed: int = 0) -> list[tuple[Ints, Ints]]:
    """Five splits by whole ``system``, or by ``component``.

    By component, one component of every test row, the first in order of SMILES, is in no row that
    was learnt from.
    """
    if by == "system":
        fold = folds_of(systems, seed=seed)
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
    parts = [s.split(" + ") for s in systems]
    fold, found = folds_of([p[0] for p in parts], seed=seed), []
    for k in range(5):
        test = np.flatnonzero(fold == k)
        out = {parts[i][0] for i in test}
        learn = [i for i in np.flatnonzero(fold != k) if not out & set(parts[i])]
        found.append((np.array(learn, dtype=np.int64), test))
    return found


def lines_of(quantity: str, table: pd.DataFrame) -> Lines:
    """Measurements of a table of `molgen.solvents.data.read_liquid`."""
    line = np.unique(table["mixture"].to_numpy(str), return_inverse=True)[1]
    first: dict[int, int] = {}
    for place, number in enumerate(line):
        first.setdefault(int(number), place)
    seen = {
        number: (
            mixture(table["smiles"].iloc[place], np.array(table["x"].iloc[place])),
            offset(quantity, table["smiles"].iloc[place], np.array(table["x"].iloc[place])),
        )
        for number, place in first.items()
    }
    return Lines(
        quantity,
        np.array([seen[int(n)][0] for n in line]),
        np.array([seen[int(n)][1] for n in line]),
        axis(quantity, table["temperature"].to_numpy(np.float64)),
        np.log(table["value"].to_numpy(np.float64)),
        line.astype(np.int64),
        table["system"].tolist(),
    )


def grow_line(data: Lines, learn: Ints, trees: int = 100) -> LineModel:
    """Forests of value and slope from some of the measurements.

    Args:
        data: all of them.
        learn: places of those to learn from.
        trees: of each forest.

    Raises:
        DataError: no mixture was measured over a span of temperatures.
    """
    lines = np.unique(data.line[learn])
    parts = [learn[data.line[learn] == number] for number in lines]
    rows = np.array([data.rows[part[0]] for part in parts])
    weights = row_weights([data.systems[part[0]] for part in parts])
    fits = np.array([_slope(data, part) for part in parts])
    low, high = SLOPES[data.quantity]
    good = (fits > low) & (fits < high)
    if not good.any():
        raise DataError(
            f"{data.quantity}: expected mixtures at three or more temperatures over {SPAN:g} K "
            f"whose slope lies between {low:g} and {high:g}, got none"
        )
    slope = grow(rows[good], fits[good], weights[good], trees, 2, 1.0)
    guess = slope.mean(rows)
    fall = np.where(good, fits, guess)
    values = np.array(
        [
            float(np.median(data.answers[p] - data.known[p] - f * data.along[p]))
            for p, f in zip(parts, fall, strict=True)
        ]
    )
    value = grow(rows, values, weights, trees, 1, 1.0)
    return LineModel(data.quantity, value, slope)


def _slope(data: Lines, part: Ints) -> float:
    """Slope of a line, robust against one bad point; NaN for a span that is too small."""
    from scipy.stats import theilslopes

    ends = axis(data.quantity, np.array([313.15 - SPAN / 2, 313.15 + SPAN / 2]))
    along = data.along[part]
    if len(part) < 3 or np.ptp(along) < abs(ends[1] - ends[0]):
        return float("nan")
    return float(theilslopes(data.answers[part], along)[0])


def held_out_lines(
    data: Lines, splits: Sequence[tuple[Ints, Ints]], trees: int = 100
) -> tuple[Floats, Floats]:
    """Logarithm and spread, [m] each, of every measurement by forests that saw none of its split.

    Args:
        data: measurements.
        splits: places to learn from and places to predict.
        trees: of each forest.
    """
    found, spread = np.full(len(data.answers), np.nan), np.full(len(data.answers), np.nan)
    for learn, test in splits:
        model = grow_line(data, learn, trees)
        found[test], spread[test] = model.line(data.rows[test], data.known[test], data.along[test])
    return found, spread
