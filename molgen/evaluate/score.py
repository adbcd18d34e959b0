"""`evaluate`: a row a molecule, a summary a set; a failure costs one row, never the batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError, DataError, OutputError
from molgen.evaluate.prepared import Prepared
from molgen.evaluate.table import METRICS, Metric
from molgen.evaluate.validity import reason as strict_reason
from molgen.io import Entry

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

SUBSETS = 5
"""The summary's deviation is over so many interleaved subsets."""

SUMMARY_COLUMNS = ("metric", "value", "std", "n", "unit", "family", "definition")


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        table: One row a molecule, in the order given: index, name, the columns of `METRICS` that
            have a row function, reason (first strict check failed), unique (first occurrence of a
            valid molecule), novel, error (what went wrong while scoring).
        summary: One row a metric: metric, value, std (over 5 interleaved subsets, each scored as
            a set of its own), n (molecules or atoms counted), unit, family, definition.
        reference: What the set was judged against, if anything.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    reference: Reference | None = field(default=None, repr=False)

    def value(self, metric: str) -> float:
        """A value of the summary by name.

        Raises:
            ConfigError: No such metric.
        """
        found = self.summary.loc[self.summary["metric"] == metric, "value"]
        if found.empty:
            known = ", ".join(self.summary["metric"])
            raise ConfigError(f"no metric {metric!r} in the summary: expected one of {known}")
        return float(found.iloc[0])

    def reasons(self) -> dict[str, int]:
        """Kinds of failure (the part of `reason` before the colon) and how often each came."""
        failed = self.table.loc[~self.table["strict_valid"], "reason"]
        kinds = failed.str.split(":", n=1).str[0]
        return {str(kind): int(count) for kind, count in kinds.value_counts().items()}

    def to_csv(self, path: str | Path, force: bool = False) -> None:
        """Writes the rows as CSV.

        Raises:
            OutputError: The file exists and `force` is not given, or it cannot be written.
        """
        path = Path(path)
        try:
            with path.open("w" if force else "x", encoding="utf-8", newline="") as file:
                self.table.to_csv(file, index=False)
        except FileExistsError as error:
            raise OutputError(f"{path} exists: give force (--force) to overwrite it") from error
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error

    def text(self) -> str:
        """The summary as lines of text for a terminal."""
        lines = [f"{len(self.table)} molecules"]
        for row in self.summary.itertuples():
            spread = "" if math.isnan(row.std) else f" +- {row.std:.2f}"
            value = "-" if math.isnan(row.value) else f"{row.value:.2f}{spread} {row.unit}"
            mark = " (legacy)" if row.family == "legacy" else ""
            lines.append(f"{row.metric:<32} {value:<20} n={row.n}{mark}")
        reasons = ", ".join(f"{kind} {count}" for kind, count in self.reasons().items())
        return "\n".join([*lines, f"not strictly valid: {reasons or 'none'}"])

    def _repr_html_(self) -> str:
        shown = self.summary.copy()
        for column in ("value", "std"):
            shown[column] = [("–" if math.isnan(x) else f"{x:.2f}") for x in shown[column]]
        title = f"<p><b>{len(self.table)} molecules</b>, summary (rows: <code>.table</code>)</p>"
        return title + str(shown.to_html(index=False, border=0))


def evaluate(
    mols: Iterable[Chem.Mol | Entry | None],
    reference: str | Reference | None = "qm9",
    *,
    run: Mapping[str, float] | None = None,
    progress: bool = True,
) -> Evaluation:
    """Scores molecules by every metric of `METRICS`; nothing given is changed.

    Args:
        mols: Molecules (sanitised or not, None for one that could not be made) or entries of
            `molgen.io.read_molecules`; consumed one by one.
        reference: Name of a shipped reference, a `Reference`, or None to judge without: then
            valencies are RDKit's and stability and novelty stay empty.
        run: Costs to add to the summary: `seconds` (wall time to make all of them) and
            `evaluations` (network evaluations a molecule).
        progress: Show a bar when it takes more than two seconds.

    Returns:
        The row table and the summary.

    Raises:
        ConfigError: `mols` is one molecule, or the reference is unknown.
        DataError: No molecules.
    """
    if isinstance(mols, Chem.Mol | str) or not isinstance(mols, Iterable):
        raise ConfigError(f"expected a list of molecules, got {type(mols).__name__}")
    known = _reference(reference)
    valencies = None if known is None else known.valency
    rows = [_row(i, item, valencies) for i, item in enumerate(_with_bar(mols, progress))]
    if not rows:
        raise DataError("no molecules to evaluate: expected at least one, got an empty list")
    table = _table(rows, known)
    with rdBase.BlockLogs():
        return Evaluation(table, _summary(table, run or {}), known)


