"""Quality-diversity: the best of each cell of a grid of properties (MAP-Elites).

Mouret and Clune 2015, "Illuminating search spaces by mapping elites".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from diffcore.errors import ConfigError
from pipelines.design.history import History, Scored
from pipelines.design.names import unknown
from pipelines.design.proposals import Collector, Context, Proposal


def archive(
    context: Context,
    history: History,
    *,
    axes: Sequence[str] | None = None,
    cells: int = 8,
) -> Proposal:
    """Children of the elites: the best candidate of every cell.

    Args:
        context: what there is to work with.
        history: what was tried.
        axes: evaluators whose values span the grid; the goals of the campaign if left out.
        cells: along each axis, evenly from the lowest to the highest value so far.

    Raises:
        ConfigError: an axis is no evaluator of the campaign, or there are no cells.
    """
    if cells < 1:
        raise ConfigError(f"strategy archive: cells: expected at least 1, got {cells}")
    found = Collector(history.labels)
    best = list(cell_elites(history, axes or (), cells).values())
    rng = context.rng("archive")
    if context.generation > 0 and best:
        order = rng.permutation(len(best))
        found.children(context, [best[i] for i in order], context.batch, rng)
        found.finished(context, found.candidates, context.batch)
    missing = context.batch - len(found.candidates)
    if missing > 0:
        found.fresh(context, history.drawn, missing)
    return found.proposal(cells=len(best))


def cell_elites(history: History, axes: Sequence[str], cells: int) -> dict[tuple[int, ...], Scored]:
    """The best candidate of every cell that has one, by the sum of scaled losses."""
    rows = history.feasible
    if not rows:
        return {}
    names = list(axes) or [objective.evaluator for objective in history.aims.goals]
    known = list(rows[0].values)
    for name in names:
        if name not in known:
            raise unknown("axis of the archive", name, known)
    ranges = [(min(r.values[n] for r in rows), max(r.values[n] for r in rows)) for n in names]
    found: dict[tuple[int, ...], Scored] = {}
    scales = _scales(rows)
    for row in rows:
        cell = tuple(
            _cell(row.values[name], low, high, cells)
            for name, (low, high) in zip(names, ranges, strict=True)
        )
        if cell not in found or _total(row, scales) < _total(found[cell], scales):
            found[cell] = row
    return dict(sorted(found.items()))


def _cell(value: float, low: float, high: float, cells: int) -> int:
    if high <= low:
        return 0
    return min(cells - 1, math.floor((value - low) / (high - low) * cells))


def _scales(rows: Sequence[Scored]) -> list[float]:
    columns = zip(*(row.losses or () for row in rows), strict=True)
    return [max(column) - min(column) or 1.0 for column in columns]


def _total(row: Scored, scales: Sequence[float]) -> float:
    return sum(x / s for x, s in zip(row.losses or (), scales, strict=True))
