"""Complexes of a folder: which file is the protein, which the ligand that sits in it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import DataError

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.docking.structure import Structure

LIGANDS = (".sdf", ".mol", ".sdf.gz")
PROTEINS = (".pdb", ".ent", ".pdb.gz")


@dataclass(frozen=True)
class ComplexFiles:
    """Two files in one frame.

    Attributes:
        name: of the complex.
        protein: PDB file.
        ligand: SDF or MOL file; its first molecule counts.
    """

    name: str
    protein: Path
    ligand: Path


def find_complexes(place: str | Path) -> list[ComplexFiles]:
    """The complexes of a folder and its subfolders, or of a CSV of (name, protein, ligand).

    In a folder, a ligand goes with the protein file whose name begins most like its own. Of
    several ligand files for one protein, those whose name ends in `ligand` come first; a protein
    file whose name ends in `pocket` or `pocket10` is taken only where there is no other.

    Raises:
        DataError: no such place, the table lacks a column, or there is no complex.
    """
    place = Path(place)
    if not place.exists():
        raise DataError(f"no such file or folder: {place}")
    found = list(_of_folder(place) if place.is_dir() else _of_table(place))
    if not found:
        raise DataError(f"{place}: expected pairs of a .pdb and an .sdf file, found none")
    return found


def _of_table(path: Path) -> Iterator[ComplexFiles]:
    """Paths are relative to the table's folder."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = [n.strip().lower() for n in reader.fieldnames or []]
        missing = [n for n in ("name", "protein", "ligand") if n not in names]
        if missing:
            raise DataError(
                f"{path}: expected the columns name, protein, ligand, got no {missing[0]}"
            )
        for number, raw in enumerate(reader, 1):
            row = {(k or "").strip().lower(): (v or "").strip() for k, v in raw.items() if k}
            yield ComplexFiles(
                row["name"] or f"complex-{number}",
                path.parent / row["protein"],
                path.parent / row["ligand"],
            )


def _of_folder(place: Path) -> Iterator[ComplexFiles]:
    for folder in sorted({file.parent for file in place.rglob("*") if _ends(file, PROTEINS)}):
        files = sorted(file for file in folder.iterdir() if file.is_file())
        proteins = _whole([f for f in files if _ends(f, PROTEINS)])
        ligands = [f for f in files if _ends(f, LIGANDS)]
        by_protein: dict[Path, list[Path]] = {}
        for ligand in ligands:
            best = max(proteins, key=lambda p: len(commonprefix([p.name, ligand.name])))
            by_protein.setdefault(best, []).append(ligand)
        for protein, mine in sorted(by_protein.items()):
            named = [f for f in mine if _stem(f).lower().endswith("ligand")]
            chosen = (named or mine)[:1] if len(proteins) == 1 else named or mine
            for ligand in chosen:
                yield ComplexFiles(_name(place, folder, protein, ligand, proteins), protein, ligand)


def _whole(proteins: list[Path]) -> list[Path]:
    whole = [p for p in proteins if not _stem(p).lower().endswith(("pocket", "pocket10"))]
    return whole or proteins


def _ends(file: Path, endings: tuple[str, ...]) -> bool:
    return file.name.lower().endswith(endings)


def _stem(file: Path) -> str:
    return file.name.split(".")[0]


def _name(place: Path, folder: Path, protein: Path, ligand: Path, proteins: list[Path]) -> str:
    """The folder's name where it holds one complex, else what both names begin with."""
    if folder != place and len(proteins) == 1:
        return folder.relative_to(place).as_posix()
    shared = commonprefix([_stem(protein), _stem(ligand)]).strip("_- ")
    return shared or _stem(ligand)


@dataclass(frozen=True)
class Complex:
    """What the files of a complex hold.

    Attributes:
        ligand: sanitised, with its 3D conformer and stereo.
        target: the protein's atoms, without waters and without a copy of the ligand.
        skeleton: first block of the ligand's InChIKey: its graph without stereo and protonation.
        date: of deposition by the protein file's HEADER record, YYYYMMDD; 0 where it has none.
    """

    ligand: Chem.Mol
    target: Structure
    skeleton: str
    date: int


def read_complex(files: ComplexFiles) -> Complex:
    """Both files of a complex.

    Raises:
        DataError: one cannot be read, or the ligand is not in the protein.
    """
    from molgen.datasets.component_rows import skeleton
    from molgen.docking.pocket import read_pocket

    pocket = read_pocket(files.protein, files.ligand)
    assert pocket.reference is not None
    return Complex(
        pocket.reference, pocket.structure, skeleton(pocket.reference), deposited(files.protein)
    )


_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()


def deposited(protein: Path) -> int:
    """Date of deposition (YYYYMMDD) in the HEADER record of a PDB file, 0 where there is none."""
    from molgen.records import open_text

    try:
        with open_text(protein) as file:
            line = file.readline()
    except (OSError, EOFError, UnicodeDecodeError):
        return 0
    day, month, year = line[50:52], line[53:56], line[57:59]
    if not (line.startswith("HEADER") and day.isdigit() and year.isdigit() and month in _MONTHS):
        return 0
    # the PDB began in 1971
    century = 1900 if int(year) > 70 else 2000
    return (century + int(year)) * 10_000 + (_MONTHS.index(month) + 1) * 100 + int(day)


COMMON = 15
"""Chains with fewer residues of the same numbers cannot be compared."""


def same_protein(a: Structure, b: Structure, share: float = 0.6) -> bool:
    """Whether a chain of one has the residues of a chain of the other at the same numbers.

    For pockets that were cut out of a protein, which no alignment can compare. It finds other
    structures of one protein in the numbering of its sequence; homologues numbered otherwise it
    does not find.

    Args:
        a: a protein or a part of it.
        b: likewise.
        share: of the residues of the same numbers, so many must be of one kind.
    """
    return any(
        len(common) >= COMMON and sum(x[k] == y[k] for k in common) >= share * len(common)
        for x in _chains(a).values()
        for y in _chains(b).values()
        for common in (x.keys() & y.keys(),)
    )


def _chains(structure: Structure) -> dict[str, dict[str, str]]:
    """Kind of the polymer's residues by number, chain by chain."""
    found: dict[str, dict[str, str]] = {}
    rows = zip(structure.residues, structure.polymer.tolist(), strict=True)
    for residue in dict.fromkeys(r for r, polymer in rows if polymer):
        found.setdefault(residue.chain, {})[residue.number] = residue.name
    return found
