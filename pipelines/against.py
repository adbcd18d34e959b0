"""Molecules of several tools, scored alike: `designloom bench molecules --against`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    import pandas as pd

    from molgen.datasets.reference import Reference

OUTPUTS = (".md", ".csv")

TABLES: Mapping[str, tuple[str, ...]] = {
    "Validity and diversity": (
        "strict_valid",
        "molecule_stability",
        "pb_valid",
        "pb_valid_no_energy",
        "uniqueness",
        "novelty",
        "valid_unique_novel",
        "internal_diversity",
    ),
    "Geometry and energy": (
        "mmff_strain",
        "xtb_energy",
        "xtb_rmsd",
        "xtb_failures",
        "bond_length_distance",
        "bond_angle_distance",
        "torsion_distance",
    ),
    "Chemistry against the reference": (
        "size_distance",
        "functional_group_distance",
        "unseen_ring_systems",
        "qed",
        "sa_score",
        "chirality_balance",
        "fcd",
    ),
    "Definitions of the papers, flaws included": (
        "edm_atom_stability",
        "edm_molecule_stability",
        "edm_validity",
        "midi_molecule_stability",
        "midi_validity",
        "connected_validity",
        "flowmol3_validity",
    ),
    "Cost": ("network_evaluations", "seconds_per_molecule"),
}
"""Title -> metrics of one table of the text; the .csv has them all."""


@dataclass(frozen=True)
class Comparison:
    """How sets are scored, all alike.

    Attributes:
        reference: Name of the reference.
        include: Sets of metrics beyond the cheap one, with commas.
        sample: On how many molecules of a set those are measured; None for all.
        workers: Processes; 0 for one a core, None for the default of `designloom evaluate`.
        time_limit: Wall seconds for a molecule.
    """

    reference: str = "qm9"
    include: str = ""
    sample: int | None = None
    workers: int | None = None
    time_limit: float | None = None


@dataclass(frozen=True)
class Line:
    """One set of the table.

    Attributes:
        name: Whose molecules.
        kind: "ours", "reference" or "other".
        n: Molecules.
        summary: Metric -> row of its summary; empty where the set could not be scored.
        note: How the set came about, or why it could not be scored.
    """

    name: str
    kind: str
    n: int
    summary: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""


def check_folder(folder: Path) -> list[Path]:
    """The molecule files of a folder, by name.

    Raises:
        ConfigError: It is no folder, or holds none.
    """
    from molgen.io import is_readable

    if not folder.is_dir():
        raise ConfigError(f"--against: expected a folder of molecule files, got {folder}")
    found = sorted(path for path in folder.iterdir() if path.is_file() and is_readable(path))
    if not found:
        raise ConfigError(f"--against: no molecule file (.sdf, .smi, .xyz, ...) in {folder}")
    return found


def compare(
    model: str, number: int, seed: int, files: Sequence[Path], how: Comparison
) -> list[Line]:
    """Generates, scores and compares.

    Args:
        model: Name or path of our model.
        number: Molecules to generate.
        seed: Seed of the random numbers.
        files: The others' molecules, one set a file.
        how: How each set is scored.
    """
    from molgen.evaluate.score import find_reference

    reference = find_reference(how.reference)
    assert reference is not None
    lines = [_ours(model, number, seed, how), _reference_line(reference, number, how)]
    return [*lines, *(_other(path, how) for path in files)]


def _scored(path: Path, how: Comparison) -> Any:
    from pipelines.evaluate import prepare, score_entries

    scoring = prepare(path, how.reference, how.include, how.sample, how.workers, how.time_limit)
    return score_entries(scoring, None)


def _by_metric(summary: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(row["metric"]): row for row in summary.to_dict("records")}


def _ours(model: str, number: int, seed: int, how: Comparison) -> Line:
    """Molecules made now, written and read like those of any other tool."""
    from molgen.evaluate.summary import summarise
    from molgen.generate import MoleculeGenerator
    from molgen.io import MoleculeWriter

    generator = MoleculeGenerator.from_pretrained(model)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ours.sdf"
        start = time.perf_counter()
        mols = generator.sample(number, seed=seed)
        seconds = time.perf_counter() - start
        with MoleculeWriter(path) as writer:
            for mol in mols:
                writer.write(mol)
        scored = _scored(path, how)
    run = {"seconds": seconds, "evaluations": generator.evaluations / number}
    summary = summarise(scored.table, scored.reference, run)
    settings = generator.sampling
    note = f"made now: seed {seed}, {settings.steps} steps of {settings.sampler}"
    return Line(f"designloom {model}", "ours", number, _by_metric(summary), note)


def _reference_line(reference: Reference, number: int, how: Comparison) -> Line:
    """What the reference knows of its own molecules, else its test molecules scored now."""
    from molgen.datasets.qm9 import cache_path

    name = f"{reference.name} test molecules"
    if reference.scores:
        sizes = {n for _, n in reference.scores.values()}
        summary = _stored(reference)
        n = summary["strict_valid"]["n"] if "strict_valid" in summary else max(sizes)
        return Line(name, "reference", int(n), summary, "values that the reference holds")
    if reference.name != "qm9" or not cache_path().exists():
        return Line(name, "reference", 0, note="neither stored values nor the data set are here")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "reference.sdf"
        _write_test_molecules(path, number)
        scored = _scored(path, how)
    return Line(name, "reference", number, _by_metric(scored.summary), "scored now, evenly spread")


def _stored(reference: Reference) -> dict[str, dict[str, Any]]:
    from molgen.evaluate.table import METRICS

    return {
        name: {
            "value": value * (100 if METRICS[name].unit == "%" else 1),
            "std": math.nan,
            "n": n,
            "unit": METRICS[name].unit,
            "family": METRICS[name].family,
            "definition": METRICS[name].definition,
        }
        for name, (value, n) in reference.scores.items()
        if name in METRICS
    }


def _write_test_molecules(path: Path, number: int) -> None:
    import numpy as np

    from molgen.datasets.qm9 import load
    from molgen.datasets.reference_statistics import molecules
    from molgen.io import MoleculeWriter

    table = load()
    test = table.split_indices("test").tolist()
    chosen = np.unique(np.linspace(0, len(test) - 1, min(number, len(test))).round().astype(int))
    with MoleculeWriter(path) as writer:
        for mol in molecules(table.select([test[i] for i in chosen])):
            writer.write(mol)


def _other(path: Path, how: Comparison) -> Line:
    try:
        scored = _scored(path, how)
    except DataError as error:
        return Line(path.name, "other", 0, note=str(error).replace(f"{path}", path.name))
    return Line(path.name, "other", len(scored.table), _by_metric(scored.summary))


# ---------------------------------------------------------------------------------------- output


def markdown(lines: Sequence[Line], how: Comparison) -> str:
    """The tables as text."""
    parts = []
    for title, metrics in TABLES.items():
        shown = [name for name in metrics if any(_known(line, name) for line in lines)]
        if shown:
            parts.append("\n".join([f"### {title}", "", *_table(lines, shown)]))
    notes = [f"- {line.name}: {line.note}." for line in lines if line.note]
    return "\n\n".join([*parts, "\n".join([_scorer(how), *notes])])


def _known(line: Line, metric: str) -> bool:
    row = line.summary.get(metric)
    return row is not None and not math.isnan(row["value"])


def _table(lines: Sequence[Line], metrics: Sequence[str]) -> Iterator[str]:
    yield "| set | n | " + " | ".join(_heading(lines, name) for name in metrics) + " |"
    yield "| --- | ---: | " + " | ".join("---:" for _ in metrics) + " |"
    for line in lines:
        cells = (_cell(line, name) for name in metrics)
        yield f"| {line.name.replace('|', '/')} | {line.n:,} | " + " | ".join(cells) + " |"


def _heading(lines: Sequence[Line], metric: str) -> str:
    unit = next((line.summary[metric]["unit"] for line in lines if metric in line.summary), "")
    return f"{metric.replace('_', ' ')}{f', {unit}' if unit else ''}"


def _cell(line: Line, metric: str) -> str:
    if not _known(line, metric):
        return "–"
    row = line.summary[metric]
    value, std = float(row["value"]), float(row["std"])
    text = _short(value)
    if not math.isnan(std):
        text += f" ± {_short(std)}"
    return text if row["n"] in (line.n, 0) else f"{text} ({row['n']:,})"


def _short(value: float) -> str:
    if value and abs(value) < 0.095:
        return f"{value:.2g}"
    if abs(value) < 10 or 99.9 < value < 100:  # almost all is not all
        return f"{value:.2f}"
    return f"{value:.1f}"


def _scorer(how: Comparison) -> str:
    dear = f"; {how.include} on {how.sample or 'all'} molecules of each set" if how.include else ""
    return (
        f"Scored against {how.reference}{dear}. ±: standard deviation over five subsets. In "
        "brackets: molecules, atoms or values counted where that is not n. A dash: not measured, "
        "or not known."
    )


def as_table(lines: Sequence[Line]) -> pd.DataFrame:
    """All metrics of all sets, one row each."""
    import pandas as pd

    columns = ["set", "kind", "molecules", "metric", "value", "std", "n", "unit", "family"]
    rows = [
        [line.name, line.kind, line.n, name]
        + [row[key] for key in ("value", "std", "n", "unit", "family")]
        for line in lines
        for name, row in line.summary.items()
    ]
    return pd.DataFrame(rows, columns=columns)


def check_output(output: Path, force: bool) -> None:
    """Raises early if the output cannot be written."""
    from pipelines.report import check_output as check

    if output.suffix.lower() not in OUTPUTS:
        known = " or ".join(OUTPUTS)
        raise ConfigError(f"cannot write {output.name!r}: expected a file name ending in {known}")
    check(output, force)


def write(lines: Sequence[Line], how: Comparison, output: Path) -> None:
    """Writes the comparison as .md or .csv.

    Raises:
        OutputError: It cannot be written.
    """
    csv = output.suffix.lower() == ".csv"
    text = as_table(lines).to_csv(index=False) if csv else markdown(lines, how) + "\n"
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
