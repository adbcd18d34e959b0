"""Conformers as a diffusion task: one field, the torsions, on the torus.

What the torsions depend on (the molecule's graph, its local structure) goes with the state as
further fields without a process; a protein pocket would be such fields too. Needs torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from diffcore.denoisers import Context
from diffcore.errors import reading
from diffcore.processes import Process
from diffcore.random import generator
from diffcore.state import State, Times
from diffcore.torus import GeometricSigmas, WrappedNormal
from molgen.datasets.torsions import TorsionTable
from molgen.models.torsion import TorsionConfig, TorsionNetwork

FIELD = "torsion"
ENCODED = "encoded"
"""Key of the context under which `TorsionNetwork.encode`'s result is handed to every step."""


@dataclass(frozen=True)
class ConformerTask:
    """What a torsional model is made of.

    Attributes:
        network: size of the network.
        bins: points of the circle on which the clean torsion's probabilities are given.
        sigma_min: lowest noise, radians.
        sigma_max: highest noise, radians.
    """

    network: TorsionConfig = field(default_factory=TorsionConfig)
    bins: int = 72
    sigma_min: float = 0.0314159265
    sigma_max: float = 3.14159265

    def process(self) -> WrappedNormal:
        """The torsions' process."""
        return WrappedNormal(GeometricSigmas(self.sigma_min, self.sigma_max), bins=self.bins)

    def processes(self) -> dict[str, Process]:
        """One process per field."""
        return {FIELD: self.process()}

    def build(self) -> TorsionNetwork:
        """A network with fresh weights."""
        return TorsionNetwork(self.network)

    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """Clean state from a batch of the torsion table; the graph goes along as fields."""
        conditions = {n: x for n, x in batch.items() if n not in ("angle", "torsion_mask")}
        return State({FIELD: batch["angle"], **conditions}, batch["torsion_mask"])

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConformerTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        with reading("a conformer task"):
            return cls(**{**value, "network": TorsionConfig(**value["network"])})


@dataclass(frozen=True)
class ConformerDenoiser:
    """The network in the x0 convention: probabilities of every clean torsion on the grid.

    The network gives the logits of a torsion from the others; the torsion's own noisy value comes
    in by Bayes, exactly.
    """

    network: TorsionNetwork
    process: WrappedNormal

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean torsions, from the state's own graph or the encoded one given."""
        encoded = context.get(ENCODED)
        if encoded is None:
            encoded = self.network.encode(state)
        x, t = state[FIELD], times[FIELD].to(state[FIELD].dtype)
        sigma = self.process.schedule.sigma(t)
        logits = self.network(encoded, x, sigma, self.process.grid(x))
        # at t = 0 the torsion is known; a time just above it keeps the likelihood finite
        known = self.process.log_likelihood(x, t.clamp_min(1e-3))
        return State({FIELD: (logits.float() + known).softmax(-1)}, state.mask)


@dataclass
class TorsionBatches(IterableDataset[State]):
    """Endless batches of molecules of similar size, in an order set by seed, rank and epoch.

    Attributes:
        table: the molecules.
        indices: which of them, [M] int64.
        task: encodes them.
        size: molecules a batch.
        seed: of the order.
        rank: this process; every process sees its own share of an epoch.
        world: number of processes.
        jitter: standard deviation, in radians, of noise on the offsets: local structures at
            sampling are not those of the crystal.
        start: says at the first batch how many were seen before (a resumed run).
    """

    table: TorsionTable
    indices: Tensor
    task: ConformerTask
    size: int = 64
    seed: int = 0
    rank: int = 0
    world: int = 1
    jitter: float = 0.06
    start: Callable[[], int] = int

    def epoch(self, number: int) -> list[Tensor]:
        """Index batches of one epoch, this process's share."""
        rng = generator(self.seed, number)
        torsions = self.table.counts["torsions"][self.indices].double()
        keys = torsions * (1 + 0.2 * torch.rand(len(torsions), generator=rng, dtype=torch.float64))
        order = self.indices[keys.argsort()]
        whole = [b for b in order.split(self.size * self.world) if len(b) >= self.world]
        batches = [whole[k] for k in torch.randperm(len(whole), generator=rng).tolist()]
        return [b[self.rank :: self.world] for b in batches]

    def __iter__(self) -> Iterator[State]:
        """Epoch after epoch."""
        number, skip = 0, self.start()
        while True:
            batches = self.epoch(number)
            for k, index in enumerate(batches[skip:], skip):
                batch = self.table.batch(index)
                rng = generator(self.seed, 1, number, k)
                noise = torch.randn(batch["offset"].shape, generator=rng)
                # the reference neighbours' offsets are zero by definition
                moved = self.jitter * noise * (batch["offset"] != 0)
                yield self.task.encode({**batch, "offset": batch["offset"] + moved})
            skip = max(0, skip - len(batches))
            number += 1
