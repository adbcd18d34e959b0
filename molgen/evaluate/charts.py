"""Histograms of a scored set beside its reference, as small SVG drawings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molgen.evaluate.gallery import RANKS
from molgen.evaluate.geometry import column_values

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference
    from molgen.evaluate.geometry import Histogram

COLUMNS = {
    "n_atoms": ("Atoms in a molecule", ""),
    "rings": ("Rings in a molecule", ""),
    "qed": ("Drug-likeness (QED)", ""),
    "sa_score": ("Synthetic accessibility (SA)", ""),
    "logp": ("logP (Crippen)", ""),
    "mmff_strain": (RANKS["mmff_strain"], "kcal/mol"),
    "xtb_energy": (RANKS["xtb_energy"], "kcal/mol"),
}
"""Column of the row table -> (title, unit)."""

BOND_TYPES = 6
BINS = 28
WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 24


@dataclass(frozen=True)
class Chart:
    """One drawing.

    Attributes:
        title: What is shown, with its unit.
        svg: The drawing; its colours are classes of the page around it.
        note: What it leaves out.
    """

    title: str
    svg: str
    note: str = ""


def charts(
    table: pd.DataFrame, reference: Reference | None, means: Mapping[str, float]
) -> list[Chart]:
    """Histograms of the columns that the table has.

    Args:
        table: The row table.
        reference: Whose distributions are drawn as an outline, where it has them.
        means: Column -> value of the reference, drawn as a line where no distribution is known.
    """
    found = []
    known = {} if reference is None else _distributions(reference)
    for column, (title, unit) in COLUMNS.items():
        values = _values(table, column)
        if len(values):
            whole = column in ("n_atoms", "rings")
            chart = histogram(values, whole, known.get(column), means.get(column))
            label = f"{title}, {unit}" if unit else title
            found.append(Chart(label, chart.svg, chart.note))
    return found


def bond_charts(table: pd.DataFrame, reference: Reference | None) -> list[Chart]:
    """Histograms of the lengths of the most frequent kinds of bonds."""
    made = column_values(table, "bond_lengths")
    known = {} if reference is None else reference.bond_lengths
    names = sorted(made, key=lambda name: (-len(made[name]), name))[:BOND_TYPES]
    found = []
    for name in sorted(names):
        chart = histogram(made[name], False, known.get(name))
        found.append(Chart(f"{name} bond length, Å", chart.svg, chart.note))
    return found


def _values(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    if column not in table:
        return np.empty(0)
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    return np.asarray(values[np.isfinite(values)])


def _distributions(reference: Reference) -> dict[str, Histogram]:
    counted = {"n_atoms": reference.n_atoms, "rings": reference.rings_per_molecule}
    return {
        name: (
            np.array(sorted(counts), dtype=np.float64),
            np.array([counts[key] for key in sorted(counts)], dtype=np.float64),
        )
        for name, counts in counted.items()
        if counts
    }


# -------------------------------------------------------------------------------------- drawing


def histogram(
    values: NDArray[np.float64],
    whole: bool = False,
    known: Histogram | None = None,
    mean: float | None = None,
) -> Chart:
    """Draws values as bars, in per cent of them.

    Args:
        values: At least one finite value.
        whole: They are whole numbers: a bar each.
        known: (values, counts) of the reference, drawn as an outline over the same bins.
        mean: The reference's value where `known` is not there, drawn as a line.
    """
    edges = _edges(values, whole, known)
    inside = (values >= edges[0]) & (values <= edges[-1])
    share = 100 * np.histogram(values, edges)[0] / len(values)
    behind = None
    if known is not None:
        counts = np.histogram(known[0], edges, weights=known[1])[0]
        behind = 100 * counts / known[1].sum()
    top = _ceiling(max(share.max(), 0.0 if behind is None else behind.max()))
    parts = [*_frame(edges, top), *_bars(share, top)]
    if behind is not None:
        parts.append(_outline(behind, top))
    elif mean is not None and math.isfinite(mean) and edges[0] <= mean <= edges[-1]:
        x = _x((mean - edges[0]) / (edges[-1] - edges[0]))
        parts.append(f'<path class="ref" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    left_out = int((~inside).sum())
    low, high = f"{edges[0]:.3g}", f"{edges[-1]:.3g}"
    note = f"{left_out:,} outside of {low} to {high} not drawn" if left_out else ""
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
    return Chart("", svg, note)


def _edges(
    values: NDArray[np.float64], whole: bool, known: Histogram | None
) -> NDArray[np.float64]:
    """Edges of the bins; the outermost hundredths of long tails are left out."""
    low, high = float(values.min()), float(values.max())
    if whole:
        if known is not None:
            low, high = min(low, known[0].min()), max(high, known[0].max())
        width = max(1, math.ceil((high - low + 1) / 60))
        return np.arange(math.floor(low) - 0.5, math.ceil(high) + width, width)
    if len(values) > 20:
        first, last = np.quantile(values, [0.005, 0.995]).tolist()
        spare = 0.5 * (last - first)
        low, high = max(low, first - spare), min(high, last + spare)
    if not high > low:
        spare = 0.05 * abs(low) or 0.5
        low, high = low - spare, high + spare
    return np.linspace(low, high, BINS + 1)


def _ceiling(value: float) -> float:
    """The next round number."""
    if value <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(value))
    return next(m * step for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * step >= value * 0.999)


def _x(part: float) -> float:
    return LEFT + part * (WIDTH - LEFT - RIGHT)


def _y(part: float) -> float:
    return HEIGHT - BOTTOM - part * (HEIGHT - BOTTOM - TOP)


def _frame(edges: NDArray[np.float64], top: float) -> list[str]:
    """Axes and their numbers."""
    parts = [f'<path class="axis" d="M{LEFT} {_y(0)}H{WIDTH - RIGHT}"/>']
    for value in (top / 2, top):
        y = _y(value / top)
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{value:g}%</text>')
    low, high = float(edges[0]), float(edges[-1])
    for tick in _ticks(low, high):
        x = _x((tick - low) / (high - low))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick:g}</text>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers between two values."""
    raw = (high - low) / 6
    step = 10.0 ** math.floor(math.log10(raw))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if m * step >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _bars(share: NDArray[np.float64], top: float) -> list[str]:
    n = len(share)
    width = (WIDTH - LEFT - RIGHT) / n
    gap = min(1.0, 0.15 * width)
    return [
        f'<rect class="bar" x="{_x(i / n) + gap / 2:.1f}" y="{_y(one / top):.1f}" '
        f'width="{width - gap:.1f}" height="{_y(0) - _y(one / top):.1f}"/>'
        for i, one in enumerate(share.tolist())
        if one > 0
    ]


def _outline(share: NDArray[np.float64], top: float) -> str:
    n = len(share)
    path = [f"M{_x(0):.1f} {_y(0):.1f}"]
    for i, one in enumerate(share.tolist()):
        path.append(f"V{_y(one / top):.1f}H{_x((i + 1) / n):.1f}")
    return f'<path class="ref" d="{"".join(path)}V{_y(0):.1f}"/>'
