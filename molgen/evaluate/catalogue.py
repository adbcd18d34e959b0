"""The table of metrics as Markdown, for the pages: `python -m molgen.evaluate.catalogue`."""

from __future__ import annotations

import sys

from molgen.evaluate.metric import Metric
from molgen.evaluate.table import METRICS

TITLES = {
    "strict": "To be trusted",
    "description": "Plain facts",
    "legacy": "The papers' own definitions",
}

_HEAD = ("| name | unit | in | set | definition |", "| --- | --- | --- | --- | --- |")


def markdown() -> str:
    """One section a family; units, where the metric appears, its set, its source."""
    parts = []
    for family, title in TITLES.items():
        rows = [(name, m) for name, m in METRICS.items() if m.family == family]
        lines = [_line(name, metric) for name, metric in rows]
        parts.append("\n".join([f"### {title}", "", *_HEAD, *lines]))
    return "\n\n".join(parts) + "\n"


def _line(name: str, metric: Metric) -> str:
    unit = metric.unit or {"text": "text", "flag": "yes/no"}.get(metric.kind, "dimensionless")
    if metric.kind == "flag":
        unit = "yes/no, %"
    where = " + ".join(
        place
        for place, there in (("rows", metric.row is not None), ("summary", metric.summarised))
        if there
    )
    source = f" [{metric.source}]" if metric.source else ""
    text = (metric.definition + source).replace("|", "\\|")
    return f"| `{name}` | {unit} | {where} | {metric.cost} | {text} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
