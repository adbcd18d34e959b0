"""What is asked of a solvent: bounds on its computed values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from diffcore.errors import ConfigError

Bound: TypeAlias = tuple[str, float]
Target: TypeAlias = Mapping[str, Bound | Sequence[Bound]]

PROPERTIES: Mapping[str, str] = MappingProxyType(
    {
        "eutectic_temperature": "K",
        "depression": "K below the ideal eutectic",
        "x_acceptor": "mole fraction of the acceptor at the eutectic",
        "molar_mass": "g/mol, mean of the mixture",
        "density": "g/cm^3 of the eutectic liquid at 298.15 K",
        "viscosity": "mPa s of the eutectic liquid at 298.15 K",
        "alerts": "unwanted groups (Brenk et al. 2008) of both components",
    }
)
"""What can be asked for, with units."""


@dataclass(frozen=True)
class Range:
    """Low and high bound of a property; infinite where none was given."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a value lies inside; bounds belong to the range."""
        return self.low <= value <= self.high

    @property
    def logarithms(self) -> Range:
        """The same range of the natural logarithm of a positive value."""
        low, high = (-math.inf if v <= 0 else math.log(v) for v in (self.low, self.high))
        return Range(low, high)

    def probability(self, value: float, sigma: float) -> float:
        """That a normally distributed value lies inside."""
        if sigma <= 0:
            return float(self.holds(value))
        ends = [math.erf((end - value) / (sigma * math.sqrt(2))) for end in (self.low, self.high)]
        return (ends[1] - ends[0]) / 2


def ranges(target: Target) -> dict[str, Range]:
    """The range of each property.

    Args:
        target: such as ``{"eutectic_temperature": ("<", 300)}``; several bounds as a list.

    Raises:
        ConfigError: unknown property or sign, no number, or bounds that contradict each other.
    """
    found: dict[str, Range] = {}
    for name, asked in target.items():
        if name not in PROPERTIES:
            raise ConfigError(f"target: expected one of {', '.join(PROPERTIES)}, got {name!r}")
        if not isinstance(asked, tuple | list):
            raise ConfigError(f'target: expected {name} as ("<", number), got {asked!r}')
        bounds = [asked] if len(asked) == 2 and isinstance(asked[0], str) else list(asked)
        low, high = -math.inf, math.inf
        for bound in bounds:
            sign, value = _checked(name, bound)
            low, high = (low, min(high, value)) if sign == "<" else (max(low, value), high)
        least = 0.0 if name != "depression" else -math.inf
        most = 1.0 if name == "x_acceptor" else math.inf
        if low > high or high < least or low > most:
            raise ConfigError(f"target: bounds of {name} contradict each other: {asked!r}")
        found[name] = Range(low, high)
    return found


def _checked(name: str, bound: object) -> tuple[str, float]:
    if isinstance(bound, tuple | list) and len(bound) == 2 and bound[0] in ("<", ">"):
        value = bound[1]
        if isinstance(value, int | float) and math.isfinite(value):
            return bound[0], float(value)
    raise ConfigError(f'target: expected {name} as ("<", number) or (">", number), got {bound!r}')
