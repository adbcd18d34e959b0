"""A CSV table whose rows are on disk as soon as they are known, so that a long run can go on."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError, OutputError

Row = dict[str, Any]


class StreamedTable:
    """A CSV file in which every row is on disk at once; to be used as a context.

    Args:
        path: of the file.
        columns: their names; a row may lack some.
        append: go on with the file as it is; see `finished`.

    Raises:
        OutputError: on entering: it cannot be written.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, append: bool = False) -> None:
        self.path, self.columns, self.append = path, columns, append

    def __enter__(self) -> StreamedTable:
        """Open the file, and write the header of a new one."""
        try:
            self.file = self.path.open("a" if self.append else "w", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.writer = csv.DictWriter(self.file, self.columns, restval="", lineterminator="\n")
        if not self.append:
            self.writer.writeheader()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.file.close()

    def write(self, row: Row) -> Row:
        """Append a row; it comes back."""
        self.writer.writerow(row)
        self.file.flush()
        return row


def check_output(path: Path, *, resume: bool, force: bool) -> None:
    """Refuse what could not be written, or would overwrite something.

    Raises:
        ConfigError: it is no .csv file, or both options were given.
        OutputError: it exists and neither was.
    """
    if path.suffix.lower() != ".csv":
        raise ConfigError(f"--output: expected a .csv file, got {path}")
    if resume and force:
        raise ConfigError("--resume continues a run and --force starts anew: give one of them")
    if path.exists() and not (resume or force):
        raise OutputError(f"{path} exists: expected --resume to go on or --force to overwrite it")


def finished(path: Path, same: Mapping[str, object], columns: Sequence[str]) -> list[Row]:
    """Rows of an interrupted run; a torn last line is cut off.

    Args:
        path: of the table, which need not exist.
        same: columns whose values the run that goes on would write.
        columns: that the table should have.

    Raises:
        ConfigError: the table has other columns, or was made with other settings.
    """
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        path.write_bytes(whole)
    with closing(path.open(newline="", encoding="utf-8")) as file:
        table = csv.DictReader(file)
        rows: list[Row] = [dict(row) for row in table]
        if rows and list(table.fieldnames or ()) != list(columns):
            raise ConfigError(f"--resume: {path} has other columns than this run would write")
    for row in rows:
        for name, value in same.items():
            if str(row.get(name)) != str(value):
                raise ConfigError(
                    f"--resume: {path} was made with {name} {row.get(name)}, expected {value}"
                )
    return rows
