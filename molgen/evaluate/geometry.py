"""Bond lengths, bond angles and torsions: of one molecule, and as distributions over a set.

Lengths in Angstrom, angles in degrees. A torsion is taken without its sign, 0 (cis) to 180
(trans), so that a molecule and its mirror image have the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit import Chem

from molgen.datasets.reference_arrays import STEPS
from molgen.evaluate.prepared import Prepared

Values = Mapping[str, NDArray[np.float64]]
"""Type -> values."""

Histogram = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(values, weights), the values ascending."""

LINEAR = 175.0
"""A torsion over an angle wider than this, in degrees, is not defined."""

_SYMBOLS = {
    Chem.BondType.SINGLE: "-",
    Chem.BondType.DOUBLE: "=",
    Chem.BondType.TRIPLE: "#",
    Chem.BondType.AROMATIC: ":",
}


@dataclass(frozen=True)
class Internal:
    """Internal coordinates of a bond graph, as atom indices.

    Attributes:
        bonds: [B, 2].
        angles: [A, 3], the centre in the middle.
        torsions: [T, 4], along three different bonds, ends not bound into a ring of three.
    """

    bonds: NDArray[np.int64]
    angles: NDArray[np.int64]
    torsions: NDArray[np.int64]


def internal(mol: Chem.Mol) -> Internal:
    """All internal coordinates of a molecule's bonds, hydrogens included."""
    neighbours = [[n.GetIdx() for n in atom.GetNeighbors()] for atom in mol.GetAtoms()]
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
    angles = [
        (around[i], centre, around[k])
        for centre, around in enumerate(neighbours)
        for i in range(len(around))
        for k in range(i + 1, len(around))
    ]
    torsions = [
        (i, j, k, m)
        for j, k in bonds
        for i in neighbours[j]
        for m in neighbours[k]
        if i != k and m != j and i != m
    ]
    return Internal(_indices(bonds, 2), _indices(angles, 3), _indices(torsions, 4))


