"""A network for torsion angles: a learned torsional force field on top of a graph network.

For every rotatable bond it gives the log-probabilities, on a grid of the circle, of its clean
torsion given the (noisy) torsions of the other bonds. Like a force field it is a Fourier series in
true dihedral angles, with two kinds of terms whose coefficients are learned:

- local: sum over the neighbours i of b and l of c of A_k(i, b, c, l) cos k tau(i, b, c, l);
- pairs: sum over other rotatable bonds near by of A_k cos k tau + B_k sin k tau, with A even and B
  odd functions of the other bond's dihedral angles.

Angles enter as complex numbers exp(i k tau) and only as true dihedral angles (a torsion plus the
offsets of the neighbours meant), so that the result does not depend on the choice of reference
neighbours, is invariant under rotation, and under reflection turns over with the angles: the score
is a pseudoscalar per rotatable bond, as in Jing et al. 2022, without tensor products of higher
order, which would cost a hundred times more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

ELEMENTS = (5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)
ATOM_CLASSES = (len(ELEMENTS) + 1, 5, 6, 5, 5, 2, 7)
"""Classes of an atom's columns: element (last: another), charge -2..2, heavy neighbours 0..5,
hydrogens 0..4, hybridisation, aromatic, smallest ring (0 none, 1 three atoms, ... 6 eight or more).
"""
EDGE_CLASSES = (4, 2, 2, 3)
"""Classes of a bond's columns: order (single, double, triple, aromatic), ring, conjugated, double
bond geometry (none, trans, cis)."""
SUBSTITUENTS = 3
"""Neighbours on either side of a rotatable bond, apart from the bond itself."""
MAX_PATH = 4
"""Torsions whose bonds are at most this many bonds apart see each other."""

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class TorsionConfig:
    """Size of the network.

    Attributes:
        width: features of an atom.
        layers: rounds of messages between bonded atoms.
        harmonics: highest harmonic K of the local terms.
        pair_harmonics: highest harmonic of the pair terms.
        seen: highest harmonic of another torsion that a pair term sees.
        pair_width: features of a pair.
        channels: weighted sums over the far neighbours of a bond, on either side.
    """

    width: int = 64
    layers: int = 4
    harmonics: int = 16
    pair_harmonics: int = 6
    seen: int = 4
    pair_width: int = 48
    channels: int = 3


@dataclass(frozen=True)
class Encoded:
    """What does not depend on the torsions: computed once for a molecule.

    Attributes:
        local: Fourier coefficients of the local terms, real and imaginary, [B, R, K] each.
        pair: features of every pair, [B, P, W].
        far_in: phases of the sender's far neighbours, [B, P, M, C] real and imaginary.
        far_out: phases of the receiver's far neighbours turned to the leading neighbour,
            [B, P, H, C] real and imaginary.
        index: receiver and sender of every pair, [B, P, 2].
        mask: real pairs [B, P].
    """

    local: tuple[Tensor, Tensor]
    pair: Tensor
    far_in: tuple[Tensor, Tensor]
    far_out: tuple[Tensor, Tensor]
    index: Tensor
    mask: Tensor

    def take(self, rows: Tensor) -> Encoded:
        """The rows [M] (repeats allowed): one for every sample."""
        a, b, c = self.local, self.far_in, self.far_out
        return Encoded(
            (a[0][rows], a[1][rows]),
            self.pair[rows],
            (b[0][rows], b[1][rows]),
            (c[0][rows], c[1][rows]),
            self.index[rows],
            self.mask[rows],
        )


def pick(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x [B, N, ...] at index [B, *] -> [B, *, ...]; a negative index gives row 0."""
    rows = torch.arange(x.shape[0], device=x.device).reshape(-1, *([1] * (index.dim() - 1)))
    flat = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    out: Tensor = flat[rows * x.shape[1] + index.clamp_min(0)]
    return out


