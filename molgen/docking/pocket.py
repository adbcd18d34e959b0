"""Where to dock: a box around a reference ligand, or a centre and a size. Angstrom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError, DataError
from molgen.chem import sanitised
from molgen.docking.structure import Structure, read_pdb

PADDING = 5.0
"""Between the reference ligand's outermost atoms and the box."""

LARGEST = 126.0
"""Longest edge of a box; grids of larger ones do not fit into memory."""

DEFAULT_SIZE = (22.5, 22.5, 22.5)
TOUCH = 6.0
"""A reference ligand with no atom of the protein within this distance is outside."""

SAME_PLACE = 1.0
"""A residue most of whose atoms are this near to the reference ligand is that ligand itself."""

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """A box with edges along the axes.

    Attributes:
        centre: its middle.
        size: lengths of its edges.
    """

    centre: Point
    size: Point

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, values in (("centre", self.centre), ("box", self.size)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise ConfigError(f"{name}: expected three numbers in Angstrom, got {values}")
        if not all(1 <= edge <= LARGEST for edge in self.size):
            raise ConfigError(f"box: expected edges of 1 to {LARGEST:g} Angstrom, got {self.size}")

    @classmethod
    def around(cls, positions: NDArray[np.float64], padding: float = PADDING) -> Box:
        """The box around positions [N, 3] with a margin on all sides."""
        low, high = positions.min(0) - padding, positions.max(0) + padding
        return cls(_point((low + high) / 2), _point(high - low))

    def corners(self, margin: float = 0.0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner, each [3], moved outwards by a margin."""
        centre, half = np.array(self.centre), np.array(self.size) / 2 + margin
        return centre - half, centre + half


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = (round(float(v), 3) for v in values)
    return x, y, z


@dataclass(frozen=True)
class Pocket:
    """A protein, the box in it, and the ligand that is known to sit there, if any.

    Attributes:
        protein: path of the PDB file.
        structure: its atoms, without the reference ligand.
        box: where to dock.
        reference: the reference ligand with its 3D conformer, or None.
    """

    protein: Path
    structure: Structure
    box: Box
    reference: Chem.Mol | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or is missing in the protein."""
        return self.structure.notes


def read_pocket(
    protein: str | Path,
    reference_ligand: str | Path | Chem.Mol | None = None,
    *,
    centre: Sequence[float] | None = None,
    box: float | Sequence[float] | None = None,
    padding: float = PADDING,
) -> Pocket:
    """A pocket of a PDB file, given by a reference ligand or by centre and size.

    Args:
        protein: .pdb file, also .gz. Waters go; cofactors, metals and other ligands stay.
        reference_ligand: .sdf or .mol file (its first molecule), or a molecule, in the protein's
            frame. A copy of it in the protein file is taken out.
        centre: middle of the box; by default that of the reference ligand.
        box: edge or three edges of the box; by default the reference ligand's extent and `padding`
            on all sides, or 22.5 Angstrom with a centre alone.
        padding: see `box`.

    Raises:
        ConfigError: neither a reference ligand nor a centre is given, or numbers are impossible.
        DataError: a file cannot be read, holds no protein, or the box or ligand is outside it.
    """
    if reference_ligand is None and centre is None:
        raise ConfigError("expected a reference ligand or the centre of the pocket, got neither")
    structure = read_pdb(protein)
    reference = None if reference_ligand is None else read_reference(reference_ligand)
    if reference is not None:
        structure = _without_reference(structure, reference)
    found = _box(reference, centre, box, padding)
    _check_inside(structure, reference, found)
    return Pocket(Path(protein), structure, found, reference)


def as_pocket(
    pocket: str | Path | Pocket,
    reference_ligand: str | Path | Chem.Mol | None = None,
    centre: Sequence[float] | None = None,
    box: float | Sequence[float] | None = None,
) -> Pocket:
    """The pocket itself, or that of a file; see `read_pocket`.

    Raises:
        ConfigError: a pocket that is ready has a place already, or see `read_pocket`.
        DataError: see `read_pocket`.
    """
    if not isinstance(pocket, Pocket):
        return read_pocket(pocket, reference_ligand, centre=centre, box=box)
    if any(x is not None for x in (reference_ligand, centre, box)):
        raise ConfigError("reference_ligand, centre, box: the pocket given has its place already")
    return pocket


def read_reference(given: str | Path | Chem.Mol) -> Chem.Mol:
    """The first molecule of a file (or a molecule), sanitised, with a 3D conformer.

    Raises:
        DataError: there is none, RDKit refuses it, or it has no 3D conformer.
    """
    if isinstance(given, Chem.Mol):
        mol, said = sanitised(given), "the reference ligand"
    else:
        from molgen.io import read_molecules

        said = f"the reference ligand {given}"
        entry = next(iter(read_molecules(given)), None)
        if entry is None or entry.mol is None:
            why = entry.reason if entry is not None else "no molecule"
            raise DataError(f"{said} cannot be read: {why}")
        mol = sanitised(entry.mol)
    if mol is None:
        raise DataError(f"{said}: RDKit refuses the molecule")
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        raise DataError(f"{said} has no 3D conformer")
    if not np.isfinite(mol.GetConformer().GetPositions()).all():
        raise DataError(f"{said} has positions that are not finite")
    with rdBase.BlockLogs():
        Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=False)
    return mol


def heavy_positions(mol: Chem.Mol, conformer: int = -1) -> NDArray[np.float64]:
    """Positions [N, 3] of the atoms that are no hydrogens."""
    rows = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return np.asarray(mol.GetConformer(conformer).GetPositions()[rows], dtype=np.float64)


def _box(
    reference: Chem.Mol | None,
    centre: Sequence[float] | None,
    size: float | Sequence[float] | None,
    padding: float,
) -> Box:
    if not (math.isfinite(padding) and padding >= 0):
        raise ConfigError(f"padding: expected 0 or more Angstrom, got {padding}")
    if reference is None:
        around = Box((0, 0, 0), DEFAULT_SIZE)  # its centre is never used
    else:
        around = Box.around(heavy_positions(reference), padding)
    middle = around.centre if centre is None else centre
    edges: Sequence[float] = around.size if centre is None else DEFAULT_SIZE
    if isinstance(size, int | float):
        edges = (float(size),) * 3
    elif size is not None:
        edges = size
    for name, values in (("centre", middle), ("box", edges)):
        if len(values) != 3:
            raise ConfigError(f"{name}: expected three numbers, got {len(values)}")
    return Box(
        (float(middle[0]), float(middle[1]), float(middle[2])),
        (float(edges[0]), float(edges[1]), float(edges[2])),
    )


def _without_reference(structure: Structure, reference: Chem.Mol) -> Structure:
    """The structure without a residue, no polymer, that sits where the reference ligand is."""
    from scipy.spatial import cKDTree

    distance = cKDTree(heavy_positions(reference)).query(structure.positions)[0]
    heavy, polymer = structure.heavy, structure.polymer
    total: dict[object, int] = {}
    same: dict[object, int] = {}
    for k, residue in enumerate(structure.residues):
        if heavy[k] and not polymer[k]:
            total[residue] = total.get(residue, 0) + 1
            same[residue] = same.get(residue, 0) + int(distance[k] < SAME_PLACE)
    gone = {residue for residue, count in total.items() if 2 * same[residue] > count}
    if not gone:
        return structure
    names = ", ".join(sorted({r[2] for r in gone if isinstance(r, tuple)}))
    keep = [k for k, residue in enumerate(structure.residues) if residue not in gone]
    return structure.select(keep, (f"{names} taken out: it sits where the reference ligand is",))


def _check_inside(structure: Structure, reference: Chem.Mol | None, box: Box) -> None:
    from scipy.spatial import cKDTree

    tree = cKDTree(structure.positions[structure.polymer])
    if reference is not None:
        nearest = float(tree.query(heavy_positions(reference))[0].min())
        if nearest > TOUCH:
            raise DataError(
                f"expected a reference ligand in the protein, got one {nearest:.1f} Angstrom away"
            )
    low, high = box.corners(TOUCH)
    positions = structure.positions[structure.polymer]
    if not ((positions >= low) & (positions <= high)).all(1).any():
        nearest = float(tree.query(np.array(box.centre))[0])
        raise DataError(
            "expected protein atoms in the pocket, found none: the nearest is "
            f"{nearest:.1f} Angstrom from the box's centre"
        )


def numbers(name: str, text: str, counts: Sequence[int]) -> list[float]:
    """Numbers with commas between them, as options of a command line.

    Raises:
        ConfigError: they are no finite numbers, or not as many as expected.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts or not all(math.isfinite(v) for v in values):
        many = " or ".join(str(n) for n in counts)
        raise ConfigError(f"--{name}: expected {many} numbers with commas between, got {text!r}")
    return values


def pose_centre(path: str | Path) -> list[float]:
    """The middle of the first molecule of a file that has a 3D conformer, Angstrom.

    Raises:
        DataError: there is none.
    """
    from molgen.io import read_molecules

    for entry in read_molecules(path):
        mol = entry.mol
        if mol is not None and mol.GetNumConformers() and mol.GetConformer().Is3D():
            positions = np.asarray(mol.GetConformer().GetPositions(), dtype=np.float64)
            if len(positions) and np.isfinite(positions).all():
                return [float(x) for x in (positions.min(0) + positions.max(0)) / 2]
    raise DataError(f"{path}: expected poses with 3D coordinates, found none")
