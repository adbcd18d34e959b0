"""Rows become a table, and each is marked as unique and novel among those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from molgen.datasets.reference import smiles_hash
from molgen.evaluate.rows import Row

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference


class Rows:
    """Collects rows, column by column: a tenth of the memory of as many dictionaries.

    Args:
        reference: What novelty is judged against.

    Attributes:
        count: Rows so far.
    """

    def __init__(self, reference: Reference | None) -> None:
        """See the class."""
        self.reference = reference
        self.count = 0
        self._seen: set[int] = set()
        self._columns: dict[str, list[Any]] = {}

    def add(self, row: Row) -> Row:
        """Takes the next row, whole or fresh, and returns it with its marks.

        `unique`: the first strictly valid row with its SMILES. `novel`: not in the reference. Both
        are None where the molecule is not strictly valid.
        """
        unique, novel = None, None
        if row["strict_valid"]:
            code = smiles_hash(row["smiles"])
            unique = code not in self._seen
            self._seen.add(code)
            if self.reference is not None:
                novel = not bool(self.reference.contains([row["smiles"]])[0])
        row = {**row, "unique": unique, "novel": novel}
        if not self._columns:
            self._columns = {key: [] for key in row}
        for key, values in self._columns.items():
            values.append(row[key])
        self.count += 1
        return row

    def table(self) -> pd.DataFrame:
        """One row a molecule; `reason` follows `strict_valid`, `error` is last."""
        table = pd.DataFrame(self._columns)
        table["strict_valid"] = table["strict_valid"].astype(bool)
        for mark in ("unique", "novel"):
            table[mark] = table[mark].astype("boolean")
        columns = [c for c in table.columns if c not in ("reason", "error")]
        place = columns.index("strict_valid") + 1
        return table[[*columns[:place], "reason", *columns[place:], "error"]]
