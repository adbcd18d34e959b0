"""Activity coefficients of liquid mixtures by group contributions (packages thermo and ugropy)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from diffcore.errors import ConfigError
from molgen.solvents.components import Component
from molgen.solvents.liquidus import Floats, LogActivity

VERSIONS: Mapping[str, int] = {"unifac": 0, "dortmund": 1}
"""UNIFAC (Fredenslund, Jones and Prausnitz 1975) and modified UNIFAC (Dortmund; Gmehling et al.
1993), as numbered by `thermo.unifac`."""


class MissingGroups(ConfigError):
    """A component that the group method has no groups for."""


@lru_cache(maxsize=4096)
def groups(smiles: str, version: str) -> Mapping[int, int]:
    """Numbers of subgroups of a component, ``{subgroup: count}``.

    Raises:
        MissingGroups: the method cannot describe the component: a salt, or a missing group.
        ConfigError: unknown version, or the packages are not installed.
    """
    if version not in VERSIONS:
        raise ConfigError(f"activity: expected one of {', '.join(VERSIONS)}, got {version!r}")
    try:
        import ugropy
        from thermo import unifac
    except ImportError as error:
        raise ConfigError(
            f'UNIFAC needs the package {error.name}: pip install "designloom[solvents]"'
        ) from None
    if "." in smiles:
        raise MissingGroups(f"{version} has no groups for salts: {smiles}")
    model = ugropy.unifac if version == "unifac" else ugropy.dortmund
    table = unifac.UFSG if version == "unifac" else unifac.DOUFSG
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the solver that ugropy calls
        found = model.get_groups(smiles, "smiles").subgroups
    numbers = {_plain(entry.group): number for number, entry in table.items()}
    missing = [name for name in found if _plain(name) not in numbers]
    if not found or missing:
        raise MissingGroups(f"{version} lacks groups for {smiles} {' '.join(missing)}".rstrip())
    return {numbers[_plain(name)]: int(count) for name, count in found.items()}


def _plain(name: str) -> str:
    return name.replace(" ", "").upper()


def group_activity(components: Sequence[Component], version: str = "unifac") -> LogActivity:
    """Activity coefficients of a mixture.

    Args:
        components: n of them.
        version: ``unifac`` or ``dortmund``.

    Raises:
        MissingGroups: a component has no groups, or two of the groups no interaction parameters.
        ConfigError: unknown version, or the packages are not installed.
    """
    counts = [dict(groups(c.smiles, version)) for c in components]
    from thermo.unifac import UNIFAC

    n = len(components)
    try:
        start: Any = UNIFAC.from_subgroups(
            T=300.0, xs=[1 / n] * n, chemgroups=counts, version=VERSIONS[version]
        )
    except KeyError as error:
        names = " + ".join(c.name for c in components)
        raise MissingGroups(f"{version} lacks parameters for {names}: {error}") from None

    def log_activity(temperature: float, x: Floats) -> Floats:
        gammas = start.to_T_xs(T=temperature, xs=[float(v) for v in x]).gammas()
        return np.log(np.asarray(gammas, dtype=np.float64))

    return log_activity
