"""Solid-liquid equilibrium of mixtures whose solids are pure: the Schroeder-van Laar equation.

A component i crystallises from a liquid of composition x at the temperature T where

    ln(x_i gamma_i(T, x)) = -(H_i / R) (1 / T - 1 / Tm_i)

(Schroeder 1893, van Laar 1908; Prausnitz, Lichtenthaler and de Azevedo, Molecular Thermodynamics
of Fluid-Phase Equilibria, eq. 11-13 without the small terms in the heat capacities). The liquidus
is the highest of these temperatures: what crystallises first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError, DataError
from molgen.solvents.components import Component

R = 8.31446261815324e-3
"""Gas constant, kJ/(mol K); CODATA 2018."""

Floats = NDArray[np.float64]
LogActivity = Callable[[float, Floats], Floats]
"""``(temperature in K, mole fractions [n]) -> ln gamma [n]``."""

_COLDEST, _ROUNDS, _CLOSE = 50.0, 200, 1e-6


def ideal_temperature(component: Component, x: Floats | float) -> Floats:
    """Temperatures at which a component crystallises from an ideal liquid, K, shaped like ``x``.

    Args:
        component: what crystallises.
        x: its mole fractions, above 0.
    """
    entropy = component.fusion.value / component.melting.value
    return np.asarray(component.fusion.value / (entropy - R * np.log(x)), dtype=np.float64)


def checked_composition(x: Sequence[float] | Floats, n: int) -> Floats:
    """Mole fractions [n] that are each in (0, 1) and add up to one.

    Raises:
        ConfigError: they do not.
    """
    found = np.asarray(x, dtype=np.float64)
    inside = bool(np.isfinite(found).all()) and bool(((found > 0) & (found < 1)).all())
    if found.shape != (n,) or not inside or abs(found.sum() - 1) > 1e-6:
        raise ConfigError(
            f"composition: expected {n} mole fractions in (0, 1) that add up to 1, "
            f"got {np.array2string(found, precision=4)}"
        )
    return found


def crystallisation(
    component: Component, index: int, x: Floats, log_activity: LogActivity | None = None
) -> float:
    """Temperature at which one component crystallises from a liquid, K.

    Args:
        component: what crystallises.
        index: its place in ``x``.
        x: mole fractions [n].
        log_activity: of the liquid; ideal by default.

    Raises:
        DataError: no temperature from 50 K to 1.5 times the melting point solves the equation.
    """
    ideal = float(ideal_temperature(component, x[index]))
    if log_activity is None:
        return ideal

    def off(temperature: float) -> float:
        """Driving force to crystallise: positive below the liquidus."""
        ln_gamma = float(log_activity(temperature, x)[index])
        inverse = 1 / temperature - 1 / component.melting.value
        return float(np.log(x[index])) + ln_gamma + component.fusion.value / R * inverse

    # Highest root: from above, because a liquid is cooled. Brackets around the ideal answer.
    from scipy.optimize import brentq

    hot = 1.5 * component.melting.value
    grid = np.linspace(hot, _COLDEST, 30)
    last = off(float(grid[0]))
    for high, low in zip(grid[:-1], grid[1:], strict=True):
        value = off(float(low))
        if last <= 0 < value:
            return float(brentq(off, low, high, xtol=_CLOSE, maxiter=_ROUNDS))
        last = value
    raise DataError(
        f"{component.name}: no temperature between {_COLDEST:.0f} and {hot:.0f} K at which it "
        f"crystallises at a mole fraction of {x[index]:.3g}"
    )


def liquidus(
    components: Sequence[Component],
    x: Sequence[float] | Floats,
    log_activity: LogActivity | None = None,
) -> tuple[float, int]:
    """Temperature of the liquidus in K, and which component crystallises there.

    Args:
        components: n of them.
        x: mole fractions [n].
        log_activity: of the liquid; ideal by default.

    Raises:
        ConfigError: mole fractions outside (0, 1) or that do not add up to 1.
        DataError: none of them crystallises.
    """
    found = checked_composition(x, len(components))
    temperatures, reasons = {}, []
    for i, one in enumerate(components):
        try:
            temperatures[i] = crystallisation(one, i, found, log_activity)
        except DataError as error:  # it stays dissolved; another may crystallise
            reasons.append(str(error))
    if not temperatures:
        raise DataError("; ".join(reasons))
    first = max(temperatures, key=lambda i: temperatures[i])
    return temperatures[first], first
