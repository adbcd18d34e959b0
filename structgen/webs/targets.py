"""Mechanics that are asked for: thickness by proportion, the nearest of several webs, refined.

Stretched by so much, a web of threads with k times the cross-section, at the same prestress (GPa),
takes the same shape and bears k times the force. So stiffness and strength are met by one factor;
toughness, work for each volume, does not change with it and is left to the choice. Where several
are asked for at once, the nearest webs are refined by the thickness of some threads beside others,
by class, tension and length, at the same tension, which keeps the equilibrium.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from diffcore.errors import ConfigError, DataError
from structgen.webs.measures import MECHANICS, mechanics, parameters
from structgen.webs.web import Floats, Web

BY_THICKNESS = ("stiffness", "strength")

NEAR = 0.01
"""Sum of |log(value / asked)| below which a web is near enough."""

REFINED = 4
"""Webs that are refined, the nearest ones."""

EVALUATIONS = 40
"""Pull tests of a simplex."""

THICKEST = 4.0
"""A thread becomes at most so many times as thick in section as it was, or as thin."""


def mechanical(condition: Mapping[str, float]) -> bool:
    """Whether a condition asks for mechanics."""
    return any(name in condition for name in MECHANICS)


def missed(web: Web, condition: Mapping[str, float], share: float = 0.05) -> dict[str, float]:
    """What a web has in place of what it was asked for, where it is off by more than a share."""
    found = parameters(web) | (mechanics(web) if mechanical(condition) else {})
    return {n: found[n] for n, v in condition.items() if abs(found[n] - v) > share * abs(v)}


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
    """The web with the sections along `directions` that meet a condition best.

    Sections are varied at the same tension by Nelder and Mead's simplex (scipy), first along the
    first directions, then along one more; all sections together by `adjusted`.

    Returns:
        As `adjusted`.
    """
    from scipy.optimize import minimize

    along, bound = directions(web), math.log(THICKEST)
    options = {"maxfev": EVALUATIONS, "fatol": NEAR, "xatol": 0.01}
    best, place = adjusted(web, condition), np.zeros(len(along))

    def off(steps: Floats) -> float:
        nonlocal best, place
        every = np.pad(steps, (0, len(along) - len(steps)))
        found = adjusted(with_sections(web, every @ along), condition)
        if found[1] < best[1]:
            best, place = found, every
        return found[1] if math.isfinite(found[1]) else 1e3

    def stop_when_near(intermediate_result: object) -> None:
        if best[1] < NEAR:
            raise StopIteration

    for some in range(max(1, len(along) - 2), len(along) + 1):
        if best[1] < NEAR:
            break
        start = place[:some]
        minimize(
            off,
            start,
            method="Nelder-Mead",
            callback=stop_when_near,
            bounds=[(-bound, bound)] * some,
            options={**options, "initial_simplex": np.vstack([start, start + 0.7 * np.eye(some)])},
        )
    return best


def directions(web: Web) -> Floats:
    """Ways to make some threads thicker than others [D, E], as logarithms of the section.

    Every class of threads but the first; then threads by their tension and by their length, in
    spreads of the logarithm. With more silk where more is borne, less of it is idle when the first
    thread breaks.
    """
    kinds = np.unique(web.thread)
    classes = [(web.thread == kind).astype(np.float64) for kind in kinds[1:]]
    return np.stack([*classes, _spread(web.tension), _spread(web.lengths)])


def _spread(values: Floats) -> Floats:
    """Logarithms with mean 0 and spread 1; all 0 where there is no spread."""
    logs = np.log(values)
    return np.asarray((logs - logs.mean()) / max(float(logs.std()), 1e-9))


def with_sections(web: Web, logs: Floats) -> Web:
    """Threads with exp(logs) [E] times the section, at most `THICKEST`, at the same tension."""
    bound = math.log(THICKEST)
    return web.but(radius=web.radius * np.exp(0.5 * np.clip(logs, -bound, bound)))


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
