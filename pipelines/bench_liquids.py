"""The tables of density and viscosity of mixtures that the model has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from molgen.solvents.forest import Floats
    from molgen.solvents.liquid_training import Lines

HELD = ("system", "component")


@dataclass(frozen=True)
class Measured:
    """Held-out predictions of one quantity.

    Attributes:
        data: measurements.
        found: logarithm and spread, [m] each, by what was held out.
    """

    data: Lines
    found: Mapping[str, tuple[Floats, Floats]]


def measured(folder: Path, trees: int = 100, seed: int = 0) -> dict[str, Measured]:
    """Held-out predictions of both quantities.

    Args:
        folder: of the published tables.
        trees: of each forest, 100 at most.
        seed: of the folds.

    Raises:
        DataError: the tables are missing.
    """
    from molgen.solvents.data import read_liquid
    from molgen.solvents.liquid import QUANTITIES
    from molgen.solvents.liquid_training import held_out_lines, lines_of, splits_of

    made = {}
    for quantity in QUANTITIES:
        data = lines_of(quantity, read_liquid(folder, quantity))
        found = {}
        for by in HELD:
            splits = splits_of(data.systems, by, seed)
            found[by] = held_out_lines(data, splits, min(trees, 100))
        made[quantity] = Measured(data, found)
    return made


def lines(quantity: str, one: Measured) -> list[str]:
    """The table; the interval of a system comes from other systems."""
    from molgen.solvents.training import folds_of

    answers, systems = one.data.answers, one.data.systems
    fold = folds_of(systems, seed=1)
    head = f"{quantity}, held out"
    made = [f"{head:24s}{'rows':>6s}{'MAE, ln':>9s}{'median':>8s}{'R^2':>7s}{'covered, %':>12s}"]
    for by, (found, spread) in one.found.items():
        error, half = np.abs(found - answers), np.zeros(len(answers))
        for k in range(5):
            half[fold == k] = factor(error[fold != k], spread[fold != k]) * spread[fold == k]
        rest = 1 - (error**2).mean() / answers.var()
        inside = 100 * (error <= half).mean()
        made.append(
            f"  {by + 's':22s}{len(error):6d}{error.mean():9.3f}{np.median(error):8.3f}"
            f"{rest:7.2f}{inside:12.0f}"
        )
    off = np.abs(answers - answers.mean()).mean()
    made.append(f"  {'the mean of all rows':22s}{len(answers):6d}{off:9.3f}")
    return made


def factor(error: Floats, spread: Floats) -> float:
    """What covers 90 % of the errors, in spreads."""
    return float(np.quantile(error / spread, 0.9))


def write(path: Path, liquids: Mapping[str, Measured], trees: int) -> None:
    """Grow the forests on all data and write them with their card."""
    import torch

    from diffcore.checkpoint import save_weights
    from molgen.solvents.liquid_training import grow_line

    arrays: dict[str, Any] = {}
    widths, quality = {}, []
    for quantity, one in liquids.items():
        everything = np.arange(len(one.data.answers), dtype=np.int64)
        model = grow_line(one.data, everything, min(trees, 100))
        arrays |= model.value.arrays(f"{quantity}.value") | model.slope.arrays(f"{quantity}.slope")
        found, spread = one.found["system"]
        widths[quantity] = factor(np.abs(found - one.data.answers), spread)
        quality += lines(quantity, one)
    card = {
        "kind": "liquid",
        "name": path.stem,
        "data": {
            "density": "DESignSolvents 2024, each row with its reference",
            "viscosity": "the same, and ono1025, Viscosity-Prediction-for-Deep-Eutectic-Solvents",
            "licence": "none stated for the first, MIT for the second; the tables are not shipped",
        },
        "recipe": {"trees": min(trees, 100), "leaf": 1, "max_features": 1.0, "seed": 0},
        "widths": widths,
        "quality": quality,
    }
    stored = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    save_weights(path, stored, card, dtype=torch.float32)
