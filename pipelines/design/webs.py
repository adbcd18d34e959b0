"""Orb webs as candidates: their measures are varied, and each is laid and pulled to failure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from structgen.webs.web import Web

RANGES: dict[str, tuple[float, float]] = {
    "corners": (4, 9),
    "radii": (8, 20),
    "turns": (4, 12),
    "free_zone": (0.05, 0.4),
    "anomalies": (0.0, 0.2),
    "irregular": (0.0, 0.3),
    "anchor_thickness": (0.7, 2.0),
    "frame_thickness": (0.5, 1.5),
    "spiral_thickness": (0.3, 1.5),
}
"""Measures of an orb (see `structgen.webs.deposition.Orb`) and what they may be.

Thicknesses are diameters of a class of threads over those of a laid web; radii keep theirs.
"""

WHOLE = ("corners", "radii", "turns")
THICKNESS = "_thickness"


class Orbs:
    """Measures of orb webs, uniform in `RANGES`; number `i` depends on the seed and `i` alone.

    Args:
        step: standard deviation of a mutation, as a share of a range.
    """

    def __init__(self, *, step: float = 0.15) -> None:
        """See the class."""
        self.step = step

    def sample(self, seed: int, start: int, count: int) -> Iterator[dict[str, float]]:
        """Measures `start` to `start + count` of a seed."""
        for index in range(start, start + count):
            part = np.random.default_rng([seed, index]).random(len(RANGES))
            yield _measures(part)

    def vary(
        self, parents: Sequence[Mapping[str, float]], rng: np.random.Generator
    ) -> dict[str, float]:
        """A child of one or two: uniform crossover and Gaussian steps, kept in the ranges."""
        both = [np.array([_part(name, one[name]) for name in RANGES]) for one in parents]
        mixed = np.where(rng.random(len(RANGES)) < 0.5, both[0], both[-1])
        moved = rng.random(len(RANGES)) < 0.5
        return _measures(np.clip(mixed + self.step * moved * rng.normal(size=len(RANGES)), 0, 1))


def _part(name: str, value: float) -> float:
    low, high = RANGES[name]
    return (value - low) / (high - low)


def _measures(part: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for (name, (low, high)), x in zip(RANGES.items(), part, strict=True):
        value = low + (high - low) * float(x)
        found[name] = int(round(value)) if name in WHOLE else round(value, 4)
    return found


def web_toughness(
    measures: Mapping[str, float], *, load: str = "push", material: float = 0.0, seed: int = 0
) -> float:
    """Work to failure for each volume of silk, MJ/m^3 (`structgen.webs.mechanics.pull`).

    Args:
        measures: of an orb, as in `RANGES`; thicknesses that are not given are 1.
        load: push or stretch.
        material: mm^3 of silk that every web gets: its threads are made thicker or thinner by one
            factor, at the same prestress; 0 leaves them as they were laid.
        seed: of the scatter with which it is laid.

    Raises:
        ConfigError: the measures are none, or the material is negative.
        DataError: the web has no equilibrium.
    """
    from structgen.webs.mechanics import pull

    if not 0 <= material < float("inf"):
        raise ConfigError(f"web_toughness material: expected 0 mm^3 or more, got {material}")
    web = _web(json.dumps(dict(measures)), seed)
    if material:
        factor = material / web.volume
        web = web.but(radius=web.radius * factor**0.5, tension=web.tension * factor)
    return float(pull(web, load=load, steps=0.03).toughness)


def silk_volume(measures: Mapping[str, float], *, seed: int = 0) -> float:
    """Silk of an orb, mm^3."""
    return float(_web(json.dumps(dict(measures)), seed).volume)


@lru_cache(maxsize=8)
def _web(text: str, seed: int) -> Web:
    from structgen.webs.deposition import Orb, orb

    measures = json.loads(text)
    sizes = {name: measures.pop(name) for name in list(measures) if name.endswith(THICKNESS)}
    try:
        shape = Orb(**measures)
    except TypeError as error:
        raise ConfigError(f"expected measures of an orb, got {text}") from error
    return _thickened(orb(np.random.default_rng(seed), shape), sizes)


def _thickened(web: Web, sizes: Mapping[str, float]) -> Web:
    """The web with classes of threads made thicker or thinner at their prestress, balanced anew."""
    from structgen.webs.equilibrium import relax
    from structgen.webs.web import THREADS

    if not sizes:
        return web
    factor = np.ones(web.n_edges)
    for name, size in sizes.items():
        kind = name.removesuffix(THICKNESS)
        if kind not in THREADS or not 0 < size < float("inf"):
            raise ConfigError(f"{name}: expected a number above 0 for one of {THREADS}, got {size}")
        factor[web.thread == THREADS.index(kind)] = size
    return relax(web.but(radius=web.radius * factor, tension=web.tension * factor**2))
