"""Mechanics that are asked for: thickness by proportion, and the nearest of several webs.

Stretched by so much, a web of threads with k times the cross-section, at the same prestress (GPa),
takes the same shape and bears k times the force. So stiffness and strength are met by one factor;
toughness, work for each volume, does not change with it and is left to the choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from diffcore.errors import ConfigError, DataError
from structgen.webs.measures import MECHANICS, mechanics
from structgen.webs.web import Web

BY_THICKNESS = ("stiffness", "strength")


def mechanical(condition: Mapping[str, float]) -> bool:
    """Whether a condition asks for mechanics."""
    return any(name in condition for name in MECHANICS)


def thickened(web: Web, factor: float) -> Web:
    """Threads of `factor` times the cross-section, at the same stress."""
    return web.but(radius=web.radius * math.sqrt(factor), tension=web.tension * factor)


def adjusted(web: Web, condition: Mapping[str, float]) -> tuple[Web, float]:
    """The web with the thickness that meets a condition best, and how far it is then.

    Returns:
        The web, and the sum of |log(value / asked)| over the mechanics asked for; infinite for a
        web that cannot be pulled.
    """
    try:
        found = mechanics(web)
    except (ConfigError, DataError):
        return web, math.inf
    missed = {n: math.log(condition[n] / found[n]) for n in MECHANICS if n in condition}
    by_thickness = [missed[n] for n in BY_THICKNESS if n in missed]
    shift = sum(by_thickness) / len(by_thickness) if by_thickness else 0.0
    left = [m - shift if n in BY_THICKNESS else m for n, m in missed.items()]
    return thickened(web, math.exp(shift)), sum(abs(m) for m in left)


def nearest(webs: Sequence[Web], condition: Mapping[str, float]) -> tuple[int, Web]:
    """Place of the web that is nearest to a condition with mechanics, and that web adjusted."""
    tried = [adjusted(web, condition) for web in webs]
    best = min(range(len(webs)), key=lambda k: tried[k][1])
    return best, tried[best][0]
