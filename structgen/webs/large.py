"""Large webs: first threads, then places; two networks whose cost grows with the nodes.

What is joined to what is drawn as a band along the order of nodes (`bands`), then where nodes are,
equivariantly, when the threads are known (`sparse`). Places have unit spread, so that distances of
neighbours fall with the number of nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore.denoisers import Context, Denoiser, as_clean, with_temperature
from diffcore.domains import Nodes, Points, Slots
from diffcore.processes import Categorical, Gaussian, Process, marginal_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import FlowTime, power_grid
from diffcore.state import State, Times
from diffcore.transformer import Size
from structgen.webs.bands import BandNetwork, band, there
from structgen.webs.graphs import condition_of
from structgen.webs.layout import along_axes, drawn_map, fitted, flat_layout
from structgen.webs.measures import AXES
from structgen.webs.order import order
from structgen.webs.selection import chosen_threads
from structgen.webs.sparse import SparseConfig, SparseNetwork
from structgen.webs.task import (
    CERTAIN,
    CLASSES,
    CONDITIONS,
    LAST_TIME,
    Draft,
    Request,
    Values,
    WebTask,
)
from structgen.webs.web import Bools, Floats, Ints, Web

STAGES = (("edge", "anchor"), ("pos",))
"""Fields that are drawn one after another."""

POWER = {"edge": 2.0, "pos": 1.5}
"""Of the time grids: finer where it is decided which of two near nodes is meant."""

MORE, TEMPERATURE = 2, 0.8
"""Steps of the threads, as a multiple of those of the places, and the temperature of their classes.
Both were chosen, with the sampler that forgets, on webs that nothing else is measured on."""

DRAWS = 4
"""Draws of the threads of a web, of which one is kept."""

DIRECTIONS = 200
"""Maps of a layout that are tried for the one whose threads go along axes as much as asked for."""

STRETCHES = 200
"""Webs of the training data whose layouts are measured."""


@dataclass(frozen=True)
class SparseTask(WebTask):
    """Threads in a band, then places on near neighbours.

    Attributes:
        network: sizes.
        slots: class probabilities of the band's places in the training data.
        least_held: fewest nodes that hold a web of the training data.
        off: root mean square of what the layout's best linear map misses of places.
        stretches: singular values [S, 2] of such maps.
    """

    network: SparseConfig = field(default_factory=SparseConfig)
    slots: tuple[float, ...] = ()
    least_held: int = 3
    off: float = 1.0
    stretches: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    method: ClassVar[str] = "sparse"
    ordered: ClassVar[bool] = False
    together: ClassVar[int] = 4000
    beyond: ClassVar[float] = 1.02

    def processes(self) -> dict[str, Process]:
        """Places by flow matching; anchors and threads by classes that fall to the marginals."""
        anchor = marginal_kernel(torch.tensor(self.data.marginals["anchor"]))
        edge = marginal_kernel(torch.tensor(self.slots or self.data.marginals["edge"]))
        return {
            "pos": Gaussian(FlowTime(), Points()),
            "anchor": Categorical(FlowTime(), Nodes(), anchor),
            "edge": Categorical(FlowTime(), Slots(self.data.reach), edge),
        }

    def fitted(self, webs: Sequence[Web]) -> SparseTask:
        """The task with the shares of classes in the band, held nodes, and layouts measured."""
        least = min(int(web.anchors.sum()) for web in webs)
        off, stretches = [], []
        for web in webs[:STRETCHES]:
            pos = spread_positions(web)
            layout = layout_of(web)
            matrix = fitted(layout, pos)
            off.append(np.sqrt(((pos - layout[:, :2] @ matrix.T) ** 2).mean()))
            first, second = np.linalg.svd(matrix, compute_uv=False).round(4)
            stretches.append((float(first), float(second)))
        return replace(
            self,
            slots=slot_shares(self, webs),
            least_held=least,
            off=round(float(np.mean(off)), 4),
            stretches=tuple(stretches),
        )

    def build(self) -> LargeNetwork:
        """A network with fresh weights."""
        return LargeNetwork(self.network, self.data.reach)

    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention."""
        return LargeDenoiser(cast("LargeNetwork", network), self.processes(), self.off)

    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs with their parameters, padded to the largest, in the order of `order`."""
        webs = [web.take_nodes(order(web, rng)) for web in webs]
        n = max(self.network.nearest + 1, *(web.n_nodes for web in webs))
        pos, mask = torch.zeros(len(webs), n, 3), torch.zeros(len(webs), n, dtype=torch.bool)
        anchor = torch.zeros(len(webs), n, dtype=torch.int64)
        edge = torch.zeros(len(webs), n, self.data.reach, dtype=torch.int64)
        sketch = torch.zeros_like(pos)
        for k, web in enumerate(webs):
            layout, places = layout_of(web), spread_positions(web)
            first = layout[:, :2] @ fitted(layout, places).T
            sketch[k, : web.n_nodes] = torch.from_numpy(first)
            pos[k, : web.n_nodes] = torch.from_numpy((places - first) / self.off)
            mask[k, : web.n_nodes] = True
            anchor[k, : web.n_nodes] = torch.from_numpy(web.anchors.astype(np.int64))
            edge[k, : web.n_nodes] = band(web, self.data.reach)
        told = self.data.condition(values)
        return State(
            {"pos": pos, "anchor": anchor, "edge": edge, "sketch": sketch, "condition": told}, mask
        )

    def propose(self, denoiser: Denoiser, request: Request) -> list[Draft]:
        """A web of so many nodes for every generator: its threads, then its places.

        Of several draws of the threads the one is kept whose layout is the most even (`uneven`).
        """
        processes, rngs, size = self.processes(), request.rngs, request.size
        mask = torch.zeros(len(rngs), max(size, self.network.nearest + 1), dtype=torch.bool)
        mask[:, :size] = True
        draws = [self.threads(denoiser, request, mask) for _ in range(DRAWS)]
        drawn = [min(several, key=uneven) for several in zip(*draws, strict=True)]
        start = prior(processes, mask, rngs)
        sketch = torch.zeros_like(start["pos"])
        for r, one in enumerate(drawn):
            rng = np.random.default_rng(int(torch.randint(2**62, (), generator=rngs[r])))
            sketch[r, :size] = torch.from_numpy(self.sketched(one, request.told[r], rng))
        made = start.replace(
            edge=torch.stack([one.band for one in drawn]),
            anchor=torch.stack([one.anchor for one in drawn]),
            sketch=sketch,
        )
        grid = power_grid(request.steps, POWER["pos"])
        made = sample(denoiser, processes, made, grid, rngs, method=solver("ddim"), given=STAGES[0])
        places = sketch + self.off * made["pos"]
        return [
            Draft(pos[:size].double().numpy(), one.pairs, one.chance, len(one.pairs), one.held)
            for one, pos in zip(drawn, places, strict=True)
        ]

    def threads(self, denoiser: Denoiser, request: Request, mask: Tensor) -> list[Drawn]:
        """The threads of a web for every generator, on nodes of a mask [B, N]."""
        processes, rngs, rows = self.processes(), request.rngs, len(request.rngs)
        start = prior(processes, mask, rngs)
        early = power_grid(MORE * request.steps, POWER["edge"])
        waiting = torch.ones_like(early)
        waiting[-1] = 0
        grids = {"pos": waiting, **dict.fromkeys(STAGES[0], early)}
        sharper = with_temperature(denoiser, dict.fromkeys(STAGES[0], TEMPERATURE))
        made = sample(sharper, processes, start, grids, rngs, method=solver("renoise"))
        last = {"pos": torch.ones(rows), **{n: torch.full((rows,), LAST_TIME) for n in STAGES[0]}}
        chance = denoiser(made, last, {})
        return [
            joined_up(made, chance, r, request.size, request.threads[r], self.least_held)
            for r in range(rows)
        ]

    def sketched(self, drawn: Drawn, told: Mapping[str, float], rng: np.random.Generator) -> Floats:
        """First places [N, 3]: a linear map of the layout of threads, as the training data have it.

        The layout knows no direction. Of `DIRECTIONS` maps the one is taken whose threads go along
        the axes as much as the web is told; a web that is told nothing of axes has the first.
        """
        layout = drawn.layout()
        if layout is None:
            return np.zeros((len(drawn.held), 3))
        length = told.get("mean_edge_length", np.nan)
        wanted = np.array([told.get(name, np.nan) for name in AXES]) / length
        known = np.isfinite(wanted)
        table = np.array(self.stretches)
        maps = [drawn_map(rng, table) for _ in range(DIRECTIONS if known.any() else 1)]
        made = np.stack([layout[:, :2] @ one.T for one in maps])
        off = (along_axes(made, drawn.pairs) - np.where(known, wanted, 0)) ** 2
        return np.asarray(made[(off * known).sum(-1).argmin()])


@dataclass(frozen=True)
class Drawn:
    """The threads of a web, before it has places.

    Attributes:
        band: classes [N, R].
        anchor: classes of the nodes [N].
        pairs: nodes that have a thread [E, 2].
        chance: probabilities of its classes [E, CLASSES].
        held: nodes that are held [N].
    """

    band: Tensor
    anchor: Tensor
    pairs: Ints
    chance: Floats
    held: Bools

    def layout(self) -> Floats | None:
        """Of the threads [N, 3], see `layout.flat_layout`."""
        kinds = self.chance[:, 1:].argmax(-1)
        return flat_layout(len(self.held), self.pairs, kinds, self.held)


def uneven(drawn: Drawn) -> float:
    """Standard deviation of the threads' lengths in their layout, over the mean.

    Parts that hang together by few threads are drawn apart by the layout, and by a web's balance.
    """
    layout = drawn.layout()
    if layout is None:
        return float("inf")
    length = np.linalg.norm(layout[drawn.pairs[:, 0]] - layout[drawn.pairs[:, 1]], axis=1)
    return float(length.std() / length.mean())


def joined_up(
    made: State, chance: State, row: int, size: int, wanted: int | None, least_held: int = 3
) -> Drawn:
    """The threads that the places of a web are drawn on.

    With a number of threads that is asked for no part hangs from one node, and as many nodes are
    held as in any web of the training data: two would hold a line.

    Args:
        made: threads and anchors as they were drawn [B, N, ...].
        chance: probabilities of their classes [B, N, ...].
        row: which web.
        size: its nodes.
        wanted: number of threads; as many as were drawn by default.
        least_held: nodes that are held, at least.
    """
    exists = there(made.mask[row : row + 1], made["edge"].shape[2])[0]
    i, place = exists.nonzero().T
    pairs = torch.stack([i - place - 1, i], 1).numpy()
    p = chance["edge"][row, i, place].double().numpy()
    held = made["anchor"][row, :size] == 1
    if wanted is not None and held.sum() < least_held:
        likely = chance["anchor"][row, :size, 1] + held.to(chance["anchor"].dtype)
        held = torch.zeros_like(held).index_fill(0, likely.topk(least_held).indices, True)
    number = int(((made["edge"][row] > 0) & exists).sum()) if wanted is None else wanted
    number = min(max(number, size - 1), len(pairs))
    whole = wanted is not None
    chosen = chosen_threads(size, pairs, 1 - p[:, 0], number, held.numpy(), whole, ends_hold=False)
    band = torch.zeros_like(made["edge"][row])
    kind = torch.from_numpy(p[chosen, 1:].argmax(-1)) + 1
    band[i[chosen], place[chosen]] = kind
    anchor = torch.zeros_like(made["anchor"][row])
    anchor[:size] = held.to(anchor.dtype)
    return Drawn(band, anchor, pairs[chosen], p[chosen], held.numpy())


class LargeNetwork(nn.Module):
    """The network of the threads and that of the places.

    Args:
        config: their sizes.
        reach: places of the band.
    """

    def __init__(self, config: SparseConfig, reach: int) -> None:
        super().__init__()
        axial = tuple(CONDITIONS.index(name) for name in AXES)
        size = Size(config.width, config.blocks, config.heads)
        self.threads = BandNetwork(size, reach, 2, len(CONDITIONS))
        self.places = SparseNetwork(config, 2, len(CONDITIONS), axial)


@dataclass(frozen=True)
class LargeDenoiser:
    """Both networks in the x0 convention, each for the rows that are at its stage.

    What is not of a row's stage is predicted as it is.
    """

    network: LargeNetwork
    processes: Mapping[str, Process]
    off: float

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean state: means and class probabilities."""
        told, dtype = condition_of(state), state["pos"].dtype
        node = F.one_hot(state["anchor"], 2).to(dtype)
        raw = {
            "pos": state["pos"],
            "anchor": CERTAIN * node,
            "edge": CERTAIN * F.one_hot(state["edge"], CLASSES).to(dtype),
        }
        early = times["edge"] > 0
        one, other = early.nonzero().squeeze(1), (~early).nonzero().squeeze(1)
        if len(one):
            held, threads = self.network.threads(
                node[one], state["edge"][one], times["edge"][one], state.mask[one], told[one]
            )
            raw["anchor"] = raw["anchor"].index_copy(0, one, held.to(dtype))
            raw["edge"] = raw["edge"].index_copy(0, one, threads.to(dtype))
        if len(other):
            sketch = state["sketch"][other]
            places = self.network.places(
                self.off * state["pos"][other],
                sketch,
                node[other],
                state["edge"][other],
                {n: t[other] for n, t in times.items()},
                state.mask[other],
                told[other],
            )
            off = (places - sketch) / self.off
            raw["pos"] = raw["pos"].index_copy(0, other, off.to(dtype))
        return State(
            {
                n: as_clean(raw[n], state[n], times[n], p, state.mask, "x0")
                for n, p in self.processes.items()
            },
            state.mask,
        )


def spread_positions(web: Web) -> Floats:
    """Centred positions [N, 3] with unit mean square."""
    centred = web.pos - web.pos.mean(0)
    return np.asarray(centred / np.sqrt((centred**2).mean()))


def layout_of(web: Web) -> Floats:
    """The layout [N, 3] of a web's threads; all in one place if less than three nodes are held."""
    found = flat_layout(web.n_nodes, web.edges, web.thread, web.anchors)
    return np.zeros_like(web.pos) if found is None else found


def slot_shares(task: SparseTask, webs: Sequence[Web], at_most: int = 200) -> tuple[float, ...]:
    """Class probabilities of the places of the band in some webs."""
    counts = torch.zeros(CLASSES, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for web in webs[:at_most]:
        state = task.encode([web], [{}], rng)
        exists = there(state.mask, task.data.reach)
        counts += torch.bincount(state["edge"][exists], minlength=CLASSES)
    shares = (counts + 1e-3) / (counts + 1e-3).sum()
    return tuple(round(float(s), 8) for s in shares)