def _reference(reference: str | Reference | None) -> Reference | None:
    if not isinstance(reference, str):
        return reference
    from molgen.datasets.reference import load_reference

    return load_reference(reference)


def _with_bar(mols: Iterable[Any], progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    bar = tqdm(
        mols,
        desc="scoring",
        unit="mol",
        delay=2.0,
        mininterval=0.5,
        disable=not progress,
        leave=False,
    )
    return iter(bar)


def _row(index: int, item: Chem.Mol | Entry | None, valencies: Any) -> dict[str, Any]:
    """The columns of one molecule; whatever goes wrong is in `error`."""
    name, why = "", "no molecule"
    mol: Any = item
    if isinstance(item, Entry):
        name, mol, why = item.name, item.mol, item.reason or why
    row: dict[str, Any] = {"index": index, "name": name}
    columns = {key: metric for key, metric in METRICS.items() if metric.row is not None}
    row |= {key: metric.failed for key, metric in columns.items()}
    if not isinstance(mol, Chem.Mol):
        error = why if mol is None else f"expected an rdkit Mol, got {type(mol).__name__}"
        return row | {"reason": why if mol is None else "no molecule", "error": error}
    errors: list[str] = []
    with rdBase.BlockLogs():
        prepared = Prepared(mol, valencies)
        row["name"] = name or (mol.GetProp("_Name") if mol.HasProp("_Name") else "")
        row["reason"] = _measure("reason", strict_reason, prepared, errors) or ""
        for key, metric in columns.items():
            value = _measure(key, metric.row, prepared, errors)
            row[key] = metric.failed if value is None and errors else value
    if errors and not row["strict_valid"] and not row["reason"]:
        row["reason"] = "scoring failed"
    return row | {"error": "; ".join(errors)}


def _measure(name: str, function: Any, prepared: Prepared, errors: list[str]) -> Any:
    try:
        return function(prepared)
    except Exception as error:  # a hostile molecule must cost one cell, not the batch
        lines = str(error).strip().splitlines() or [""]
        errors.append(f"{name}: {type(error).__name__}: {lines[0]}")
        return None


def _table(rows: list[dict[str, Any]], reference: Reference | None) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table["strict_valid"] = table["strict_valid"].astype(bool)
    valid = table["strict_valid"]
    unique = pd.Series(pd.NA, index=table.index, dtype="boolean")
    unique[valid] = ~table.loc[valid, "smiles"].duplicated()
    novel = pd.Series(pd.NA, index=table.index, dtype="boolean")
    if reference is not None:
        novel[valid] = ~reference.contains(table.loc[valid, "smiles"].tolist())
    table["unique"], table["novel"] = unique, novel
    columns = [c for c in table.columns if c not in ("reason", "error")]
    place = columns.index("strict_valid") + 1
    return table[[*columns[:place], "reason", *columns[place:], "error"]]


def _summary(table: pd.DataFrame, run: Mapping[str, float]) -> pd.DataFrame:
    rows = []
    for name, metric in METRICS.items():
        if metric.whole is not None:
            value, n = metric.whole(table)
            std = _deviation(table, metric)
            scale = 100 if metric.unit == "%" else 1
            rows.append((name, value * scale, std * scale, n, *_labels(metric)))
    order = {"strict": 0, "description": 1, "legacy": 2}
    rows.sort(key=lambda row: order[row[5]])
    if "seconds" in run:
        cost = Metric("wall seconds for each molecule made", "s", "description")
        value = run["seconds"] / len(table)
        rows.append(("seconds_per_molecule", value, math.nan, len(table), *_labels(cost)))
    if "evaluations" in run:
        cost = Metric("network evaluations for each molecule", "", "description")
        value = float(run["evaluations"])
        rows.append(("network_evaluations", value, math.nan, len(table), *_labels(cost)))
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _labels(metric: Metric) -> tuple[str, str, str]:
    source = f" [{metric.source}]" if metric.source else ""
    return metric.unit, metric.family, metric.definition + source


def _deviation(table: pd.DataFrame, metric: Metric) -> float:
    """Sample standard deviation of the metric over 5 interleaved subsets; NaN below 10 rows."""
    if metric.whole is None or len(table) < 2 * SUBSETS:
        return math.nan
    parts = [metric.whole(table.iloc[i::SUBSETS])[0] for i in range(SUBSETS)]
    return float(pd.Series(parts).std(ddof=1))
