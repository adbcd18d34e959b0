"""How often docking finds a known pose again: every complex of a folder, streamed to a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError
from pipelines.streamed import StreamedTable, check_output, finished

if TYPE_CHECKING:
    from molgen.datasets.complexes import ComplexFiles
    from molgen.docking.redock import RedockItem

COLUMNS = (
    "name",
    "rotatable_bonds",
    "heavy_atoms",
    "top1_rmsd",
    "best_rmsd",
    "aligned_rmsd",
    "free_rmsd",
    "poses",
    "vina_dock",
    "seconds",
    "exhaustiveness",
    "padding",
    "seed",
    "model",
    "notes",
    "reason",
)
NEAR = 2.0
"""A pose this near to the known one counts as found, Angstrom."""

FLEXIBLE = 6
"""Ligands with more rotatable bonds are reported apart."""


def bench_redocking(
    complexes: Path,
    output: Path = Path("redocking.csv"),
    number: int | None = None,
    max_rotatable: int | None = None,
    model: str | None = None,
    exhaustiveness: int = 8,
    padding: float = 5.0,
    seed: int = 0,
    time_limit: float = 900.0,
    resume: bool = False,
    force: bool = False,
) -> str:
    """Redock the ligands of known complexes with AutoDock Vina from fresh conformers.

    The box is the known ligand's extent with a margin; the conformer is new (ETKDGv3, MMFF94s, or a
    model's), so that nothing but stereo is known of the pose. Ligands of at most six rotatable
    bonds come first. Every finished complex is in the table at once, with its result or the reason
    why there is none.

    Args:
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand.
        output: .csv file, one row a complex.
        number: Only so many complexes, evenly spread over the folder.
        max_rotatable: Only ligands with so many rotatable bonds or fewer.
        model: Name or file of a model whose conformers are docked, and its poses ranked, as
            `generate conformers --pocket` does.
        exhaustiveness: Independent searches of Vina for each ligand.
        padding: Margin of the box around the known ligand, Angstrom.
        seed: Seed of conformers and searches.
        time_limit: Wall seconds for a complex; what takes longer is given up and said so.
        resume: Go on with an interrupted run.
        force: Overwrite `output`.

    Returns:
        Shares of complexes whose first pose is within 2 Angstrom, with 95 % intervals, and the
        median aligned RMSD of the first pose and of the first conformer without a pocket.

    Raises:
        ConfigError: An option is outside what is allowed, or Vina is not installed.
        DataError: There are no complexes.
        ModelFileError: The model is unknown, or its files are broken.
        OutputError: `output` exists without `force` or `resume`, or cannot be written.
    """
    _check(number, exhaustiveness, time_limit, output, resume, force)
    from tqdm import tqdm

    from molgen.datasets.complexes import find_complexes
    from molgen.docking.job import PoseSettings, generator
    from molgen.docking.redock import RedockItem
    from molgen.docking.vina import check_installed

    check_installed()
    if model is not None:
        generator(PoseSettings(model))  # a wrong model ends the run before any work
    same = {
        "exhaustiveness": exhaustiveness,
        "padding": padding,
        "seed": seed,
        "model": model or "",
    }
    done = finished(output, same, COLUMNS) if resume else []
    known = {str(row["name"]) for row in done}
    found = spread(find_complexes(complexes), number)
    listed, failed = by_flexibility(found, max_rotatable)
    items = [
        RedockItem(c.name, c.protein, c.ligand, exhaustiveness, 9, seed, padding, model)
        for c in listed
        if c.name not in known
    ]
    rows = list(done)
    with StreamedTable(output, COLUMNS, append=bool(done)) as table:
        for row in (row for row in failed if row["name"] not in known):
            rows.append(table.write(row | same))
        with tqdm(total=len(items), desc="redocking", unit="complex", smoothing=0.1) as bar:
            for row in redocked(items, time_limit):
                rows.append(table.write(row | same))
                bar.update()
    return "\n".join([*summary(rows), f"written: {output}"])


def _check(
    number: int | None,
    exhaustiveness: int,
    time_limit: float,
    output: Path,
    resume: bool,
    force: bool,
) -> None:
    for name, value in (("number", number), ("exhaustiveness", exhaustiveness)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if not (math.isfinite(time_limit) and time_limit > 0):
        raise ConfigError(f"--time-limit: expected seconds above 0, got {time_limit}")
    check_output(output, resume=resume, force=force)


def spread(found: list[ComplexFiles], number: int | None) -> list[ComplexFiles]:
    """So many of the complexes, evenly spread; all without a number."""
    from molgen.evaluate.rows import is_sampled

    if number is None:
        return found
    return [c for k, c in enumerate(found) if is_sampled(k, number, len(found))]


def by_flexibility(
    found: list[ComplexFiles], most: int | None
) -> tuple[list[ComplexFiles], list[dict[str, Any]]]:
    """Complexes, the less flexible half first, and rows for ligands that cannot be read."""
    from molgen.docking.pocket import read_reference
    from molgen.docking.redock import describe

    counted, failed = [], []
    for one in found:
        try:
            bonds = describe(read_reference(one.ligand))["rotatable_bonds"]
        except (DataError, ConfigError) as error:
            failed.append({"name": one.name, "reason": " ".join(str(error).split())})
            continue
        if most is None or bonds <= most:
            counted.append((bonds, one))
    # an interrupted run has a fair part of the ligands that the bar is about
    return [one for _, one in sorted(counted, key=lambda pair: pair[0] > FLEXIBLE)], failed


def redocked(items: Sequence[RedockItem], time_limit: float) -> Iterator[dict[str, Any]]:
    """A row for every complex, from a supervised process: one that hangs or dies costs its own."""
    from molgen.docking.redock import redock
    from molgen.evaluate.workers import Lost, map_supervised

    results = map_supervised(redock, items, workers=1, time_limit=time_limit, lease=1)
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Lost):
            yield {"name": item.name, **(result.partial or {}), "reason": result.why}
        else:
            yield result


def summary(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Shares of first poses, and of any pose, within 2 Angstrom."""
    listed = list(rows)
    failed = [row for row in listed if row["reason"]]
    good = [row for row in listed if not row["reason"]]
    lines = [f"{len(listed)} complexes: {len(good)} redocked, {len(failed)} with a reason why not"]
    few = [r for r in good if int(r["rotatable_bonds"]) <= FLEXIBLE]
    many = [r for r in good if int(r["rotatable_bonds"]) > FLEXIBLE]
    lines += ["| ligands | complexes | first pose < 2 A | 95 % interval | any pose < 2 A |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name, part in (
        (f"at most {FLEXIBLE} rotatable bonds", few),
        (f"more than {FLEXIBLE}", many),
        ("all", good),
    ):
        if part:
            lines.append(_line(name, part))
    return [*lines, *_aligned(good), *(f"{row['name']}: {row['reason']}" for row in failed)]


def _aligned(rows: list[dict[str, Any]]) -> list[str]:
    """What a pocket is worth to the conformation."""
    if not rows:
        return []
    bound, free = (median(float(r[n]) for r in rows) for n in ("aligned_rmsd", "free_rmsd"))
    return [
        f"aligned RMSD, median: first pose {bound:.3f} A, first conformer without a pocket "
        f"{free:.3f} A"
    ]


def _line(name: str, rows: list[dict[str, Any]]) -> str:
    n = len(rows)
    first = sum(float(r["top1_rmsd"]) <= NEAR for r in rows)
    best = sum(float(r["best_rmsd"]) <= NEAR for r in rows)
    low, high = wilson(first, n)
    return (
        f"| {name} | {n} | {100 * first / n:.1f} % | {100 * low:.0f} to {100 * high:.0f} % "
        f"| {100 * best / n:.1f} % |"
    )


def wilson(count: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    p = count / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half
