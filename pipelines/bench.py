"""What one molecule costs: the command `designloom bench molecules`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from molgen.generate import MoleculeGenerator
    from pipelines.timing import GenerationCost, NetworkCost

MAX_SEED = 2**31 - 1

MOLECULE_BAR = 150.0
"""What a molecule may cost at the model's own settings, ms of one CPU core."""


@dataclass(frozen=True)
class Figure:
    """One measured or quoted number.

    Attributes:
        section: what was measured.
        name: the quantity.
        value: its value.
        unit: its unit.
        note: what one has to know to read it.
    """

    section: str
    name: str
    value: float
    unit: str
    note: str = ""


def bench_molecules(
    model: str = "qm9",
    number: int = 128,
    seed: int = 0,
    threads: int = 1,
    repeats: int = 3,
    keep_memory: bool = True,
    output: Path | None = None,
    force: bool = False,
    against: Path | None = None,
    include: str = "",
    sample: int | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
) -> str:
    """Measure what a molecule costs, or compare molecules of several tools (--against).

    CPU time of the process is the clock to trust on a busy machine. Beside the network a plain
    matrix product with as many operations runs in turns, so that the machine's speed cancels in
    their ratio.

    With `against`, the molecules of the model, of the reference and of every file of a folder are
    scored alike, in one table.

    Args:
        model: Name of a shipped model, or path of a model file.
        number: Molecules to generate. Each batch holds molecules of one size and is filled up to
            whole tiles of rows, so that few molecules cost more each than many.
        seed: Seed of the random numbers.
        threads: Threads of the tensor library.
        repeats: Network evaluations of each kind, of which the median counts.
        keep_memory: Reuse the memory of freed tensors, as all commands do; false shows its price.
        output: .csv file for the figures; with `against` also .md.
        force: Overwrite `output`.
        against: Folder with molecule files of other tools (.sdf, .smi, .xyz, ...).
        include: With `against`: sets of metrics beyond the cheap one: posebusters,xtb.
        sample: With `against`: measure those on so many molecules of each set only.
        workers: With `against`: processes; 0 for one a core.
        time_limit: With `against`: wall seconds for a molecule.

    Returns:
        The figures as a table.

    Raises:
        ConfigError: An option is outside what is allowed.
        ModelFileError: The model is unknown or its file is broken.
        OutputError: `output` exists without `force`, or cannot be written.
    """
    for name, value in (("number", number), ("threads", threads), ("repeats", repeats)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed: expected 0 to {MAX_SEED}, got {seed}")
    how = {"include": include, "sample": sample, "workers": workers, "time_limit": time_limit}
    if against is not None:
        return _bench_against(model, number, seed, threads, against, output, force, how)
    _refuse_alone(how)
    if output is not None:
        _check_target(output, force)

    import torch

    from diffcore.memory import keep_freed_memory
    from molgen.generate import MoleculeGenerator

    if keep_memory:
        keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generator = MoleculeGenerator.from_pretrained(model)
        figures = measure(generator, number, seed, repeats)
    finally:
        torch.set_num_threads(before)
    written = []
    if output is not None:
        _write(output, figures)
        written.append(f"written: {output}")
    return "\n".join([_header(model, threads), *table(figures), *written])


def _refuse_alone(how: Mapping[str, Any]) -> None:
    """These options say how sets are scored: without `against` they would do nothing."""
    for name, value in how.items():
        if value not in (None, ""):
            raise ConfigError(f"--{name.replace('_', '-')}: expected --against beside it")


def _bench_against(
    model: str,
    number: int,
    seed: int,
    threads: int,
    folder: Path,
    output: Path | None,
    force: bool,
    how: Mapping[str, Any],
) -> str:
    import torch

    from molgen.evaluate.options import check_sample, checked_sets, processes_for
    from pipelines import against

    files = against.check_folder(folder)
    check_sample(how["sample"], checked_sets(how["include"]), number)
    processes_for(1 if how["workers"] is None else how["workers"], how["time_limit"])
    if output is not None:
        against.check_output(output, force)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        comparison = against.Comparison(**how)
        lines = against.compare(model, number, seed, files, comparison)
    finally:
        torch.set_num_threads(before)
    text = against.markdown(lines, comparison)
    if output is None:
        return text
    against.write(lines, comparison, output)
    return f"{text}\n\nwritten: {output}"


def measure(generator: MoleculeGenerator, number: int, seed: int, repeats: int) -> list[Figure]:
    """Generate, then evaluate the model itself and the paper's size, under a progress bar."""
    from tqdm import tqdm

    from pipelines.timing import cases, time_generation, time_network

    form = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
    with tqdm(total=number, desc="generate", delay=1, bar_format=form) as bar:
        # rows that are drawn again count as work too
        advance = lambda done: bar.update(min(done, number - bar.n))  # noqa: E731
        made = time_generation(generator, number, seed, advance)
    figures = list(_generation(generator, made))
    for case in cases(generator):
        with tqdm(total=repeats + 2, desc=case.name, delay=1, bar_format=form) as bar:
            cost = time_network(case, repeats, bar.update)
        figures += _network(cost)
    return figures


def _generation(generator: MoleculeGenerator, made: GenerationCost) -> Iterator[Figure]:
    from molgen.evaluate.score import evaluate

    n = len(made.mols)
    settings = generator.sampling
    title = f"generation of {n} molecules, {settings.steps} steps of {settings.sampler}"
    valid = evaluate(made.mols, progress=False).value("strict_valid")
    yield Figure(title, "network evaluations", made.evaluations, "a molecule")
    filled = "above 1: rows that only fill up a batch"
    yield Figure(title, "rows computed", made.padding, "a molecule and evaluation", filled)
    bar = f"bar: {MOLECULE_BAR:g} of one core"
    for clock, name, note in (("cpu", "CPU time", bar), ("wall", "wall time", "")):
        total = getattr(made.total, clock)
        yield Figure(title, name, 1e3 * total / n, "ms a molecule", note)
        for part, seconds in made.parts(clock).items():
            share = f"{100 * seconds / total:.0f} % of it" if total else ""
            yield Figure(title, f"  {part}", 1e3 * seconds / n, "ms a molecule", share)
    yield Figure(title, "strictly valid", valid, "%")
    for clock, unit in (("cpu", "a CPU second"), ("wall", "a second")):
        seconds = max(getattr(made.total, clock), 1e-9)
        yield Figure(title, "strictly valid molecules", valid / 100 * n / seconds, unit)


def _network(cost: NetworkCost) -> Iterator[Figure]:
    case = cost.case
    title = f"one evaluation of {case.name}, {case.rows} molecules of {case.atoms} atoms"
    yield Figure(title, "parameters", case.parameters / 1e6, "million")
    yield Figure(title, "matrix products", cost.flops / case.rows / 1e9, "GFLOP a molecule")
    yield Figure(title, "CPU time", cost.milliseconds("network"), "ms a molecule")
    same = "with as many FLOP, in turns with the network"
    yield Figure(title, "plain product", cost.milliseconds("dense"), "ms a molecule", same)
    yield Figure(title, "ratio", cost.ratio, "network / plain product", "the machine cancels")
    for kind, share in cost.shares.items():
        yield Figure(title, f"  {kind}", 100 * share, "% of CPU time")
    if not case.published:
        return
    theirs = "their code, same batch and one thread, another machine: not run here"
    yield Figure(title, "published implementation", case.published, "ms a molecule", theirs)
    yield Figure(
        title, "bar", case.published / 2, "ms a molecule", "half of the published implementation"
    )


def table(figures: Sequence[Figure]) -> list[str]:
    """The figures as lines of text, section by section."""
    width = max(len(one.name) for one in figures)
    lines: list[str] = []
    section = ""
    for one in figures:
        if one.section != section:
            section = one.section
            lines += ["", section]
        value = f"{one.value:,.0f}" if one.value >= 1000 else f"{one.value:.3g}"
        note = f"  ({one.note})" if one.note else ""
        lines.append(f"  {one.name:<{width}} {value:>8} {one.unit}{note}")
    return lines


def _header(model: str, threads: int) -> str:
    import os
    import platform

    import torch

    plural = "" if threads == 1 else "s"
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    return f"model {model}, {threads} thread{plural}, torch {torch.__version__}, {machine}"


def _check_target(output: Path, force: bool) -> None:
    from pipelines.report import check_output

    if output.suffix.lower() != ".csv":
        raise ConfigError(f"cannot write {output.name!r}: expected a file name ending in .csv")
    check_output(output, force)


def _write(output: Path, figures: Sequence[Figure]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([one.name for one in fields(Figure)])
    writer.writerows((s, name.strip(), *rest) for s, name, *rest in map(astuple, figures))
    try:
        output.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
