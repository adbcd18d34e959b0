"""Kinds of atoms of ligands and targets, and the arrays of one complex. Heavy atoms; Angstrom."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from scipy.spatial import cKDTree

from diffcore.errors import DataError
from molgen.contacts.network import LIGAND, TARGET
from molgen.docking.structure import AMINO_ACIDS

if TYPE_CHECKING:
    from molgen.docking.structure import Structure

Arrays = dict[str, NDArray[Any]]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

REACH = 10.0
"""Target atoms so near to the ligand are kept, Angstrom: a turned bond may carry an atom there."""

_ACID = "[$([OX1,OX2H1]~[C,P,S](~[OX1])),$([OX1]~[C,P,S](~[OX2H1]))]"
_CATION = (
    "[$([NX4+]),$([NX3+]),$(N-C(=[NX2,NX3+])N),$(N=C(-N)N),"
    "$([NX3;!$(N-C=*);!$(N-a);!$(N-S);!$(N-C#N);!$(N-N);!$(N-O)])]"
)
"""Ammonium, amidine, guanidine, and amines that are protonated at a body's pH."""


@cache
def _pattern(smarts: str) -> Chem.Mol:
    return Chem.MolFromSmarts(smarts)


def ligand_classes(mol: Chem.Mol) -> Ints:
    """Places in `LIGAND` of a sanitised molecule's heavy atoms, [N]; protonation is a guess."""
    acid = {hit[0] for hit in mol.GetSubstructMatches(_pattern(_ACID))}
    cation = {hit[0] for hit in mol.GetSubstructMatches(_pattern(_CATION))}
    heavy = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    names = [_ligand_class(atom, atom.GetIdx() in acid, atom.GetIdx() in cation) for atom in heavy]
    return np.array([LIGAND.index(name) for name in names], np.int64)


def _ligand_class(atom: Chem.Atom, acid: bool, cation: bool) -> str:
    hydrogens = atom.GetTotalNumHs(includeNeighbors=True)
    match atom.GetSymbol():
        case "C":
            sp3 = atom.GetHybridization() == Chem.HybridizationType.SP3
            return "C aromatic" if atom.GetIsAromatic() else "C sp3" if sp3 else "C other"
        case "N":
            return "N cation" if cation else "N with H" if hydrogens else "N without H"
        case "O" if acid or atom.GetFormalCharge() < 0:
            return "O acid"
        case "O" if hydrogens:
            return "O hydroxyl"
        case "O":
            heavy = sum(n.GetAtomicNum() > 1 for n in atom.GetNeighbors())
            return "O carbonyl" if heavy == 1 else "O ether"
    return _OTHERS.get(atom.GetSymbol(), "other")


_OTHERS = {"S": "S, P", "P": "S, P", "Se": "S, P", "F": "F"} | dict.fromkeys(
    ("Cl", "Br", "I"), "Cl, Br, I"
)

_BACKBONE = {"C": "C carbonyl", "CA": "C alpha", "N": "N backbone", "O": "O backbone"}
_BACKBONE["OXT"] = "O backbone"
_SIDE = {"C": "C aliphatic", "N": "N amide, aromatic", "O": "O hydroxyl", "S": "S", "SE": "S"}
_AROMATIC = frozenset({"PHE", "TYR", "TRP", "HIS", "HID", "HIE", "HIP", "HSD", "HSE", "HSP"})
_NAMED = {
    ("N", "N cation"): frozenset({"LYS", "LYN", "ARG", "PYL"}),
    ("O", "O acid"): frozenset({"ASP", "GLU", "ASH", "GLH"}),
    ("O", "O amide"): frozenset({"ASN", "GLN", "ASX", "GLX"}),
}
"""Element and class of side chains' atoms in some residues."""
_POLAR = frozenset(
    {("ASP", "CG"), ("GLU", "CD"), ("ASN", "CG"), ("GLN", "CD"), ("ARG", "CZ"), ("ARG", "CD")}
    | {("LYS", "CE"), ("ASH", "CG"), ("GLH", "CD")}
)
_FOREIGN = {
    "C": "C of another residue",
    "N": "N of another residue",
    "O": "O of another residue",
} | dict.fromkeys("LI NA MG K CA MN FE CO NI CU ZN CD HG SR BA".split(), "metal")


def target_classes(structure: Structure) -> Ints:
    """Places in `TARGET` of a structure's atoms [N]; hydrogens are among the others."""
    rows = zip(structure.residues, structure.names, structure.elements, strict=True)
    names = [_target_class(residue.name, name, symbol.upper()) for residue, name, symbol in rows]
    return np.array([TARGET.index(name) for name in names], np.int64)


def _target_class(residue: str, name: str, symbol: str) -> str:
    if residue not in AMINO_ACIDS:
        return _FOREIGN.get(symbol, "other")
    if name in _BACKBONE:
        return _BACKBONE[name]
    if symbol == "C" and residue in _AROMATIC and name != "CB":
        return "C aromatic"
    if (residue, name) in _POLAR:
        return "C polar"
    for (element, found), residues in _NAMED.items():
        if symbol == element and residue in residues:
            return found
    return _SIDE.get(symbol, "other")


BOND = 2.0
"""Heavy atoms of a target that are nearer than this are taken for bonded, Angstrom."""


def surroundings(structure: Structure, pos: Floats, reach: float = REACH) -> Arrays:
    """The target's heavy atoms within reach of any of the positions [N, 3].

    Returns:
        ``target`` [T], classes of `TARGET`, ``target_pos`` [T, 3], and ``target_axis`` [T, 3]:
        where an atom points, away from the middle of those bonded to it, of length 1; 0 for atoms
        that have none and for those in the middle of theirs.

    Raises:
        DataError: there is none.
    """
    near = cKDTree(pos).query(structure.positions, distance_upper_bound=reach)[0]
    rows = np.nonzero(structure.heavy & np.isfinite(near))[0]
    if not len(rows):
        raise DataError(f"expected protein atoms in the pocket, found none within {reach:g} A")
    return {
        "target": target_classes(structure.select(rows.tolist())),
        "target_pos": structure.positions[rows],
        "target_axis": axes(structure.positions[structure.heavy], structure.positions[rows]),
    }


def axes(around: Floats, pos: Floats) -> Floats:
    """Where atoms at pos [T, 3] point, away from those of around [N, 3] that they are bonded to."""
    found = np.zeros(pos.shape)
    for k, near in enumerate(cKDTree(around).query_ball_point(pos, BOND)):
        others = around[near]
        others = others[np.abs(others - pos[k]).max(-1) > 0.1]  # not itself
        if len(others):
            found[k] = pos[k] - others.mean(0)
    length = np.linalg.norm(found, axis=-1, keepdims=True)
    # the middle of a planar atom's three neighbours is the atom itself: it points nowhere
    return np.where(length > 0.2, found / length.clip(0.2), 0.0)
