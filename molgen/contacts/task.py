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
from diffcore.torus import between
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
        pos, ligand, prior = results(random_moves(self, batch, rng), batch)
        share = torch.zeros(*prior.shape, 1)
        share[:, 0] = 1
        told = {"pos": pos, "ligand": ligand, "prior": prior}
        told |= {name: batch[name] for name in ("target", "target_pos", "target_axis")}
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


@dataclass(frozen=True)
class Moves:
    """One move of every ligand of a batch, with C sizes: a turn about an axis, then a shift.

    Attributes:
        bond: the bond that is turned, -1 for moves of the whole, [B].
        moved: which atoms move, [B, N].
        origin: a point of the axis, [B, 3], Angstrom.
        axis: its direction [B, 3], of length 1.
        angle: [B, C], radians.
        shift: [B, C, 3], Angstrom.
    """

    bond: Tensor
    moved: Tensor
    origin: Tensor
    axis: Tensor
    angle: Tensor
    shift: Tensor


def bond_moves(batch: Mapping[str, Tensor], bond: Tensor, angle: Tensor) -> Moves:
    """Turns of bonds [B] of a batch's ligands by angles [B, C], radians."""
    rows = torch.arange(len(bond))
    ends = batch["pos"][rows[:, None], batch["axis"][rows, bond]]
    axis = torch.nn.functional.normalize(ends[:, 1] - ends[:, 0], dim=-1)
    still = torch.zeros(*angle.shape, 3)
    return Moves(bond, batch["moved"][rows, bond], ends[:, 0], axis, angle, still)


def whole_moves(
    task: ContactTask, batch: Mapping[str, Tensor], size: Tensor, rng: torch.Generator
) -> Moves:
    """Turns or shifts of whole ligands in random directions, of sizes [B, C] from -1 to 1."""
    b = len(size)
    kind = torch.rand(b, 1, generator=rng)
    direction = torch.nn.functional.normalize(torch.randn(b, 3, generator=rng), dim=-1)
    angle = torch.where(kind < 0.5, 0.0, size * torch.where(kind < 0.75, task.turn, math.pi))
    step = torch.where(kind < 0.5, task.shift * size, 0.0)
    mask = batch["mask"]
    middle = batch["pos"].sum(1) / mask.sum(1, keepdim=True)
    shift = step.unsqueeze(-1) * direction.unsqueeze(1)
    return Moves(torch.full((b,), -1), mask, middle, direction, angle, shift)


def random_moves(task: ContactTask, batch: Mapping[str, Tensor], rng: torch.Generator) -> Moves:
    """One move of every ligand, the first of no size, all of bonds or all of whole ligands.

    Ligands without a bond that turns are moved as a whole.
    """
    b = len(batch["pos"])
    size = torch.rand(b, task.others, generator=rng) * 2 - 1
    size = torch.cat([torch.zeros(b, 1), size], 1)
    bond = (torch.rand(b, generator=rng) * batch["n_turns"]).long()
    of_bonds = (torch.rand(1, generator=rng) < task.bonds) & (batch["n_turns"] > 0)
    one = bond_moves(batch, bond, math.pi * size)
    other = whole_moves(task, batch, size, rng)
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return Moves(*(torch.where(of_bonds.reshape(-1, *[1] * (x.dim() - 1)), x, y) for x, y in pairs))


def results(moves: Moves, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """What moves make of the ligands of a batch of the contact table.

    Returns:
        Positions of the moved atoms [B, C, M, 3], their kinds [B, M] (-1: none), and the logarithm
        of the torsional model's density of every result but for a constant, [B, C].
    """
    rows = torch.arange(len(moves.bond))
    density = batch["density"][rows, moves.bond.clamp_min(0)]
    # the density's grid begins where the bond is, that of the circle half a turn before
    grid = density.roll(density.shape[-1] // 2, -1).unsqueeze(1)
    prior = between(grid.expand(-1, moves.angle.shape[1], -1), moves.angle)
    order = moves.moved.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(1, int(moves.moved.sum(1).max()))]
    kept = moves.moved.gather(1, order)
    pos = turned(batch["pos"][rows[:, None], order], moves.origin, moves.axis, moves.angle)
    ligand = torch.where(kept, batch["atom"].gather(1, order), -1)
    prior = torch.where(moves.bond.unsqueeze(1) < 0, 0.0, prior)
    return pos + moves.shift.unsqueeze(2), ligand, prior


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
        told = (state[name] for name in ("pos", "ligand", "target_pos", "target", "target_axis"))
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
