"""Strategies at equal evaluator calls: the command `designloom bench design`."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, OutputError
from diffcore.files import whole

if TYPE_CHECKING:
    from pipelines.design.campaign import Campaign

STRATEGIES = ("surrogate", "genetic", "best_of_n")


def bench_design(
    campaign: str = "gap",
    seeds: int = 5,
    strategies: str = "surrogate,genetic,best_of_n",
    batch: int | None = None,
    generations: int | None = None,
    folder: Path | None = None,
    plot: Path | None = None,
    force: bool = False,
) -> str:
    """Run a campaign with several strategies and seeds, and compare hypervolumes.

    Every strategy gets the same number of candidates to evaluate, and for each seed the same
    sequence of the generator.

    Args:
        campaign: A shipped campaign, or a YAML file.
        seeds: Seeds 0 to this, without the last.
        strategies: Names with commas; the first is compared with the others.
        batch: Candidates of a generation, in place of the campaign's.
        generations: How many, in place of the campaign's.
        folder: Where the store is kept, so that an interrupted comparison goes on; a temporary
            one if left out.
        plot: .png or .svg file for hypervolume by candidates.
        force: Overwrite `plot`.

    Returns:
        A table, and the ratios.

    Raises:
        ConfigError: An option is outside what is allowed.
        OutputError: `plot` exists without --force.
    """
    from pipelines.design.files import read_campaign, shipped_or_file

    names = [name for name in strategies.split(",") if name]
    if seeds < 1 or not names:
        raise ConfigError("expected at least one seed and one strategy")
    if plot is not None and plot.exists() and not force:
        raise OutputError(f"{plot} exists: give --force to overwrite it")
    path = shipped_or_file(campaign)
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        base = read_campaign(path, batch=batch, generations=generations)
        base = dataclasses.replace(base, store=str(place / "bench.sqlite"))
        volumes = compare(base, names, seeds)
    if plot is not None:
        draw(volumes, base.batch, plot)
    return table(base, volumes)


def compare(base: Campaign, names: Sequence[str], seeds: int) -> dict[str, list[list[float]]]:
    """Hypervolumes by strategy, seed and generation."""
    from contextlib import closing

    from tqdm import tqdm

    from pipelines.design.engine import run
    from pipelines.design.executors import make_executor

    volumes: dict[str, list[list[float]]] = {name: [] for name in names}
    total = len(names) * seeds
    with closing(make_executor(*base.executor)) as crew, tqdm(total=total, unit="run") as bar:
        for seed in range(seeds):
            source = dataclasses.replace(base.source, generator=Remembering(base.source.generator))
            for name in names:
                one = variant(base, name, seed, source)
                result = run(one, resume=True, executor=crew)
                volumes[name].append([v or 0.0 for v in result.hypervolumes])
                bar.update()
                bar.set_postfix_str(f"{name} {volumes[name][-1][-1]:.3f}")
    return volumes


def variant(base: Campaign, name: str, seed: int, source: Any) -> Campaign:
    """The campaign with another strategy and seed, under a name of its own."""
    from pipelines.design.strategies import make_strategy

    settings = {**base.settings, "strategy": [name, {}], "seed": seed}
    return dataclasses.replace(
        base,
        name=f"{base.name} {name} {seed}",
        source=source,
        strategy=make_strategy(name, {}),
        strategy_name=(name, {}),
        seed=seed,
        settings=settings,
    )


class Remembering:
    """A generator that makes each object of a sequence once."""

    def __init__(self, generator: Any) -> None:
        """See the class."""
        self._generator = generator
        self._made: dict[int, list[Any]] = {}
        for name in ("vary", "finish", "seek"):
            if hasattr(generator, name):
                setattr(self, name, getattr(generator, name))

    def sample(self, seed: int, start: int, count: int) -> Iterator[Any]:
        """Objects `start` to `start + count` of a seed."""
        made = self._made.setdefault(seed, [])
        missing = start + count - len(made)
        if missing > 0:
            made += list(self._generator.sample(seed, len(made), missing))
        yield from made[start : start + count]


def table(base: Campaign, volumes: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Final hypervolumes, and the first strategy's mean over each other one's."""
    import numpy as np

    final = {name: np.array([run[-1] for run in runs]) for name, runs in volumes.items()}
    count = base.batch * base.generations
    seeds = len(next(iter(final.values())))
    lines = [f"{base.name}: hypervolume after {count} candidates, {seeds} seeds"]
    for name, values in final.items():
        each = " ".join(f"{value:.3f}" for value in values)
        spread = values.std(ddof=1) if len(values) > 1 else float("nan")
        lines.append(f"{name:<12} mean {values.mean():.3f} +- {spread:.3f}   ({each})")
    first = next(iter(final))
    for name in list(final)[1:]:
        ratio = final[first].mean() / max(final[name].mean(), 1e-12)
        lines.append(f"{first} / {name}: {ratio:.3f}")
    return "\n".join(lines)


def draw(volumes: Mapping[str, Sequence[Sequence[float]]], batch: int, path: Path) -> None:
    """Mean hypervolume by evaluated candidates, with the range over the seeds.

    Raises:
        OutputError: the file cannot be written.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, runs in volumes.items():
        values = np.array(runs)
        x = batch * np.arange(1, values.shape[1] + 1)
        (line,) = axes.plot(x, values.mean(0), label=name.replace("_", " "))
        axes.fill_between(x, values.min(0), values.max(0), color=line.get_color(), alpha=0.15)
    axes.set(xlabel="candidates evaluated", ylabel="hypervolume (mean and range over seeds)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    try:
        with whole(path) as beside:
            figure.savefig(beside, dpi=150)
    except ValueError as error:  # an ending that no picture has
        raise OutputError(f"cannot write {path}: {error}") from error
    sys.stderr.flush()
