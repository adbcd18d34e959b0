"""Mechanics that are asked for: thickness by proportion, the nearest of several webs, refined.

Stretched by so much, a web of threads with k times the cross-section, at the same prestress (GPa),
takes the same shape and bears k times the force. So stiffness and strength are met by one factor;
toughness, work for each volume, does not change with it and is left to the choice. Where several
are asked for at once, the nearest webs are refined by the thickness of one class of threads beside
another, at the same tension, which keeps the equilibrium.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from diffcore.errors import ConfigError, DataError
from structgen.webs.measures import MECHANICS, mechanics
from structgen.webs.web import Floats, Ints, Web

BY_THICKNESS = ("stiffness", "strength")

NEAR = 0.01
"""Sum of |log(value / asked)| below which a web is near enough."""

REFINED = 2
"""Webs that are refined, the nearest ones."""

EVALUATIONS = 60
"""Pull tests of a refinement."""

THICKEST = 4.0
"""A class of threads becomes at most so many times as thick in section as it was, or as thin."""


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
        web that cannot be pulled, or bears nothing.
    """
    try:
        found = mechanics(web)
    except (ConfigError, DataError):
        return web, math.inf
    if any(found[n] <= 0 for n in MECHANICS if n in condition):
        return web, math.inf
    missed = {n: math.log(condition[n] / found[n]) for n in MECHANICS if n in condition}
    by_thickness = [missed[n] for n in BY_THICKNESS if n in missed]
    shift = sum(by_thickness) / len(by_thickness) if by_thickness else 0.0
    left = [m - shift if n in BY_THICKNESS else m for n, m in missed.items()]
    return thickened(web, math.exp(shift)), sum(abs(m) for m in left)


def refined(web: Web, condition: Mapping[str, float]) -> tuple[Web, float]:
    """The web with the thickness of every class of threads that meets a condition best.

    The sections of classes are varied at the same tension by Nelder and Mead's simplex (scipy), all
    sections together by `adjusted`.

    Returns:
        As `adjusted`.
    """
    from scipy.optimize import minimize

    kinds = np.unique(web.thread)
    found: list[tuple[Web, float]] = [adjusted(web, condition)]
    if len(kinds) < 2 or found[0][1] < NEAR:
        return found[0]

    def missed(logs: Floats) -> float:
        found.append(adjusted(with_sections(web, kinds[1:], np.exp(logs)), condition))
        return found[-1][1] if math.isfinite(found[-1][1]) else 1e3

    start = np.zeros(len(kinds) - 1)
    simplex = np.vstack([start, 0.7 * np.eye(len(start))])
    bound = math.log(THICKEST)
    options = {"maxfev": EVALUATIONS, "initial_simplex": simplex, "fatol": NEAR, "xatol": 0.01}
    bounds = [(-bound, bound)] * len(start)
    minimize(missed, start, method="Nelder-Mead", bounds=bounds, options=options)
    return min(found, key=lambda one: one[1])


def with_sections(web: Web, kinds: Ints, factors: Floats) -> Web:
    """Threads of some classes with so many times the cross-section, at the same tension."""
    section = np.ones(web.n_edges)
    for kind, factor in zip(kinds, factors, strict=True):
        section[web.thread == kind] = factor
    return web.but(radius=web.radius * np.sqrt(section))


def nearest(webs: Sequence[Web], condition: Mapping[str, float]) -> tuple[int, Web]:
    """Place of the web that is nearest to a condition with mechanics, and that web adjusted.

    The nearest ones are refined where one factor of the thickness cannot meet what is asked for.
    """
    tried = [adjusted(web, condition) for web in webs]
    order = sorted(range(len(webs)), key=lambda k: tried[k][1])
    if tried[order[0]][1] >= NEAR:
        for k in order[:REFINED]:
            if math.isfinite(tried[k][1]):
                tried[k] = refined(webs[k], condition)
    best = min(order, key=lambda k: tried[k][1])
    return best, tried[best][0]
