"""Silks: stress-strain laws of threads, with their sources, and threads' sizes and prestress."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffcore.errors import ConfigError
from structgen.webs.web import THREADS, Floats, Web


@dataclass(frozen=True)
class Silk:
    """A bilinear law: stiffness E up to the yield strain, a straight line to the break from there.

    The knee of capture silk is put where the area under the law is its published toughness, 150
    MJ/m^3.

    Attributes:
        modulus: E, GPa.
        strength: stress at break, GPa (engineering stress).
        break_strain: strain at break.
        yield_strain: strain where the second line starts; `break_strain` for a straight law.
        source: where the numbers are from.
    """

    modulus: float
    strength: float
    break_strain: float
    yield_strain: float
    source: str

    @property
    def hardening(self) -> float:
        """Slope of the second line, GPa."""
        rest = self.break_strain - self.yield_strain
        if rest <= 0:
            return 0.0
        return (self.strength - self.modulus * self.yield_strain) / rest

    @property
    def toughness(self) -> float:
        """Work to break a unit of volume, MJ/m^3 (the area under the law)."""
        elastic = self.modulus * self.yield_strain
        rest = self.break_strain - self.yield_strain
        return 1e3 * (0.5 * elastic * self.yield_strain + 0.5 * (elastic + self.strength) * rest)


SILKS: dict[str, Silk] = {
    "dragline": Silk(10.0, 1.1, 0.27, 0.02, "Araneus MA, Gosline 1999; yield Blackledge 2006"),
    "capture": Silk(0.003, 0.5, 2.7, 2.12, "Araneus viscid silk, Gosline 1999; the knee is ours"),
    "caerostris": Silk(11.5, 1.652, 0.52, 0.02, "Caerostris darwini, Blackledge 2010"),
    "mean-dragline": Silk(8.8, 0.878, 0.20, 0.02, "mean of species, Blackledge 2010"),
    "linear": Silk(10.0, 2.7, 0.27, 0.27, "straight to the strain at break: for tests and oracles"),
}
"""Published numbers of single threads; the bilinear shape is a simplification of ours."""

SETS: dict[str, dict[str, str]] = {
    "araneus": {"spiral": "capture", "*": "dragline"},
    "dragline": {"*": "dragline"},
    "caerostris": {"spiral": "capture", "*": "caerostris"},
    "mean-dragline": {"*": "mean-dragline"},
    "linear": {"*": "linear"},
}
"""Which silk each class of threads is made of."""

DIAMETERS = {"thread": 1.5, "anchor": 8.03, "frame": 7.23, "radius": 3.93, "spiral": 2.4}
"""um: orb web by Yavuz 2024 (its finite-element fit); ``thread`` from 1.1-3.5 (Blackledge 2006)."""

PRETENSION = {"thread": 60.0, "anchor": 1741.0, "frame": 962.5, "radius": 102.5, "spiral": 9.7}
"""uN, from the same fit; ``thread`` is 34 MPa in 1.5 um (29-46 MPa measured in orb webs)."""


def silk_set(name: str) -> tuple[Silk, ...]:
    """The silk of every class of `THREADS`.

    Raises:
        ConfigError: an unknown set.
    """
    if name not in SETS:
        raise ConfigError(f"unknown silk {name!r}; known: {', '.join(SETS)}")
    chosen = SETS[name]
    return tuple(SILKS[chosen.get(thread, chosen["*"])] for thread in THREADS)


def by_class(table: dict[str, float], web_thread: object) -> Floats:
    """A value of every edge from a table by class of threads [E]."""
    values: Floats = np.array([table[name] for name in THREADS])[np.asarray(web_thread)]
    return values


def axial_stiffness(web: Web, silks: tuple[Silk, ...]) -> Floats:
    """E A of every edge [E], uN: 1000 E pi r^2 with GPa and um."""
    modulus = np.array([silk.modulus for silk in silks])[web.thread]
    return np.asarray(1e3 * modulus * math.pi * web.radius**2)


def with_silk_sizes(web: Web) -> Web:
    """The web with published radii and prestress of every class of threads."""
    return web.but(
        radius=0.5 * by_class(DIAMETERS, web.thread), tension=by_class(PRETENSION, web.thread)
    )
