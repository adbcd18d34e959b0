"""The trained model of solvents: liquidus of pairs, melting points, entropies of fusion.

The learned liquidus of a pair is the mean of a forest's, which knows temperatures, and of a regular
solution's, whose excess energy networks read off the components (`regular`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from diffcore.errors import DataError, ModelFileError
from molgen.solvents.activity import MissingGroups
from molgen.solvents.components import Component
from molgen.solvents.excess import HALF, features, group_spread, ideal, reach
from molgen.solvents.forest import Forest
from molgen.solvents.liquidus import Floats, checked_composition, ideal_temperature
from molgen.solvents.regular import ExcessNetworks, liquidus_of, pairs_of
from molgen.solvents.unifac import unifac_curve

SHIPPED = Path(__file__).resolve().parent / "weights" / "eutectic.safetensors"

EXCESS = "excess."
"""What the stored weights of the networks begin with."""

FLOOR = 5.0
"""Kelvin added to the spread of trees and networks before it is scaled to an interval."""


@dataclass(frozen=True)
class Prediction:
    """Liquidus temperatures with 90 % intervals.

    Attributes:
        temperature: K, [m].
        lower: K, [m].
        upper: K, [m].
        method: ``unifac+learned`` or ``learned``, and why if that is a fallback.
    """

    temperature: Floats
    lower: Floats
    upper: Floats
    method: str


@dataclass(frozen=True)
class LiquidusModel:
    """Liquidus temperatures of mixtures: learned, and half UNIFAC's where that applies.

    Attributes:
        pair: liquidus of two components, K.
        excess: excess energies of two components.
        melting: melting point, K.
        entropy: entropy of fusion, kJ/(mol K).
        errors: mean absolute errors of melting point and entropy of fusion, held out.
        widths: 90 % half widths as multiples of the spread: ``unifac``, ``ionic``, ``neutral``.
    """

    pair: Forest
    excess: ExcessNetworks
    melting: Forest
    entropy: Forest
    errors: Mapping[str, float]
    widths: Mapping[str, float]

    @classmethod
    def from_pretrained(cls, path: Path = SHIPPED) -> LiquidusModel:
        """The shipped model, or one from a file.

        Raises:
            ModelFileError: missing or broken.
        """
        return _loaded(path)

    def binary(self, first: Component, second: Component, x: Floats) -> tuple[Floats, Floats]:
        """Learned correction to the ideal liquidus and its spread, both K, [m].

        Args:
            first: one component.
            second: the other one.
            x: mole fractions of the first in (0, 1), [m].
        """
        x = np.asarray(x, dtype=np.float64)
        trees = self.pair.trees(features(first, second, x))
        return together(trees, self.regular(first, second, x), ideal(first, second, x), reach(x))

    @torch.no_grad()
    def regular(self, first: Component, second: Component, x: Floats) -> Floats:
        """Liquidus of regular solutions, one for each network, K, [M, m]; see `binary`."""
        one = pairs_of([(first, second)], np.array([0.5]))
        parameters = self.excess.parameters_of(one.first, one.second)
        every = one.take(torch.zeros(len(x), dtype=torch.int64))
        every = replace(every, x=torch.from_numpy(x).float())
        found: Floats = liquidus_of(*parameters, every).double().numpy()
        return found

    def learned(
        self, components: Sequence[Component], x: Floats, share: float = 1.0
    ) -> tuple[Floats, Floats]:
        """Learned liquidus and its spread at m compositions, K, [m].

        Three components take the corrections of their pairs by Kohler's rule, weighted with
        (x_i + x_j)^2 at the ratio of the two.

        Args:
            components: n of them.
            x: mole fractions in (0, 1), [m, n].
            share: of the correction that is added.
        """
        hot = [ideal_temperature(c, x[:, i]) for i, c in enumerate(components)]
        total, spread = np.max(hot, 0), np.zeros(len(x))
        for i, j in combinations(range(len(components)), 2):
            both = x[:, i] + x[:, j]
            shift, width = self.binary(components[i], components[j], x[:, i] / both)
            total, spread = total + share * both**2 * shift, spread + both**2 * width
        return total, spread

    def predict(
        self, components: Sequence[Component], x: Sequence[Sequence[float]] | Floats
    ) -> Prediction:
        """Liquidus of a mixture.

        Args:
            components: two or three of them, all different.
            x: mole fractions, [m, n].

        Raises:
            ConfigError: a composition outside (0, 1), or that does not add up to 1.
            DataError: identical components, or another number of them.
        """
        check_different(components)
        rows = np.array([checked_composition(row, len(components)) for row in x])
        ionic, reason = any(c.is_ionic for c in components), ""
        if not ionic:
            try:
                found = unifac_curve(components, rows)
                if np.isnan(found).any():
                    raise DataError("UNIFAC: nothing crystallises above 50 K")
                found, spread = with_groups(
                    found, self.learned(components, rows, HALF)[0], rows.max(1)
                )
                return _interval(found, self.widths["unifac"] * spread, "unifac+learned")
            except (MissingGroups, DataError) as error:
                reason = f" ({error})"
        share = 1.0 if ionic else HALF
        found, spread = self.learned(components, rows, share)
        half = self.widths["ionic" if ionic else "neutral"] * spread
        return _interval(found, half, f"learned{reason}")


def together(trees: Floats, regular: Floats, base: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Correction to the ideal liquidus of both models' mean, and its spread, K, [m].

    Args:
        trees: liquidus of every tree of the forest, K, [T, m].
        regular: liquidus of every regular solution, K, [M, m].
        base: ideal liquidus, K, [m].
        share: how far the forest counts, [m] (`reach`).
    """
    one, other = trees.mean(0), regular.mean(0)
    shift = 0.5 * ((one - base) * share + other - base)
    spread = np.sqrt(trees.var(0) + regular.var(0) + 0.25 * (one - other) ** 2)
    return shift, (spread + FLOOR) * share


