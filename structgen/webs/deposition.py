"""Webs as spiders lay them: anchors, then thread by thread, then a tension equilibrium.

Three families. ``orb``: mooring threads, a frame, radii and a capture spiral in a plane, with the
anomalies of real orbs (35 a web in Zygiella; EJE 2013.065). ``tangle``: threads between points on
the walls of a box; a new thread joins two threads that are there and splits both. ``hybrid``: an
orb with a tangle that holds it from above and below. Sizes and prestress are those of `silk`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffcore.errors import ConfigError
from structgen.webs.equilibrium import NoEquilibrium, relax
from structgen.webs.silk import with_silk_sizes
from structgen.webs.strands import Strands
from structgen.webs.web import THREADS, Floats, Web

ANCHOR, FRAME, RADIUS, SPIRAL = (THREADS.index(n) for n in ("anchor", "frame", "radius", "spiral"))
TANGLE = THREADS.index("thread")

ATTEMPTS = 10


@dataclass(frozen=True)
class Orb:
    """Sizes of an orb; the defaults give about the traced one (633 nodes, 1,241 edges).

    Attributes:
        corners: corners of the frame, each held by a mooring thread.
        radii: threads from hub to frame.
        turns: of the capture spiral.
        size: distance from hub to frame, mm.
        free_zone: share of a radius around the hub without spiral.
        anomalies: share of spiral segments that are missing.
        irregular: relative scatter of angles and spacings.
    """

    corners: int = 7
    radii: int = 32
    turns: int = 18
    size: float = 40.0
    free_zone: float = 0.12
    anomalies: float = 0.075
    irregular: float = 0.22


@dataclass(frozen=True)
class Tangle:
    """Sizes of a tangle.

    Attributes:
        nodes: about so many.
        size: edge of the box, mm.
        supports: threads between two walls before others join in, as a share of the nodes.
        walls: share of new threads that end at a wall.
        stick: share of ends that go to a node that is there, rather than split a thread.
        reach: longest new thread, in sizes of the box divided by the cube root of the nodes.
    """

    nodes: int = 200
    size: float = 40.0
    supports: float = 0.04
    walls: float = 0.12
    stick: float = 0.12
    reach: float = 3.0


def deposit(family: str, seed: int = 0, *, nodes: int | None = None, size: float = 40.0) -> Web:
    """A web in tension equilibrium; the same seed gives the same web.

    Args:
        family: ``orb``, ``tangle`` or ``hybrid``.
        seed: of everything that is random.
        nodes: about so many; by default 630 for an orb, 200 for a tangle, 800 for a hybrid.
        size: of the orb (hub to frame) or of the box, mm.

    Raises:
        ConfigError: an unknown family, a negative seed or an impossible size.
        NoEquilibrium: none of ten webs has a tension equilibrium.
    """
    if family not in FAMILIES:
        raise ConfigError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")
    if seed < 0:
        raise ConfigError(f"expected a seed of 0 or more, got {seed}")
    if not (np.isfinite(size) and size > 0):
        raise ConfigError(f"size: expected mm above 0, got {size}")
    if nodes is not None and nodes < 12:
        raise ConfigError(f"nodes: expected at least 12, got {nodes}")
    for attempt in range(ATTEMPTS):
        key = (list(FAMILIES).index(family), attempt)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        try:
            return FAMILIES[family](rng, nodes, size)
        except NoEquilibrium as error:
            reason = error
    raise reason


def orb_of(rng: np.random.Generator, nodes: int | None, size: float) -> Web:
    """An orb with about so many nodes."""
    if nodes is None:
        return orb(rng, Orb(size=size))
    radii = int(np.clip(round(1.1 * np.sqrt(nodes) * rng.uniform(0.9, 1.3)), 5, 40))
    corners = int(np.clip(rng.integers(4, 8), 3, radii - 1))
    turns = max(1, round((nodes - 2 * corners - radii - 1) / radii))
    return orb(rng, Orb(corners, radii, turns, size))


def tangle_of(rng: np.random.Generator, nodes: int | None, size: float) -> Web:
    """A tangle with about so many nodes."""
    return tangle(rng, Tangle(nodes or 200, size))


def hybrid_of(rng: np.random.Generator, nodes: int | None, size: float) -> Web:
    """A hybrid with about so many nodes, two thirds of them in the orb."""
    n = nodes or 800
    return hybrid(rng, orb_of(rng, max(12, 2 * n // 3), size), n // 3)


def orb(rng: np.random.Generator, shape: Orb) -> Web:
    """Mooring threads, frame, radii and capture spiral, in the plane z = 0."""
    web = Strands()
    angles = _ring(rng, shape.corners, shape.irregular)
    reach = shape.size * (1 + shape.irregular * rng.uniform(-1, 1, shape.corners))
    corners = [web.node(_polar(a, r)) for a, r in zip(angles, reach, strict=True)]
    for corner, angle, r in zip(corners, angles, reach, strict=True):
        out = angle + rng.normal(0, 0.1)
        web.edge(web.node(_polar(out, r * rng.uniform(1.25, 1.5)), anchor=True), corner, ANCHOR)
    frame = [
        web.edge(corners[k], corners[(k + 1) % shape.corners], FRAME) for k in range(shape.corners)
    ]
    hub = web.node(np.zeros(3))
    directions = _ring(rng, shape.radii, shape.irregular)
    rims = [_rim(web, frame, angles, a) for a in directions]
    _spiral(rng, web, shape, hub, rims)
    return relax(with_silk_sizes(web.web()))


def _ring(rng: np.random.Generator, n: int, irregular: float) -> Floats:
    """Angles around the circle, in order."""
    steps = 1 + irregular * rng.uniform(-1, 1, n)
    return np.asarray(np.cumsum(steps / steps.sum()) * 2 * np.pi)


def _polar(angle: float, r: float) -> Floats:
    return np.array([r * np.cos(angle), r * np.sin(angle), 0.0])


def _rim(web: Strands, frame: list[int], angles: Floats, angle: float) -> int:
    """The node at which a radius meets the frame: splits the part that the ray meets.

    A ray through a corner may miss both of its parts by rounding: the one it misses least is split.
    """
    ray = _polar(angle, 1.0)[:2]
    nearest = (1e-6, frame[0], 0.0)
    for edge in frame:
        i, j = web.ends(edge)
        a, b = web.pos[i][:2], web.pos[j][:2]
        m = np.array([[ray[0], a[0] - b[0]], [ray[1], a[1] - b[1]]])
        if abs(np.linalg.det(m)) < 1e-12:
            continue
        along, share = np.linalg.solve(m, a)
        missed = max(-share, share - 1.0, 0.0)
        if along > 0 and missed < nearest[0]:
            nearest = (missed, edge, share)
        if nearest[0] == 0.0:
            break
    missed, edge, share = nearest
    if missed < 1e-6:
        node, rest = web.split(edge, float(np.clip(share, 0.02, 0.98)))
        frame.append(rest)
        return node
    raise AssertionError("a ray from inside a closed polygon meets it")


def _spiral(rng: np.random.Generator, web: Strands, shape: Orb, hub: int, rims: list[int]) -> None:
    """Radii with their crossings, and the segments of the spiral between them."""
    n, turns = len(rims), shape.turns
    spacing = np.cumsum(1 + shape.irregular * rng.uniform(-1, 1, turns + 1))
    levels = shape.free_zone + (0.94 - shape.free_zone) * spacing / spacing[-1]
    step = float(levels[-1] - levels[-2]) if turns else 0.0
    crossings: list[list[int]] = []
    for k, rim in enumerate(rims):
        end, start, row = web.pos[rim], web.pos[hub], []
        for turn in range(turns):
            level = levels[turn] + step * k / n
            level += 0.25 * shape.irregular * step * rng.uniform(-1, 1)
            row.append(web.node(start + level * (end - start)))
        for one, other in zip([hub, *row], [*row, rim], strict=True):
            web.edge(one, other, RADIUS)
        crossings.append(row)
    for turn in range(turns):
        for k in range(n):
            beside = crossings[k + 1][turn] if k + 1 < n else _next_turn(crossings, turn)
            if beside is not None and rng.uniform() >= shape.anomalies:
                web.edge(crossings[k][turn], beside, SPIRAL)


def _next_turn(crossings: list[list[int]], turn: int) -> int | None:
    return crossings[0][turn + 1] if turn + 1 < len(crossings[0]) else None


def tangle(rng: np.random.Generator, shape: Tangle) -> Web:
    """Threads in a box."""
    web = Strands()
    supports = max(4, round(shape.supports * shape.nodes))
    for _ in range(supports):
        start, end = (web.node(_on_wall(rng, shape.size), anchor=True) for _ in range(2))
        if web.distance(start, end) > 0.3 * shape.size:
            web.edge(start, end, TANGLE)
    _fill(rng, web, shape)
    made = web.web(drop_isolated=True)
    made = with_silk_sizes(made)
    noise = np.exp(rng.normal(0, 0.35, made.n_edges))
    return relax(_held(made.but(tension=made.tension * noise)))


def _fill(rng: np.random.Generator, web: Strands, shape: Tangle) -> None:
    """Add threads until there are enough nodes."""
    reach = shape.reach * shape.size / np.cbrt(shape.nodes)
    while web.n_nodes < shape.nodes:
        edge = web.random_edge(rng)
        if rng.uniform() < shape.walls:
            first = web.attach(rng, edge, shape.stick)
            end = web.node(_near_wall(rng, web.pos[first], shape.size), anchor=True)
            web.edge(first, end, TANGLE)
            continue
        near = web.edge_near(rng, edge, 0.4 * reach, reach)
        if near is not None:
            first, second = (web.attach(rng, k, shape.stick) for k in (edge, near))
            if not web.joined(first, second):
                web.edge(first, second, TANGLE)


def _on_wall(rng: np.random.Generator, size: float) -> Floats:
    point = rng.uniform(0, size, 3)
    point[rng.integers(3)] = size * rng.integers(2)
    return np.asarray(point)


def _near_wall(rng: np.random.Generator, start: Floats, size: float) -> Floats:
    """The point of the nearest wall, a little beside."""
    gaps = np.concatenate([start, size - start])
    wall = int(gaps.argmin())
    point = np.clip(start + rng.normal(0, 0.1 * size, 3), 0, size)
    point[wall % 3] = 0.0 if wall < 3 else size
    return np.asarray(point)


def _held(web: Web) -> Web:
    """The parts of a web that have at least two anchors."""
    part = web.components()
    good = [k for k in np.unique(part) if (web.anchors & (part == k)).sum() >= 2]
    largest = max(good, key=lambda k: int((part == k).sum()))
    return web.take_nodes(np.flatnonzero(part == largest))


def hybrid(rng: np.random.Generator, base: Web, nodes: int) -> Web:
    """An orb and threads from it to supports above and below, with a tangle between these."""
    web = Strands.of(base)
    size = float(np.ptp(base.pos[:, :2]))
    inner = np.flatnonzero(~base.anchors)
    target = base.n_nodes + nodes
    above = []
    for _ in range(max(4, nodes // 8)):
        start = int(rng.choice(inner))
        height = size * rng.uniform(0.25, 0.5) * rng.choice([-1, 1])
        shift = np.append(rng.normal(0, 0.1 * size, 2), height)
        top = web.node(web.pos[start] + shift, anchor=True)
        above.append(web.edge(start, top, TANGLE))
    while web.n_nodes < target:
        first, second = (int(k) for k in rng.choice(len(above), 2, replace=False))
        one, two = web.attach(rng, above[first], 0.0), web.attach(rng, above[second], 0.0)
        if not web.joined(one, two):
            above.append(web.edge(one, two, TANGLE))
    return relax(with_silk_sizes(web.web()))


FAMILIES: dict[str, Callable[[np.random.Generator, int | None, float], Web]] = {
    "orb": orb_of,
    "tangle": tangle_of,
    "hybrid": hybrid_of,
}
