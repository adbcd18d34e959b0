"""What a model of weights is trained on: networks, each with the rows that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from diffcore.random import generator
from diffcore.state import State
from structgen.netweights.lessons import ROWS, TEST_ROWS, Lesson
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
        judged_x: rows that answers are judged by [M, 128, D] float16: a derived task's own test
            rows; for a whole data set another draw of its training rows.
        judged_y: their classes [M, 128] int8, -1 where there is no row.
    """

    zoo: Zoo
    x: Tensor
    y: Tensor
    judged_x: Tensor
    judged_y: Tensor

    def rows(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, 256, D] float32 and classes [B, 256] of some networks."""
        return self.x[index].float(), self.y[index].long()

    def judged(self, index: Tensor) -> dict[str, Tensor]:
        """Rows that the answers of some networks are judged by, as fields of a state."""
        return {
            "judged_x": self.judged_x[index].float(),
            "judged_y": self.judged_y[index].long(),
        }


def gather(
    zoo: Zoo, shards: Sequence[Callable[[], Lesson]], tick: Callable[[], object] = lambda: None
) -> Corpus:
    """The corpus of a zoo and the shards that it was built from."""
    parts = []
    for number, shard in enumerate(shards):
        lesson = shard()
        if lesson.x.dim() == 2:
            x, y, other_x, other_y = _drawn(lesson, number)
        else:
            x, y, other_x = lesson.x, lesson.y, lesson.test_x
            other_y = lesson.test_y.masked_fill(~lesson.test_known, -1)
        parts.append((x.half(), y.to(torch.int8), other_x.half(), other_y.to(torch.int8)))
        tick()
    return Corpus(zoo, *(torch.cat(list(part)) for part in zip(*parts, strict=True)))


def _drawn(lesson: Lesson, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two draws of a whole data set's training rows for each network, the second the others."""
    n = len(lesson.x)
    order = torch.stack(
        [torch.randperm(n, generator=generator(number, k)) for k in range(len(lesson.source))]
    )
    shown = order[:, torch.arange(ROWS) % n]
    judged = order[:, torch.arange(ROWS, ROWS + TEST_ROWS) % n]
    return lesson.x[shown], lesson.y[shown], lesson.x[judged], lesson.y[judged]


@dataclass
class LatentBatches(IterableDataset[State]):
    """Endless batches of latents with their conditions.

    Attributes:
        corpus: networks and data.
        latents: of all networks [M, N, Z].
        task: says what is asked.
        size: networks a batch.
        seed: of the order.
        said: further conditions of every network [M, ...]: what the probe says (`ask_probe`).
    """

    corpus: Corpus
    latents: Tensor
    task: WeightTask
    size: int
    seed: int = 0
    said: Mapping[str, Tensor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[State]:
        """Epoch after epoch."""
        zoo, epoch = self.corpus.zoo, 0
        while True:
            rng = generator(self.seed, epoch)
            for index in torch.randperm(len(zoo), generator=rng).split(self.size):
                x, y = self.corpus.rows(index)
                asked = self.task.asked(len(index), zoo.accuracy[index], zoo.sparsity[index])
                hidden = torch.rand(len(index), 1, generator=rng) < HIDDEN
                told = {
                    "x": x,
                    "y": y,
                    "present": zoo.present[index],
                    "asked": asked.masked_fill(hidden, torch.nan),
                    **self.corpus.judged(index),
                    **{name: value[index].float() for name, value in self.said.items()},
                }
                yield self.task.state(self.latents[index], told)
            epoch += 1


def ask_probe(
    corpus: Corpus, task: WeightTask, tick: Callable[[int], object] = lambda made: None
) -> dict[str, Tensor]:
    """What the probe says of every network's rows, half precision; empty for a model without one.

    Asked once: a probe's steps cost as much as a training batch, or more.
    """
    if not task.size.probes:
        return {}
    parts = []
    for index in torch.arange(len(corpus.zoo)).split(128):
        parts.append(task.probed(*corpus.rows(index), corpus.zoo.present[index])["probed"].half())
        tick(len(index))
    return {"probed": torch.cat(parts)}
