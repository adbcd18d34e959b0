"""Writing molecules record by record: whatever stops the run, the file holds whole records."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors

from diffcore.errors import ConfigError, DataError, OutputError

CSV_COLUMNS = ("name", "smiles", "formula", "charge", "n_atoms")
"""First columns of a .csv; the properties of its first molecule follow."""


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _name(mol: Chem.Mol) -> str:
    return _one_line(mol.GetProp("_Name")) if mol.HasProp("_Name") else ""


def _smiles(mol: Chem.Mol) -> str:
    """Canonical SMILES with stereo marks, hydrogens implicit; as it stands if RDKit refuses it."""
    with rdBase.BlockLogs():
        try:
            clean = Chem.Mol(mol)
            Chem.SanitizeMol(clean)
            if clean.GetNumConformers() and clean.GetConformer().Is3D():
                Chem.AssignStereochemistryFrom3D(clean)
            return str(Chem.MolToSmiles(Chem.RemoveHs(clean)))
        except (ValueError, RuntimeError):
            return str(Chem.MolToSmiles(mol))


def _properties(mol: Chem.Mol) -> dict[str, str]:
    """Public properties as text; what would break a record is replaced."""
    values = mol.GetPropsAsDict(includePrivate=False, includeComputed=False)
    return {_one_line(key): _one_line(str(value)) for key, value in values.items()}


def _sdf_record(mol: Chem.Mol, keys: tuple[str, ...] | None) -> str:
    copy = Chem.Mol(mol)
    with rdBase.BlockLogs():
        if any(bond.GetIsAromatic() for bond in copy.GetBonds()):
            try:
                Chem.Kekulize(copy, clearAromaticFlags=True)
            except (ValueError, RuntimeError):
                copy = Chem.Mol(mol)
        copy.UpdatePropertyCache(strict=False)
        copy.SetProp("_Name", _name(mol).replace("$$$$", ""))
        text = [str(Chem.MolToMolBlock(copy, kekulize=False))]
    for key, value in _properties(mol).items():
        text.append(f">  <{key.replace('>', '_')}>\n{value.replace('$$$$', '').strip()}\n\n")
    return "".join(text) + "$$$$\n"


def _smi_record(mol: Chem.Mol, keys: tuple[str, ...] | None) -> str:
    return f"{_smiles(mol)} {_name(mol)}".rstrip() + "\n"


def _csv_row(values: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _csv_record(mol: Chem.Mol, keys: tuple[str, ...] | None) -> str:
    copy = Chem.Mol(mol)
    copy.UpdatePropertyCache(strict=False)
    values = _properties(mol) | {
        "name": _name(mol),
        "smiles": _smiles(mol),
        "formula": rdMolDescriptors.CalcMolFormula(copy),
        "charge": str(Chem.GetFormalCharge(mol)),
        "n_atoms": str(mol.GetNumAtoms()),
    }
    return _csv_row([values.get(key, "") for key in keys or CSV_COLUMNS])


def _xyz_record(mol: Chem.Mol, keys: tuple[str, ...] | None) -> str:
    if mol.GetNumConformers() == 0:
        raise DataError(f"molecule {_name(mol) or _smiles(mol)!r} has no coordinates for .xyz")
    positions = mol.GetConformer().GetPositions()
    comment = f"{_name(mol)} charge={Chem.GetFormalCharge(mol)} smiles={_smiles(mol)}".strip()
    rows = [
        f"{atom.GetSymbol():<2} {x:14.6f} {y:14.6f} {z:14.6f}"
        for atom, (x, y, z) in zip(mol.GetAtoms(), positions, strict=True)
    ]
    return "\n".join([str(len(rows)), comment, *rows]) + "\n"


# --------------------------------------------------------- where the last whole record ends


def _end_of_lines(file: IO[bytes], header: int) -> tuple[int, int]:
    """(whole records, byte offset after the last one) of a file with one record a line."""
    count, end = -header, 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        count += 1
        end += len(line)
    return max(count, 0), end


def _end_of_smi(file: IO[bytes]) -> tuple[int, int]:
    return _end_of_lines(file, header=0)


def _end_of_csv(file: IO[bytes]) -> tuple[int, int]:
    return _end_of_lines(file, header=1)


def _end_of_sdf(file: IO[bytes]) -> tuple[int, int]:
    count, end, position = 0, 0, 0
    for line in file:
        position += len(line)
        if line.rstrip(b"\r\n") == b"$$$$" and line.endswith(b"\n"):
            count, end = count + 1, position
    return count, end


def _end_of_xyz(file: IO[bytes]) -> tuple[int, int]:
    count, end, position = 0, 0, 0
    while True:
        line = file.readline()
        if not line.strip().isdigit():
            return count, end
        frame = [line, *(file.readline() for _ in range(int(line) + 1))]
        if not all(row.endswith(b"\n") for row in frame):
            return count, end
        position += sum(map(len, frame))
        count, end = count + 1, position


class Format(NamedTuple):
    """How one file format is written and how its last whole record is found."""

    record: Callable[[Chem.Mol, tuple[str, ...] | None], str]
    end: Callable[[IO[bytes]], tuple[int, int]]


WRITABLE: dict[str, Format] = {
    ".sdf": Format(_sdf_record, _end_of_sdf),
    ".smi": Format(_smi_record, _end_of_smi),
    ".csv": Format(_csv_record, _end_of_csv),
    ".xyz": Format(_xyz_record, _end_of_xyz),
}
"""File suffix -> format."""


def _format(path: Path) -> Format:
    if path.suffix.lower() not in WRITABLE:
        known = ", ".join(WRITABLE)
        raise ConfigError(f"cannot write {path.name!r}: expected a file name ending in {known}")
    return WRITABLE[path.suffix.lower()]


def count_complete(path: str | Path) -> int:
    """Number of whole records in a file that `MoleculeWriter` wrote; 0 if there is none.

    Raises:
        ConfigError: Unknown file suffix.
    """
    path = Path(path)
    written = _format(path)
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return written.end(file)[0]


class MoleculeWriter:
    """Context manager that writes molecules to .sdf, .smi, .csv or .xyz, each at once on disk.

    An interrupted run leaves only whole records. A new file in which nothing was written when an
    error came is removed; an old file is overwritten only when the first record is there.

    Args:
        path: Output file; its suffix chooses the format.
        force: Overwrite an existing file.
        append: Continue an existing file after its last whole record (a torn one is cut off).

    Raises:
        ConfigError: Unknown file suffix.
        OutputError: On entering: the file exists and neither `force` nor `append` is given, or
            it cannot be written.

    Attributes:
        count: Whole records in the file so far, those found by `append` included.
    """

    def __init__(self, path: str | Path, force: bool = False, append: bool = False) -> None:
        """See the class."""
        self.path = Path(path)
        self.count = 0
        self._force, self._append = force, append
        self._written = _format(self.path)
        self._file: IO[bytes] | None = None
        self._end = 0  # bytes of whole records
        self._created = False  # by this writer
        self._stale = False  # an old content is still to be cut off
        self._keys: tuple[str, ...] | None = None

    def __enter__(self) -> MoleculeWriter:
        """Opens the file."""
        exists = self.path.exists()
        if exists and not (self._force or self._append):
            raise OutputError(f"{self.path} exists: give force (--force) to overwrite it")
        try:
            self._file = self.path.open("r+b" if exists else "xb", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self._created = not exists
        self._stale = exists and not self._append
        if exists and self._append:
            self._continue()
        return self

    def _continue(self) -> None:
        assert self._file is not None
        with self.path.open("rb") as file:
            self.count, self._end = self._written.end(file)
            size = file.seek(0, 2)
            file.seek(0)
            header = file.readline() if self._end else b""
        if size and not self._end:
            self._file.close()
            raise OutputError(f"{self.path} holds no whole record to continue after; use --force")
        if header and self.path.suffix.lower() == ".csv":
            self._keys = tuple(next(csv.reader([header.decode("utf-8")])))
        self._file.truncate(self._end)
        self._file.seek(self._end)

    def write(self, mol: Chem.Mol) -> None:
        """Writes one molecule, which is not changed.

        Raises:
            DataError: The format cannot hold it (an .xyz record without coordinates).
            OutputError: The disk refuses; the file is cut back to its last whole record.
        """
        if self._file is None:
            raise OutputError("MoleculeWriter must be used in a with block")
        text = ""
        if self.path.suffix.lower() == ".csv" and self._keys is None:
            self._keys = (*CSV_COLUMNS, *(k for k in _properties(mol) if k not in CSV_COLUMNS))
            text = _csv_row(list(self._keys))
        data = (text + self._written.record(mol, self._keys)).encode("utf-8")
        try:
            if self._stale:
                self._file.truncate(0)
                self._stale = False
            written = self._file.write(data)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        if written != len(data):
            raise OutputError(f"cannot write {self.path}: the disk took {written} of {len(data)}")
        self._end += len(data)
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file, cut to whole records."""
        if self._file is None:
            return
        keep_old = self._stale and kind is not None
        if not keep_old:
            self._file.truncate(self._end)
        self._file.close()
        self._file = None
        if kind is not None and self._created and self._end == 0:
            self.path.unlink(missing_ok=True)
