"""Rotatable bonds of a molecule as arrays, and conformers with given torsions.

Heavy atoms only; hydrogens move with the atom that carries them. A rotatable bond b-c has a torsion
(a, b, c, d) with the first heavy neighbours a and d as references. What is computed from it does
not depend on that choice: every other neighbour n of b is stored with its offset, the angle between
the torsions (n, b, c, d) and (a, b, c, d), and so on the side of c. Offsets change sign under
reflection and so carry all that is chiral near the bond.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molgen.chem import HYBRIDISATION_INDEX, mol_from_arrays, sanitised
from molgen.models.torsion import ELEMENTS, MAX_PATH, SUBSTITUENTS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TorsionGraph:
    """Arrays of one molecule with N heavy atoms, E directed bonds, R torsions, P torsion pairs.

    Attributes:
        heavy: atom index in the molecule of every heavy atom, [N].
        atom: classes of `molgen.models.torsion.ATOM_CLASSES`, [N, 7].
        edge: source and target heavy atom, [E, 2].
        edge_kind: classes of `molgen.models.torsion.EDGE_CLASSES`, [E, 4].
        quad: the heavy atoms (a, b, c, d) of every torsion, [R, 4].
        sub: heavy neighbours of b and of c apart from the bond, -1 for none, [R, 2, 3].
        pair: receiving and sending torsion, [P, 2].
        pair_end: for both, which end faces the other (0: b, 1: c), [P, 2].
        pair_sub: for both, place in `sub` of the neighbour that leads to the other, [P, 2].
        pair_kind: bonds between the facing ends 0..4, and whether both lie in one ring, [P, 2].
    """

    heavy: Ints
    atom: Ints
    edge: Ints
    edge_kind: Ints
    quad: Ints
    sub: Ints
    pair: Ints
    pair_end: Ints
    pair_sub: Ints
    pair_kind: Ints


def torsion_graph(mol: Chem.Mol) -> TorsionGraph:
    """Arrays of a sanitised molecule; conformers are not looked at."""
    heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
    place = {index: k for k, index in enumerate(heavy)}
    atoms = [mol.GetAtomWithIdx(i) for i in heavy]
    near = [[place[n.GetIdx()] for n in a.GetNeighbors() if n.GetIdx() in place] for a in atoms]
    bonds = [
        (place[b.GetBeginAtomIdx()], place[b.GetEndAtomIdx()], b)
        for b in mol.GetBonds()
        if b.GetBeginAtomIdx() in place and b.GetEndAtomIdx() in place
    ]
    edges = [(i, j) for i, j, _ in bonds] + [(j, i) for i, j, _ in bonds]
    kinds = [_edge_kind(b) for _, _, b in bonds] * 2
    axes = [(i, j) for i, j, b in bonds if _rotatable(b, i, j, near, atoms)]
    subs = [
        [
            [n for n in near[i] if n != j][:SUBSTITUENTS],
            [n for n in near[j] if n != i][:SUBSTITUENTS],
        ]
        for i, j in axes
    ]
    quad = [(s[0][0], i, j, s[1][0]) for (i, j), s in zip(axes, subs, strict=True)]
    pairs = _pairs(mol, heavy, axes, subs, near)
    return TorsionGraph(
        heavy=np.array(heavy, np.int64),
        atom=_table([_atom(a, len(n)) for a, n in zip(atoms, near, strict=True)], 7),
        edge=_table(edges, 2),
        edge_kind=_table(kinds, 4),
        quad=_table(quad, 4),
        sub=np.array(
            [[side + [-1] * (SUBSTITUENTS - len(side)) for side in s] for s in subs], np.int64
        ).reshape(len(subs), 2, SUBSTITUENTS),
        pair=_table([p[0:2] for p in pairs], 2),
        pair_end=_table([p[2:4] for p in pairs], 2),
        pair_sub=_table([p[4:6] for p in pairs], 2),
        pair_kind=_table([p[6:8] for p in pairs], 2),
    )


def _table(rows: list[Any], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(len(rows), width)


def _atom(atom: Chem.Atom, degree: int) -> tuple[int, ...]:
    number = atom.GetAtomicNum()
    size = atom.GetOwningMol().GetRingInfo().MinAtomRingSize(atom.GetIdx())
    return (
        ELEMENTS.index(number) if number in ELEMENTS else len(ELEMENTS),
        min(max(atom.GetFormalCharge(), -2), 2) + 2,
        min(degree, 5),
        min(atom.GetTotalNumHs(includeNeighbors=True), 4),
        HYBRIDISATION_INDEX.get(atom.GetHybridization(), 0),
        int(atom.GetIsAromatic()),
        min(max(size - 2, 0), 6),
    )


_ORDERS = {
    Chem.BondType.SINGLE: 0,
    Chem.BondType.DOUBLE: 1,
    Chem.BondType.TRIPLE: 2,
    Chem.BondType.AROMATIC: 3,
}
_GEOMETRY = {
    Chem.BondStereo.STEREOE: 1,
    Chem.BondStereo.STEREOTRANS: 1,
    Chem.BondStereo.STEREOZ: 2,
    Chem.BondStereo.STEREOCIS: 2,
}


def _edge_kind(bond: Chem.Bond) -> tuple[int, ...]:
    return (
        _ORDERS.get(bond.GetBondType(), 0),
        int(bond.IsInRing()),
        int(bond.GetIsConjugated()),
        _GEOMETRY.get(bond.GetStereo(), 0),
    )


def _rotatable(bond: Chem.Bond, i: int, j: int, near: list[list[int]], atoms: list[Any]) -> bool:
    """A single bond outside rings whose turning moves a heavy atom and gives another conformer."""
    if bond.GetBondType() != Chem.BondType.SINGLE or bond.IsInRing():
        return False
    return all(_turns(k, other, near, atoms) for k, other in ((i, j), (j, i)))


def _turns(k: int, other: int, near: list[list[int]], atoms: list[Any]) -> bool:
    """Whether turning the substituents of atom k about its bond to the other one matters."""
    rest = [n for n in near[k] if n != other]
    if (
        not 1 <= len(rest) <= SUBSTITUENTS
        or atoms[k].GetHybridization() == Chem.HybridizationType.SP
    ):
        return False
    ends = {atoms[n].GetAtomicNum() for n in rest}
    return not (len(rest) == 3 and len(ends) == 1 and all(len(near[n]) == 1 for n in rest))


def _pairs(
    mol: Chem.Mol,
    heavy: list[int],
    axes: list[tuple[int, int]],
    subs: list[list[list[int]]],
    near: list[list[int]],
) -> list[tuple[int, ...]]:
    """Receiver, sender, their facing ends and leading neighbours, distance, one ring or not."""
    steps = Chem.GetDistanceMatrix(mol)[np.ix_(heavy, heavy)]
    rings = [set(ring) for ring in mol.GetRingInfo().AtomRings()]
    out: list[tuple[int, ...]] = []
    for r in range(len(axes)):
        for s in range(len(axes)):
            if r == s:
                continue
            apart, end_r, end_s = min(
                (steps[axes[r][p], axes[s][q]], p, q) for p in (0, 1) for q in (0, 1)
            )
            x, y = axes[r][end_r], axes[s][end_s]
            if apart > MAX_PATH:
                continue
            lead_r = _lead(x, y, axes[r][1 - end_r], axes[s][1 - end_s], steps, near)
            lead_s = _lead(y, x, axes[s][1 - end_s], axes[r][1 - end_r], steps, near)
            place = subs[r][end_r].index(lead_r), subs[s][end_s].index(lead_s)
            ring = any({heavy[x], heavy[y]} <= ring for ring in rings) and x != y
            out.append((r, s, end_r, end_s, *place, int(apart), int(ring)))
    return out


def _lead(x: int, y: int, behind: int, beyond: int, steps: Floats, near: list[list[int]]) -> int:
    """The neighbour of x through which the shortest way to atom `beyond` behind y leads."""
    if x == y:
        return beyond
    return next(n for n in near[x] if n != behind and steps[n, y] == steps[x, y] - 1)


# ----------------------------------------------------------------------------------- geometry


def dihedral(pos: Floats, quad: Ints) -> Floats:
    """Torsion angles [..., R] in radians of positions [..., N, 3] and atoms [R, 4], IUPAC sign."""
    a, b, c, d = (pos[..., quad[..., k], :] for k in range(4))
    axis = c - b
    n1, n2 = np.cross(b - a, axis), np.cross(axis, d - c)
    length = np.linalg.norm(axis, axis=-1)
    return np.asarray(
        np.arctan2((np.cross(n1, n2) * axis).sum(-1) / length.clip(1e-9), (n1 * n2).sum(-1))
    )


def offsets(graph: TorsionGraph, pos: Floats) -> Floats:
    """Offset [..., R, 2, 3] of every neighbour in `sub` for heavy-atom positions [..., N, 3]."""
    out = np.zeros((*pos.shape[:-2], *graph.sub.shape))
    reference = dihedral(pos, graph.quad)
    for end in (0, 1):
        for k in range(SUBSTITUENTS):
            quad = graph.quad.copy()
            n = graph.sub[:, end, k]
            quad[:, 3 * end] = np.where(n < 0, quad[:, 3 * end], n)
            shift = dihedral(pos, quad) - reference
            out[..., end, k] = np.remainder(shift + np.pi, 2 * np.pi) - np.pi
    return out


def moving_atoms(mol: Chem.Mol, graph: TorsionGraph) -> list[Ints]:
    """For every torsion the atoms (hydrogens too) on the smaller side of its bond, and which side.

    Returns:
        Atom indices; those on the side of b are given for a turn in the opposite sense, so that the
        first entry is the atom of the bond that moves (it lies on the axis).
    """
    out = []
    for _, b, c, _ in graph.quad.tolist():
        begin, end = int(graph.heavy[b]), int(graph.heavy[c])
        side = _side(mol, end, begin)
        if 2 * len(side) > mol.GetNumAtoms():
            side = _side(mol, begin, end)
        out.append(np.array(side, np.int64))
    return out


def _side(mol: Chem.Mol, start: int, blocked: int) -> list[int]:
    seen, stack = [start], [start]
    known = {start, blocked}
    while stack:
        for neighbour in mol.GetAtomWithIdx(stack.pop()).GetNeighbors():
            index = neighbour.GetIdx()
            if index not in known:
                known.add(index)
                seen.append(index)
                stack.append(index)
    return seen


def set_torsions(pos: Floats, angles: Floats, graph: TorsionGraph, moving: list[Ints]) -> Floats:
    """Positions [S, A, 3] of all atoms with the torsions [S, R] set; the inputs are not changed."""
    pos = pos.copy()
    quad = graph.heavy[graph.quad]
    for r, (_, b, c, _) in enumerate(quad.tolist()):
        turn = angles[:, r] - dihedral(pos, quad[r])
        if moving[r][0] == b:
            turn = -turn
        axis = pos[:, c] - pos[:, b]
        axis /= np.linalg.norm(axis, axis=-1, keepdims=True).clip(1e-9)
        arm = pos[:, moving[r]] - pos[:, None, b]
        cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
        axis = axis[:, None]
        along = (arm * axis).sum(-1, keepdims=True) * axis
        turned = arm * cos + np.cross(axis, arm) * sin + along * (1 - cos)
        pos[:, moving[r]] = pos[:, None, b] + turned
    return pos


# ------------------------------------------------------------------- arrays for the network


def arrays_of(mol: Chem.Mol, conformer: int = -1) -> dict[str, NDArray[Any]]:
    """Graph, offsets and torsions of one conformer: the fields of `molgen.datasets.torsions`."""
    graph = torsion_graph(mol)
    pos = np.asarray(mol.GetConformer(conformer).GetPositions())[graph.heavy]
    plain = {f.name: getattr(graph, f.name) for f in fields(graph) if f.name != "heavy"}
    return plain | {"offset": offsets(graph, pos), "angle": dihedral(pos, graph.quad)}


def molecule_of(
    atomic_number: NDArray[Any],
    charge: NDArray[Any],
    pos: NDArray[Any],
    bond_atoms: NDArray[Any],
    bond_order: NDArray[Any],
) -> Chem.Mol | None:
    """A sanitised molecule with stereo from its coordinates; None where RDKit refuses it."""
    from rdkit import rdBase

    n = len(atomic_number)
    orders = np.zeros((n, n), np.int64)
    orders[bond_atoms[:, 0], bond_atoms[:, 1]] = bond_order
    orders[bond_atoms[:, 1], bond_atoms[:, 0]] = bond_order
    mol = sanitised(mol_from_arrays(atomic_number, charge, orders, pos))
    if mol is not None:
        with rdBase.BlockLogs():
            Chem.AssignStereochemistryFrom3D(mol)
    return mol
