"""Endless training batches of webs of about one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from diffcore.random import generator
from diffcore.state import State
from structgen.webs.order import permuted, symmetry
from structgen.webs.recipes import mapped
from structgen.webs.task import WebTask
from structgen.webs.web import Web


@dataclass
class WebBatches(IterableDataset[State]):
    """Every epoch in another order; webs of about one size share a batch, so that little is padded.

    For a task whose nodes are ordered (`WebTask.ordered`) a batch holds webs of one size, turned
    onto other axes each time.

    Attributes:
        webs: the webs.
        values: their parameters.
        task: encodes them.
        size: webs a batch, at most.
        seed: of the order.
        nodes: nodes a batch, at most, those that fill up included; one web whatever its size.
    """

    webs: Sequence[Web]
    values: Sequence[Mapping[str, float]]
    task: WebTask
    size: int
    seed: int = 0
    nodes: int = 100_000

    def __iter__(self) -> Iterator[State]:
        """Epoch after epoch."""
        epoch = 0
        while True:
            rng = generator(self.seed, epoch)
            parts = self._parts(rng)
            for k in torch.randperm(len(parts), generator=rng).tolist():
                yield self._batch(parts[k].tolist(), np.random.default_rng([self.seed, epoch, k]))
            epoch += 1

    def _parts(self, rng: torch.Generator) -> list[Tensor]:
        nodes = torch.tensor([float(web.n_nodes) for web in self.webs])
        spread = 1.0 if self.task.ordered else 3.0
        order = (nodes + spread * torch.rand(len(nodes), generator=rng)).argsort()
        groups = [order]
        if self.task.ordered:
            counts = torch.unique_consecutive(nodes[order], return_counts=True)[1]
            groups = list(order.split(counts.tolist()))
        return [part for group in groups for part in self._split(group)]

    def _split(self, group: Tensor) -> list[Tensor]:
        """Parts of webs sorted by size."""
        sizes = [self.webs[k].n_nodes for k in group.tolist()]
        parts, begin = [], 0
        for end in range(1, len(sizes) + 1):
            count = end - begin
            full = end == len(sizes) or count == self.size
            if full or (count + 1) * sizes[end] > self.nodes:
                parts.append(group[begin:end])
                begin = end
        return parts

    def _batch(self, index: list[int], rng: np.random.Generator) -> State:
        webs, values = [self.webs[i] for i in index], [self.values[i] for i in index]
        if self.task.ordered:
            turns = [symmetry(rng) for _ in index]
            webs = [mapped(web, turn) for web, turn in zip(webs, turns, strict=True)]
            values = [permuted(v, turn) for v, turn in zip(values, turns, strict=True)]
        return self.task.encode(webs, values, rng)
