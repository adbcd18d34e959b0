"""What a model of weights is trained on: networks, each with the rows that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from diffcore.random import generator
from diffcore.state import State
from structgen.netweights.lessons import ROWS, Lesson
from structgen.netweights.task import WeightTask
from structgen.netweights.zoo import Zoo

HIDDEN = 0.2
"""Share of rows in training that are not told accuracy and sparsity (classifier-free guidance)."""


@dataclass(frozen=True)
class Corpus:
    """M networks and their data.

    Attributes:
        zoo: the networks.
        x: rows [M, 256, D] float16; networks of a whole data set have each their own draw of them.
        y: classes [M, 256] int8.
    """

    zoo: Zoo
    x: Tensor
    y: Tensor

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, 256, D] float32 and classes [B, 256] of some networks."""
        return self.x[index].float(), self.y[index].long()


def gather(
    zoo: Zoo, shards: Sequence[Callable[[], Lesson]], tick: Callable[[], object] = lambda: None
) -> Corpus:
    """The corpus of a zoo and the shards that it was built from."""
    xs, ys = [], []
    for number, shard in enumerate(shards):
        lesson = shard()
        x, y = lesson.x, lesson.y
        if x.dim() == 2:
            index = torch.stack(
                [
                    torch.randperm(len(x), generator=generator(number, k))[
                        torch.arange(ROWS) % len(x)
                    ]
                    for k in range(len(lesson.source))
                ]
            )
            x, y = x[index], y[index]
        xs.append(x.half())
        ys.append(y.to(torch.int8))
        tick()
    return Corpus(zoo, torch.cat(xs), torch.cat(ys))


@dataclass
class LatentBatches(IterableDataset[State]):
    """Endless batches of latents with their conditions.

    Attributes:
        corpus: networks and data.
        latents: of all networks [M, N, Z].
        task: says what is asked.
        size: networks a batch.
        seed: of the order.
        said: what `WeightTask.probed` says of every network's rows, as conditions, if it is known
            already; else it is asked batch by batch.
    """

    corpus: Corpus
    latents: Tensor
    task: WeightTask
    size: int
    seed: int = 0
    said: Mapping[str, Tensor] | None = None

    def __iter__(self) -> Iterator[State]:
        """Epoch after epoch."""
        zoo, epoch = self.corpus.zoo, 0
        while True:
            rng = generator(self.seed, epoch)
            for index in torch.randperm(len(zoo), generator=rng).split(self.size):
                x, y = self.corpus.rows(index)
                asked = self.task.asked(len(index), zoo.accuracy[index], zoo.sparsity[index])
                hidden = torch.rand(len(index), 1, generator=rng) < HIDDEN
                present = zoo.present[index]
                told = {
                    "x": x,
                    "y": y,
                    "present": present,
                    "asked": asked.masked_fill(hidden, torch.nan),
                    **self._probed(index, x, y, present),
                }
                yield self.task.state(self.latents[index], told)
            epoch += 1

    def _probed(self, index: Tensor, x: Tensor, y: Tensor, present: Tensor) -> Mapping[str, Tensor]:
        if self.said is None:
            return self.task.probed(x, y, present)
        return {name: value[index].float() for name, value in self.said.items()}


def ask_probe(
    corpus: Corpus, task: WeightTask, tick: Callable[[int], object] = lambda made: None
) -> dict[str, Tensor] | None:
    """What the probe says of every network's rows, half precision; None where steps cost little.

    Newton steps cost as much as a training batch; they are taken once, not in every epoch.
    """
    if not task.size.newton:
        return None
    parts = []
    for index in torch.arange(len(corpus.zoo)).split(128):
        parts.append(task.probed(*corpus.rows(index), corpus.zoo.present[index])["probed"].half())
        tick(len(index))
    return {"probed": torch.cat(parts)}
