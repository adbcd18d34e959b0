"""What a relaxation changes: energy, positions, bond lengths, angles, torsions.

Energies are of complete molecules only: one fragment that sanitises, nothing added. A molecule
whose energy cannot be had is a failure and is counted; no average hides it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit import Chem

from diffcore.errors import DataError
from molgen.evaluate.geometry import angles, lengths, torsions
from molgen.evaluate.metric import Counted
from molgen.evaluate.prepared import Prepared
from molgen.relax import Relaxed, relax_mmff, relax_xtb

XTB_SETTINGS = "GFN2-xTB (tblite), in vacuo, L-BFGS to 0.05 eV/Angstrom in at most 500 gradients"
"""What `relaxed_xtb` does; the total charge is the sum of the formal charges, lowest spin."""

MMFF_SETTINGS = "MMFF94s (RDKit), in vacuo, at most 1000 steps"
"""What `relaxed_mmff` does."""


@dataclass(frozen=True)
class Relaxation:
    """How a molecule relaxed; None where it failed.

    Attributes:
        status: `converged`, or why there is nothing.
        energy: kcal/mol that the relaxation gained.
        rmsd: Root mean square displacement of all atoms after superposition, Angstrom.
        bonds: Mean absolute change of the bond lengths, Angstrom.
        angles: Mean absolute change of the bond angles, degrees.
        torsions: Mean absolute change of the torsions, degrees.
    """

    status: str
    energy: float | None = None
    rmsd: float | None = None
    bonds: float | None = None
    angles: float | None = None
    torsions: float | None = None


def relaxed_mmff(prepared: Prepared) -> Relaxation:
    """Relaxation by `MMFF_SETTINGS`."""
    return _relaxed(prepared, relax_mmff)


def relaxed_xtb(prepared: Prepared) -> Relaxation:
    """Relaxation by `XTB_SETTINGS`.

    Raises:
        ConfigError: tblite is not installed.
    """
    return _relaxed(prepared, relax_xtb)


def _relaxed(prepared: Prepared, relax: Callable[[Chem.Mol], Relaxed]) -> Relaxation:
    if prepared.positions is None:
        return Relaxation("no 3D conformer")
    if prepared.incomplete:
        return Relaxation(prepared.incomplete)
    try:
        result = relax(prepared.mol)
    except DataError as error:
        return Relaxation(str(error))
    if not result.converged:
        return Relaxation("not converged")
    after = np.asarray(result.mol.GetConformer().GetPositions(), dtype=np.float64)
    before, graph = prepared.positions, prepared.internal
    turned = torsions(after, graph.torsions) - torsions(before, graph.torsions)
    turned = np.abs((turned + 180) % 360 - 180)
    return Relaxation(
        "converged",
        energy=result.energy,
        rmsd=result.rmsd,
        bonds=_mean(np.abs(lengths(after, graph.bonds) - lengths(before, graph.bonds))),
        angles=_mean(np.abs(angles(after, graph.angles) - angles(before, graph.angles))),
        torsions=_mean(turned[np.isfinite(turned)]),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def mmff_strain(prepared: Prepared) -> float | None:
    """Energy that MMFF94s gains by relaxing, kcal/mol."""
    return prepared.mmff.energy


def mmff_rmsd(prepared: Prepared) -> float | None:
    """Root mean square displacement of all atoms by MMFF94s, Angstrom."""
    return prepared.mmff.rmsd


def mmff_status(prepared: Prepared) -> str:
    """`converged`, or why MMFF94s has no energy."""
    return prepared.mmff.status


def xtb_energy(prepared: Prepared) -> float | None:
    """Energy that GFN2-xTB gains by relaxing, kcal/mol."""
    return prepared.xtb.energy


def xtb_rmsd(prepared: Prepared) -> float | None:
    """Root mean square displacement of all atoms by GFN2-xTB, Angstrom."""
    return prepared.xtb.rmsd


def xtb_bond_shift(prepared: Prepared) -> float | None:
    """Mean absolute change of the bond lengths by GFN2-xTB, Angstrom."""
    return prepared.xtb.bonds


def xtb_angle_shift(prepared: Prepared) -> float | None:
    """Mean absolute change of the bond angles by GFN2-xTB, degrees."""
    return prepared.xtb.angles


def xtb_torsion_shift(prepared: Prepared) -> float | None:
    """Mean absolute change of the torsions by GFN2-xTB, degrees."""
    return prepared.xtb.torsions


def xtb_converged(prepared: Prepared) -> bool:
    """The relaxation by GFN2-xTB converged."""
    return prepared.xtb.energy is not None


def xtb_status(prepared: Prepared) -> str:
    """`converged`, or why GFN2-xTB has no energy."""
    return prepared.xtb.status


# ------------------------------------------------------------------------------------- of a set


def median(table: pd.DataFrame, column: str) -> Counted:
    """Median over the molecules that have a value; read it beside the share of failures."""
    if column not in table:
        return math.nan, 0
    values = pd.to_numeric(table[column]).dropna()
    return (float(values.median()), len(values)) if len(values) else (math.nan, 0)


def failures(table: pd.DataFrame, column: str) -> Counted:
    """Share of rows without a value: molecules that are missing, incomplete or did not converge."""
    if column not in table or not len(table):
        return math.nan, 0
    return float(table[column].isna().mean()), len(table)
