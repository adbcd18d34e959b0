"""A network for conformers beside a target: encoders, ligand-target messages, pair vectors.

After SIDEGEN (Leveraging Side Information for Ligand Conformation Generation using Diffusion-Based
Approaches): the ligand's graph and the target's graph are encoded, the target sends messages to the
ligand over distance and features, and atoms move along the vectors of intra edges (ligand-ligand)
and inter edges (ligand-target), each with weights of its own. Equivariant under rotation and
translation; under reflection too, but for the handedness of marked centres.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from molgen.models.torsion import ATOM_CLASSES, pick

TARGET_ELEMENTS = ("C", "N", "O", "S")
RESIDUES = tuple(
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split()
)
BOND_CLASSES = 49
PATHS = 8
"""Classes of the number of bonds between two atoms: 0 to 6, and more."""

ALONE, POOLED, MESSAGES = 0, 1, 2
"""What a row sees of its target: nothing, the mean of its encoded atoms, or all messages."""

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class SideConfig:
    """Size of the network.

    Attributes:
        width: features of an atom.
        layers: rounds of messages, after each of which the atoms move.
        radial: Gaussians of a distance.
        reach: centre of the last one, Angstrom.
        neighbours: nearest target atoms that a target atom hears of.
    """

    width: int = 64
    layers: int = 4
    radial: int = 16
    reach: float = 10.0
    neighbours: int = 12


@dataclass(frozen=True)
class Encoded:
    """What does not depend on the noisy positions.

    Attributes:
        atom: features of ligand atoms [B, N, W].
        pair: features of pairs of ligand atoms [B, N, N, W].
        pair_mask: real pairs [B, N, N].
        target: features of target atoms [B, T, W].
    """

    atom: Tensor
    pair: Tensor
    pair_mask: Tensor
    target: Tensor

    def take(self, rows: Tensor) -> Encoded:
        """The rows [M], repeats allowed."""
        return Encoded(self.atom[rows], self.pair[rows], self.pair_mask[rows], self.target[rows])


class _Edges(nn.Module):
    """Messages along one kind of edge, and the vectors along which the receiver moves."""

    def __init__(self, config: SideConfig) -> None:
        super().__init__()
        w = config.width
        self.receiver, self.source = nn.Linear(w, w), nn.Linear(w, w, bias=False)
        self.distance = nn.Linear(config.radial + 1, w, bias=False)
        self.gate, self.move = nn.Linear(w, 1), nn.Linear(w, 1, bias=False)
        nn.init.normal_(self.move.weight, std=0.02)
        self.register_buffer("centres", torch.linspace(0, config.reach, config.radial))
        self.spacing = config.reach / (config.radial - 1)

    def forward(
        self,
        h: Tensor,
        source: Tensor,
        pair: Tensor | None,
        vector: Tensor,
        mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Message [B, N, W] and shift [B, N, 3] from vectors [B, N, M, 3] to the sources."""
        d = (vector.square().sum(-1) + 1e-8).sqrt()
        bump = torch.exp(
            -0.5 * ((d.unsqueeze(-1) - cast(Tensor, self.centres)) / self.spacing) ** 2
        )
        a = self.distance(torch.cat([bump, 1 / (1 + d.unsqueeze(-1))], -1))
        a = a + self.receiver(h).unsqueeze(2) + self.source(source).unsqueeze(1)
        a = nn.functional.silu(a if pair is None else a + pair)
        real = mask.to(a.dtype)
        share = torch.sigmoid(self.gate(a)) * real.unsqueeze(-1)
        scale = real.sum(-1, keepdim=True).clamp_min(1).sqrt()
        weight = self.move(a).squeeze(-1) * real / (1 + d)
        shift = (weight.unsqueeze(-1) * vector).sum(2) / scale
        return (share * a).sum(2) / scale, shift


