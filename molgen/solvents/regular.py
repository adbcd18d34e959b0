"""A regular solution whose excess energy small networks read off two components.

The excess Gibbs energy is Margules' with three parameters, and enthalpic (a regular solution):

    g / (R T0) = x1 x2 (A21 x1 + A12 x2) + C x1^2 x2^2,    ln gamma_i = (T0 / T) phi_i(x)

(Prausnitz, Lichtenthaler and de Azevedo, Molecular Thermodynamics of Fluid-Phase Equilibria,
chapter 6), so that the equation of Schroeder and van Laar (`liquidus`) has a closed solution for
each component,

    T_i = (H_i / R + T0 phi_i) / (H_i / (R Tm_i) - ln x_i).

It obeys Gibbs and Duhem, does not depend on the order of the components and ends at their melting
points, whatever the networks say. Several networks from different weights say how sure they are.

Shapes: B pairs of D descriptors, M networks, m rows (pair and composition).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from molgen.solvents.components import Component
from molgen.solvents.descriptors import NAMES, descriptors
from molgen.solvents.liquidus import Floats, R

T0 = 300.0
"""K; at which the parameters are what a network says."""

SEEN = len(NAMES) + 3
"""Numbers that a network sees of a component (`described`)."""

COLDEST, HOTTEST = 50.0, 1000.0
"""K; temperatures of crystallisation stay between."""

_LARGEST, _SCALE = 4.0, 4.0


def described(component: Component) -> Floats:
    """What the networks see of a component [SEEN]: descriptors and fusion, compressed."""
    own = descriptors(component.smiles)
    fusion, melting = component.fusion.value, component.melting.value
    return np.concatenate(
        [np.sign(own) * np.log1p(np.abs(own)), np.log([fusion, melting, fusion / melting])]
    )


@dataclass(frozen=True)
class Pairs:
    """Pairs of components at one composition each.

    Attributes:
        first: descriptors of the first component [B, SEEN], as of `described`.
        second: of the second.
        fusion: enthalpies of fusion, kJ/mol, [B, 2].
        melting: melting points, K, [B, 2].
        x: mole fractions of the first, in (0, 1), [B].
    """

    first: Tensor
    second: Tensor
    fusion: Tensor
    melting: Tensor
    x: Tensor

    def take(self, index: Tensor) -> Pairs:
        """Some of them."""
        parts = (self.first, self.second, self.fusion, self.melting, self.x)
        return Pairs(*(part[index] for part in parts))


def pairs_of(pairs: Sequence[tuple[Component, Component]], x: Floats) -> Pairs:
    """Pairs at mole fractions [B] of their first components."""
    seen = [np.stack([described(pair[k]) for pair in pairs]) for k in (0, 1)]
    fusion = [[c.fusion.value for c in pair] for pair in pairs]
    melting = [[c.melting.value for c in pair] for pair in pairs]
    return Pairs(
        *(torch.tensor(np.asarray(v), dtype=torch.float32) for v in (*seen, fusion, melting, x))
    )


class ExcessNetworks(nn.Module):
    """M small networks that are evaluated together.

    Args:
        members: M.
        width: of two hidden layers.
        seed: of the first weights.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, members: int = 4, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.register_buffer("centre", torch.zeros(SEEN))
        self.register_buffer("spread", torch.ones(SEEN))
        sizes = ((2 * SEEN, width), (width, width), (width, 2))
        self.weights = nn.ParameterList(
            (2 * torch.rand(members, a, b, generator=rng) - 1) / a**0.5 * (b != 2) for a, b in sizes
        )
        self.biases = nn.ParameterList(torch.zeros(members, 1, b) for _, b in sizes)

    def standardise(self, pairs: Pairs) -> None:
        """Take means and deviations of the descriptors from data."""
        both = torch.cat([pairs.first, pairs.second])
        self.centre.copy_(both.mean(0))
        self.spread.copy_(both.std(0) + 1e-6)

    def parameters_of(
        self, first: Tensor, second: Tensor, drop: float = 0.0, rng: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A12, A21 and C of pairs of descriptors [B, SEEN]: [M, B] each.

        Args:
            first: of the first components.
            second: of the second ones.
            drop: share of inputs and of the first hidden features that are left out (dropout).
            rng: of what is left out.
        """
        u, v = (
            ((one - self.centre) / self.spread).clamp(-_LARGEST, _LARGEST)
            for one in (first, second)
        )
        one, other = (self._read(torch.cat(pair, -1), drop, rng) for pair in ((u, v), (v, u)))
        return _SCALE * one[..., 0], _SCALE * other[..., 0], _SCALE * (one[..., 1] + other[..., 1])

    def _read(self, h: Tensor, drop: float, rng: torch.Generator | None) -> Tensor:
        h = h.expand(len(self.weights[0]), *h.shape)
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if drop and k < 2:
                h = h * (torch.rand(h.shape, generator=rng) >= drop) / (1 - drop)
            h = torch.baddbmm(bias, h, weight)
            h = F.silu(h) if k < 2 else h
        return h

    def forward(
        self, pairs: Pairs, drop: float = 0.0, rng: torch.Generator | None = None
    ) -> Tensor:
        """Liquidus temperatures of every network, K, [M, B]; options as of `parameters_of`."""
        a12, a21, c = self.parameters_of(pairs.first, pairs.second, drop, rng)
        return liquidus_of(a12, a21, c, pairs)


def log_activities(a12: Tensor, a21: Tensor, c: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Of both components at T0, shaped like the parameters; ``x`` is that of the first."""
    y = 1 - x
    first = y**2 * (a12 + 2 * (a21 - a12) * x) + c * x * y**2 * (2 - 3 * x)
    second = x**2 * (a21 + 2 * (a12 - a21) * y) + c * y * x**2 * (2 - 3 * y)
    return first, second


def liquidus_of(a12: Tensor, a21: Tensor, c: Tensor, pairs: Pairs) -> Tensor:
    """The higher of both temperatures of crystallisation, K, shaped like the parameters."""
    made = []
    shares = (pairs.x, 1 - pairs.x)
    for k, phi in enumerate(log_activities(a12, a21, c, pairs.x)):
        fusion = pairs.fusion[:, k] / R
        # an activity may not take so much heat that nothing crystallises: a soft floor
        above = F.softplus(fusion + T0 * phi - COLDEST, beta=0.05) + COLDEST
        below = fusion / pairs.melting[:, k] - shares[k].log()
        made.append((above / below).clamp(COLDEST, HOTTEST))
    return torch.maximum(*made)
