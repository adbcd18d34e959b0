"""A potential of pairs of ligand and target atoms, in nats: what a target says of a ligand's pose.

    E(x) = sum_ij u_ab(r_ij, cos theta_ij)
    u_ab(r, z) = wall(r) + s(r) sum_kl c_abkl z^l exp(-(r - r_k)^2 / 2 w^2),  l = 0, 1, 2

with a the kind of ligand atom i and b that of target atom j, theta the angle at j between i and
where j points (away from the atoms it is bonded to), s(r) = (1 - (r / R)^2)^2 up to the cutoff R,
and c_ab a sum of a common part, one of each kind and one of the pair of kinds, so that a pair that
is rarely seen is like its kinds. Contact statistics of crystals have been made into such
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
        powers: highest power of the cosine.
    """

    radial: int = 20
    nearest: float = 1.75
    farthest: float = 7.45
    cutoff: float = 8.0
    wall: float = 2.0
    wall_reach: float = 3.2
    powers: int = 2


class ContactPotential(nn.Module):
    """See the module.

    Args:
        config: the size.
    """

    def __init__(self, config: ContactConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or ContactConfig()
        powers, a, b = c.powers + 1, len(LIGAND), len(TARGET)
        self.common = nn.Parameter(torch.zeros(powers, 1, 1, c.radial))
        self.ligand = nn.Parameter(torch.zeros(powers, a, 1, c.radial))
        self.target = nn.Parameter(torch.zeros(powers, 1, b, c.radial))
        self.pair = nn.Parameter(torch.zeros(powers, a, b, c.radial))

    def functions(self, r: Tensor) -> Tensor:
        """Coefficients of the cosine's powers, from 0 on, at distances r [K]: [P, L, T, K].

        L kinds of ligand atoms, T of target atoms.
        """
        c = self.config
        centres = torch.linspace(c.nearest, c.farthest, c.radial, device=r.device, dtype=r.dtype)
        width = (c.farthest - c.nearest) / (c.radial - 1)
        basis = torch.exp(-0.5 * ((r.unsqueeze(-1) - centres) / width) ** 2)
        fade = (1 - (r / c.cutoff) ** 2).clamp_min(0) ** 2
        learned = (self.common + self.ligand + self.target + self.pair) @ basis.mT
        first = torch.zeros(len(learned), 1, 1, 1, device=r.device, dtype=r.dtype)
        first[0] = 1
        found: Tensor = first * self.wall(r) + fade * learned
        return found

    def wall(self, r: Tensor) -> Tensor:
        """The fixed part of u at distances r [...]."""
        out: Tensor = self.config.wall * (self.config.wall_reach - r).clamp_min(0) ** 2
        return out

    def table(self) -> Tensor:
        """`functions` [P, L, T, K] at multiples of `KNOT` up to the cutoff."""
        at = torch.arange(round(self.config.cutoff / KNOT) + 1, device=self.common.device)
        return self.functions(at * KNOT)

    def forward(
        self,
        pos: Tensor,
        ligand: Tensor,
        target_pos: Tensor,
        target: Tensor,
        axis: Tensor,
        table: Tensor | None = None,
    ) -> Tensor:
        """Energies [B, C] of candidates.

        Args:
            pos: of ligand atoms, [B, C, N, 3], Angstrom.
            ligand: their kinds [B, N]; a negative kind is no atom.
            target_pos: [B, T, 3].
            target: kinds [B, T]; a negative kind is no atom.
            axis: where target atoms point, of length 1, or 0 for those that point nowhere,
                [B, T, 3].
            table: of `table`, if it is at hand.
        """
        table = self.table() if table is None else table
        b, c, n, _ = pos.shape
        flat = pos.reshape(b, c * n, 3)
        apart = torch.cdist(flat, target_pos, compute_mode="donot_use_mm_for_euclid_dist")
        real = (ligand >= 0).repeat(1, c).unsqueeze(-1) & (target >= 0).unsqueeze(1)
        # a tenth of all pairs or so are near each other
        row, atom, other = torch.nonzero((apart < self.config.cutoff) & real, as_tuple=True)
        r = apart[row, atom, other]
        gap = flat[row, atom] - target_pos[row, other]
        cos = (gap * axis[row, other]).sum(-1) / r.clamp_min(0.1)
        place = r / KNOT
        low = place.long().clamp_max(table.shape[-1] - 2)
        kinds = ligand[row, atom % n] * table.shape[2] + target[row, other]
        at = kinds * table.shape[-1] + low
        powers = table.flatten(1)
        values = torch.lerp(powers[:, at], powers[:, at + 1], place - low)
        energy = values[-1]
        for coefficient in values.flip(0)[1:]:
            energy = energy * cos + coefficient
        out = torch.zeros(b * c, device=pos.device, dtype=energy.dtype)
        found: Tensor = out.index_add(0, row * c + atom // n, energy).reshape(b, c)
        return found
