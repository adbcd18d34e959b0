"""Frontier orbitals of GFN2-xTB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diffcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rdkit import Chem

HARTREE_EV = 27.211386245988
BOHR = 0.529177210903
"""Angstrom."""

RELAXERS = ("xtb", "mmff", "none")


def orbital_gap(mol: Chem.Mol, *, relax: str = "xtb", solvent: str = "") -> float:
    """HOMO-LUMO gap in eV: a difference of orbital energies, not an excitation energy.

    GFN2-xTB (Bannwarth et al. 2019, JCTC 15, 1652); the total charge is the sum of the formal
    charges.

    Args:
        mol: with explicit hydrogens; without a conformer one is made (ETKDG, seed 0).
        relax: method that relaxes the geometry first: xtb, mmff or none.
        solvent: name of an ALPB solvent such as ``water``; empty for the vacuum.

    Raises:
        ConfigError: tblite is not installed, or an option is not known.
        DataError: the relaxation or the wave function does not converge, or the molecule has
            unpaired electrons.
    """
    if relax not in RELAXERS:
        raise ConfigError(f"relax: expected one of {', '.join(RELAXERS)}, got {relax!r}")
    from molgen.relax import relax_mmff, relax_xtb

    mol = with_geometry(mol)
    if relax != "none":
        moved = relax_mmff(mol) if relax == "mmff" else relax_xtb(mol, solvent=solvent or None)
        if not moved.converged:
            raise DataError(f"the relaxation by {relax} did not converge")
        mol = moved.mol
    return _gap(_singlepoint(mol, solvent))


def with_geometry(mol: Chem.Mol) -> Chem.Mol:
    """The molecule itself if it has a conformer, else a copy with one by ETKDG (seed 0).

    Raises:
        DataError: no conformer can be made.
    """
    if mol.GetNumConformers():
        return mol
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom

    with rdBase.BlockLogs():
        copy = Chem.AddHs(mol)
        options: Any = rdDistGeom.ETKDGv3()
        options.randomSeed = 0
        options.maxIterations = 50
        if rdDistGeom.EmbedMolecule(copy, options) != 0:
            raise DataError("no conformer can be made")
    return copy


def _singlepoint(mol: Chem.Mol, solvent: str) -> Any:
    try:
        from tblite import interface
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ConfigError(
            f'GFN2-xTB needs the package {error.name}: pip install "designloom[energy]"'
        ) from None
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    charge = sum(atom.GetFormalCharge() for atom in mol.GetAtoms())
    if (int(numbers.sum()) - charge) % 2:
        raise DataError("expected paired electrons, got an odd number of them")
    positions = np.asarray(mol.GetConformer().GetPositions()) / BOHR
    try:
        with threadpool_limits(limits=1):
            method = interface.Calculator("GFN2-xTB", numbers, positions, charge, 0)
            method.set("verbosity", 0)
            if solvent:
                method.add("alpb-solvation", solvent)
            return method.singlepoint()
    except RuntimeError as error:
        raise DataError(f"GFN2-xTB: {(str(error).strip().splitlines() or [''])[0]}") from None


def _gap(result: Any) -> float:
    energies = np.asarray(result["orbital-energies"]).ravel()
    occupied = np.asarray(result["orbital-occupations"]).ravel() > 1.0
    if occupied.all() or not occupied.any():
        raise DataError("expected occupied and empty orbitals")
    return float(energies[~occupied].min() - energies[occupied].max()) * HARTREE_EV
