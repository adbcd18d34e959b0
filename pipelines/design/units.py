"""Units of evaluators and objectives: a few of each quantity, converted where a campaign asks."""

from __future__ import annotations

import math
import re

from diffcore.errors import ConfigError
from pipelines.design.names import unknown

QUANTITIES: dict[str, dict[str, float]] = {
    "energy": {
        "eV": 1.0,
        "meV": 1e-3,
        "Ha": 27.211386245988,
        "Hartree": 27.211386245988,
        "kcal/mol": 27.211386245988 / 627.5094740631,
        "kJ/mol": 27.211386245988 / 2625.4996394799,
        "J": 1 / 1.602176634e-19,
        "mJ": 1e-3 / 1.602176634e-19,
    },
    "length": {"Angstrom": 1.0, "pm": 0.01, "nm": 10.0, "um": 1e4, "mm": 1e7, "cm": 1e8, "m": 1e10},
    "angle": {"degree": 1.0, "rad": 180 / math.pi},
    "mass": {"g/mol": 1.0, "Da": 1.0, "kg/mol": 1000.0},
    "temperature": {"K": 1.0},
    "share": {"": 1.0, "%": 0.01},
    "atoms": {"atoms": 1.0},
    "rings": {"rings": 1.0},
    "rules": {"rules": 1.0},
    "fragments": {"fragments": 1.0},
    "charge": {"e": 1.0},
}
"""Quantity -> unit -> its size in the quantity's first unit (CODATA 2018)."""

_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


def known_units(unit: str) -> dict[str, float]:
    """Units that a value in `unit` can be given in; only itself if it is of no quantity here."""
    for units in QUANTITIES.values():
        if unit in units:
            return units
    return {unit: 1.0}


def in_unit(value: object, unit: str, what: str) -> float:
    """A number, or text with a unit, in the evaluator's unit.

    Args:
        value: such as ``4``, ``"4 eV"`` or ``"90 kcal/mol"``; a bare number is in `unit`.
        unit: the evaluator's.
        what: whose value it is, for the error.

    Raises:
        ConfigError: no finite number, or a unit of something else or of nothing.
    """
    given = unit
    number = value
    if isinstance(value, str):
        found = _NUMBER.fullmatch(value)
        if found is None:
            raise ConfigError(f"{what}: expected a number with its unit, got {value!r}")
        number, given = found[1], found[2] or unit
    units = known_units(unit)
    if given not in units:
        raise unknown(f"unit of {what}", given, [u for u in units if u] or ["none"])
    try:
        result = float(number) * units[given] / units[unit]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ConfigError(f"{what}: expected a number, got {value!r}") from None
    if isinstance(value, bool) or not math.isfinite(result):
        raise ConfigError(f"{what}: expected a finite number, got {value!r}")
    return result
