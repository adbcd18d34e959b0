"""What a contact potential is fitted to: a pose is likelier than what its moves make of it.

A move turns a rotatable bond, or shifts or turns the whole ligand; the other degrees of freedom and
the target stay. Of the pose in the crystal and `others` random results of one move, the potential
is to tell which is the crystal's:

    p(k) = softmax_k(log q(tau_k) - E(x_k))

with q the torsional model's density of the bond's angle given the other bonds (even for moves of
the whole). The mean of -log p(0) is a pseudo-likelihood (Besag 1975, The Statistician 24, 179) with
random alternatives in place of the integral.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcore import random
from diffcore.denoisers import Context
from diffcore.domains import Nodes
from diffcore.errors import reading
from diffcore.processes import Gaussian
from diffcore.schedules import FlowTime
from diffcore.state import State, Times
from diffcore.teaching import Ranked
from molgen.contacts.network import ContactConfig, ContactPotential

if TYPE_CHECKING:
    from molgen.datasets.contact_table import ContactTable

FIELD = "share"


@dataclass(frozen=True)
class ContactTask:
    """What a contact potential is made of.

    Attributes:
        network: size of the potential.
        others: random results of a move, beside the crystal's pose.
        bonds: share of batches whose moves turn a bond, where there is one.
        shift: of the whole ligand, up to so far, Angstrom.
        turn: of the whole ligand by a little, up to such an angle, radians; every other by any.
    """

    network: ContactConfig = field(default_factory=ContactConfig)
    others: int = 20
    bonds: float = 0.6
    shift: float = 2.0
    turn: float = math.pi / 4

    def processes(self) -> dict[str, Ranked]:
        """Which candidate is the crystal's, of which the network is shown nothing."""
        return {FIELD: Ranked(Gaussian(FlowTime(), Nodes((1,))))}

    def build(self) -> ContactPotential:
        """A potential that is a wall only."""
        return ContactPotential(self.network)

    def encode(self, batch: Mapping[str, Tensor], rng: torch.Generator) -> State:
        """One move of every ligand of a batch of the contact table, the crystal's pose first."""
        pos, ligand, prior = candidates(self, batch, rng)
        share = torch.zeros(*prior.shape, 1)
        share[:, 0] = 1
        told = {"pos": pos, "ligand": ligand, "prior": prior}
        told |= {name: batch[name] for name in ("target", "target_pos")}
        return State({FIELD: share, **told}, torch.ones(prior.shape, dtype=torch.bool))

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ContactTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        with reading("a contact task"):
            return cls(**{**value, "network": ContactConfig(**value["network"])})


def candidates(
    task: ContactTask, batch: Mapping[str, Tensor], rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Results of one random move of every ligand, none at all first.

    Args:
        task: how far moves go.
        batch: of `ContactTable.batch`.
        rng: of the choice and size of moves.

    Returns:
        Positions of the moved atoms [B, C, M, 3], their kinds [B, M] (-1: none), and the log of
        the torsional model's density of every candidate but for a constant, [B, C].
    """
    pos, mask = batch["pos"], batch["mask"]
    b = len(pos)
    rows = torch.arange(b)
    which = (torch.rand(b, generator=rng) * batch["n_turns"]).long()
    # one kind of move for all: few atoms move with a bond
    bond = (torch.rand(1, generator=rng) < task.bonds) & (batch["n_turns"] > 0)
    moved = torch.where(bond[:, None], batch["moved"][rows, which], mask)
    size = torch.rand(b, task.others, generator=rng) * 2 - 1
    size = torch.cat([torch.zeros(b, 1), size], 1)
    kind = torch.rand(b, generator=rng)
    shift, little = ~bond & (kind < 0.5), ~bond & (kind > 0.75)
    direction = torch.nn.functional.normalize(torch.randn(b, 3, generator=rng), dim=-1)
    middle = pos.sum(1) / mask.sum(1, keepdim=True)
    ends = pos[rows[:, None], batch["axis"][rows, which]]
    axis = torch.nn.functional.normalize(ends[:, 1] - ends[:, 0], dim=-1)
    axis = torch.where(bond[:, None], axis, direction)
    origin = torch.where(bond[:, None], ends[:, 0], middle)
    angle = size * torch.where(little, task.turn, math.pi)[:, None]
    angle = torch.where(shift[:, None], 0.0, angle)
    density = batch["density"][rows, which]
    place = (angle / (2 * math.pi) % 1) * density.shape[-1]
    low, above = place.long() % density.shape[-1], place - place.floor()
    high = (low + 1) % density.shape[-1]
    prior = torch.lerp(density.gather(1, low), density.gather(1, high), above)
    order = moved.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(1, int(moved.sum(1).max()))]
    kept = moved.gather(1, order)
    part = turned(pos[rows[:, None], order], origin, axis, angle)
    step = torch.where(shift[:, None], task.shift * size, 0.0)
    part = part + step[..., None, None] * direction[:, None, None]
    ligand = torch.where(kept, batch["atom"].gather(1, order), -1)
    return part, ligand, torch.where(bond[:, None], prior, 0.0)


def turned(pos: Tensor, origin: Tensor, axis: Tensor, angle: Tensor) -> Tensor:
    """Positions [B, N, 3] turned about axes [B, 3] through origins [B, 3]: [B, C, N, 3].

    By the formula of Rodrigues; angles [B, C] in radians.
    """
    arm = (pos - origin.unsqueeze(1)).unsqueeze(1)
    axis = axis[:, None, None]
    cos, sin = angle.cos()[..., None, None], angle.sin()[..., None, None]
    along = (arm * axis).sum(-1, keepdim=True) * axis
    cross = torch.linalg.cross(axis.expand_as(arm), arm)
    found: Tensor = arm * cos + cross * sin + along * (1 - cos) + origin[:, None, None]
    return found


@dataclass(frozen=True)
class ContactDenoiser:
    """Scores of candidates."""

    potential: ContactPotential

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict."""
        told = (state[name] for name in ("pos", "ligand", "target_pos", "target"))
        scores = state["prior"] - self.potential(*told)
        return State({FIELD: scores.unsqueeze(-1)}, state.mask)


def stream(
    table: ContactTable, task: ContactTask, seed: int, size: int = 32, own: float = 0.25
) -> Iterator[State]:
    """Endless batches of moves.

    Args:
        table: complexes, and pieces of proteins.
        task: what moves there are.
        seed: of the order and the moves.
        size: ligands of a batch.
        own: share of them that are ligands rather than pieces, where there are both.
    """
    ligands, pieces = (torch.nonzero(table.piece == k).flatten() for k in (0, 1))
    step = 0
    while True:
        rng = random.generator(seed, 5, step)
        first = round(own * size) if len(pieces) and len(ligands) else size * (len(ligands) > 0)
        rows = [
            part[torch.randint(len(part), (number,), generator=rng)]
            for part, number in ((ligands, first), (pieces, size - first))
            if number
        ]
        yield task.encode(table.batch(torch.cat(rows)), rng)
        step += 1
