"""How far the liquidus of a binary mixture lies from that of an ideal one: features and reach.

A forest knows the liquidus of the pair; the ideal liquidus holds at the pure ends, and ``reach`` is
the forest's share in between. The features put first the component that crystallises first from the
ideal liquid, so that exchanging the two changes nothing.
"""

from __future__ import annotations

import numpy as np

from molgen.solvents.components import Component
from molgen.solvents.descriptors import descriptors
from molgen.solvents.liquidus import Floats, ideal_temperature


def scale(x: Floats) -> Floats:
    """``sqrt(4 x (1 - x))``: 1 in the middle, 0 at the pure ends; shaped like ``x``."""
    return np.asarray(np.sqrt(4 * x * (1 - x)))


def reach(x: Floats) -> Floats:
    """``1 - (1 - 4 x (1 - x))^8``: 0 at the pure ends, above 0.9 from 0.07; like ``x``."""
    return np.asarray(1 - (1 - 4 * x * (1 - x)) ** 8)


def ideal(first: Component, second: Component, x: Floats) -> Floats:
    """Ideal liquidus of a pair in K, shaped like ``x``, the mole fractions of the first."""
    return np.maximum(ideal_temperature(first, x), ideal_temperature(second, 1 - x))


def features(first: Component, second: Component, x: Floats) -> Floats:
    """What the forest sees of a pair at m compositions, [m, features].

    Args:
        first: one component.
        second: the other one.
        x: mole fractions of the first in (0, 1), [m].
    """
    hot = ideal_temperature(first, x), ideal_temperature(second, 1 - x)
    swapped = (hot[1] > hot[0]) | ((hot[1] == hot[0]) & (second.smiles < first.smiles))
    own = [
        np.array([*descriptors(c.smiles), c.fusion.value, c.melting.value, _entropy(c)])
        for c in (first, second)
    ]
    lead = np.where(swapped[:, None], own[1], own[0])
    rest = np.where(swapped[:, None], own[0], own[1])
    share = np.where(swapped, 1 - x, x)
    high, low = np.maximum(*hot), np.minimum(*hot)
    both = np.column_stack([share, (1 - share) ** 2, high, low, high - low, share * (1 - share)])
    return np.column_stack([lead, rest, lead + rest, lead * rest, both])


def _entropy(component: Component) -> float:
    return component.fusion.value / component.melting.value


HALF = 0.5
"""Share of the forest's correction for neutral components without groups: few were learnt from."""


def group_spread(x: Floats) -> Floats:
    """Expected size of UNIFAC's error before it is scaled to an interval, K, shaped like ``x``."""
    return 5.0 * (0.4 + scale(x))
