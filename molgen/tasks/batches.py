"""Training batches of molecules of one size, in an order set by seed, rank and epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from diffcore.random import generator
from diffcore.state import State
from molgen.datasets.table import MoleculeTable
from molgen.tasks.molecules import MoleculeTask


@dataclass
class SizeBatches(IterableDataset[State]):
    """Endless batches; every batch holds molecules with the same number of atoms.

    Attributes:
        table: the molecules.
        indices: which of them, [M] int64.
        task: encodes them.
        size: molecules a batch.
        seed: of the order.
        rank: this process; every process sees its own share of an epoch.
        world: number of processes.
        start: says at the first batch how many were seen before (a resumed run).
    """

    table: MoleculeTable
    indices: Tensor
    task: MoleculeTask
    size: int = 64
    seed: int = 0
    rank: int = 0
    world: int = 1
    start: Callable[[], int] = int

    def epoch(self, number: int) -> list[Tensor]:
        """Index batches of one epoch, this process's share."""
        rng = generator(self.seed, number)
        order = self.indices[torch.randperm(len(self.indices), generator=rng)]
        n_atoms = self.table.n_atoms[order]
        batches: list[Tensor] = []
        for n in n_atoms.unique():
            # one step's batches of all processes hold molecules of the same size: no process
            # waits for another
            whole = order[n_atoms == n].split(self.size * self.world)
            batches.extend(
                part[self.rank :: self.world] for part in whole if len(part) >= self.world
            )
        return [batches[k] for k in torch.randperm(len(batches), generator=rng).tolist()]

    def __iter__(self) -> Iterator[State]:
        """Epoch after epoch."""
        number, skip = 0, self.start()
        while True:
            batches = self.epoch(number)
            for index in batches[skip:]:
                yield self.task.encode(self.table.batch(index))
            skip = max(0, skip - len(batches))
            number += 1
