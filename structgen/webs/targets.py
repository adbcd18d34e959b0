"""Mechanics that are asked for: thickness by proportion, the nearest of several webs, refined.

Stretched by so much, a web of threads with k times the cross-section, at the same prestress (GPa),
takes the same shape and bears k times the force. So stiffness and strength are met by one factor;
toughness, work for each volume, does not change with it and is left to the choice. Where several
are asked for at once, the nearest webs are refined by the sections of their threads at the same
tension, which keeps the equilibrium: of all together, which changes the prestress, and of some
beside others.
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
"""Webs that are refined, the nearest ones, until one is near enough."""

POPULATION, GENERATIONS = 16, 15
"""Of differential evolution: at most 256 pull tests for each web that is refined."""

POLISH = 100
"""Pull tests of the simplex that starts where the evolution ends."""

TOUGHNESS = 2.0
"""Weight of toughness: it spreads less from web to web than stiffness and strength, and no common
thickness makes up for it."""

THICKEST = 4.0
"""A thread becomes at most so many times as thick in section as it was, or as thin. Its prestress
stays within the same factor."""


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
        The web, and the sum of |log(value / asked)| over the mechanics asked for, toughness with
        its weight; infinite for a web that cannot be pulled, or bears nothing.
    """
    try:
        found = mechanics(web)
    except (ConfigError, DataError):
        return web, math.inf
    if any(found[n] <= 0 for n in MECHANICS if n in condition):
        return web, math.inf
    logs = {n: math.log(condition[n] / found[n]) for n in MECHANICS if n in condition}
    by_thickness = [logs[n] for n in BY_THICKNESS if n in logs]
    shift = sum(by_thickness) / len(by_thickness) if by_thickness else 0.0
    left = [m - shift if n in BY_THICKNESS else TOUGHNESS * m for n, m in logs.items()]
    return thickened(web, math.exp(shift)), sum(abs(m) for m in left)


def refined(web: Web, condition: Mapping[str, float]) -> tuple[Web, float]:
    """The web with the sections along `directions` that meet a condition best.

    Which thread breaks first changes in steps, and the mechanics with it, so the search takes no
    slopes: differential evolution (Storn and Price 1997) from the web as it is and others around
    it, then Nelder and Mead's simplex from the best place (both scipy). All sections and tensions
    together are scaled by `adjusted`.

    Returns:
        As `adjusted`.
    """
    from scipy.optimize import differential_evolution, minimize

    along, bound = directions(web), math.log(THICKEST)
    inside = [(-bound, bound)] * len(along)
    best, place = adjusted(web, condition), np.zeros(len(along))

    def off(steps: Floats) -> float:
        nonlocal best, place
        found = adjusted(with_sections(web, steps @ along), condition)
        if found[1] < best[1]:
            best, place = found, steps.copy()
        return found[1] if math.isfinite(found[1]) else 1e3

    def stop_when_near(intermediate_result: object) -> None:
        if best[1] < NEAR:
            raise StopIteration

    rng = np.random.default_rng(0)
    start = np.clip(rng.normal(0, 0.3 * bound, (POPULATION, len(along))), -bound, bound)
    start[0] = 0.0
    options = {"init": start, "maxiter": GENERATIONS, "polish": False, "tol": 0, "seed": rng}
    differential_evolution(off, inside, callback=stop_when_near, **options)
    if best[1] >= NEAR:
        simplex = np.vstack([place, place + 0.2 * np.eye(len(along))])
        ends = {"maxfev": POLISH, "xatol": NEAR, "fatol": NEAR, "initial_simplex": simplex}
        minimize(
            off, place, method="Nelder-Mead", bounds=inside, callback=stop_when_near, options=ends
        )
    return best


def directions(web: Web) -> Floats:
    """Ways to make threads thicker [D, E], as logarithms of the section.

    All threads alike, which lowers their prestress; every class of threads but the first; threads
    by their tension, their length and their distance from the middle, in spreads; the threads that
    end at an anchor. With more silk where more is borne, less of it is idle when the first thread
    breaks.
    """
    kinds = np.unique(web.thread)
    middle = web.pos[web.edges].mean(1)
    away = np.linalg.norm(middle - middle.mean(0), axis=1)
    held = web.anchors[web.edges].any(1)
    return np.stack(
        [
            np.ones(web.n_edges),
            *(np.asarray(web.thread == kind, dtype=np.float64) for kind in kinds[1:]),
            _spread(np.log(web.tension)),
            _spread(np.log(web.lengths)),
            _spread(away),
            held.astype(np.float64),
        ]
    )


def _spread(values: Floats) -> Floats:
    """Values with mean 0 and spread 1; all 0 where there is no spread."""
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 1e-9 else 1.0))


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
            if tried[k][1] < NEAR:
                break
    best = min(order, key=lambda k: tried[k][1])
    return best, tried[best][0]
