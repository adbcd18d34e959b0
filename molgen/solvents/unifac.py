"""UNIFAC for many compositions at once: what makes thousands of phase diagrams quick.

The equations of Fredenslund, Jones and Prausnitz (AIChE J. 1975, 21, 1086), with the groups of
`ugropy` and the parameters that come with `thermo`; `molgen.solvents.activity` leaves the same to
`thermo`, one composition at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from molgen.solvents.activity import MissingGroups, groups
from molgen.solvents.components import Component
from molgen.solvents.liquidus import Floats, R

Activities = Callable[[Floats, Floats], Floats]
"""``(temperatures in K [m], mole fractions [m, n]) -> ln gamma [m, n]``."""

_COORDINATION, _COLDEST, _STEPS, _HALVINGS = 10.0, 50.0, 30, 24


def activities(components: Sequence[Component]) -> Activities:
    """Activity coefficients of a mixture.

    Args:
        components: n of them.

    Raises:
        MissingGroups: a component has no groups, or two of the groups no interaction parameters.
        ConfigError: the packages are not installed.
    """
    counted = [groups(c.smiles, "unifac") for c in components]
    from thermo.unifac import UFSG

    kinds = sorted({group for count in counted for group in count})
    counts = np.array([[count.get(k, 0) for k in kinds] for count in counted], dtype=np.float64)
    sizes = np.array([[UFSG[k].R, UFSG[k].Q] for k in kinds])
    strength = _strengths([UFSG[k].main_group_id for k in kinds], components)
    r, q = counts @ sizes[:, 0], counts @ sizes[:, 1]

    def residual(psi: Floats, numbers: Floats) -> Floats:
        """Log activities [m, groups] of the groups in mixtures of groups [m, groups]."""
        areas = numbers * sizes[:, 1]
        theta = areas / areas.sum(-1, keepdims=True)
        mixed = np.einsum("mi,mij->mj", theta, psi)
        shared = np.einsum("mj,mij->mi", theta / mixed, psi)
        return np.asarray(sizes[:, 1] * (1 - np.log(mixed) - shared))

    def log_gamma(temperature: Floats, x: Floats) -> Floats:
        psi = np.exp(-strength / temperature[:, None, None])
        volume, area = r / (x @ r)[:, None], q / (x @ q)[:, None]
        combined = 1 - volume + np.log(volume)
        combined -= _COORDINATION / 2 * q * (1 - volume / area + np.log(volume / area))
        inside = residual(psi, x @ counts)
        pure = [residual(psi, np.broadcast_to(count, inside.shape)) for count in counts]
        left = [((inside - own) * count).sum(-1) for own, count in zip(pure, counts, strict=True)]
        return np.asarray(combined + np.stack(left, -1))

    return log_gamma


def _strengths(mains: Sequence[int], components: Sequence[Component]) -> Floats:
    """Interaction parameters of the groups' main groups in K, [groups, groups]."""
    from thermo.unifac import UFIP

    found = np.zeros((len(mains), len(mains)))
    for i, one in enumerate(mains):
        for j, other in enumerate(mains):
            if one != other:
                try:
                    found[i, j] = UFIP[one][other]
                except KeyError:
                    names = " + ".join(c.name for c in components)
                    raise MissingGroups(
                        f"unifac lacks parameters of main groups {one} and {other} for {names}"
                    ) from None
    return found


def crystallisation_curve(
    component: Component, index: int, x: Floats, log_gamma: Activities
) -> Floats:
    """Temperatures at which a component crystallises, K, [m]; NaN where it stays dissolved.

    The highest root from 1.5 times the melting point down to 50 K, as in
    `molgen.solvents.liquidus.crystallisation`.

    Args:
        component: what crystallises.
        index: its column in ``x``.
        x: mole fractions, [m, n].
        log_gamma: of the liquid.
    """

    def force(temperature: Floats) -> Floats:
        """Driving force [m] to crystallise: positive below the liquidus."""
        inverse = 1 / temperature - 1 / component.melting.value
        solved = np.log(x[:, index]) + log_gamma(temperature, x)[:, index]
        return np.asarray(solved + component.fusion.value / R * inverse)

    grid = np.linspace(1.5 * component.melting.value, _COLDEST, _STEPS)
    steps = np.stack([force(np.full(len(x), t)) for t in grid])
    crossed = (steps[:-1] <= 0) & (steps[1:] > 0)
    first = crossed.argmax(0)
    high, low = grid[first], grid[first + 1]
    for _ in range(_HALVINGS):
        middle = (high + low) / 2
        freezes = force(middle) > 0
        high, low = np.where(freezes, high, middle), np.where(freezes, middle, low)
    return np.where(crossed.any(0), (high + low) / 2, np.nan)


def unifac_curve(components: Sequence[Component], x: Floats) -> Floats:
    """Liquidus at m compositions, K, [m]; NaN where nothing crystallises.

    Args:
        components: n of them.
        x: mole fractions in (0, 1), [m, n].

    Raises:
        MissingGroups: UNIFAC cannot describe the mixture.
        ConfigError: the packages are not installed.
    """
    log_gamma = activities(components)
    curves = [crystallisation_curve(c, i, x, log_gamma) for i, c in enumerate(components)]
    return np.asarray(np.fmax.reduce(curves))
