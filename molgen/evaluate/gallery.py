"""Which molecules of a scored set are worth looking at: the worst, the best, the rejected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

RANKS = {
    "xtb_energy": "GFN2-xTB relaxation energy",
    "mmff_strain": "MMFF94s strain",
}
"""Columns that tell better from worse, the one to be trusted most first; kcal/mol."""

GROUP = 12
REJECTED = 24


@dataclass(frozen=True)
class Group:
    """Molecules that are shown together.

    Attributes:
        title: What they are.
        note: By what they were chosen.
        indices: Their rows.
        column: The column that they were ranked by, or empty.
    """

    title: str
    note: str
    indices: tuple[int, ...]
    column: str = ""


def gallery(table: pd.DataFrame) -> list[Group]:
    """The groups of a row table, never an empty one; a molecule is in one group only."""
    distinct = _distinct(table)
    groups = _ranked(table.loc[distinct])
    taken = {index for group in groups for index in group.indices}
    failed = _failed_poses(table.loc[[i for i in distinct if i not in taken]])
    taken |= set(failed.indices)
    rest = [i for i in distinct if i not in taken]
    spread = Group(
        "Across the set" if groups else "Strictly valid molecules",
        f"{_some(len(rest))}, evenly spread.",
        tuple(_spread(rest)),
    )
    rejected = table.index[~table["strict_valid"]].tolist()
    bad = Group("Rejected molecules", "Some of each reason.", tuple(_by_reason(table, rejected)))
    return [group for group in (*groups, spread, failed, bad) if group.indices]


def _distinct(table: pd.DataFrame) -> list[int]:
    """Rows of the strictly valid molecules, each once."""
    rows = table[table["strict_valid"]]
    return [int(i) for i in rows.index[~rows["smiles"].duplicated()]]


def _some(available: int) -> str:
    return f"{min(GROUP, available)} of {available:,}" if available > GROUP else f"All {available}"


def rank_column(table: pd.DataFrame) -> str:
    """The column to rank by; empty if there is none with two values."""
    for column in RANKS:
        if column in table and table[column].notna().sum() > 1:
            return column
    return ""


def _ranked(rows: pd.DataFrame) -> list[Group]:
    column = rank_column(rows)
    if not column:
        return []
    values = rows[column].dropna().astype(float)
    order = [int(i) for i in values.sort_values(kind="stable").index]
    name = RANKS[column]
    if len(order) <= 2 * GROUP:
        note = f"By {name}, the most strained first."
        return [Group("Most to least strained", note, tuple(reversed(order)), column)]
    worst, best = tuple(reversed(order[-GROUP:])), tuple(order[:GROUP])
    among = f"of {len(order):,} different, strictly valid molecules"
    return [
        Group("Most strained", f"Highest {name} {among}.", worst, column),
        Group("Least strained", f"Lowest {name} {among}.", best, column),
    ]


def _failed_poses(rows: pd.DataFrame) -> Group:
    """Strictly valid molecules that PoseBusters does not accept."""
    if "pb_failed" not in rows:
        return Group("", "", ())
    failed = rows[rows["pb_failed"].fillna("").astype(str) != ""]
    note = f"{_some(len(failed))}: strictly valid, and not shown above."
    return Group("Not accepted by PoseBusters", note, tuple(int(i) for i in failed.index[:GROUP]))


def _spread(indices: list[int]) -> list[int]:
    if len(indices) <= GROUP:
        return indices
    return [indices[i] for i in np.linspace(0, len(indices) - 1, GROUP).round().astype(int)]


def _by_reason(table: pd.DataFrame, indices: Iterable[int]) -> list[int]:
    """The first of each kind of reason, then the second of each, and so on."""
    rows = table.loc[list(indices)]
    kinds = rows["reason"].str.split(":", n=1).str[0]
    turn = kinds.groupby(kinds).cumcount()
    order = sorted(rows.index, key=lambda i: (turn[i], i))[:REJECTED]
    return [int(i) for i in sorted(order, key=lambda i: (kinds[i], i))]
