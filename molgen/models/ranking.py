"""Which conformers are like the one that is bound: a learned potential of pairs of atoms.

A score is a sum over the pairs of heavy atoms that are four or more bonds apart, as in potentials
of mean force from structures (Sippl 1990, J. Mol. Biol. 213, 859), but with functions of the
distance that are read off both atoms' features:

    score = N^(-1/2) sum_ij sum_k c_k(h_i, h_j, bonds between) exp(-(d_ij - r_k)^2 / 2 w^2)

The torsional model knows neighbouring torsions; this one sees what is far apart along the bonds:
contacts, stacking, and how wide a conformer is spread. Invariant under rotation and reflection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CHUNK = 64
"""Conformers that are scored at a time: bounds the memory."""


@dataclass(frozen=True)
class RankingConfig:
    """Size of the potential.

    Attributes:
        features: of an atom in the torsional network.
        width: of a pair.
        radial: Gaussians of the distance.
        nearest: centre of the first, Angstrom.
        farthest: centre of the last, Angstrom.
        far: bonds from which on it does not matter how many there are.
    """

    features: int = 64
    width: int = 32
    radial: int = 16
    nearest: float = 2.5
    farthest: float = 14.0
    far: int = 15


class PairRanking(nn.Module):
    """Coefficients of the pairs from their atoms, and scores from them.

    Args:
        config: the size.
    """

    def __init__(self, config: RankingConfig) -> None:
        super().__init__()
        c = self.config = config
        self.norm, self.atom = nn.LayerNorm(c.features), nn.Linear(c.features, c.width)
        self.path = nn.Embedding(c.far + 1, c.width)
        self.mix = nn.Sequential(
            nn.SiLU(), nn.Linear(c.width, c.width), nn.SiLU(), nn.Linear(c.width, c.radial)
        )
        last = self.mix[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)

    def coefficients(self, atoms: Tensor, pairs: Mapping[str, Tensor]) -> Tensor:
        """Of the radial functions [B, P, K].

        Args:
            atoms: features [B, N, W].
            pairs: ``near`` (atoms of a pair [B, P, 2]), ``bonds`` between them [B, P],
                ``near_mask`` [B, P], and ``size`` of the molecules in heavy atoms [B].
        """
        a = self.atom(self.norm(atoms))
        rows = torch.arange(len(a), device=a.device).reshape(-1, 1)
        i, j = (a[rows, pairs["near"][..., k]] for k in (0, 1))
        path = self.path(pairs["bonds"].clamp_max(self.config.far))
        found = self.mix(i + j + i * j + path) * pairs["near_mask"].unsqueeze(-1)
        scaled: Tensor = found * pairs["size"].to(found.dtype).rsqrt().reshape(-1, 1, 1)
        return scaled

    def forward(self, coefficients: Tensor, distance: Tensor) -> Tensor:
        """Scores [B, S] of conformers with these distances [B, S, P], Angstrom."""
        c = self.config
        centres = torch.linspace(
            c.nearest, c.farthest, c.radial, dtype=distance.dtype, device=distance.device
        )
        width = (c.farthest - c.nearest) / (c.radial - 1)
        out = []
        for part in distance.split(CHUNK, 1):
            basis = torch.exp(-0.5 * ((part.unsqueeze(-1) - centres) / width) ** 2)
            out.append(torch.einsum("bspk,bpk->bs", basis, coefficients))
        return torch.cat(out, 1)
