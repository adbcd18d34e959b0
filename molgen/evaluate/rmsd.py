"""Symmetry-corrected RMSD of heavy atoms, aligned or in place, in Angstrom."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolAlign

from diffcore.errors import DataError

MAX_MATCHES = 1000
"""Symmetry mappings that RDKit tries; molecules with more are given to spyrmsd, where installed."""

MAX_SPYRMSD = 200_000
"""Molecules with more mappings than this keep RDKit's upper bound of their RMSD."""


def without_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """A copy without hydrogen atoms; `mol` is not changed.

    Raises:
        DataError: no atom is left.
    """
    parameters: Any = Chem.RemoveHsParameters()
    parameters.removeDegreeZero = parameters.removeHigherDegrees = True
    parameters.removeDefiningBondStereo = parameters.removeWithWedgedBond = True
    parameters.removeIsotopes = parameters.removeHydrides = True
    with rdBase.BlockLogs():
        bare = Chem.RemoveHs(mol, parameters, sanitize=False)
    if not any(atom.GetAtomicNum() > 1 for atom in bare.GetAtoms()):
        raise DataError("expected a molecule with heavy atoms, got none")
    return bare


def aligned_rmsd(
    probe: Chem.Mol, reference: Chem.Mol, reference_conformer: int = -1
) -> NDArray[np.float64]:
    """RMSD of every conformer of `probe` to one of `reference`, both moved onto each other.

    The smallest over all mappings of the graph onto itself (RDKit's `GetBestRMS`); neither
    molecule is changed. Atom orders may differ.

    Args:
        probe: [C] conformers.
        reference: the same molecule; hydrogens and atom order do not matter.
        reference_conformer: id of the conformer to compare with.

    Returns:
        [C] Angstrom.

    Raises:
        DataError: the molecules are not the same, or one has no conformer.
    """
    a, b = _pair(probe, reference)
    if _many_mappings(b):
        return _by_spyrmsd(a, b, reference_conformer, aligned=True)
    return np.array(
        [
            rdMolAlign.GetBestRMS(
                a, b, prbId=c.GetId(), refId=reference_conformer, maxMatches=MAX_MATCHES
            )
            for c in a.GetConformers()
        ]
    )


def in_place_rmsd(
    probe: Chem.Mol, reference: Chem.Mol, reference_conformer: int = -1
) -> NDArray[np.float64]:
    """As `aligned_rmsd` without moving anything: what docking is judged by.

    Returns:
        [C] Angstrom.

    Raises:
        DataError: the molecules are not the same, or one has no conformer.
    """
    a, b = _pair(probe, reference)
    if _many_mappings(b):
        return _by_spyrmsd(a, b, reference_conformer, aligned=False)
    return np.array(
        [
            rdMolAlign.CalcRMS(
                a, b, prbId=c.GetId(), refId=reference_conformer, maxMatches=MAX_MATCHES
            )
            for c in a.GetConformers()
        ]
    )


def _many_mappings(mol: Chem.Mol) -> bool:
    """Whether there are more mappings than RDKit tries, but not too many, and spyrmsd is there."""
    from importlib.util import find_spec

    def mappings(most: int) -> int:
        return len(mol.GetSubstructMatches(mol, uniquify=False, maxMatches=most))

    if mappings(MAX_MATCHES) < MAX_MATCHES or find_spec("spyrmsd") is None:
        return False
    return mappings(MAX_SPYRMSD) < MAX_SPYRMSD


def _by_spyrmsd(
    a: Chem.Mol, b: Chem.Mol, reference_conformer: int, aligned: bool
) -> NDArray[np.float64]:
    """RMSD [C] over all mappings (Meli and Biggin 2020, J. Cheminf. 12, 49)."""
    from spyrmsd.rmsd import symmrmsd

    numbers = [np.array([atom.GetAtomicNum() for atom in m.GetAtoms()]) for m in (b, a)]
    graphs = [Chem.GetAdjacencyMatrix(m) for m in (b, a)]
    found = symmrmsd(
        b.GetConformer(reference_conformer).GetPositions(),
        [c.GetPositions() for c in a.GetConformers()],
        *numbers,
        *graphs,
        center=aligned,
        minimize=aligned,
    )
    return np.atleast_1d(np.asarray(found, dtype=np.float64))


def _pair(probe: Chem.Mol, reference: Chem.Mol) -> tuple[Chem.Mol, Chem.Mol]:
    """Copies without hydrogens that have conformers and match."""
    a, b = without_hydrogens(probe), without_hydrogens(reference)
    for what, mol in (("probe", a), ("reference", b)):
        if mol.GetNumConformers() == 0:
            raise DataError(f"expected a {what} with a conformer, got one without positions")
    if a.GetNumAtoms() != b.GetNumAtoms() or not a.HasSubstructMatch(b):
        raise DataError(
            f"expected two conformers of one molecule, got {_formula(a)} and {_formula(b)}"
            " with different bonds or atoms"
        )
    return a, b


def _formula(mol: Chem.Mol) -> str:
    from collections import Counter

    counts = Counter(atom.GetSymbol() for atom in mol.GetAtoms())
    return "".join(f"{symbol}{count}" for symbol, count in sorted(counts.items()))
