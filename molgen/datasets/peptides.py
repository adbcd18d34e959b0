"""Pieces of a protein as ligands of the rest of it: targets to train on where complexes are few.

After ProFSA (Gao et al. 2024, ICLR: "Self-supervised pocket pretraining via protein
fragment-surroundings alignment"): a few residues in sequence are taken out of the chain; what is
around them is their target. A piece ends in the amide groups of its neighbours (acetyl before,
N-methyl behind), and both neighbours are left out of the target, so that no bond that was cut tells
where an end goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rdkit import Chem, rdBase
from scipy.spatial import cKDTree

from molgen.docking.structure import AMINO_ACIDS, Residue, Structure

BEFORE, BEHIND = frozenset({"CA", "C", "O"}), frozenset({"N", "CA"})
"""Atoms of the residues before and behind a piece that close its ends."""

PEPTIDE_BOND = 1.6
"""Residues whose C and N are nearer than this follow each other, Angstrom."""

CONTACT = 4.5
"""An atom of the piece with a target atom so near is in contact, Angstrom."""


@dataclass(frozen=True)
class Piece:
    """A ligand made of residues, and what it sits in.

    Attributes:
        ligand: sanitised, with its 3D conformer and stereo; heavy atoms only.
        target: the other residues of the structure, cofactors and metals too.
        contact: share of the ligand's atoms with a target atom within `CONTACT`.
    """

    ligand: Chem.Mol
    target: Structure
    contact: float


def pieces(structure: Structure, length: int = 2, contact: float = 0.7) -> Iterator[Piece]:
    """The pieces of so many residues that lie within the protein rather than on it.

    Residues that lack atoms, or are none of the twenty kinds RDKit knows the bonds of, are in no
    piece.

    Args:
        structure: a protein; a whole one has more of them than a pocket that was cut out.
        length: residues of a piece, its ends not counted.
        contact: least share of atoms in contact with the target.
    """
    rows: dict[Residue, list[int]] = {}
    heavy = structure.heavy
    for k, residue in enumerate(structure.residues):
        if heavy[k]:
            rows.setdefault(residue, []).append(k)
    order = list(rows)
    joined = [_follow(structure, rows[a], rows[b]) for a, b in zip(order, order[1:], strict=False)]
    for first in range(1, len(order) - length):
        if not all(joined[first - 1 : first + length]):
            continue
        chain = order[first - 1 : first + length + 1]
        piece = _piece(structure, rows, chain, contact)
        if piece is not None:
            yield piece


def _follow(structure: Structure, a: list[int], b: list[int]) -> bool:
    """Whether the residue of rows b is bonded behind that of rows a."""
    end = [k for k in a if structure.names[k] == "C"]
    start = [k for k in b if structure.names[k] == "N"]
    if not end or not start:
        return False
    apart = np.linalg.norm(structure.positions[end[0]] - structure.positions[start[0]])
    return bool(apart < PEPTIDE_BOND)


def _piece(
    structure: Structure, rows: dict[Residue, list[int]], chain: list[Residue], contact: float
) -> Piece | None:
    """The piece between the first and the last residue of a chain, if it is one to train on."""
    if any(residue.name not in AMINO_ACIDS for residue in chain):
        return None
    before, *inner, behind = (rows[residue] for residue in chain)
    own = [k for k in before if structure.names[k] in BEFORE]
    own += [k for part in inner for k in part]
    own += [k for k in behind if structure.names[k] in BEHIND]
    left_out = set(chain)
    others = [k for residue, part in rows.items() if residue not in left_out for k in part]
    share = _in_contact(structure, own, others)
    if share < contact:
        return None
    ligand = _molecule(structure, own)
    if ligand is None:
        return None
    rest = [k for k, residue in enumerate(structure.residues) if residue not in left_out]
    return Piece(ligand, structure.select(rest), share)


def _in_contact(structure: Structure, own: list[int], others: list[int]) -> float:
    """Share of the atoms that are within `CONTACT` of one of the others."""
    if not others:
        return 0.0
    tree = cKDTree(structure.positions[others])
    apart = tree.query(structure.positions[own], distance_upper_bound=CONTACT)[0]
    return float(np.isfinite(apart).mean())


def _molecule(structure: Structure, own: list[int]) -> Chem.Mol | None:
    """The atoms with the bonds that RDKit knows of residues; None where it does not fit."""
    text = structure.select(own).pdb()
    with rdBase.BlockLogs():
        mol = Chem.MolFromPDBBlock(text, sanitize=True, removeHs=True)
        if mol is None or mol.GetNumAtoms() != len(own) or len(Chem.GetMolFrags(mol)) != 1:
            return None
        Chem.AssignStereochemistryFrom3D(mol)
    return mol
