"""Endless training batches of webs of about one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import IterableDataset

from diffcore.random import generator
from diffcore.state import State
from structgen.webs.task import WebTask
from structgen.webs.web import Web


@dataclass
class WebBatches(IterableDataset[State]):
    """Every epoch in another order; webs of about one size share a batch, so that little is padded.

    Attributes:
        webs: the webs.
        values: their parameters.
        task: encodes them.
        size: webs a batch.
        seed: of the order.
    """

    webs: Sequence[Web]
    values: Sequence[Mapping[str, float]]
    task: WebTask
    size: int
    seed: int = 0

    def __iter__(self) -> Iterator[State]:
        """Epoch after epoch."""
        nodes = torch.tensor([float(web.n_nodes) for web in self.webs])
        epoch = 0
        while True:
            rng = generator(self.seed, epoch)
            blurred = nodes + 3 * torch.rand(len(nodes), generator=rng)
            parts = blurred.argsort().split(self.size)
            for k in torch.randperm(len(parts), generator=rng).tolist():
                index = parts[k].tolist()
                yield self.task.encode(
                    [self.webs[i] for i in index], [self.values[i] for i in index]
                )
            epoch += 1
