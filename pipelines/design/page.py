"""A campaign as one HTML page: it renews itself while the campaign runs, and is its report then.

The file needs no network and runs no script.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import DataError
from diffcore.files import write_whole
from pipelines.design.drawing import curve, scatter
from pipelines.store.records import to_json

if TYPE_CHECKING:
    from pipelines.design.campaign import Campaign
    from pipelines.design.engine import Finished, Progress
    from pipelines.design.history import History, Scored

SECONDS = 5
"""Between two looks of the browser at the file."""

PICTURES = 12

LISTED = 1000
"""Candidates in the table of a report at most."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 0 auto; padding: 24px; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 28px 0 6px; }
p { margin: 4px 0; } .soft { opacity: .65; }
.charts, .grid { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; width: 220px; font-size: .82rem; overflow-wrap: anywhere; }
figure img { background: #fff; border-radius: 8px; width: 100%; }
table { border-collapse: collapse; } td, th { padding: 3px 14px 3px 0; text-align: left;
  font-variant-numeric: tabular-nums; }
summary { cursor: pointer; }
svg { max-width: 100%; height: auto; }
"""


def write_page(path: Path, progress: Progress) -> None:
    """Writes the page of a running campaign.

    Raises:
        OutputError: the file cannot be written.
    """
    campaign, history = progress.campaign, progress.history
    rate = (progress.done - progress.began) / max(progress.seconds, 1e-9)
    left = (progress.total - progress.done) / rate if rate > 0 else None
    lines = [
        f"{progress.done:,} of {progress.total:,} candidates, generation {progress.generation} "
        f"of {campaign.generations}",
        f"{rate:.3g} candidates a second" + ("" if left is None else f", {_duration(left)} left"),
    ]
    body = _body(campaign, history, [], lines, pictures=4)
    write_whole(path, _page(campaign.name, body, renew=True))


def write_report(path: Path, result: Finished) -> None:
    """Writes the report of a finished campaign: what was tried, the front, pictures of the best.

    Raises:
        OutputError: the file cannot be written.
    """
    history = result.history
    lines = [
        f"{len(history.rows):,} candidates, {len(history.feasible):,} with all scores and "
        "constraints met",
        f"{result.evaluated:,} evaluations made, {result.known:,} known before",
    ]
    volumes = [v for v in result.hypervolumes if v is not None]
    body = _body(result.campaign, history, volumes, lines, PICTURES)
    body += _tried(history, result.campaign) + _how(result.campaign)
    write_whole(path, _page(result.campaign.name, body, renew=False))


def _page(title: str, body: str, renew: bool) -> str:
    head = f'<meta http-equiv="refresh" content="{SECONDS}">' if renew else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}</body></html>\n"
    )


def _body(
    campaign: Campaign,
    history: History,
    volumes: Sequence[float],
    lines: Sequence[str],
    pictures: int,
) -> str:
    parts = [f"<p class=soft>{html.escape(line)}</p>" for line in lines]
    goals = campaign.aims.goals
    titles = [o.title for o in (*goals, *campaign.aims.constraints)]
    parts.append(f"<p>{html.escape('; '.join(titles))}</p><div class=charts>")
    if len(goals) > 1:
        cloud = [row.losses[:2] for row in history.feasible[-2000:] if row.losses]
        best = [row.losses[:2] for row in history.best if row.losses]
        parts.append(scatter(cloud, best, (goals[0].title, goals[1].title)))
    parts.append(curve(volumes, "generation", "hypervolume") if volumes else "")
    parts.append("</div>")
    chosen = select(history.best, pictures)
    if chosen:
        parts.append(f"<h2>Pareto front: {len(history.best)}</h2><div class=grid>")
        parts += [_figure(row, campaign) for row in chosen]
        parts.append("</div>")
    return "".join(parts)


def select(rows: Sequence[Scored], count: int) -> list[Scored]:
    """So many candidates, evenly spread along the front by the first goal."""
    ordered = sorted(rows, key=lambda row: row.losses or ())
    if len(ordered) <= count:
        return ordered
    step = (len(ordered) - 1) / max(1, count - 1)
    return [ordered[round(i * step)] for i in range(count)]


def _figure(row: Scored, campaign: Campaign) -> str:
    scores = []
    for one in campaign.evaluators:
        if one.name in row.values:
            scores.append(f"{one.name} {row.values[one.name]:.4g} {one.unit}".strip())
    return (
        f"<figure>{_picture(row)}<figcaption><code>{html.escape(_name(row))}</code><br>"
        f"{html.escape(', '.join(scores))}</figcaption></figure>"
    )


def _name(row: Scored) -> str:
    return str(row.candidate.origin.get("smiles") or row.candidate.content[:60])


def _picture(row: Scored) -> str:
    if row.candidate.form not in ("molecule", "smiles"):
        return ""
    from molgen.evaluate.pictures import data_uri, depict
    from pipelines.design.forms import decode

    try:
        svg = depict(decode(row.candidate))
    except DataError:
        svg = ""
    return f'<img alt="" src="{data_uri(svg)}">' if svg else ""


def _tried(history: History, campaign: Campaign) -> str:
    """All candidates with their scores, folded up; the latest where there are very many."""
    shown = history.rows[-LISTED:]
    left = len(history.rows) - len(shown)
    names = [one.name for one in campaign.evaluators]
    heads = ["generation", "candidate", *names, "met"]
    lines = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    for row in shown:
        scores = [f"{row.values[n]:.4g}" if n in row.values else "" for n in names]
        met = "" if row.losses is None else "yes"
        cells = [str(row.generation + 1), f"<code>{html.escape(_name(row))}</code>", *scores, met]
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
    note = f"<p class=soft>and {left:,} earlier ones: designloom show campaign</p>" if left else ""
    table = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f"<h2>What was tried</h2><details><summary>{len(history.rows):,} candidates; "
        f"an empty cell: no score</summary><table>{table}</table>{note}</details>"
    )


def _how(campaign: Campaign) -> str:
    """The settings, as they were recorded."""
    rows: list[tuple[str, Any]] = [
        ("strategy", _with_settings(*campaign.strategy_name)),
        ("generator", _with_settings(campaign.source.name, campaign.source.settings)),
        *((key, value) for key, value in campaign.source.identity.items()),
        ("seed", campaign.seed),
        ("generations", f"{campaign.generations}, {campaign.batch} candidates each"),
        ("executor", campaign.executor[0]),
    ]
    cells = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in rows
    )
    return f"<h2>How</h2><table>{cells}</table>"


def _with_settings(name: str, settings: Mapping[str, Any]) -> str:
    return f"{name} {to_json(dict(settings))}" if settings else name


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
