"""Pull tests of webs: tension-only threads, large displacements, one break at a time.

A test moves driven nodes in small steps. When a thread would pass its strain at break within a
step, the step is shortened to that event, this one thread is removed, and the web is balanced anew
before anything else happens: removing several at once underestimates the peak load by 9-20 %.

Threads follow their silk's law without unloading hysteresis and without viscosity; a broken thread
stays broken. Forces in uN, lengths in mm, work in uN mm = 1 nJ, toughness in MJ/m^3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, DataError
from structgen.webs.silk import Silk, axial_stiffness, silk_set
from structgen.webs.web import Bools, Floats, Ints, Web, check_structure

TOLERANCE = 3e-4
"""Largest force on a free node, as a share of the largest tension. Stiffness and strength of a
tangle are the same to 1e-5 from 3e-5 to 1e-3; what comes after its peak is chaotic at any."""

MOST_STEPS = 200
LOST = 0.05
"""Share of the peak force below which a web has failed."""


@dataclass(frozen=True)
class Load:
    """How a web is loaded.

    Attributes:
        driven: nodes that are moved [N].
        held: nodes that do not move freely, the driven ones included [N].
        direction: displacement of the driven nodes for a displacement of 1 mm [N, 3].
        extent: length that strain refers to, mm.
    """

    driven: Bools
    held: Bools
    direction: Floats
    extent: float


@dataclass(frozen=True)
class PullTest:
    """What a pull test found.

    Attributes:
        displacement: mm [P]; the first is 0; doubled where a thread broke.
        force: uN, conjugate to the displacement [P].
        broken: edges in the order they broke, and the displacement at which [K] each.
        broken_at: mm.
        extent: length that strain refers to, mm.
        volume: of the threads, mm^3.
        failed: whether it lost its strength before the largest strain.
        unsettled: relaxations that gave up (their points are kept; expected 0).
        frames: positions at some displacements, if asked for, with the edges alive.
    """

    displacement: Floats
    force: Floats
    broken: Ints
    broken_at: Floats
    extent: float
    volume: float
    failed: bool
    unsettled: int
    frames: tuple[tuple[float, Floats, Bools], ...] = field(default=(), repr=False)

    @property
    def strain(self) -> Floats:
        """Displacement over extent [P]."""
        return self.displacement / self.extent

    @property
    def strength(self) -> float:
        """Peak force, uN."""
        return float(self.force.max())

    @property
    def work(self) -> float:
        """Area under the curve above the force at rest, uN mm."""
        return float(np.trapezoid(self.force - min(self.force[0], 0.0), self.displacement))

    @property
    def toughness(self) -> float:
        """Work over the volume of the threads, MJ/m^3."""
        return 1e-6 * self.work / self.volume

    @property
    def stiffness(self) -> float:
        """Slope of the first 2 % of strain, uN/mm."""
        first = max(2, int((self.strain <= 0.02).sum()))
        x, y = self.displacement[:first], self.force[:first]
        return float(np.polyfit(x, y, 1)[0])

    @property
    def break_strain(self) -> float:
        """Strain at peak force."""
        return float(self.strain[self.force.argmax()])

    def summary(self) -> dict[str, float]:
        """The numbers with their units in the names."""
        return {
            "stiffness_uN_per_mm": self.stiffness,
            "strength_uN": self.strength,
            "toughness_MJ_per_m3": self.toughness,
            "strain_at_peak": self.break_strain,
            "broken": len(self.broken),
            "failed": float(self.failed),
            "unsettled": self.unsettled,
        }


def stretch(web: Web, axis: int | None = None) -> Load:
    """Move the anchors apart along an axis (the longest by default), in proportion to their place.

    Raises:
        ConfigError: the anchors have no extent along the axis.
    """
    check_structure(web)
    held = web.pos[web.anchors]
    size = np.ptp(held, axis=0)
    axis = int(size.argmax()) if axis is None else axis
    if axis not in (0, 1, 2):
        raise ConfigError(f"axis: expected 0, 1 or 2, got {axis}")
    if not size[axis] > 1e-6 * np.ptp(web.pos, axis=0).max():
        raise ConfigError(f"expected anchors apart along axis {axis}: they have no extent there")
    direction = np.zeros_like(web.pos)
    place = (web.pos[:, axis] - held[:, axis].min()) / size[axis]
    direction[web.anchors, axis] = place[web.anchors]
    return Load(web.anchors, web.anchors, direction, float(size[axis]))


def push(web: Web) -> Load:
    """Move the free node nearest to the middle across the plane in which the web is thinnest.

    Raises:
        ConfigError: there is no free node.
    """
    check_structure(web)
    free = np.flatnonzero(~web.anchors)
    if not len(free):
        raise ConfigError("expected a free node to push: all of them are anchors")
    centred = web.pos - web.pos.mean(0)
    node = int(free[np.linalg.norm(centred[free], axis=1).argmin()])
    normal = np.linalg.svd(centred, full_matrices=False)[2][2]
    driven = np.zeros(web.n_nodes, dtype=bool)
    driven[node] = True
    direction = np.zeros_like(web.pos)
    direction[node] = normal * np.sign(normal[np.abs(normal).argmax()])
    return Load(driven, web.anchors | driven, direction, float(np.ptp(web.pos, axis=0).max()))


LOADS: dict[str, Callable[[Web], Load]] = {"stretch": stretch, "push": push}


def rest_lengths(web: Web, silks: tuple[Silk, ...]) -> Floats:
    """Unstrained lengths [E], mm, at which the threads have their prestress.

    Raises:
        DataError: a prestress above the strength of its silk.
    """
    stiff = axial_stiffness(web, silks)
    columns = [(s.yield_strain, s.hardening / s.modulus, s.break_strain) for s in silks]
    knee, slope, most = np.array(columns)[web.thread].T
    strain = web.tension / stiff
    beyond = strain > knee
    with np.errstate(divide="ignore", invalid="ignore"):
        further = knee + (strain - knee) / slope
    strain = np.where(beyond, further, strain)
    if not (np.isfinite(strain) & (strain < most)).all():
        edge = int(np.flatnonzero(~(np.isfinite(strain) & (strain < most)))[0])
        raise DataError(
            f"unstable web: the prestress of edge {edge}, {web.tension[edge]:.4g} uN, breaks it"
        )
    return np.asarray(web.lengths / (1 + strain))


class _Test:
    """The state of a running test."""

    def __init__(self, web: Web, load: Load, silks: tuple[Silk, ...]) -> None:
        from structgen.webs.factor import plan_of

        columns = [(s.yield_strain, s.hardening / s.modulus, s.break_strain) for s in silks]
        knee, slope, self.most = np.array(columns)[web.thread].T
        stiff = axial_stiffness(web, silks)
        self.law = np.ascontiguousarray(np.column_stack([stiff, knee, stiff * slope]))
        self.rest = rest_lengths(web, silks)
        self.web, self.load = web, load
        self.plan = plan_of(web.edges, load.held)
        self.pos, self.alive = web.pos.copy(), np.ones(web.n_edges, dtype=bool)
        self.at, self.unsettled = 0.0, 0
        self.rate = np.zeros_like(self.pos)

    def move(self, u: float) -> float:
        """Displace the driven nodes to u and balance the web; returns the force."""
        from structgen.webs.relaxation import settle

        load, step = self.load, u - self.at
        before = self.pos.copy()
        self.pos += step * self.rate
        driven = load.held
        self.pos[driven] = before[driven] + step * load.direction[driven]
        self.at = u
        steps, force = settle(
            self.pos,
            load.held,
            self.web.edges,
            self.rest,
            self.law,
            self.alive,
            self.plan,
            TOLERANCE,
            MOST_STEPS,
        )
        self.unsettled += steps == MOST_STEPS
        if step > 0:
            self.rate = (self.pos - before) / step
        return -float((force * load.direction).sum())

    def use(self) -> Floats:
        """Strain over strain at break of every edge [E]; 0 for broken ones."""
        spans = self.pos[self.web.edges[:, 1]] - self.pos[self.web.edges[:, 0]]
        strain = np.linalg.norm(spans, axis=1) / self.rest - 1
        return np.where(self.alive, strain / self.most, 0.0)


def pull(
    web: Web,
    *,
    silk: str = "araneus",
    load: str | Load = "stretch",
    steps: float = 0.01,
    largest: float = 4.0,
    frames: int = 0,
) -> PullTest:
    """Pull a web to failure.

    Args:
        web: with anchors; its tensions are its prestress.
        silk: set of `silk.SETS`.
        load: ``stretch``, ``push``, or a load of one's own.
        steps: of the strain.
        largest: strain at which to stop a web that does not fail.
        frames: keep the geometry every so many steps (0: never).

    Raises:
        ConfigError: an unknown silk or load, or an option outside its range.
        DataError: no anchors, loose parts, edges without length, or a prestress that breaks.
    """
    if not (0 < steps <= 0.2 and steps <= largest):
        raise ConfigError(f"steps: expected a strain above 0 and up to 0.2, got {steps}")
    if isinstance(load, str):
        if load not in LOADS:
            raise ConfigError(f"unknown load {load!r}; known: {', '.join(LOADS)}")
        load = LOADS[load](web)
    check_structure(web)
    test = _Test(web, load, silk_set(silk))
    curve = [(0.0, test.move(0.0))]
    broken: list[tuple[int, float]] = []
    kept = [(0.0, test.pos.copy(), test.alive.copy())]
    failed = False
    for step in range(1, int(round(largest / steps)) + 1):
        _advance(test, step * steps * load.extent, curve, broken)
        if frames and step % frames == 0:
            kept.append((test.at, test.pos.copy(), test.alive.copy()))
        peak = max(f for _, f in curve)
        if broken and curve[-1][1] <= LOST * peak:
            failed = True
            break
    table = np.array(curve)
    return PullTest(
        table[:, 0],
        table[:, 1],
        np.array([k for k, _ in broken], dtype=np.int64),
        np.array([u for _, u in broken]),
        load.extent,
        web.volume,
        failed,
        test.unsettled,
        tuple(kept) if frames else (),
    )


def _advance(
    test: _Test, target: float, curve: list[tuple[float, float]], broken: list[tuple[int, float]]
) -> None:
    """One step of the displacement, with all breaks on its way, one by one."""
    while True:
        start, before, pos = test.at, test.use(), test.pos.copy()
        force = test.move(target)
        use = test.use()
        if use.max() < 1:
            curve.append((target, force))
            return
        # the event: where the first thread reaches its limit, by linear interpolation
        over = use >= 1
        shares = (1 - before[over]) / np.maximum(use[over] - before[over], 1e-12)
        share = float(np.clip(shares.min(), 0, 1))
        if share < 1:
            test.pos, test.at = pos, start
            event = start + share * (target - start)
            curve.append((event, test.move(event)))
        else:
            curve.append((target, force))
        edge = int(test.use().argmax())
        test.alive[edge] = False
        broken.append((edge, test.at))
        _settle_breaks(test, curve, broken)
        if test.at >= target:
            return


def _settle_breaks(
    test: _Test, curve: list[tuple[float, float]], broken: list[tuple[int, float]]
) -> None:
    """Balance after a break; threads that are now beyond their limit break one at a time."""
    while True:
        curve.append((test.at, test.move(test.at)))
        use = test.use()
        if use.max() < 1:
            return
        edge = int(use.argmax())
        test.alive[edge] = False
        broken.append((edge, test.at))


def damage(web: Web, removed: int, *, seed: int = 0, repeats: int = 3, **options: Any) -> Damage:
    """What is left after some threads, at random, have been cut.

    Args:
        web: with anchors.
        removed: threads to cut.
        seed: of the choice.
        repeats: choices to take the mean of.
        options: of `pull`.

    Raises:
        ConfigError: more threads than the web has, or an option outside its range.
        DataError: the web cannot be pulled.
    """
    if not 0 < removed < web.n_edges:
        raise ConfigError(f"removed: expected 1 to {web.n_edges - 1} threads, got {removed}")
    whole = pull(web, **options)
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(repeats):
        keep = np.ones(web.n_edges, dtype=bool)
        keep[rng.choice(web.n_edges, removed, replace=False)] = False
        one = pull(held_part(web.take_edges(keep)), **options)
        shares.append((one.strength / whole.strength, one.work / whole.work))
    strength, work = np.mean(shares, axis=0)
    return Damage(removed, float(strength), float(work))


@dataclass(frozen=True)
class Damage:
    """Shares of the whole web's strength and work to failure that are left; means of repeats."""

    removed: int
    strength: float
    work: float


def held_part(web: Web) -> Web:
    """The web without parts that hang on no anchor, and without isolated nodes.

    Raises:
        DataError: nothing is left.
    """
    part = web.components()
    good = np.isin(part, part[web.anchors]) & (web.degrees > 0)
    if not good.any():
        raise DataError("nothing of the web is held")
    return web.take_nodes(np.flatnonzero(good))
