"""Finished rows on disk, so that a run that was cut off goes on where it was.

A journal is a text file with one JSON value a line: what is scored and how, then a row each. It
stands beside the output for as long as the run lasts. A line that was torn by the end of a process
is cut off when the journal is continued.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from diffcore.errors import OutputError
from molgen.evaluate.rows import Plan, Row

VERSION = 1

PREFIX_BYTES = 1 << 20
"""So much of the beginning of a file is compared."""


def journal_path(output: Path) -> Path:
    """Where the journal of an output stands."""
    return output.with_name(f"{output.name}.rows")


def identity(path: Path, plan: Plan, reference: str, sample: int | None) -> dict[str, Any]:
    """What must be the same for a run to go on; another place or name of the file may differ."""
    with path.open("rb") as file:
        beginning = hashlib.sha256(file.read(PREFIX_BYTES)).hexdigest()
    return {
        "journal": VERSION,
        "bytes of the input": path.stat().st_size,
        "beginning of the input": beginning,
        "reference": reference,
        "metrics included": list(plan.include),
        "sample": sample,
        "columns": list(plan.metrics),
        **_place(plan),
    }


def _place(plan: Plan) -> dict[str, Any]:
    """What poses are judged in, where they are."""
    if plan.pocket is None:
        return {}
    atoms = "\n".join(plan.pocket.structure.lines)
    return {
        "protein": hashlib.sha256(atoms.encode()).hexdigest(),
        "box": [*plan.pocket.box.centre, *plan.pocket.box.size],
    }


class Journal:
    """Context manager that keeps rows in a file, each at once.

    Args:
        path: The file.
        header: See `identity`.
        resume: Go on after the rows that are there; `rows` gives them.
        force: Start anew if the file is there.

    Raises:
        OutputError: On entering: there is a journal and neither `resume` nor `force` is given, it
            belongs to another run, or it cannot be written.
    """

    def __init__(
        self, path: Path, header: Mapping[str, Any], resume: bool = False, force: bool = False
    ) -> None:
        """See the class."""
        self.path = path
        self._header = json.loads(json.dumps(dict(header)))
        self._resume, self._force = resume, force
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        """Opens the file behind its last whole row."""
        there = self.path.exists()
        if there and not (self._resume or self._force):
            raise OutputError(
                f"{self.path} is left of an interrupted run: give --resume to go on with it or "
                "--force to start anew"
            )
        try:
            self._file = self.path.open("r+b" if there and self._resume else "wb")
            if there and self._resume:
                self._continue(self._file)
            else:
                self._write(self._header)
        except OSError as error:
            self._close()
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        except OutputError:
            self._close()
            raise
        return self

    def _continue(self, file: IO[bytes]) -> None:
        """Checks whose rows these are and cuts off what is torn."""
        first = file.readline()
        found = _parsed(first)
        if found is None:
            if first.endswith(b"\n"):
                raise OutputError(f"{self.path} is no record of an interrupted run")
            found = self._header  # torn before anything was scored
            file.seek(0)
            file.truncate()
            self._write(found)
        wrong = [key for key, value in self._header.items() if found.get(key) != value]
        if wrong:
            raise OutputError(
                f"{self.path} belongs to another run ({wrong[0]}: not the same): give --force to "
                "start anew"
            )
        end = file.tell()
        for number, line in enumerate(iter(file.readline, b"")):
            row = _parsed(line)
            if row is None or row.get("index") != number:
                break
            end += len(line)
        file.seek(end)
        file.truncate()

    def rows(self) -> Iterator[Row]:
        """The rows that were there when the file was opened, in order."""
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                row = _parsed(line)
                if row is not None:
                    yield row

    def write(self, row: Row) -> None:
        """Adds a finished row.

        Raises:
            OutputError: The disk refuses.
        """
        try:
            self._write(row)
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _write(self, value: Mapping[str, Any]) -> None:
        assert self._file is not None
        line = json.dumps(value, separators=(",", ":"), default=_plain)
        self._file.write(line.encode("ascii") + b"\n")
        self._file.flush()

    def remove(self) -> None:
        """Takes the file away: the output is there."""
        self.path.unlink(missing_ok=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the file; it stays."""
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The value of a whole line, or None."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy as plain ones."""
    return value.tolist()
