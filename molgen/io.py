"""Reading and writing molecule files, one record at a time.

Readers never stop at a broken entry: it becomes an `Entry` without a molecule and with a reason.
Nothing is sanitised or repaired while reading (the evaluators judge what is in the file), with one
exception: the hydrogens that a SMILES string implies are part of that notation and are made
explicit.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from diffcore.errors import ConfigError, DataError
from molgen.writer import WRITABLE, MoleculeWriter, count_complete

__all__ = ["WRITABLE", "Entry", "MoleculeWriter", "count_complete", "read_molecules"]

MAX_RECORD_CHARACTERS = 8_000_000
"""A longer SDF record is reported as broken instead of being held in memory."""

MAX_XYZ_ATOMS = 500
"""Bonds are not perceived for larger XYZ frames: the search could take hours."""

MAX_BOND_ORDER_ITERATIONS = 20_000
"""Bound on the bond-order search of one XYZ frame."""


class Entry(NamedTuple):
    """One record of a file: a molecule, or the reason why there is none.

    Attributes:
        number: Position in the file, counted from 0.
        name: Title of the record, possibly empty.
        mol: The molecule as it stands in the file (not sanitised, hydrogens kept), or None.
        reason: Why `mol` is None; empty otherwise.
    """

    number: int
    name: str
    mol: Chem.Mol | None
    reason: str


def read_molecules(path: str | Path) -> Iterator[Entry]:
    """Reads a molecule file lazily: .sdf, .mol, .smi, .smiles or .xyz, each also with .gz.

    Args:
        path: The file. Bonds of .xyz frames are perceived from distances (in Angstrom), with the
            total charge taken from `charge=` in the comment line, else 0.

    Returns:
        An iterator of `Entry`, in the order of the file.

    Raises:
        ConfigError: Unknown file suffix.
        DataError: The file is missing, empty, unreadable, or an .sdf that is not one.
    """
    path = Path(path)
    reader = _reader(path)
    head = _head(path)
    if not head.strip():
        raise DataError(f"{path} is empty: expected at least one molecule")
    if reader is _read_sdf and not re.search(r"V[23]000|^M  END|^\$\$\$\$", head, re.MULTILINE):
        raise DataError(f"{path} is not an SDF file: no V2000 or V3000 record near its start")
    return reader(path)


def _reader(path: Path) -> Callable[[Path], Iterator[Entry]]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in READERS:
        known = ", ".join(READERS)
        raise ConfigError(f"cannot read {path.name!r}: expected a suffix of {known} (or with .gz)")
    return READERS[suffix]


def _open(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _head(path: Path) -> str:
    if not path.exists():
        raise DataError(f"no such file: {path}")
    if not path.is_file():
        raise DataError(f"not a file: {path}")
    text: list[str] = []
    try:
        with _open(path) as file:
            for line in islice(file, 5000):
                text.append(line[:1000])
    except EOFError:  # a torn .gz: what is there is read
        pass
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return "".join(text)


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends; a torn .gz ends the file instead of raising."""
    with _open(path) as file:
        try:
            for line in file:
                yield line.rstrip("\r\n")
        except (OSError, EOFError):
            return


def _first_message(messages: str, default: str) -> str:
    """First line of an RDKit log, without its time stamp."""
    for line in messages.splitlines():
        text = re.sub(r"^\[\d\d:\d\d:\d\d\]\s*(ERROR:\s*)?", "", line).strip(" *\t")
        if text and not set(text) <= set("*- "):
            return text
    return default


# ---------------------------------------------------------------------------------------- SDF


def _read_sdf(path: Path) -> Iterator[Entry]:
    for index, (name, text) in enumerate(_sdf_records(path)):
        if not text:
            yield Entry(index, name, None, f"record longer than {MAX_RECORD_CHARACTERS} characters")
            continue
        mol, reason = _parse_sdf_record(text)
        yield Entry(index, name, mol, reason)


def _sdf_records(path: Path) -> Iterator[tuple[str, str]]:
    """(title, text) of every record; the text of an oversized record is empty."""
    lines: list[str] = []
    size, oversized = 0, False
    for line in _lines(path):
        if line.startswith("$$$$"):
            yield (lines[0].strip() if lines else ""), "" if oversized else "\n".join(lines) + "\n"
            lines, size, oversized = [], 0, False
            continue
        size += len(line) + 1
        if size > MAX_RECORD_CHARACTERS:
            oversized = True
            del lines[1:]
        else:
            lines.append(line)
    if oversized or any(line.strip() for line in lines):  # a .mol file, or a torn last record
        yield lines[0].strip(), "" if oversized else "\n".join(lines) + "\n"


