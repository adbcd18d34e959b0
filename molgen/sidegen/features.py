"""A ligand and its target as arrays for the network. Heavy atoms only; Angstrom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from diffcore.errors import DataError
from molgen.sidegen.network import RESIDUES, TARGET_ELEMENTS
from molgen.torsions import torsion_graph

if TYPE_CHECKING:
    from molgen.docking.structure import Structure

Arrays = dict[str, NDArray[Any]]
TARGET_ATOMS = 128
"""Heavy atoms of the target that are seen: those nearest to the pocket's centre. So a pocket's
shape tells the network nothing that a docking box does not."""

BACKBONE = frozenset({"N", "CA", "C", "O"})


def ligand_arrays(mol: Chem.Mol, pos: NDArray[np.float64]) -> Arrays:
    """Graph, handedness and positions of a molecule's heavy atoms.

    Args:
        mol: sanitised, with stereo marks.
        pos: [A, 3] of all atoms, with the marked stereo.

    Returns:
        ``atom`` [N, 7], ``edge`` [E, 2], ``kind`` [E] (class of the bond, 1 to 48), ``chiral``
        [C, 4] (a centre and three of its neighbours), ``hand`` [C] (sign of their volume), ``pos``
        [N, 3].
    """
    graph = torsion_graph(mol)
    place = {int(a): k for k, a in enumerate(graph.heavy)}
    chiral = []
    for atom in mol.GetAtoms():
        near = [place[n.GetIdx()] for n in atom.GetNeighbors() if n.GetIdx() in place]
        if atom.HasProp("_CIPCode") and len(near) >= 3:
            chiral.append((place[atom.GetIdx()], *near[:3]))
    own = np.asarray(pos, np.float64)[graph.heavy]
    centres = np.array(chiral, np.int64).reshape(-1, 4)
    order, ring, conjugated, geometry = graph.edge_kind.T
    return {
        "atom": graph.atom,
        "edge": graph.edge,
        "kind": 1 + ((order * 2 + ring) * 2 + conjugated) * 3 + geometry,
        "chiral": centres,
        "hand": np.sign(volume(own, centres)),
        "pos": own,
    }


def volume(pos: NDArray[np.float64], centres: NDArray[np.int64]) -> NDArray[np.float64]:
    """Signed volumes [C] of three neighbours around centres [C, 4], positions [N, 3]."""
    a, b, c = (pos[centres[:, k]] - pos[centres[:, 0]] for k in (1, 2, 3))
    return np.asarray((np.cross(a, b) * c).sum(-1))


def target_arrays(structure: Structure, centre: NDArray[np.float64]) -> Arrays:
    """The heavy atoms of a structure next to a centre [3].

    Returns:
        ``target`` [T, 3]: classes of element, residue and backbone; ``target_pos`` [T, 3].

    Raises:
        DataError: there is none within 15 Angstrom.
    """
    rows = np.nonzero(structure.heavy)[0]
    distance = np.linalg.norm(structure.positions[rows] - centre, axis=-1)
    rows = rows[distance.argsort(kind="stable")[:TARGET_ATOMS]]
    if not len(rows) or distance.min() > 15:
        raise DataError("expected protein atoms in the pocket, found none within 15 Angstrom")
    elements = {symbol: k for k, symbol in enumerate(TARGET_ELEMENTS)}
    residues = {name: k for k, name in enumerate(RESIDUES)}
    kinds = [
        (
            elements.get(structure.elements[k].upper(), len(TARGET_ELEMENTS)),
            residues.get(structure.residues[k].name, len(RESIDUES)),
            int(structure.names[k] in BACKBONE),
        )
        for k in rows
    ]
    return {"target": np.array(kinds, np.int64), "target_pos": structure.positions[rows]}


NO_TARGET: Arrays = {"target": np.zeros((0, 3), np.int64), "target_pos": np.zeros((0, 3))}
