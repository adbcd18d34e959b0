"""Ranking of a model's conformers by what is learned from crystals: training and use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.denoisers import Context
from diffcore.domains import Nodes
from diffcore.errors import ConfigError, ModelFileError, reading
from diffcore.processes import Gaussian
from diffcore.schedules import FlowTime
from diffcore.state import State, Times
from diffcore.teaching import Ranked
from molgen.models.ranking import PairRanking, RankingConfig

if TYPE_CHECKING:
    from molgen.datasets.pools import PoolTable
    from molgen.models.torsion import TorsionNetwork
    from molgen.torsions import TorsionGraph

FIELD = "share"


@dataclass(frozen=True)
class RankingTask:
    """What a ranking is made of.

    Attributes:
        network: size of the potential.
        sharpness: Angstrom of RMSD by which a conformer's wanted share falls to 1 / e.
        shown: conformers of a ligand in a training batch.
    """

    network: RankingConfig = field(default_factory=RankingConfig)
    sharpness: float = 0.3
    shown: int = 40

    def processes(self) -> dict[str, Ranked]:
        """Shares of the conformers, of which the network is shown nothing."""
        return {FIELD: Ranked(Gaussian(FlowTime(), Nodes((1,))))}

    def build(self) -> PairRanking:
        """A potential with fresh weights."""
        return PairRanking(self.network)

    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """Conformers [B, S] of ligands from a batch of the pool table, with the shares wanted."""
        share = torch.softmax(-batch["rmsd"] / self.sharpness, 1)
        rest = {n: x for n, x in batch.items() if n not in ("rmsd", "pos")}
        near = distances(batch["pos"], batch["near"])
        mask = torch.ones(share.shape, dtype=torch.bool)
        return State({FIELD: share.unsqueeze(-1), "distance": near, **rest}, mask)

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RankingTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        with reading("a ranking task"):
            return cls(**{**value, "network": RankingConfig(**value["network"])})


def distances(pos: Tensor, near: Tensor) -> Tensor:
    """Of pairs near [B, P, 2] in conformers pos [B, S, N, 3]: [B, S, P]."""
    rows = torch.arange(len(pos), device=pos.device).reshape(-1, 1)
    i, j = (pos.transpose(1, 2)[rows, near[..., k]] for k in (0, 1))
    apart: Tensor = torch.linalg.vector_norm(i - j, dim=-1)
    return apart.transpose(1, 2)


@dataclass(frozen=True)
class RankingDenoiser:
    """Scores of conformers; atoms are seen through a torsional network, which is not trained."""

    ranking: PairRanking
    network: TorsionNetwork

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict."""
        with torch.no_grad():
            atoms = self.network.atoms(state)
        scores = self.ranking(self.ranking.coefficients(atoms, state), state["distance"])
        return State({FIELD: scores.unsqueeze(-1)}, state.mask)


def stream(table: PoolTable, task: RankingTask, seed: int, size: int = 16) -> Iterator[State]:
    """Endless batches of ligands of similar size, some of their conformers each time."""
    step = 0
    while True:
        rng = random.generator(seed, 3, step)
        rows = torch.randperm(len(table), generator=rng)[: 4 * size]
        rows = rows[table.counts["pairs"][rows].argsort()]
        parts = list(rows.split(size))
        for k in torch.randperm(len(parts), generator=rng).tolist():
            batch = table.batch(parts[k])
            shown = torch.randperm(batch["rmsd"].shape[1], generator=rng)[: task.shown]
            some = {"rmsd": batch["rmsd"][:, shown], "pos": batch["pos"][:, shown]}
            yield task.encode({**batch, **some})
        step += 1


@dataclass(frozen=True)
class Ranker:
    """A trained ranking of one torsional model's conformers.

    Attributes:
        ranking: the potential.
        card: what is known of it.
        power: of the shares; above 1 they are sharper than they were taught.
    """

    ranking: PairRanking
    card: Mapping[str, Any]
    power: float = 1.0

    @classmethod
    def read(cls, path: Path, model: str) -> Ranker:
        """A weights file with its card.

        Args:
            path: of the file.
            model: hash of the weights of the torsional model it goes with.

        Raises:
            ModelFileError: the files are missing or broken, of another kind or another model.
        """
        card = load_card(path)
        if card.get("kind") != "ranking":
            raise ModelFileError(f"{path}: expected a ranking, got {card.get('kind')!r}")
        if card.get("of") != model:
            raise ModelFileError(f"{path}: expected a ranking of the model beside it, got another")
        try:
            task = RankingTask.from_json(card["task"])
            power = float(card.get("sampling", {}).get("power", 1.0))
        except (ConfigError, KeyError, AttributeError, TypeError, ValueError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        ranking = task.build().requires_grad_(False).eval()
        fill_module(ranking, load_weights(path, card), path)
        return cls(ranking, card, power)

    def weights(
        self, network: TorsionNetwork, graph: TorsionGraph, pos: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Shares [S] of conformers with heavy atoms at pos [S, N, 3]; they sum to 1."""
        from molgen.datasets.pools import pairs_of

        near, bonds = pairs_of(graph)
        batch = {"atom": graph.atom, "edge": graph.edge, "edge_kind": graph.edge_kind}
        arrays = {**batch, "near": near, "bonds": bonds}
        told = {n: torch.from_numpy(x).unsqueeze(0) for n, x in arrays.items()}
        for name, rows in (("atom_mask", graph.atom), ("edge_mask", graph.edge)):
            told[name] = torch.ones(1, len(rows), dtype=torch.bool)
        told["near_mask"] = torch.ones(1, len(near), dtype=torch.bool)
        told["size"] = torch.tensor([len(graph.atom)])
        with torch.inference_mode():
            found = self.ranking.coefficients(network.atoms(told), told)
            where = torch.from_numpy(pos).to(found.dtype).unsqueeze(0)
            scores = self.ranking(found, distances(where, told["near"]))[0]
        return np.asarray((self.power * scores.double()).softmax(0).numpy())
