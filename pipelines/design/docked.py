"""Docking as an evaluator of design loops."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molgen.docking.pocket import Pocket


def vina(
    mol: Any,
    *,
    pocket: str,
    ligand: str = "",
    centre: Sequence[float] | None = None,
    box: float | None = None,
    exhaustiveness: int = 4,
    seed: int = 0,
) -> float:
    """Energy of the best pose, kcal/mol (AutoDock Vina; Eberhardt et al. 2021, JCIM 61, 3891).

    Args:
        mol: any molecule; docked from a fresh conformer of its graph.
        pocket: PDB file of the protein.
        ligand: molecule file that shows where the pocket is.
        centre: the same as a point, Angstrom.
        box: edge of the box around `centre`, Angstrom.
        exhaustiveness: independent searches.
        seed: of conformer and searches.

    Raises:
        ConfigError: a package is missing or an option is out of range.
        DataError: the ligand cannot be embedded or docked.
    """
    from molgen.docking.redock import fresh_conformer
    from molgen.docking.vina import dock
    from molgen.embedding import prepared

    place = _pocket(pocket, ligand, tuple(centre or ()), box)
    fresh = fresh_conformer(prepared(mol), seed)
    return dock(fresh, place, exhaustiveness=exhaustiveness, n_poses=1, seed=seed)[0].energy


@lru_cache(maxsize=4)
def _pocket(pocket: str, ligand: str, centre: tuple[float, ...], box: float | None) -> Pocket:
    from molgen.docking.pocket import read_pocket

    return read_pocket(pocket, ligand or None, centre=centre or None, box=box)
