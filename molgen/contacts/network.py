"""A potential of pairs of ligand and target atoms, in nats: what a target says of a ligand's pose.

    E(x) = sum_ij u_ab(|x_i - y_j|),  u_ab(r) = wall(r) + s(r) sum_k c_abk exp(-(r - r_k)^2 / 2 w^2)

with a the kind of ligand atom i and b that of target atom j, s(r) = (1 - (r / R)^2)^2 up to the
cutoff R, and c_ab a sum of a common part, one of each kind and one of the pair of kinds, so that a
pair that is rarely seen is like its kinds. Contact statistics of crystals have been made into such
potentials by counting (Sippl 1990, J. Mol. Biol. 213, 859; Gohlke et al. 2000, J. Mol. Biol. 295,
337); here they are fitted by likelihood, without a reference state: see `molgen.contacts.task`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

LIGAND = (
    "C sp3",
    "C aromatic",
    "C other",
    "N with H",
    "N without H",
    "N cation",
    "O hydroxyl",
    "O carbonyl",
    "O ether",
    "O acid",
    "S, P",
    "F",
    "Cl, Br, I",
    "other",
)
"""Kinds of heavy atoms of ligands."""

TARGET = (
    "C carbonyl",
    "C alpha",
    "C aliphatic",
    "C aromatic",
    "C polar",
    "N backbone",
    "N amide, aromatic",
    "N cation",
    "O backbone",
    "O hydroxyl",
    "O acid",
    "O amide",
    "S",
    "metal",
    "C of another residue",
    "N of another residue",
    "O of another residue",
    "other",
)
"""Kinds of heavy atoms of targets; the other residues are cofactors and unknown ones."""

KNOT = 0.05
"""Functions are tabulated at distances so far apart, Angstrom, and linear in between."""


@dataclass(frozen=True)
class ContactConfig:
    """Size of the potential.

    Attributes:
        radial: Gaussians of the distance.
        nearest: centre of the first, Angstrom.
        farthest: centre of the last, Angstrom.
        cutoff: R, Angstrom.
        wall: height of the fixed wall, nats / Angstrom^2: wall (reach - r)^2 where r is smaller.
        wall_reach: where it begins, Angstrom.
    """

    radial: int = 20
    nearest: float = 1.75
    farthest: float = 7.45
    cutoff: float = 8.0
    wall: float = 2.0
    wall_reach: float = 3.2


class ContactPotential(nn.Module):
    """See the module.

    Args:
        config: the size.
    """

    def __init__(self, config: ContactConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or ContactConfig()
        self.common = nn.Parameter(torch.zeros(c.radial))
        self.ligand = nn.Parameter(torch.zeros(len(LIGAND), 1, c.radial))
        self.target = nn.Parameter(torch.zeros(1, len(TARGET), c.radial))
        self.pair = nn.Parameter(torch.zeros(len(LIGAND), len(TARGET), c.radial))

    def functions(self, r: Tensor) -> Tensor:
        """U [L, T, K] at distances r [K]: ligand kinds, target kinds."""
        c = self.config
        centres = torch.linspace(c.nearest, c.farthest, c.radial, device=r.device, dtype=r.dtype)
        width = (c.farthest - c.nearest) / (c.radial - 1)
        basis = torch.exp(-0.5 * ((r.unsqueeze(-1) - centres) / width) ** 2)
        fade = (1 - (r / c.cutoff) ** 2).clamp_min(0) ** 2
        learned = (self.common + self.ligand + self.target + self.pair) @ basis.mT
        found: Tensor = self.wall(r) + fade * learned
        return found

    def wall(self, r: Tensor) -> Tensor:
        """The fixed part of u at distances r [...]."""
        out: Tensor = self.config.wall * (self.config.wall_reach - r).clamp_min(0) ** 2
        return out

    def table(self) -> Tensor:
        """U [L, T, K] at multiples of `KNOT` up to the cutoff."""
        at = torch.arange(round(self.config.cutoff / KNOT) + 1, device=self.common.device)
        return self.functions(at * KNOT)

    def forward(
        self,
        pos: Tensor,
        ligand: Tensor,
        target_pos: Tensor,
        target: Tensor,
        table: Tensor | None = None,
    ) -> Tensor:
        """Energies [B, C] of candidates.

        Args:
            pos: of ligand atoms, [B, C, N, 3], Angstrom.
            ligand: their kinds [B, N]; a negative kind is no atom.
            target_pos: [B, T, 3].
            target: kinds [B, T]; a negative kind is no atom.
            table: of `table`, if it is at hand.
        """
        table = self.table() if table is None else table
        b, c, n, _ = pos.shape
        flat = pos.reshape(b, c * n, 3)
        apart = torch.cdist(flat, target_pos, compute_mode="donot_use_mm_for_euclid_dist")
        place = apart.reshape(b, c, n, -1) / KNOT
        last = table.shape[-1] - 1
        low = place.long().clamp_max(last - 1)
        above = (place - low).clamp(0, 1)
        kinds = ligand.clamp_min(0).unsqueeze(-1) * table.shape[1] + target.clamp_min(0).unsqueeze(
            1
        )
        real = (ligand >= 0).unsqueeze(-1) & (target >= 0).unsqueeze(1)
        at = low + (kinds * table.shape[-1]).unsqueeze(1)
        values = torch.lerp(table.flatten()[at], table.flatten()[at + 1], above)
        energy: Tensor = (values * real.unsqueeze(1)).sum((-2, -1))
        return energy
