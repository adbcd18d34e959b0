"""Reading and writing molecule files, one record at a time.

Readers never stop at a broken entry: it becomes an `Entry` without a molecule and with a reason.
Nothing is sanitised or repaired while reading (the evaluators judge what is in the file), with one
exception: the hydrogens that a SMILES string implies are part of that notation and are made
explicit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem

from diffcore.errors import ConfigError, DataError
from molgen.records import PARSERS, READABLE, Format, Record, open_text, to_binary
from molgen.writer import WRITABLE, MoleculeWriter, count_complete

__all__ = [
    "WRITABLE",
    "Entry",
    "MoleculeWriter",
    "Record",
    "count_complete",
    "count_records",
    "is_readable",
    "parse",
    "read_molecules",
    "read_records",
    "to_binary",
]


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
        DataError: The file is missing, empty, unreadable, or not of the format that its name says.
    """
    return map(parse, read_records(path))


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of a molecule file as text, so that another process can parse them.

    Raises:
        ConfigError: Unknown file suffix.
        DataError: See `read_molecules`.
    """
    path = Path(path)
    form = _format(path)
    head = _head(path)
    if not head.strip():
        raise DataError(f"{path} is empty: expected at least one molecule")
    wrong = form.wrong(head)
    if wrong:
        raise DataError(f"{path} is not {form.name} file: {wrong}")
    return form.records(path)


def parse(record: Record) -> Entry:
    """The molecule of a record, or the reason why there is none; never raises."""
    if record.reason:
        return Entry(record.number, record.name, None, record.reason)
    mol, reason = PARSERS[record.kind](record.text)
    if mol is not None and record.kind in ("smi", "xyz"):
        mol.SetProp("_Name", record.name)
    return Entry(record.number, record.name, mol, reason)


def count_records(path: str | Path) -> int:
    """Records of a file that `read_records` accepts, counted without parsing them."""
    path = Path(path)
    return sum(1 for _ in _format(path).records(path))


def is_readable(path: Path) -> bool:
    """Whether the name of a file ends like that of a molecule file."""
    return _suffix(path) in READABLE


def _format(path: Path) -> Format:
    suffix = _suffix(path)
    if suffix not in READABLE:
        known = ", ".join(READABLE)
        raise ConfigError(f"cannot read {path.name!r}: expected a suffix of {known} (or with .gz)")
    return READABLE[suffix]


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _head(path: Path) -> str:
    if not path.exists():
        raise DataError(f"no such file: {path}")
    if not path.is_file():
        raise DataError(f"not a file: {path}")
    text: list[str] = []
    try:
        with open_text(path) as file:
            text.extend(islice(iter(lambda: file.readline(1000), ""), 5000))
    except (EOFError, zlib.error):  # a torn .gz: what is there is read
        pass
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return "".join(text)
