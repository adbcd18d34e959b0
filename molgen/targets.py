"""Properties that are asked for: checked, in units, and drawn for every molecule.

Energies are asked for in Hartree, as QM9 gives them, or with their unit: ``"6.8 eV"``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from molgen.tasks.molecules import MoleculeTask

HARTREE = 27.211386245988
"""eV (CODATA 2018)."""

BOHR3 = 0.529177210903**3
"""Angstrom^3 (CODATA 2018)."""

UNITS: dict[str, dict[str, float]] = {
    "alpha": {"bohr^3": 1.0, "A^3": 1 / BOHR3},
    "gap": {"Ha": HARTREE, "eV": 1.0},
    "homo": {"Ha": HARTREE, "eV": 1.0},
    "lumo": {"Ha": HARTREE, "eV": 1.0},
    "mu": {"D": 1.0},
    "Cv": {"cal/mol/K": 1.0, "J/mol/K": 1 / 4.184},
}
"""Units a property can be asked for in, the usual one first, each in units of the data set."""

REACH = 6.0
"""Values further from the training mean, in standard deviations, are refused."""

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*")

Given = float | str | tuple[float | str, float | str]


@dataclass(frozen=True)
class Target:
    """A property between two values (the same ones for a single value), in units of the data set.

    Attributes:
        name: of the property.
        low: lower end.
        high: upper end.
        scale: standard deviation of the property in the training data.
    """

    name: str
    low: float
    high: float
    scale: float

    def miss(self, values: Tensor) -> Tensor:
        """Distance from the range in standard deviations of the training data; NaN stays NaN."""
        outside = torch.maximum(self.low - values, values - self.high)
        return outside.clamp_min(0.0) / self.scale


def parse_targets(given: Mapping[str, Given], task: MoleculeTask) -> tuple[Target, ...]:
    """Check properties that are asked for against what the model was trained with.

    Args:
        given: name -> a number, text with a unit, or (low, high) of either.
        task: the model's; its conditions carry the moments of the training data.

    Raises:
        ConfigError: a name or unit that is not known, no number, an empty range, or a value far
            from all training data.
    """
    return tuple(_target(name, value, task.conditions) for name, value in given.items())


def _target(name: str, value: Given, known: Mapping[str, tuple[float, float]]) -> Target:
    if name not in known:
        names = ", ".join(known) or "none: it was trained without properties"
        raise ConfigError(f"property: the model was not trained with {name!r}; it knows {names}")
    ends = value if isinstance(value, tuple | list) else (value, value)
    if len(ends) != 2:
        raise ConfigError(f"property {name}: expected a value or (low, high), got {value!r}")
    low, high = (quantity(name, end) for end in ends)
    if low > high:
        raise ConfigError(f"property {name}: expected low before high, got {value!r}")
    mean, std = known[name]
    for end, number in zip(ends, (low, high), strict=True):
        if not abs(number - mean) <= REACH * std:
            raise ConfigError(_far(name, end, mean, std))
    return Target(name, low, high, std)


def quantity(name: str, value: float | str) -> float:
    """A value of a property in the units of the data set; a bare number is in the first unit.

    Raises:
        ConfigError: no number, or a unit that the property has not.
    """
    units = UNITS.get(name, {"": 1.0})
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None:
            raise ConfigError(f"property {name}: expected a number, got {value!r}")
        text, unit = found[1], found[2] or next(iter(units))
    else:
        text, unit = value, next(iter(units))
    if unit not in units:
        expected = " or ".join(units)
        raise ConfigError(f"property {name}: expected a number in {expected}, got {value!r}")
    try:
        number = float(text) * units[unit]
    except (TypeError, ValueError):
        raise ConfigError(f"property {name}: expected a number, got {value!r}") from None
    if not math.isfinite(number):
        raise ConfigError(f"property {name}: expected a finite number, got {value!r}")
    return number


def _far(name: str, value: Any, mean: float, std: float) -> str:
    unit, factor = next(iter(UNITS.get(name, {"": 1.0}).items()))
    low, high = (mean - REACH * std) / factor, (mean + REACH * std) / factor
    text = f"property {name}: expected {low:.3g} to {high:.3g} {unit}, got {value!r}"
    for other, size in UNITS.get(name, {}).items():
        if isinstance(value, int | float) and abs(value * size - mean) <= REACH * std:
            return f"{text}; if that is in {other}, write '{value} {other}'"
    return text


def draw_condition(
    targets: Sequence[Target], task: MoleculeTask, rngs: Sequence[torch.Generator]
) -> Tensor:
    """Standardised condition [B, P]: a value from each range, NaN for what is not asked for."""
    values = {}
    for target in targets:
        u = torch.stack([torch.rand((), generator=rng) for rng in rngs])
        values[target.name] = target.low + (target.high - target.low) * u
    return task.condition(values, len(rngs))