def with_groups(unifac: Floats, learned: Floats, x: Floats) -> tuple[Floats, Floats]:
    """The mean of UNIFAC's liquidus and the learned one, and its spread, K, shaped like ``x``."""
    apart = 0.5 * (unifac - learned)
    return 0.5 * (unifac + learned), np.hypot(group_spread(x), apart)


def check_different(components: Sequence[Component]) -> None:
    """Refuse mixtures that are none.

    Raises:
        DataError: fewer than two or more than three components, or two the same.
    """
    if not 2 <= len(components) <= 3:
        raise DataError(f"mixture: expected 2 or 3 components, got {len(components)}")
    if len({c.smiles for c in components}) < len(components):
        names = " + ".join(c.name for c in components)
        raise DataError(f"mixture: expected different components, got {names}")


def _interval(found: Floats, half: Floats, method: str) -> Prediction:
    return Prediction(found, found - half, found + half, method)


@lru_cache(maxsize=4)
def _loaded(path: Path) -> LiquidusModel:
    from diffcore.checkpoint import load_card, load_weights

    card = load_card(path)
    weights = load_weights(path, card)
    arrays = {name: value.numpy() for name, value in weights.items()}
    return LiquidusModel(
        Forest.from_arrays(arrays, "pair"),
        _networks(weights, path),
        Forest.from_arrays(arrays, "melting"),
        Forest.from_arrays(arrays, "entropy"),
        card["errors"],
        card["widths"],
    )


def _networks(weights: Mapping[str, torch.Tensor], path: Path) -> ExcessNetworks:
    from diffcore.checkpoint import fill_module

    own = {n.removeprefix(EXCESS): w for n, w in weights.items() if n.startswith(EXCESS)}
    first = own.get("weights.0")
    if first is None or first.dim() != 3:
        raise ModelFileError(f"{path}: expected networks of the excess energy, found none")
    networks = ExcessNetworks(len(first), first.shape[2])
    fill_module(networks, own, path)
    return networks.eval().requires_grad_(False)