class _Round(nn.Module):
    """Intra and inter messages, an update of the features, a step of the atoms."""

    def __init__(self, config: SideConfig) -> None:
        super().__init__()
        w = config.width
        self.norm = nn.LayerNorm(w)
        self.intra, self.inter = _Edges(config), _Edges(config)
        self.update = nn.Sequential(nn.Linear(3 * w, w), nn.SiLU(), nn.Linear(w, w))
        self.hand, self.turn = nn.Linear(1, w, bias=False), nn.Linear(w, 1)

    def forward(
        self, h: Tensor, x: Tensor, encoded: Encoded, graph: Batch, node: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New features [B, N, W] and positions [B, N, 3] (Angstrom)."""
        n = self.norm(h)
        inner, shift = self.intra(
            n, n, encoded.pair, x.unsqueeze(2) - x.unsqueeze(1), encoded.pair_mask
        )
        outer = torch.zeros_like(inner)
        told = graph["info"] == MESSAGES
        if bool(told.any()):
            vector = x.unsqueeze(2) - graph["target_pos"].unsqueeze(1)
            seen = graph["target_mask"].unsqueeze(1) & told[:, None, None]
            outer, drift = self.inter(
                n, encoded.target, None, vector, seen.expand(-1, x.shape[1], -1)
            )
            shift = shift + drift
        h = h + self.update(torch.cat([n, inner, outer], -1))
        if graph["chiral"].shape[1]:
            told_h, turned = self._handed(n, x, graph)
            h, shift = h + told_h, shift + turned
        return h, x + shift * node

    def _handed(self, n: Tensor, x: Tensor, graph: Batch) -> tuple[Tensor, Tensor]:
        """What a marked centre learns of its handedness, and its step to the right side."""
        index, hand = graph["chiral"], graph["hand"].to(x.dtype)
        corner = pick(x, index)
        a, b, c = (corner[:, :, k] - corner[:, :, 0] for k in (1, 2, 3))
        normal = torch.linalg.cross(a, b) + torch.linalg.cross(b, c) + torch.linalg.cross(c, a)
        normal = normal / (1 + normal.norm(dim=-1, keepdim=True))
        volume = (torch.linalg.cross(a, b) * c).sum(-1)
        message = self.hand(torch.tanh(volume * hand).unsqueeze(-1)) * hand.abs().unsqueeze(-1)
        centre = index[..., 0]
        step = self.turn(pick(n, centre)) * hand.unsqueeze(-1) * normal
        told = torch.zeros_like(n).scatter_add(1, _wide(centre, n), message)
        return told, torch.zeros_like(x).scatter_add(1, _wide(centre, x), step)


def _wide(index: Tensor, like: Tensor) -> Tensor:
    return index.unsqueeze(-1).expand(-1, -1, like.shape[-1])


class SideNetwork(nn.Module):
    """See the module. `encode` once, then `forward` at every step."""

    def __init__(self, config: SideConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or SideConfig()
        self.atom = nn.ModuleList(nn.Embedding(k, c.width) for k in ATOM_CLASSES)
        self.bond = nn.Embedding(BOND_CLASSES, c.width)
        self.path = nn.Embedding(PATHS, c.width)
        kinds = (len(TARGET_ELEMENTS) + 1, len(RESIDUES) + 1, 2)
        self.target = nn.ModuleList(nn.Embedding(k, c.width) for k in kinds)
        self.target_round = _Edges(c)
        self.pooled = nn.Linear(c.width, c.width)
        self.time = nn.Linear(8, c.width)
        self.rounds = nn.ModuleList(_Round(c) for _ in range(c.layers))

    def encode(self, graph: Batch, mask: Tensor) -> Encoded:
        """Ligand and target encoders.

        Args:
            graph: ``atom`` [B, N, 7], ``bond`` and ``path`` [B, N, N], ``target`` [B, T, 3],
                ``target_pos`` [B, T, 3], ``target_mask`` [B, T], ``info`` [B].
            mask: real ligand atoms [B, N].
        """
        h = sum(
            (layer(graph["atom"][..., k]) for k, layer in enumerate(self.atom)),
            start=torch.zeros((), device=mask.device),
        )
        eye = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        real = mask.unsqueeze(1) & mask.unsqueeze(2) & ~eye
        target = self._target(graph)
        told = (graph["info"] > ALONE).to(h.dtype).reshape(-1, 1, 1)
        seen = graph["target_mask"].unsqueeze(-1).to(h.dtype)
        mean = (target * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp_min(1)
        h = h + told * self.pooled(mean)
        return Encoded(h, self.bond(graph["bond"]) + self.path(graph["path"]), real, target)

    def _target(self, graph: Batch) -> Tensor:
        """Features of target atoms [B, T, W] with those of their neighbours."""
        h = sum(
            (layer(graph["target"][..., k]) for k, layer in enumerate(self.target)),
            start=torch.zeros((), device=graph["target"].device),
        )
        x, real = graph["target_pos"], graph["target_mask"]
        if x.shape[1] < 2:
            return h
        apart = torch.cdist(x, x).masked_fill(~real.unsqueeze(1), torch.inf)
        near = apart.topk(min(self.config.neighbours + 1, x.shape[1]), largest=False).indices
        vector = x.unsqueeze(2) - pick(x, near)
        seen = pick(real, near) & real.unsqueeze(2)
        # neighbours differ from atom to atom: each atom is a receiver of its own
        b, t, k = near.shape
        flat = pick(h, near).reshape(b * t, k, -1)
        message, _ = self.target_round(
            h.reshape(b * t, 1, -1),
            flat,
            None,
            vector.reshape(b * t, 1, k, 3),
            seen.reshape(b * t, 1, k),
        )
        out: Tensor = h + message.reshape(b, t, -1)
        return out

    def forward(
        self, encoded: Encoded, x: Tensor, level: Tensor, graph: Batch, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moved positions [B, N, 3] (Angstrom) and features [B, N, W] at noise levels [B]."""
        node = mask.unsqueeze(-1).to(x.dtype)
        k = torch.arange(1, 5, device=x.device, dtype=x.dtype)
        phase = level.unsqueeze(-1) * k * (math.pi / 8)
        h = encoded.atom + self.time(torch.cat([phase.cos(), phase.sin()], -1)).unsqueeze(1)
        for layer in self.rounds:
            h, x = layer(h, x, encoded, graph, node)
        return x, h * node
