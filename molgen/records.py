"""Molecule files cut into records, and records parsed: what `molgen.io` reads with.

Nothing is sanitised or repaired. A record that cannot be cut out or parsed gives a reason.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

MAX_RECORD_CHARACTERS = 8_000_000
"""A longer SDF record is reported as broken instead of being held in memory."""

NO_WORD = "unknown reason"

MAX_LINE = 1_000_000
"""Characters of a line that are read at a time: a file without line ends is not held in memory."""

MAX_XYZ_ATOMS = 500
"""Bonds are not perceived for larger XYZ frames: the search could take hours."""

MAX_BOND_ORDER_ITERATIONS = 20_000
"""Bound on the bond-order search of one XYZ frame."""


class Record(NamedTuple):
    """One record as it stands in a file: text that nothing has parsed yet.

    Attributes:
        number: Position in the file, counted from 0.
        name: Title of the record, possibly empty.
        kind: The format: "sdf", "smi" or "xyz"; "binary" or "bare": see `to_binary`.
        text: The record; empty where it could not even be cut out of the file.
        reason: Why `text` is empty.
    """

    number: int
    name: str
    kind: str
    text: str | bytes
    reason: str = ""


def open_text(path: Path) -> IO[str]:
    """A file as text, unpacked where it ends in .gz; bytes that are no text are replaced."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _lines(path: Path) -> Iterator[str]:
    """Lines without their ends; a torn .gz ends the file instead of raising."""
    with open_text(path) as file:
        try:
            for line in iter(lambda: file.readline(MAX_LINE), ""):
                yield line.rstrip("\r\n")
        except (OSError, EOFError, zlib.error):
            return


def _first_message(messages: str, default: str) -> str:
    """First line of an RDKit log, without its time stamp."""
    for line in messages.splitlines():
        text = re.sub(r"^\[\d\d:\d\d:\d\d\]\s*(ERROR:\s*)?", "", line).strip(" *\t")
        if text and not set(text) <= set("*- "):
            return text
    return default


@cache
def _symbols() -> frozenset[str]:
    table = Chem.GetPeriodicTable()
    return frozenset(table.GetElementSymbol(number) for number in range(1, 119))


def _unknown_element(symbols: Iterable[str]) -> str:
    """What to say of the first symbol that is no element; empty if all are."""
    wrong = next((one for one in symbols if one not in _symbols()), None)
    return "" if wrong is None else f"unknown element {wrong[:20]!r}"


# ---------------------------------------------------------------------------------------- SDF


def _not_sdf(head: str) -> str:
    found = re.search(r"V[23]000|^M  END|^\$\$\$\$", head, re.MULTILINE)
    return "" if found else "no V2000 or V3000 record near its start"


def _sdf_records(path: Path) -> Iterator[Record]:
    """Every record; the text of an oversized one is not kept."""
    number, size, oversized = 0, 0, False
    lines: list[str] = []

    def record() -> Record:
        name = lines[0].strip() if lines else ""
        if oversized:
            reason = f"record longer than {MAX_RECORD_CHARACTERS} characters"
            return Record(number, name[:200], "sdf", "", reason)
        return Record(number, name, "sdf", "\n".join(lines) + "\n")

    for line in _lines(path):
        if line.startswith("$$$$"):
            yield record()
            number, lines, size, oversized = number + 1, [], 0, False
            continue
        size += len(line) + 1
        if size > MAX_RECORD_CHARACTERS:
            oversized = True
            del lines[1:]
        else:
            lines.append(line)
    if oversized or any(line.strip() for line in lines):  # a .mol file, or a torn last record
        yield record()


def _parse_sdf(text: str) -> tuple[Chem.Mol | None, str]:
    if not re.search(r"^M  END", text, re.MULTILINE):
        return None, "truncated record: no 'M  END' line"
    supplier = Chem.SDMolSupplier()
    mol, said = None, ""
    with rdBase.CaptureErrorLog() as log:
        try:
            supplier.SetData(text + "$$$$\n", sanitize=False, removeHs=False)
            mol = supplier[0]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            said = str(error)
    if mol is None:
        element = re.search(r"Element '(.*?)' not found", f"{log.messages}{said}")
        detail = _unknown_element([element[1]]) if element else ""
        return None, f"unreadable record: {detail or _first_message(said or log.messages, NO_WORD)}"
    return mol, ""


# ------------------------------------------------------------------------------------- SMILES


def _not_smi(head: str) -> str:
    if "\0" in head:
        return "it holds binary data"
    return "it looks like HTML or XML" if head.lstrip().startswith("<") else ""


