"""Training batches: ligands alone, and complexes that see all, some or nothing of a target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from diffcore.random import generator
from diffcore.state import State
from molgen.datasets.complex_table import ComplexTable
from molgen.sidegen.network import ALONE, MESSAGES, POOLED
from molgen.sidegen.task import FIELD, SideTask

SEEN = ((MESSAGES, 0.6), (POOLED, 0.3), (ALONE, 0.1))
"""Share of a complex's draws that see so much of the target: one network, every ablation."""


@dataclass
class SideBatches(IterableDataset[State]):
    """Endless batches, the order and all noise functions of seed, rank and step.

    Attributes:
        ligands: molecules without a target.
        complexes: molecules with a target, or None.
        task: encodes them.
        size: ligands a batch; of complexes half as many.
        share: of batches that are complexes.
        seed: of the order.
        rank: this process.
        shift: standard deviation of the target's displacement, Angstrom: a pocket's centre is never
            the ligand's.
        jitter: standard deviation of noise on the target's atoms, Angstrom.
        start: says at the first batch how many were seen before (a resumed run).
    """

    ligands: ComplexTable
    complexes: ComplexTable | None
    task: SideTask
    size: int = 32
    share: float = 0.4
    seed: int = 0
    rank: int = 0
    shift: float = 0.5
    jitter: float = 0.2
    start: Callable[[], int] = int

    def __iter__(self) -> Iterator[State]:
        """Batch after batch."""
        single = _by_size(self.ligands)
        bound = None if self.complexes is None else _by_size(self.complexes)
        step = self.start()
        while True:
            rng = generator(self.seed, 3, self.rank, step)
            with_target = float(torch.rand((), generator=rng)) < self.share
            if with_target and self.complexes is not None and bound is not None:
                rows = _draw(bound, self.size // 2, rng)
                yield self.task.encode(self._varied(self.complexes.batch(rows), rng))
            else:
                rows = _draw(single, self.size, rng)
                yield self.task.encode(alone(self.ligands.batch(rows)))
            step += 1

    def _varied(self, batch: dict[str, Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """Targets moved a little, a tenth of their atoms hidden."""
        where = batch["target_pos"]
        b, t, _ = where.shape
        moved = self.shift * torch.randn((b, 1, 3), generator=rng)
        moved = moved + self.jitter * torch.randn((b, t, 3), generator=rng)
        shown = torch.rand((b, t), generator=rng) > 0.1
        kinds, shares = zip(*SEEN, strict=True)
        drawn = torch.multinomial(torch.tensor(shares), b, replacement=True, generator=rng)
        return {
            **batch,
            "target_pos": where + moved,
            "target_mask": batch["target_mask"] & shown,
            "info": torch.tensor(kinds)[drawn],
        }


def alone(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch with its targets hidden and cut off."""
    b = batch[FIELD].shape[0]
    return {
        **batch,
        "target": batch["target"][:, :1],
        "target_pos": batch["target_pos"][:, :1],
        "target_mask": torch.zeros(b, 1, dtype=torch.bool),
        "info": torch.full((b,), ALONE),
    }


def _by_size(table: ComplexTable) -> Tensor:
    """Training ligands, the smallest first."""
    rows = table.split_indices("train")
    return rows[table.counts["atoms"][rows].argsort()]


def _draw(by_size: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Ligands of similar size: neighbours, of which every third is taken, in the sorted list."""
    size = min(size, len(by_size))
    window = min(len(by_size), 3 * size)
    first = int(torch.randint(0, len(by_size) - window + 1, (), generator=rng))
    picked = torch.randperm(window, generator=rng)[:size]
    return by_size[first + picked]