def _parse_sdf_record(text: str) -> tuple[Chem.Mol | None, str]:
    if not re.search(r"^M  END", text, re.MULTILINE):
        return None, "truncated record: no 'M  END' line"
    supplier = Chem.SDMolSupplier()
    mol = None
    with rdBase.CaptureErrorLog() as log:
        try:
            supplier.SetData(text + "$$$$\n", sanitize=False, removeHs=False)
            mol = supplier[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            return None, f"unreadable record: {_first_message(str(error), 'unknown reason')}"
    if mol is None:
        return None, f"unreadable record: {_first_message(log.messages, 'unknown reason')}"
    return mol, ""


# ------------------------------------------------------------------------------------- SMILES


def _read_smi(path: Path) -> Iterator[Entry]:
    index = 0
    for number, line in enumerate(_lines(path)):
        fields = line.strip().split(maxsplit=1)
        if not fields or (number == 0 and fields[0].lower() == "smiles"):
            continue
        name = fields[1] if len(fields) > 1 else ""
        mol, reason = _parse_smiles(fields[0])
        if mol is not None:
            mol.SetProp("_Name", name)
        yield Entry(index, name, mol, reason)
        index += 1


def _parse_smiles(smiles: str) -> tuple[Chem.Mol | None, str]:
    with rdBase.CaptureErrorLog() as log:
        raw = Chem.MolFromSmiles(smiles, sanitize=False)
        if raw is None:
            detail = _first_message(log.messages, smiles[:60])
            return None, f"unreadable SMILES: {detail}"
        mol = Chem.MolFromSmiles(smiles)
    return (raw if mol is None else Chem.AddHs(mol)), ""


# ---------------------------------------------------------------------------------------- XYZ


def _read_xyz(path: Path) -> Iterator[Entry]:
    lines = _lines(path)
    index = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            n_atoms = int(line)
        except ValueError:
            reason = f"expected the number of atoms of a frame, got {line[:40]!r}"
            yield Entry(index, "", None, reason)  # frames cannot be found again after this
            return
        comment = next(lines, "").strip()
        rows = [row for _, row in zip(range(max(n_atoms, 0)), lines, strict=False)]
        name, charge = _xyz_comment(comment)
        mol, reason = _parse_xyz(n_atoms, rows, charge)
        if mol is not None:
            mol.SetProp("_Name", name)
        yield Entry(index, name, mol, reason)
        index += 1


def _xyz_comment(comment: str) -> tuple[str, int]:
    match = re.search(r"(?:^|\s)charge=([+-]?\d+)", comment)
    name = re.sub(r"\s*\b(charge|smiles)=\S*", "", comment).strip()
    return name, int(match.group(1)) if match else 0


def _parse_xyz(n_atoms: int, rows: list[str], charge: int) -> tuple[Chem.Mol | None, str]:
    if n_atoms < 1 or len(rows) < n_atoms:
        return None, f"truncated frame: {n_atoms} atoms announced, {len(rows)} found"
    if n_atoms > MAX_XYZ_ATOMS:
        return None, f"{n_atoms} atoms: bonds are perceived for at most {MAX_XYZ_ATOMS}"
    block = "\n".join(chain([str(n_atoms), ""], rows)) + "\n"
    with rdBase.CaptureErrorLog() as log:
        try:
            mol = Chem.MolFromXYZBlock(block)
            if mol is None:
                detail = _first_message(log.messages, "unknown reason")
                return None, f"unreadable frame: {detail}"
            rdDetermineBonds.DetermineBonds(
                mol,
                charge=charge,
                useVdw=True,
                covFactor=1.15,
                embedChiral=False,
                maxIterations=MAX_BOND_ORDER_ITERATIONS,
            )
        except (RuntimeError, ValueError) as error:
            detail = _first_message(str(error), "unknown reason")
            return None, f"bonds could not be perceived: {detail}"
    return mol, ""


READERS: dict[str, Callable[[Path], Iterator[Entry]]] = {
    ".sdf": _read_sdf,
    ".mol": _read_sdf,
    ".smi": _read_smi,
    ".smiles": _read_smi,
    ".xyz": _read_xyz,
}
"""File suffix -> reader."""