def _indices(rows: Iterable[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(list(rows), dtype=np.int64).reshape(-1, width)


def lengths(positions: NDArray[np.float64], bonds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distances [B] in Angstrom of atom pairs [B, 2]."""
    return np.asarray(np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=-1))


def angles(positions: NDArray[np.float64], triples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Angles [A] in degrees, 0 to 180, at the middle of atom triples [A, 3]."""
    first = positions[triples[:, 0]] - positions[triples[:, 1]]
    second = positions[triples[:, 2]] - positions[triples[:, 1]]
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.degrees(np.arctan2(sine, (first * second).sum(axis=-1))))


def torsions(positions: NDArray[np.float64], quads: NDArray[np.int64]) -> NDArray[np.float64]:
    """Signed torsion angles [T] in degrees, -180 to 180 (IUPAC), of atoms [T, 4].

    NaN over an angle that is nearly linear.
    """
    a, b, c, d = (positions[quads[:, i]] for i in range(4))
    axis = c - b
    left, right = np.cross(b - a, axis), np.cross(axis, d - c)
    sine = np.linalg.norm(axis, axis=-1) * ((b - a) * right).sum(axis=-1)
    found = np.degrees(np.arctan2(sine, (left * right).sum(axis=-1)))
    widest = np.maximum(angles(positions, quads[:, :3]), angles(positions, quads[:, 1:]))
    return np.where(widest > LINEAR, np.nan, found)


# ------------------------------------------------------------------------------- of one molecule


def _cell(names: Iterable[str], values: NDArray[np.float64], digits: int) -> str:
    """Values by type as text: `C-C 1.532 1.528|C=O 1.211`."""
    found: dict[str, list[str]] = {}
    for name, value in zip(names, values.tolist(), strict=True):
        if np.isfinite(value):
            found.setdefault(name, []).append(f"{value:.{digits}f}")
    return "|".join(" ".join([name, *found[name]]) for name in sorted(found))


def bond_lengths(prepared: Prepared) -> str | None:
    """Every bond's length in Angstrom, by elements and order; None without 3D."""
    if prepared.positions is None:
        return None
    mol, names = prepared.perceived, []
    for bond in mol.GetBonds():
        ends = sorted((bond.GetBeginAtom().GetSymbol(), bond.GetEndAtom().GetSymbol()))
        names.append(_SYMBOLS.get(bond.GetBondType(), "~").join(ends))
    return _cell(names, lengths(prepared.positions, prepared.internal.bonds), 3)


def bond_angles(prepared: Prepared) -> str | None:
    """Every bond angle in degrees, by elements and number of neighbours of the centre.

    `H-C4-O` is an angle at a carbon with four neighbours. None without 3D.
    """
    if prepared.positions is None:
        return None
    atoms = [(a.GetSymbol(), a.GetDegree()) for a in prepared.mol.GetAtoms()]
    names = []
    for i, centre, k in prepared.internal.angles.tolist():
        first, last = sorted((atoms[i][0], atoms[k][0]))
        names.append(f"{first}-{atoms[centre][0]}{atoms[centre][1]}-{last}")
    return _cell(names, angles(prepared.positions, prepared.internal.angles), 1)


def torsion_angles(prepared: Prepared) -> str | None:
    """Torsions of heavy atoms in degrees, 0 to 180, by the bond they turn about; None without 3D.

    The `@` marks a bond in a ring: `C-C@`.
    """
    if prepared.positions is None:
        return None
    mol = Chem.Mol(prepared.perceived)
    Chem.FastFindRings(mol)
    quads = prepared.internal.torsions
    quads = quads[(prepared.numbers[quads] > 1).all(axis=1)]
    names = []
    for j, k in quads[:, 1:3].tolist():
        bond = mol.GetBondBetweenAtoms(j, k)
        ends = sorted((bond.GetBeginAtom().GetSymbol(), bond.GetEndAtom().GetSymbol()))
        symbol = _SYMBOLS.get(bond.GetBondType(), "~")
        names.append(symbol.join(ends) + ("@" if bond.IsInRing() else ""))
    return _cell(names, np.abs(torsions(prepared.positions, quads)), 0)


# ------------------------------------------------------------------------------------- of a set


def collected(cells: Iterable[str | None]) -> dict[str, NDArray[np.float64]]:
    """Values by type, of the cells of a column."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        if isinstance(cell, str):
            for part in filter(None, cell.split("|")):
                name, *values = part.split(" ")
                found.setdefault(name, []).extend(values)
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def wasserstein(first: Histogram, second: Histogram) -> float:
    """Wasserstein-1 distance of two weighted sets of values, in the unit of the values.

    The area between the two cumulative distributions.
    """
    (a, weight_a), (b, weight_b) = first, second
    grid = np.sort(np.concatenate([a, b]))
    steps = np.diff(grid)
    below_a = np.concatenate([[0.0], np.cumsum(weight_a)])
    below_b = np.concatenate([[0.0], np.cumsum(weight_b)])
    at_a = below_a[np.searchsorted(a, grid[:-1], side="right")] / below_a[-1]
    at_b = below_b[np.searchsorted(b, grid[:-1], side="right")] / below_b[-1]
    return float((np.abs(at_a - at_b) * steps).sum())


def histogram(values: NDArray[np.float64]) -> Histogram:
    """The different values, ascending, and how often each came."""
    found, counts = np.unique(values, return_counts=True)
    return found, counts.astype(np.float64)


def weighted_distance(
    made: Values, known: Mapping[str, Histogram], weights: Mapping[str, float] | None = None
) -> tuple[float, int]:
    """Mean Wasserstein-1 distance over types, weighted by how frequent each is in the reference.

    Types that the set or the reference lacks are left out, and the weights renormalised.

    Args:
        made: The set's values by type.
        known: The reference's histograms by type.
        weights: Weight of each type; its frequency in the reference if left out.

    Returns:
        The distance in the unit of the values, and the number of values that were compared.
    """
    if weights is None:
        weights = {name: float(counts.sum()) for name, (_, counts) in known.items()}
    shared = [name for name in made if name in known and weights.get(name, 0.0) > 0]
    total = sum(weights[name] for name in shared)
    if not shared:
        return float("nan"), 0
    distance = sum(
        weights[name] * wasserstein(histogram(made[name]), known[name]) for name in shared
    )
    return distance / total, sum(len(made[name]) for name in shared)


def merged(known: Mapping[str, Histogram], key: Mapping[str, str]) -> dict[str, Histogram]:
    """Histograms of coarser types: `key` says which each belongs to."""
    parts: dict[str, list[Histogram]] = {}
    for name, one in known.items():
        if name in key:
            parts.setdefault(key[name], []).append(one)
    out: dict[str, Histogram] = {}
    for name, group in parts.items():
        values, place = np.unique(np.concatenate([v for v, _ in group]), return_inverse=True)
        counts = np.zeros(len(values))
        np.add.at(counts, place, np.concatenate([c for _, c in group]))
        out[name] = (values, counts)
    return out


def column_values(table: pd.DataFrame, column: str) -> dict[str, NDArray[np.float64]]:
    """Values by type of a column of the row table, in the bins of the reference."""
    found = collected(table[column].tolist()) if column in table else {}
    step = STEPS[column]
    return {name: np.rint(values / step) * step for name, values in found.items()}
