"""Webs as rows of numbers, one a node: the two diffusion models of the paper.

Lu, Lee and Buehler 2023 (PNAS 120, e2305273120) describe a node by its place and either by the
indices of a few neighbours (sparse, "analog") or by its row of the adjacency matrix (full). Both
are here as what they are meant to be: indices as analog bits (Chen, Zhang and Hinton 2022), and
entries of the matrix as classes of a Markov chain. A transformer stands in place of the U-Net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.domains import Nodes, Points
from diffcore.processes import Gaussian, Process
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import FlowTime, power_grid
from diffcore.state import State, Times
from diffcore.transformer import Size, TokenNetwork
from structgen.webs.graphs import (
    GraphDenoiser,
    condition_of,
    encoded,
    graph_processes,
    propose_graphs,
    scaled_positions,
)
from structgen.webs.order import back_edges, order
from structgen.webs.task import CLASSES, CONDITIONS, Draft, Request, Values, WebTask, dense_draft
from structgen.webs.web import Floats, Web


@dataclass(frozen=True)
class AnalogTask(WebTask):
    """A node is its place, whether it is held, and how far back its neighbours before it are.

    Attributes:
        network: size of the transformer.
    """

    network: Size = field(default_factory=Size)
    method: ClassVar[str] = "analog"

    @property
    def far_bits(self) -> int:
        """Bits of a distance in the order; 0 says that there is no neighbour."""
        return max(1, self.data.reach).bit_length()

    @property
    def kind_bits(self) -> int:
        """Bits of a thread's class."""
        return (CLASSES - 2).bit_length()

    @property
    def bits(self) -> int:
        """Bits of a node: held or not, then those of every neighbour."""
        return 1 + self.data.back * (self.far_bits + self.kind_bits)

    def processes(self) -> dict[str, Process]:
        """Places and analog bits, both by flow matching."""
        return {
            "pos": Gaussian(FlowTime(), Points()),
            "bits": Gaussian(FlowTime(), Nodes((self.bits,))),
        }

    def build(self) -> TokenNetwork:
        """A network with fresh weights."""
        return TokenNetwork(self.network, 3 + self.bits, self.data.largest, len(CONDITIONS))

    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention."""
        return AnalogDenoiser(cast("TokenNetwork", network), self.processes())

    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs of one size with their parameters."""
        ordered = [web.take_nodes(order(web, rng)) for web in webs]
        pos = torch.stack([scaled_positions(self.data, web) for web in ordered])
        bits = torch.from_numpy(np.stack([self._bits(web) for web in ordered])).float()
        mask = torch.ones(pos.shape[:2], dtype=torch.bool)
        told = self.data.condition(values)
        return State({"pos": pos, "bits": bits, "condition": told}, mask)

    def _bits(self, web: Web) -> Floats:
        rows = []
        width = self.far_bits + self.kind_bits
        threads = back_edges(web, self.data.reach)
        for held, back in zip(web.anchors.tolist(), threads, strict=True):
            row = [bool(held)]
            for far, kind in back[: self.data.back]:
                row += [bool(far >> k & 1) for k in range(self.far_bits)]
                row += [bool(kind >> k & 1) for k in range(self.kind_bits)]
            row += [False] * (1 + self.data.back * width - len(row))
            rows.append(row)
        return np.where(np.array(rows), 1.0, -1.0)

    def propose(self, denoiser: Denoiser, request: Request) -> list[Draft]:
        """A web of so many nodes for every generator."""
        processes, rngs = self.processes(), request.rngs
        start = prior(processes, torch.ones(len(rngs), request.size, dtype=torch.bool), rngs)
        grid = power_grid(request.steps)
        made = sample(denoiser, processes, start, grid, rngs, method=solver("ddim"))
        return [
            self.draft(pos.double().numpy(), bits.double().numpy())
            for pos, bits in zip(made["pos"], made["bits"], strict=True)
        ]

    def draft(self, pos: Floats, bits: Floats) -> Draft:
        """The web of places [N, 3] and analog bits [N, bits].

        A bit's value in [-1, 1] is read as its mean, so that a whole number has the product of the
        probabilities of its bits.
        """
        n, slots = len(pos), self.data.back
        high = np.clip((bits + 1) / 2, 1e-4, 1 - 1e-4)
        parts = high[:, 1:].reshape(n, slots, -1)
        far = number_probabilities(parts[..., : self.far_bits])[..., : self.data.reach + 1]
        kind = number_probabilities(parts[..., self.far_bits :])[..., : CLASSES - 1]
        kind = kind / kind.sum(-1, keepdims=True)
        chance = np.zeros((n, n, CLASSES))
        chance[..., 0] = 1.0
        for i in range(n):
            for back in range(1, min(i, self.data.reach) + 1):
                p = far[i, :, back]  # of every slot to say so
                there = 1 - np.prod(1 - p)
                share = (p[:, None] * kind[i]).sum(0) / p.sum()
                both = np.concatenate([[1 - there], there * share])
                chance[i, i - back] = chance[i - back, i] = both
        threads = int((chance[..., 0] < 0.5).sum() // 2)
        return dense_draft(pos * self.data.scale, chance, threads, bits[:, 0] > 0)


def number_probabilities(high: Floats) -> Floats:
    """Probabilities [..., 2^K] of whole numbers whose bits [..., K] are independent."""
    p = np.ones((*high.shape[:-1], 1))
    for k in range(high.shape[-1]):
        one = high[..., k : k + 1]
        p = np.concatenate([p * (1 - one), p * one], -1)
    return p


@dataclass(frozen=True)
class AnalogDenoiser:
    """The transformer in the x0 convention, told its last prediction."""

    network: TokenNetwork
    processes: Mapping[str, Process]

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean places and bits."""
        rows = torch.cat([state["pos"], state["bits"]], -1)
        last = context.get(PREVIOUS)
        before = None if last is None else torch.cat([last["pos"], last["bits"]], -1)
        time = times["bits"].to(rows.dtype)
        raw = self.network(rows, condition_of(state), time, before)
        fields = {"pos": raw[..., :3], "bits": raw[..., 3:]}
        return State(
            {n: p.domain.project(fields[n], state.mask) for n, p in self.processes.items()},
            state.mask,
        )


@dataclass(frozen=True)
class AdjacencyTask(WebTask):
    """A node is its place, whether it is held, and its row of the adjacency matrix.

    Attributes:
        network: size of the transformer.
    """

    network: Size = field(default_factory=Size)
    method: ClassVar[str] = "adjacency"

    def processes(self) -> dict[str, Process]:
        """See `graphs.graph_processes`."""
        return graph_processes(self.data)

    def build(self) -> RowNetwork:
        """A network with fresh weights."""
        return RowNetwork(self.network, self.data.largest)

    def denoiser(self, network: nn.Module, *, taught: bool = False) -> Denoiser:
        """The network in the x0 convention."""
        return GraphDenoiser(network, self.processes())

    def encode(self, webs: Sequence[Web], values: Values, rng: np.random.Generator) -> State:
        """A batch of webs of one size with their parameters."""
        return encoded(self.data, webs, values, [order(web, rng) for web in webs])

    def propose(self, denoiser: Denoiser, request: Request) -> list[Draft]:
        """See `graphs.propose_graphs`."""
        return propose_graphs(self, denoiser, request)


class RowNetwork(nn.Module):
    """A transformer over nodes that reads and predicts rows of the adjacency matrix.

    Args:
        size: of the transformer.
        nodes: most nodes of a web.
    """

    KEY = 16
    """Features by which a pair's class is scored."""

    def __init__(self, size: Size, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.inner = TokenNetwork(
            size,
            3 + 2 + nodes * CLASSES,
            nodes,
            len(CONDITIONS),
            out=3 + 2 + CLASSES * (2 * self.KEY + 1),
        )

    def forward(
        self,
        pos: Tensor,
        node: Tensor,
        pair: Tensor,
        times: Mapping[str, Tensor],
        mask: Tensor,
        condition: Tensor,
    ) -> dict[str, Tensor]:
        """Predict every field; the class of a pair is scored by a product of both nodes' features.

        Args:
            pos: [B, N, 3], centred.
            node: one-hot [B, N, 2].
            pair: one-hot [B, N, N, CLASSES], symmetric.
            times: [B] of the fields; that of ``pos`` is used.
            mask: [B, N], all true: webs of one size.
            condition: [B, 9], NaN where nothing is given.

        Returns:
            ``pos`` [B, N, 3] and logits of ``anchor`` [B, N, 2] and ``edge`` [B, N, N, CLASSES].
        """
        b, n = mask.shape
        rows = torch.nn.functional.pad(pair, (0, 0, 0, self.nodes - n)).reshape(b, n, -1)
        features = torch.cat([pos, node, rows], -1)
        raw = self.inner(features, condition, times["pos"].to(pos.dtype))
        place, held, keys = raw.split([3, 2, raw.shape[-1] - 5], -1)
        one, other, bias = (
            keys.reshape(b, n, CLASSES, -1).transpose(1, 2).split([self.KEY, self.KEY, 1], -1)
        )
        score = torch.matmul(one, other.transpose(-1, -2)) / self.KEY**0.5
        score = score + bias
        both = (score + score.transpose(-1, -2)).permute(0, 2, 3, 1)
        return {"pos": place, "anchor": held, "edge": both}