def _smi_records(path: Path) -> Iterator[Record]:
    index = 0
    for number, line in enumerate(_lines(path)):
        fields = line.strip().split(maxsplit=1)
        if not fields or (number == 0 and fields[0].lower() == "smiles"):
            continue
        yield Record(index, fields[1] if len(fields) > 1 else "", "smi", fields[0])
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


def _not_xyz(head: str) -> str:
    first = head.split("\n", 1)[0] if head.split("\n", 1)[0].strip() else head.split()[0]
    try:
        int(first)
    except ValueError:
        return f"expected the number of atoms in its first line, got {first.strip()[:40]!r}"
    return ""


def _xyz_records(path: Path) -> Iterator[Record]:
    lines = _lines(path)
    index = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            n_atoms = int(line)
        except ValueError:
            reason = f"expected the number of atoms of a frame, got {line[:40]!r}"
            yield Record(index, "", "xyz", "", reason)  # frames cannot be found again after this
            return
        comment = next(lines, "").strip()
        name, charge = _xyz_comment(comment)
        yield _xyz_frame(index, name, n_atoms, charge, lines)
        index += 1


def _xyz_frame(number: int, name: str, n_atoms: int, charge: int, lines: Iterator[str]) -> Record:
    """One frame, cut out of the lines and checked for its elements."""
    rows: list[str] = []
    found = 0
    for found, row in enumerate(islice(lines, max(n_atoms, 0)), start=1):
        if found <= MAX_XYZ_ATOMS:
            rows.append(row)
    if n_atoms < 1 or found < n_atoms:
        reason = f"truncated frame: {n_atoms} atoms announced, {found} found"
    elif n_atoms > MAX_XYZ_ATOMS:
        reason = f"{n_atoms} atoms: bonds are perceived for at most {MAX_XYZ_ATOMS}"
    else:
        reason = _unknown_element((row.split() or [""])[0] for row in rows)
    text = "" if reason else "\n".join(chain([str(n_atoms), f"charge={charge}"], rows)) + "\n"
    return Record(number, name, "xyz", text, reason)


def _xyz_comment(comment: str) -> tuple[str, int]:
    match = re.search(r"(?:^|\s)charge=([+-]?\d+)", comment)
    name = re.sub(r"\s*\b(charge|smiles)=\S*", "", comment).strip()
    return name, int(match.group(1)) if match else 0


def _parse_xyz(block: str) -> tuple[Chem.Mol | None, str]:
    _, charge = _xyz_comment(block.split("\n", 2)[1])
    with rdBase.CaptureErrorLog() as log:
        try:
            mol = Chem.MolFromXYZBlock(block)
            if mol is None:
                return None, f"unreadable frame: {_first_message(log.messages, NO_WORD)}"
            rdDetermineBonds.DetermineBonds(
                mol,
                charge=charge,
                useVdw=True,
                covFactor=1.15,
                embedChiral=False,
                maxIterations=MAX_BOND_ORDER_ITERATIONS,
            )
        except (RuntimeError, ValueError) as error:
            return None, f"bonds could not be perceived: {_first_message(str(error), NO_WORD)}"
    return mol, ""


class Format(NamedTuple):
    """How one file format is recognised and cut into records."""

    name: str  # with its article
    wrong: Callable[[str], str]  # what is wrong with the beginning of a file; empty if nothing
    records: Callable[[Path], Iterator[Record]]


_SDF = Format("an SDF", _not_sdf, _sdf_records)
_SMI = Format("a SMILES", _not_smi, _smi_records)
_XYZ = Format("an XYZ", _not_xyz, _xyz_records)

READABLE = {".sdf": _SDF, ".mol": _SDF, ".smi": _SMI, ".smiles": _SMI, ".xyz": _XYZ}
"""File suffix -> format."""


def to_binary(number: int, name: str, mol: Chem.Mol) -> Record:
    """A molecule in RDKit's own form, equal to the last bit when it is parsed again."""
    options = Chem.PropertyPickleOptions
    data = mol.ToBinary(int(options.AllProps) | int(options.CoordsAsDouble))
    return Record(number, name, "bare" if mol.NeedsUpdatePropertyCache() else "binary", data)


def _from_binary(data: Any) -> tuple[Chem.Mol | None, str]:
    return Chem.Mol(data), ""


def _from_bare(data: Any) -> tuple[Chem.Mol | None, str]:
    mol = Chem.Mol(data)
    mol.ClearPropertyCache()  # reading has computed valences, which kekulisation would heed
    return mol, ""


PARSERS: dict[str, Callable[[Any], tuple[Chem.Mol | None, str]]] = {
    "sdf": _parse_sdf,
    "smi": _parse_smiles,
    "xyz": _parse_xyz,
    "binary": _from_binary,
    "bare": _from_bare,
}
"""Kind of record -> (molecule, reason why there is none) of its text."""
