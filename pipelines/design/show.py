"""Looking at a store: the command `designloom show campaign`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import ConfigError, OutputError
from diffcore.files import whole

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.store.records import CampaignRow, Generation


def show_campaign(
    store: str,
    name: str = "",
    output: Path | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> str:
    """List what a store holds, plot a campaign's progress, export it; it may be running.

    Args:
        store: SQLite file or URL.
        name: Of the campaign; may be left out if there is one only.
        output: .csv, .parquet or .sdf file for all candidates and their scores.
        plot: .png, .svg or .pdf file for the progress.
        force: Overwrite the files.

    Returns:
        The campaigns, or one campaign in lines.

    Raises:
        ConfigError: No such campaign, or another suffix.
        DataError: There is no store.
        OutputError: A file exists without --force, or cannot be written.
    """
    from pipelines.store.database import Database
    from pipelines.store.export import export, frame
    from pipelines.store.records import find_campaign, list_campaigns, read_generations

    with Database(store) as database:
        rows = list_campaigns(database)
        if not name and len(rows) != 1 and output is None and plot is None:
            return "\n".join([f"{database.name}: {len(rows)} campaigns", *map(_line, rows)])
        row = find_campaign(database, name)
        generations = read_generations(database, row.id)
        table = frame(database, row.id)
    lines = describe(row, generations, table)
    if plot is not None:
        plot_progress(generations, row.name, plot, force)
        lines.append(f"written: {plot}")
    if output is not None:
        count = export(store, output, row.name, force)
        lines.append(f"written: {output}, {count} rows")
    return "\n".join(lines)


def _line(row: CampaignRow) -> str:
    return f"  {row.name}: {row.status}, started {row.created}, seed {row.seed}"


def describe(row: CampaignRow, generations: Sequence[Generation], table: pd.DataFrame) -> list[str]:
    """A campaign in lines."""
    failed = table["failure"].astype(bool)
    lines = [
        f"{row.name}: {row.status}, started {row.created}, seed {row.seed}",
        f"strategy {row.settings['strategy'][0]}, generator {row.settings['generator'][0]}",
        f"{len(table)} candidates in {len(generations)} generations, {int(failed.sum())} failed, "
        f"{int(table['pending'].sum())} not evaluated",
    ]
    for name in row.settings["evaluations"]:
        values = table[name].dropna()
        if len(values):
            spread = f"{values.min():.4g} to {values.max():.4g}, median {values.median():.4g}"
            lines.append(f"  {name}: {len(values)} values, {spread}")
    kinds = table.loc[failed, "failure"].value_counts()
    lines += [f"  failed {count} times: {reason}" for reason, count in kinds.head(5).items()]
    volumes = [one.hypervolume for one in generations if one.hypervolume is not None]
    if volumes:
        lines.append(f"hypervolume by generation: {bars(volumes)} {volumes[-1]:.4g}")
    return lines


def bars(values: Sequence[float]) -> str:
    """Values as a line of bars."""
    blocks, low, high = "▁▂▃▄▅▆▇█", min(values), max(values)
    span = high - low or 1.0
    return "".join(blocks[round(7 * (value - low) / span)] for value in values[-60:])


def plot_progress(
    generations: Sequence[Generation], title: str, path: Path, force: bool = False
) -> None:
    """Draws the hypervolume over the generations.

    Raises:
        ConfigError: Another suffix.
        OutputError: The file exists without `force`, or cannot be written.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"cannot write {path.name!r}: expected .png, .svg or .pdf")
    if path.exists() and not force:
        raise OutputError(f"{path} exists: give --force to overwrite it")
    from matplotlib.figure import Figure

    points = [(g.number + 1, g.hypervolume) for g in generations if g.hypervolume is not None]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([x for x, _ in points], [y for _, y in points], marker=".")
    axes.set(xlabel="generation", ylabel="hypervolume", title=title)
    with whole(path) as beside:
        figure.savefig(beside, dpi=150)
