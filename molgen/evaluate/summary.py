"""The summary of a scored set: one row a metric, beside the reference's own value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from molgen.evaluate.rows import COSTS
from molgen.evaluate.table import METRICS, Metric

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

SUBSETS = 5
"""The summary's deviation is over so many interleaved subsets."""

SUMMARY_COLUMNS = ("metric", "value", "std", "n", "reference", "unit", "family", "definition")

_ORDER = {"strict": 0, "description": 1, "legacy": 2}


def summarise(
    table: pd.DataFrame,
    reference: Reference | None,
    run: Mapping[str, Any],
    progress: bool = False,
) -> pd.DataFrame:
    """One row a metric, in the columns `SUMMARY_COLUMNS`; per cents where its unit is %.

    Args:
        table: The row table.
        reference: Where the values of the reference come from.
        run: See `molgen.evaluate`.
        progress: Show a bar when it takes more than two seconds.
    """
    from tqdm import tqdm

    known = reference_values(reference)
    chosen = [(k, m) for k, m in METRICS.items() if m.summarised and _measured(m, table)]
    bar = tqdm(
        chosen, desc="summing up", unit="metric", delay=2.0, disable=not progress, leave=False
    )
    rows = [_row(name, metric, table, reference, known.get(name, math.nan)) for name, metric in bar]
    rows += [_row(name, metric, table, None, math.nan) for name, metric in _losses(table)]
    rows += _costs(len(table), run)
    rows.sort(key=lambda row: _ORDER[row[6]])
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _measured(metric: Metric, table: pd.DataFrame) -> bool:
    """Metrics of dear sets count only where a column of their set is there."""
    if metric.cost == COSTS[0]:
        return True
    same = [n for n, m in METRICS.items() if m.cost == metric.cost and m.row is not None]
    return any(column in table.columns for column in same)


def _row(
    name: str, metric: Metric, table: pd.DataFrame, reference: Reference | None, known: float
) -> tuple[Any, ...]:
    scale = 100 if metric.unit == "%" else 1
    definition = metric.definition
    if metric.cost != COSTS[0] and "sampled" in table.columns:
        whole, table = len(table), table[table["sampled"].astype(bool)]
        definition += f"; on a sample of {len(table):,} of {whole:,} molecules, evenly spread"
    if metric.missing:
        definition += f"; not measured: {metric.missing}"
    value, n = _value(metric, table, reference)
    std = _deviation(metric, table, reference)
    source = f" [{metric.source}]" if metric.source else ""
    labels = metric.unit, metric.family, definition + source
    return (name, value * scale, std * scale, n, known * scale, *labels)


def _value(metric: Metric, table: pd.DataFrame, reference: Reference | None) -> tuple[float, int]:
    if metric.missing or not len(table):
        return math.nan, 0
    return metric.summarise(table, reference)


def _deviation(metric: Metric, table: pd.DataFrame, reference: Reference | None) -> float:
    """Sample standard deviation over 5 interleaved subsets; NaN below 10 rows."""
    if len(table) < 2 * SUBSETS:
        return math.nan
    parts = [_value(metric, table.iloc[i::SUBSETS], reference)[0] for i in range(SUBSETS)]
    return float(pd.Series(parts, dtype=float).std(ddof=1))


def _losses(table: pd.DataFrame) -> Iterator[tuple[str, Metric]]:
    """What could not be scored."""
    unread = table["smiles"].isna()
    part = ~unread & (table["error"] != "")
    yield "unreadable", _share(unread, "entries without a molecule: broken, missing or lost")
    yield "scored_in_part", _share(part, "molecules with an error in some column, see `error`")


def _share(which: pd.Series, definition: str) -> Metric:
    def whole(part: pd.DataFrame) -> tuple[float, int]:
        return float(which.loc[part.index].mean()), len(part)

    return Metric(definition, "%", "description", whole=whole)


def _costs(n: int, run: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What making the set cost."""
    labels = ("description", "wall seconds for each molecule made")
    if "seconds" in run:
        value = float(run["seconds"]) / n
        yield ("seconds_per_molecule", value, math.nan, n, math.nan, "s", *labels)
    labels = ("description", "network evaluations for each molecule")
    if "evaluations" in run:
        value = float(run["evaluations"])
        yield ("network_evaluations", value, math.nan, n, math.nan, "", *labels)


def reference_values(reference: Reference | None) -> dict[str, float]:
    """Metric -> value of the reference's own molecules, fractions as fractions; where known."""
    if reference is None:
        return {}
    found = {
        "n_atoms": _mean(reference.n_atoms),
        "rings": _mean(reference.rings_per_molecule),
    }
    found |= {name: value for name, (value, _) in reference.scores.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _mean(counts: Mapping[int, int]) -> float:
    total = sum(counts.values())
    return sum(value * count for value, count in counts.items()) / total if total else math.nan


def count_reasons(table: pd.DataFrame) -> dict[str, int]:
    """Kinds of failure (the part of `reason` before the colon) and how often each came."""
    failed = table.loc[~table["strict_valid"], "reason"]
    kinds = failed.str.split(":", n=1).str[0]
    return {str(kind): int(count) for kind, count in kinds.value_counts().items()}


def _short(value: float) -> str:
    """Two decimals; two digits where that would hide a small value."""
    return f"{value:.2g}" if value and abs(value) < 0.095 else f"{value:.2f}"


def describe(table: pd.DataFrame, summary: pd.DataFrame, errors: Mapping[str, int]) -> list[str]:
    """The summary as lines of text."""
    lines = [f"{len(table)} molecules"]
    for row in summary.itertuples():
        spread = "" if math.isnan(row.std) else f" +- {_short(row.std)}"
        value = "-" if math.isnan(row.value) else f"{_short(row.value)}{spread} {row.unit}".rstrip()
        beside = "" if math.isnan(row.reference) else f" (reference {_short(row.reference)})"
        mark = " (legacy)" if row.family == "legacy" else ""
        lines.append(f"{row.metric:<32} {value:<24} n={row.n}{beside}{mark}")
    reasons = ", ".join(f"{kind} {count}" for kind, count in count_reasons(table).items())
    lines.append(f"not strictly valid: {reasons or 'none'}")
    if errors:
        said = "; ".join(f"{kind} ({count})" for kind, count in list(errors.items())[:5])
        more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
        lines.append(f"not scored in full: {said}{more}")
    return lines
