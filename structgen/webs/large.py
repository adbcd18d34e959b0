"""Large webs: first places, then threads between near ones; an equivariant model of both stages.

Places have unit spread, so that distances of neighbours fall with the number of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diffcore.denoisers import Denoiser
from diffcore.domains import Nodes, Points, Slots
from diffcore.processes import Categorical, Gaussian, Process, marginal_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import FlowTime, power_grid
from diffcore.state import State
from structgen.webs.graphs import GraphDenoiser
from structgen.webs.measures import AXES
from structgen.webs.neighbours import nearest, paired
from structgen.webs.order import order
from structgen.webs.sparse import SparseConfig, SparseNetwork
from structgen.webs.task import CLASSES, CONDITIONS, LAST_TIME, Draft, Values, WebTask
from structgen.webs.web import Web

STAGES = (("pos", "anchor"), ("edge",))
"""Fields that are drawn one after another."""

POWER = 2.5
"""Of the time grid of places: fine where places of neighbours are told apart."""

FEWER = 0.5
"""Steps of the threads, as a share of those of the places."""


@dataclass(frozen=True)
class SparseTask(WebTask):
    """An equivariant network on nearest neighbours: cost and memory grow with the nodes.

    Attributes:
        network: its size.
        slots: class probabilities of the pairs of neighbours in the training data.
    """

    network: SparseConfig = field(default_factory=SparseConfig)
    slots: tuple[float, ...] = ()
    method: ClassVar[str] = "sparse"
    ordered: ClassVar[bool] = False
    together: ClassVar[int] = 4000
    beyond: ClassVar[float] = 5.0

    def processes(self) -> dict[str, Process]:
        """Places by flow matching; anchors and threads by classes that fall to the marginals."""
        anchor = marginal_kernel(torch.tensor(self.data.marginals["anchor"]))
        edge = marginal_kernel(torch.tensor(self.slots or self.data.marginals["edge"]))
        return {
            "pos": Gaussian(FlowTime(), Points()),
            "anchor": Categorical(FlowTime(), Nodes(), anchor),
            "edge": Categorical(FlowTime(), Slots(self.network.neighbours), edge),
        }

    def fitted(self, webs: Sequence[Web]) -> SparseTask:
        """The task with the shares of classes among the pairs of neighbours."""
        return replace(self, slots=slot_shares(self, webs))

    def build(self) -> SparseNetwork:
        """A network with fresh weights."""
        axial = tuple(CONDITIONS.index(name) for name in AXES)
        return SparseNetwork(self.network, 2, CLASSES, len(CONDITIONS), axial)

    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention."""
        return GraphDenoiser(network, self.processes())

    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs with their parameters, padded to the largest, in the order of `order`.

        Threads between nodes that are no near neighbours are left out.
        """
        webs = [web.take_nodes(order(web, rng)) for web in webs]
        n = max(self.network.neighbours + 1, *(web.n_nodes for web in webs))
        pos, mask = torch.zeros(len(webs), n, 3), torch.zeros(len(webs), n, dtype=torch.bool)
        anchor = torch.zeros(len(webs), n, dtype=torch.int64)
        for k, web in enumerate(webs):
            pos[k, : web.n_nodes] = spread_positions(web)
            mask[k, : web.n_nodes] = True
            anchor[k, : web.n_nodes] = torch.from_numpy(web.anchors.astype(np.int64))
        near = nearest(pos, mask, self.network.neighbours)
        owner, _ = paired(near)
        edge = torch.stack([in_lists(web, near[k], owner[k]) for k, web in enumerate(webs)])
        told = self.data.condition(values)
        return State(
            {"pos": pos, "anchor": anchor, "edge": edge, "near": near, "condition": told}, mask
        )

    def propose(
        self, denoiser: Denoiser, size: int, rngs: list[torch.Generator], steps: int
    ) -> list[Draft]:
        """A web of so many nodes for every generator: its places, then its threads."""
        k, processes, rows = self.network.neighbours, self.processes(), len(rngs)
        mask = torch.zeros(rows, max(size, k + 1), dtype=torch.bool)
        mask[:, :size] = True
        late = power_grid(steps, POWER)
        waiting = torch.ones_like(late)
        waiting[-1] = 0
        grids = {"pos": late, "anchor": late, "edge": waiting}
        start = prior(processes, mask, rngs)
        made = sample(denoiser, processes, start, grids, rngs, method=solver("ddim"))
        near = nearest(made["pos"], mask, k)
        made = made.replace(near=near, edge=processes["edge"].prior(mask, rngs))
        grid = power_grid(max(2, int(FEWER * steps)))
        made = sample(denoiser, processes, made, grid, rngs, method=solver("ddim"), given=STAGES[0])
        still = {n: torch.zeros(rows) for n in STAGES[0]}
        chance = denoiser(made, {**still, "edge": torch.full((rows,), LAST_TIME)}, {})["edge"]
        owner, _ = paired(near)
        return [
            draft_of(made.take(torch.tensor([r])), chance[r], owner[r], size) for r in range(rows)
        ]


def draft_of(made: State, chance: Tensor, owner: Tensor, size: int) -> Draft:
    """The draft of one web [1, N, ...] with the probabilities [N, K, CLASSES] in its lists."""
    i, slot = owner.nonzero().T
    j = made["near"][0, i, slot]
    return Draft(
        made["pos"][0, :size].double().numpy(),
        torch.stack([torch.minimum(i, j), torch.maximum(i, j)], 1).numpy(),
        chance[i, slot].double().numpy(),
        int((made["edge"][0, i, slot] > 0).sum()),
        made["anchor"][0, :size].numpy() == 1,
    )


def spread_positions(web: Web) -> Tensor:
    """Centred positions [N, 3] with unit mean square."""
    centred = web.pos - web.pos.mean(0)
    return torch.from_numpy(centred / np.sqrt((centred**2).mean())).float()


def in_lists(web: Web, near: Tensor, owner: Tensor) -> Tensor:
    """Classes of the pairs that lists [N, K] speak for; 0 where a place speaks for none."""
    n = near.shape[0]
    low, high = web.edges.T
    keys = low * n + high
    order = np.argsort(keys)
    i = np.arange(n)[:, None]
    j = near.numpy()
    asked = np.minimum(i, j) * n + np.maximum(i, j)
    place = np.searchsorted(keys[order], asked).clip(0, len(keys) - 1)
    found = keys[order][place] == asked
    kind = np.where(found, web.thread[order][place] + 1, 0)
    return torch.from_numpy(kind) * owner


def slot_shares(task: SparseTask, webs: Sequence[Web], at_most: int = 200) -> tuple[float, ...]:
    """Class probabilities of the pairs of neighbours in some webs."""
    counts = torch.zeros(CLASSES, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for web in webs[:at_most]:
        state = task.encode([web], [{}], rng)
        owner, _ = paired(state["near"])
        counts += torch.bincount(state["edge"][owner], minlength=CLASSES)
    shares = (counts + 1e-3) / (counts + 1e-3).sum()
    return tuple(round(float(s), 8) for s in shares)
