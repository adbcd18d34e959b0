"""The dense equivariant model: positions by flow matching, pair classes by a Markov chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore.denoisers import Context, Denoiser, as_clean
from diffcore.domains import Nodes, Pairs, Points
from diffcore.processes import Categorical, Gaussian, Process, marginal_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import FlowTime, power_grid
from diffcore.state import State, Times
from structgen.webs.measures import AXES
from structgen.webs.network import NetworkConfig, WebNetwork
from structgen.webs.task import (
    CLASSES,
    CONDITIONS,
    LAST_TIME,
    Draft,
    Request,
    Statistics,
    Values,
    WebTask,
    dense_draft,
)
from structgen.webs.web import Ints, Web


def graph_processes(data: Statistics) -> dict[str, Process]:
    """Positions by flow matching; anchors and threads by classes that fall to the marginals."""
    kernels = {n: marginal_kernel(torch.tensor(p)) for n, p in data.marginals.items()}
    return {
        "pos": Gaussian(FlowTime(), Points()),
        "anchor": Categorical(FlowTime(), Nodes(), kernels["anchor"]),
        "edge": Categorical(FlowTime(), Pairs(), kernels["edge"]),
    }


def encoded(
    data: Statistics,
    webs: Sequence[Web],
    values: Values,
    orders: Sequence[Ints] | None = None,
) -> State:
    """Positions, anchors and threads of webs padded to the largest, nodes in the given orders."""
    b, n = len(webs), max(web.n_nodes for web in webs)
    pos, mask = torch.zeros(b, n, 3), torch.zeros(b, n, dtype=torch.bool)
    anchor = torch.zeros(b, n, dtype=torch.int64)
    edge = torch.zeros(b, n, n, dtype=torch.int64)
    for k, web in enumerate(webs):
        web = web if orders is None else web.take_nodes(orders[k])
        size = web.n_nodes
        pos[k, :size] = scaled_positions(data, web)
        mask[k, :size] = True
        anchor[k, :size] = torch.from_numpy(web.anchors.astype(np.int64))
        i, j = torch.from_numpy(web.edges.T.copy())
        edge[k, i, j] = edge[k, j, i] = torch.from_numpy(web.thread) + 1
    told = data.condition(values)
    return State({"pos": pos, "anchor": anchor, "edge": edge, "condition": told}, mask)


def scaled_positions(data: Statistics, web: Web) -> Tensor:
    """Centred positions [N, 3] in units of their spread in the training set."""
    centred = web.pos - web.pos.mean(0)
    return torch.from_numpy(centred / web.lengths.mean() / data.scale).float()


def condition_of(state: State) -> Tensor:
    """What the state is told [B, 9]: NaN where it is nothing."""
    told = state.get("condition")
    nothing = state["pos"].new_full((state.rows, len(CONDITIONS)), torch.nan)
    return nothing if told is None else told


def propose_graphs(task: WebTask, denoiser: Denoiser, request: Request) -> list[Draft]:
    """`WebTask.propose` of the models that draw positions and classes of pairs."""
    processes, rngs = task.processes(), request.rngs
    start = prior(processes, torch.ones(len(rngs), request.size, dtype=torch.bool), rngs)
    grid = power_grid(request.steps)
    made = sample(denoiser, processes, start, grid, rngs, method=solver("ddim"))
    late = {n: torch.full((len(rngs),), LAST_TIME) for n in processes}
    chance = denoiser(made, late, {})["edge"].double().numpy()
    return [
        dense_draft(
            pos.double().numpy() * task.data.scale,
            p,
            int((edge > 0).sum() // 2),
            anchor.numpy() == 1,
        )
        for pos, p, edge, anchor in zip(
            made["pos"], chance, made["edge"], made["anchor"], strict=True
        )
    ]


@dataclass(frozen=True)
class GraphTask(WebTask):
    """An equivariant network on all pairs of nodes.

    Attributes:
        network: its size.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    method: ClassVar[str] = "equivariant"
    ordered: ClassVar[bool] = False
    beyond: ClassVar[float] = 1.5

    def processes(self) -> dict[str, Process]:
        """See `graph_processes`."""
        return graph_processes(self.data)

    def build(self) -> WebNetwork:
        """A network with fresh weights."""
        axial = tuple(CONDITIONS.index(name) for name in AXES)
        return WebNetwork(self.network, 2, CLASSES, len(CONDITIONS), axial)

    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention."""
        return GraphDenoiser(network, self.processes())

    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs with their parameters, padded to the largest."""
        return encoded(self.data, webs, values)

    def propose(self, denoiser: Denoiser, request: Request) -> list[Draft]:
        """See `propose_graphs`."""
        return propose_graphs(self, denoiser, request)


@dataclass(frozen=True)
class GraphDenoiser:
    """A network of positions, anchors and pairs in the x0 convention."""

    network: nn.Module
    processes: Mapping[str, Process]

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean state: means and class probabilities."""
        pos = state["pos"]
        raw = self.network(
            pos,
            F.one_hot(state["anchor"], 2).to(pos.dtype),
            F.one_hot(state["edge"], CLASSES).to(pos.dtype),
            times,
            state.mask,
            condition_of(state),
        )
        return State(
            {
                n: as_clean(raw[n], state[n], times[n], p, state.mask, "x0")
                for n, p in self.processes.items()
            },
            state.mask,
        )