def scatter(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum values [B, M, D] into slots index [B, M] of [B, size, D]."""
    rows = torch.arange(values.shape[0], device=values.device).unsqueeze(1) * size
    out: Tensor = values.new_zeros(values.shape[0] * size, values.shape[2])
    out.index_add_(0, (rows + index).flatten(), values.flatten(0, 1))
    return out.reshape(values.shape[0], size, values.shape[2])


class _Messages(nn.Module):
    """One round: gated sums over bonds, then an update; residual, normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.source, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.update = nn.Sequential(nn.Linear(3 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(
        self, h: Tensor, edge: Tensor, bond: Tensor, edge_mask: Tensor, atom_mask: Tensor
    ) -> Tensor:
        x = self.norm(h)
        gate = torch.sigmoid(self.gate(x))
        message = nn.functional.silu(pick(self.source(x), edge[..., 0]) + bond)
        message = message * pick(gate, edge[..., 1]) * edge_mask.unsqueeze(-1)
        total = scatter(message, edge[..., 1], h.shape[1])
        count = atom_mask.sum(1).clamp_min(1).reshape(-1, 1, 1)
        pooled = (x * atom_mask.unsqueeze(-1)).sum(1, keepdim=True) / count
        change: Tensor = self.update(torch.cat([x, total, pooled.expand_as(x)], -1))
        return h + change


class TorsionNetwork(nn.Module):
    """See the module. `encode` once a molecule, then `forward` at every step."""

    def __init__(self, config: TorsionConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TorsionConfig()
        self.atom = nn.ModuleList(nn.Embedding(k, c.width) for k in ATOM_CLASSES)
        self.bond = nn.ModuleList(nn.Embedding(k, c.width) for k in EDGE_CLASSES)
        self.rounds = nn.ModuleList(_Messages(c.width) for _ in range(c.layers))
        self.axis, self.end = nn.Linear(c.width, c.width), nn.Linear(c.width, c.width)
        self.local = nn.Sequential(
            nn.LayerNorm(c.width),
            nn.Linear(c.width, c.width),
            nn.SiLU(),
            nn.Linear(c.width, c.harmonics),
        )
        self.far = nn.Linear(c.width, c.channels * (c.seen + c.pair_harmonics))
        self.path = nn.Embedding(2 * (MAX_PATH + 1), c.pair_width)
        self.facing = nn.Linear(6 * c.width, c.pair_width)
        angular = c.seen * c.channels
        self.time = nn.Linear(8, c.pair_width)
        self.even = nn.Linear(2 * angular, c.pair_width)
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(c.pair_width, c.pair_width), nn.SiLU())
        self.odd, self.odd_gate = (
            nn.Linear(angular, angular, bias=False),
            nn.Linear(c.pair_width, angular),
        )
        out = c.pair_harmonics * c.channels
        self.cos, self.sin = nn.Linear(c.pair_width, out), nn.Linear(angular, out, bias=False)
        for layer in (self.local[-1], self.cos, self.sin):  # nearly uniform densities at first
            nn.init.normal_(cast(nn.Linear, layer).weight, std=0.02)

    def encode(self, graph: Batch) -> Encoded:
        """Everything that depends on the molecule and its local structure alone.

        Args:
            graph: the arrays of `TorsionGraph`, padded to [B, ...], with ``atom_mask``,
                ``edge_mask``, ``pair_mask`` and ``offset`` [B, R, 2, 3].
        """
        h = self.atoms(graph)
        sub, present = graph["sub"], (graph["sub"] >= 0).to(h.dtype)
        axis = pick(self.axis(h), graph["quad"][..., 1:3])
        ends = pick(self.end(h), sub) + axis.unsqueeze(-2)
        pair, far_in, far_out = self._pairs(h, graph, present)
        return Encoded(
            self._local(ends, graph["offset"], present),
            pair,
            far_in,
            far_out,
            graph["pair"],
            graph["pair_mask"],
        )

    def atoms(self, graph: Batch) -> Tensor:
        """Features of the heavy atoms [B, N, W] from their graph (arrays of `encode`)."""
        atom, kind = graph["atom"], graph["edge_kind"]
        h = torch.stack([e(atom[..., k]) for k, e in enumerate(self.atom)]).sum(0)
        bond = torch.stack([e(kind[..., k]) for k, e in enumerate(self.bond)]).sum(0)
        for messages in self.rounds:
            h = messages(h, graph["edge"], bond, graph["edge_mask"], graph["atom_mask"])
        return h

    def _local(self, ends: Tensor, offset: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over both sides' neighbours; symmetric, as a torsion read from either end is one."""
        left, right = ends[..., 0, :, None, :], ends[..., 1, None, :, :]
        both = present[..., 0, :, None] * present[..., 1, None, :]
        coefficient = self.local(left + right + left * right) * both.unsqueeze(-1)
        k = torch.arange(1, self.config.harmonics + 1, device=ends.device)
        phase = (offset[..., 0, :, None] + offset[..., 1, None, :]).unsqueeze(-1) * k
        return (coefficient * phase.cos()).sum((-3, -2)), (coefficient * phase.sin()).sum((-3, -2))

    def _pairs(
        self, h: Tensor, graph: Batch, present: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        c = self.config
        weight = pick(self.far(h), graph["sub"]).unflatten(-1, (c.channels, -1))
        weight = weight * present[..., None, None]
        receiver, sender = graph["pair"].unbind(-1)
        end = graph["pair_end"]
        orders_in = torch.arange(1, c.seen + 1, device=h.device)
        orders_out = torch.arange(1, c.pair_harmonics + 1, device=h.device)
        lead = [self._lead(graph, which) for which in (0, 1)]
        seen, shown = weight.split([c.seen, c.pair_harmonics], -1)
        far_in = self._far(seen, graph["offset"], sender, 1 - end[..., 1], lead[1], orders_in)
        far_out = self._far(shown, graph["offset"], receiver, 1 - end[..., 0], lead[0], orders_out)
        apart = graph["pair_kind"][..., 0] * 2 + graph["pair_kind"][..., 1]
        facing = torch.cat([*self._ends(h, graph, 0), *self._ends(h, graph, 1)], -1)
        return self.path(apart) + self.facing(facing), far_in, far_out

    def _lead(self, graph: Batch, which: int) -> Tensor:
        """Offset [B, P] of the neighbour that leads from one torsion of a pair to the other."""
        offset = pick(graph["offset"], graph["pair"][..., which]).flatten(-2)
        place = graph["pair_end"][..., which] * offset.shape[-1] // 2
        place = place + graph["pair_sub"][..., which]
        return offset.gather(-1, place.unsqueeze(-1)).squeeze(-1)

    def _far(
        self, weight: Tensor, offset: Tensor, owner: Tensor, end: Tensor, lead: Tensor, k: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum over the far neighbours n of w exp(i k (offset of n + offset of the lead))."""
        index = (owner * 2 + end).clamp_min(0)
        w = pick(weight.flatten(1, 2), index)
        angle = pick(offset.flatten(1, 2), index) + lead.unsqueeze(-1)
        phase = angle[..., None, None] * k
        return (w * phase.cos()).sum(-3), (w * phase.sin()).sum(-3)

    def _ends(self, h: Tensor, graph: Batch, which: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the facing end, the leading neighbour and the far end of a torsion."""
        owner, end = graph["pair"][..., which], graph["pair_end"][..., which]
        axis = pick(graph["quad"][..., 1:3], owner)
        near = axis.gather(-1, end.unsqueeze(-1)).squeeze(-1)
        far = axis.gather(-1, 1 - end.unsqueeze(-1)).squeeze(-1)
        sub = pick(graph["sub"], owner).flatten(-2)
        place = end * (sub.shape[-1] // 2) + graph["pair_sub"][..., which]
        lead = sub.gather(-1, place.unsqueeze(-1)).squeeze(-1)
        return pick(h, near), pick(h, lead), pick(h, far)

    def forward(self, encoded: Encoded, torsion: Tensor, sigma: Tensor, grid: Tensor) -> Tensor:
        """Logits [B, R, K] on the grid [K] for noisy torsions [B, R] with noise sigma [B].

        The logits of a torsion come from the others; its own noisy value does not enter.
        """
        real, imaginary = encoded.local
        if encoded.index.shape[1]:
            more = self._messages(encoded, torsion, sigma)
            pad = real.shape[-1] - more[0].shape[-1]
            real = real + nn.functional.pad(more[0], (0, pad))
            imaginary = imaginary + nn.functional.pad(more[1], (0, pad))
        k = torch.arange(1, real.shape[-1] + 1, device=grid.device, dtype=grid.dtype)
        angle = k.unsqueeze(-1) * grid
        return real @ angle.cos() - imaginary @ angle.sin()

    def _messages(self, encoded: Encoded, torsion: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        c = self.config
        k = torch.arange(1, c.seen + 1, device=torsion.device, dtype=torsion.dtype)
        # a harmonic of a noisy angle is worth exp(-k^2 sigma^2 / 2) of the clean one
        worth = torch.exp(-0.5 * (k * sigma.unsqueeze(-1)) ** 2).reshape(-1, 1, 1, c.seen)
        angle = pick(torsion, encoded.index[..., 1])[..., None, None] * k
        cos, sin = angle.cos() * worth, angle.sin() * worth
        a, b = encoded.far_in
        even, odd = (a * cos - b * sin).flatten(-2), (a * sin + b * cos).flatten(-2)
        turned = self.odd(odd)
        level = self.time(_level(sigma)).unsqueeze(1)
        features = self.mix(encoded.pair + level + self.even(torch.cat([even, turned**2], -1)))
        shape = (c.channels, c.pair_harmonics)
        A = self.cos(features).unflatten(-1, shape)
        B = self.sin(turned * self.odd_gate(features)).unflatten(-1, shape)
        p, q = encoded.far_out
        mask = encoded.mask.unsqueeze(-1)
        real = (A * p - B * q).sum(-2) * mask
        imaginary = (A * q + B * p).sum(-2) * mask
        both = scatter(torch.cat([real, imaginary], -1), encoded.index[..., 0], torsion.shape[1])
        first, second = both.chunk(2, -1)
        return first, second


def _level(sigma: Tensor) -> Tensor:
    """Features [B, 8] of the noise level."""
    x = sigma.clamp_min(1e-3).log().unsqueeze(-1)
    k = torch.arange(4, device=sigma.device, dtype=sigma.dtype) + 1
    phase = x * k * (math.pi / 8)
    return torch.cat([phase.cos(), phase.sin()], -1)
