"""Repair: a molecule's geometry is relaxed, and nothing else about it may change.

Graph and stereo are read from the coordinates before and after. What would change either is no
repair: the molecule is given back with the reason instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError, DataError
from molgen.relax import Relaxed, relax_mmff, relax_xtb

METHODS: Mapping[str, Callable[[Chem.Mol], Relaxed]] = {"mmff": relax_mmff, "xtb": relax_xtb}
"""Name -> relaxation: MMFF94s and GFN2-xTB, both in vacuo."""

BROKEN = 1.3
"""A bond longer than so many sums of covalent radii is broken."""

FORMED = 1.15
"""Atoms closer than so many sums of covalent radii are bound: the factor that finds the bonds of
99.8 % of QM9's molecules."""

Stereo = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Repair:
    """What became of a molecule.

    Attributes:
        mol: a copy with the relaxed conformer and the properties `repair` (the method),
            `repair_energy_kcal_mol` (what the relaxation gained) and `repair_rmsd` (root mean
            square displacement of all atoms, Angstrom); None if the repair was refused.
        reason: why it was refused; empty otherwise.
    """

    mol: Chem.Mol | None
    reason: str = ""


def repair(mol: Chem.Mol, method: str = "mmff") -> Repair:
    """Relax a molecule and keep the result if graph and stereo are what they were.

    Args:
        mol: molecule with explicit hydrogens and a 3D conformer; it is not changed.
        method: name in `METHODS`.

    Returns:
        The repaired molecule, or the reason why there is none: `repair failed: ...` (no
        parameters, no 3D, no self-consistent field), `repair did not converge`,
        `repair changed the graph: ...`, `repair changed the stereo: ...`.

    Raises:
        ConfigError: the method is unknown, or its package is not installed.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown repair {method!r}: expected one of {', '.join(METHODS)}")
    try:
        relaxed = METHODS[method](mol)
    except DataError as error:
        return Repair(None, f"repair failed: {error}")
    if not relaxed.converged:
        return Repair(None, "repair did not converge")
    change = changed_graph(relaxed.mol) or changed_stereo(mol, relaxed.mol)
    if change:
        return Repair(None, change)
    repaired = Chem.Mol(relaxed.mol)
    repaired.SetProp("repair", method)
    repaired.SetProp("repair_energy_kcal_mol", f"{relaxed.energy:.2f}")
    repaired.SetProp("repair_rmsd", f"{relaxed.rmsd:.3f}")
    return Repair(repaired)


def changed_graph(mol: Chem.Mol) -> str:
    """How the bonds read from the distances contradict the graph; empty if they do not.

    A bond must be shorter than `BROKEN`, the distance of atoms without one longer than `FORMED`
    sums of their covalent radii.
    """
    ratio = _relative_distances(mol)
    bonded = np.zeros_like(ratio, dtype=bool)
    for bond in mol.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonded[i, j] = bonded[j, i] = True
    above = np.triu(np.ones_like(bonded), 1)
    for pairs, verb in (
        (bonded & (ratio > BROKEN), "broke"),
        (~bonded & (ratio < FORMED), "formed"),
    ):
        found = np.argwhere(pairs & above)
        if len(found):
            first, second = (mol.GetAtomWithIdx(int(k)).GetSymbol() for k in found[0])
            return f"repair changed the graph: a bond {first}-{second} {verb}"
    return ""


def changed_stereo(before: Chem.Mol, after: Chem.Mol) -> str:
    """Which centre or double bond lies otherwise in the second geometry; empty if none does.

    Both molecules have the same atoms and bonds in the same order.
    """
    try:
        (old_atoms, old_bonds), (new_atoms, new_bonds) = _stereo(before), _stereo(after)
    except (ValueError, RuntimeError) as error:
        return f"repair failed: stereo cannot be read ({type(error).__name__})"
    for i, (old, new) in enumerate(zip(old_atoms, new_atoms, strict=True)):
        if old != new:
            symbol = after.GetAtomWithIdx(i).GetSymbol()
            return f"repair changed the stereo: {symbol}{i + 1} from {old} to {new}"
    for i, (old, new) in enumerate(zip(old_bonds, new_bonds, strict=True)):
        if old != new:
            bond = after.GetBondWithIdx(i)
            ends = f"{bond.GetBeginAtomIdx() + 1}-{bond.GetEndAtomIdx() + 1}"
            return f"repair changed the stereo: double bond {ends} from {old} to {new}"
    return ""


def _relative_distances(mol: Chem.Mol) -> NDArray[np.float64]:
    """Distances in sums of covalent radii, [N, N]."""
    table = Chem.GetPeriodicTable()
    radii = np.array([table.GetRcovalent(atom.GetAtomicNum()) for atom in mol.GetAtoms()])
    distances = np.asarray(Chem.Get3DDistanceMatrix(mol), dtype=np.float64)
    return np.asarray(distances / (radii[:, None] + radii[None, :]))


def _stereo(mol: Chem.Mol) -> Stereo:
    """Stereo of every atom and bond as the coordinates have it.

    An atom's label is its CIP code, or where it has none (as in 1,3-dimethylcyclobutane) its
    winding, seen from its first neighbour; a bond's is E, Z or none.
    """
    copy = Chem.Mol(mol)
    with rdBase.BlockLogs():
        Chem.SanitizeMol(copy)
        Chem.AssignStereochemistryFrom3D(copy, replaceExistingTags=True)
    atoms = []
    for atom in copy.GetAtoms():
        code = atom.GetProp("_CIPCode") if atom.HasProp("_CIPCode") else ""
        tag = str(atom.GetChiralTag()).removeprefix("CHI_").removeprefix("TETRAHEDRAL_")
        atoms.append("none" if tag == "UNSPECIFIED" else code or tag)
    bonds = [str(bond.GetStereo()).removeprefix("STEREO") for bond in copy.GetBonds()]
    return tuple(atoms), tuple("none" if bond == "NONE" else bond for bond in bonds)
