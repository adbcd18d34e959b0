"""Scoring a molecule file from any tool: the command `designloom evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference
    from molgen.docking.pocket import Pocket
    from molgen.evaluate.journal import Journal
    from molgen.evaluate.rows import Plan
    from molgen.evaluate.score import Evaluation
    from molgen.io import Record

OUTPUTS = (".html", ".csv")

SMALL = 1000
"""A file of no more entries is scored in this process, unless more than the cheap set is asked."""


@dataclass(frozen=True)
class Scoring:
    """How a file is to be scored.

    Attributes:
        path: The file.
        total: Its entries.
        plan: What to measure.
        reference: What to judge against.
        sample: On how many molecules the dear sets are measured; None for all.
        processes: How many to start; 0 for none.
        time_limit: Wall seconds for a molecule, or None for the plan's own.
    """

    path: Path
    total: int
    plan: Plan
    reference: Reference | None
    sample: int | None
    processes: int
    time_limit: float | None


def evaluate_file(
    path: str | Path,
    output: str | Path | None = None,
    reference: str | None = "qm9",
    include: str = "",
    sample: int | None = None,
    workers: int | None = None,
    time_limit: float | None = None,
    resume: bool = False,
    force: bool = False,
    pocket: Path | None = None,
    reference_ligand: Path | None = None,
    centre: str | None = None,
    box: str | None = None,
) -> Evaluation:
    """Score a molecule file, print the summary, write a report or the rows.

    Every finished row is on disk at once, in a file beside the output that is taken away in the
    end, so that an interrupted run can be resumed.

    Args:
        path: .sdf, .mol, .smi, .smiles or .xyz file, each also with .gz.
        output: .html (a self-contained report) or .csv (one row a molecule); None to print only.
        reference: Name of a shipped reference; None or "none" to judge without one.
        include: Sets of metrics beyond the cheap one, with commas: posebusters,xtb,strain,docking.
        sample: Measure those on so many molecules only, evenly spread over the file.
        workers: Processes; 0 for one a core. Left out, a small file is scored in this process and
            others by one a core.
        time_limit: Wall seconds for a molecule; what takes longer is given up and said so.
        resume: Go on with an interrupted run of the same file into the same output.
        force: Overwrite `output`.
        pocket: PDB file of the protein that the molecules are poses in: they are scored and
            minimised by AutoDock Vina and checked by PoseBusters.
        reference_ligand: SDF file of the known pose, for RMSD and the box.
        centre: Middle of the box for docking, as x,y,z in Angstrom; by default that of the
            reference ligand, or of the first pose.
        box: Edge of the box, or three as x,y,z, in Angstrom.

    Returns:
        The rows and the summary.

    Raises:
        ConfigError: An option is outside what is allowed; unknown suffix.
        DataError: The file is missing, empty or holds no readable molecule; unknown reference.
        OutputError: `output` exists without `force`, cannot be written, or is not what `resume`
            could go on with.
    """
    target = None if output is None else Path(output)
    _check_target(target, resume, force)
    place = given_pocket(Path(path), pocket, reference_ligand, centre, box)
    scoring = prepare(Path(path), reference, include, sample, workers, time_limit, place)
    if target is None:
        evaluation = score_entries(scoring, None)
    else:
        evaluation = _score_into(scoring, target, resume, force)
    sys.stdout.write(evaluation.text() + "\n")
    if target is not None:
        sys.stdout.write(f"written: {target}\n")
    return evaluation


def prepare(
    path: Path,
    reference: str | None,
    include: str,
    sample: int | None,
    workers: int | None,
    time_limit: float | None,
    pocket: Pocket | None = None,
) -> Scoring:
    """Checks the options and the file before any work."""
    from molgen.evaluate.options import check_sample, cores, processes_for, sets_with_pocket
    from molgen.evaluate.rows import Plan
    from molgen.evaluate.score import find_reference
    from molgen.io import count_records, read_records

    sets = sets_with_pocket(include, pocket)
    processes = processes_for(1 if workers is None else workers, time_limit)
    known = find_reference(None if reference in (None, "none") else str(reference))
    read_records(path)
    total = count_records(path)
    check_sample(sample, sets, total)
    if workers is None and (sets or total > SMALL):
        processes = cores()
    plan = Plan.of(sets, None if known is None else known.valency, sample is not None, pocket)
    return Scoring(path, total, plan, known, sample, processes, time_limit)


def given_pocket(
    path: Path,
    pocket: Path | None,
    reference_ligand: Path | None,
    centre: str | None,
    box: str | None,
) -> Pocket | None:
    """The pocket that the options say; the box is around the first pose where they do not say.

    Raises:
        ConfigError: An option is given without the protein, or holds no numbers.
        DataError: A file cannot be read, or the box or ligand is outside the protein.
    """
    if pocket is None:
        for name, value in (
            ("reference-ligand", reference_ligand),
            ("centre", centre),
            ("box", box),
        ):
            if value is not None:
                raise ConfigError(f"--{name}: expected --pocket beside it")
        return None
    from molgen.docking.pocket import numbers, pose_centre, read_pocket

    middle = None if centre is None else numbers("centre", centre, (3,))
    edges = None if box is None else numbers("box", box, (1, 3))
    if reference_ligand is None and middle is None:
        middle = pose_centre(path)
    size = edges[0] if edges is not None and len(edges) == 1 else edges
    return read_pocket(pocket, reference_ligand, centre=middle, box=size)


def _score_into(scoring: Scoring, target: Path, resume: bool, force: bool) -> Evaluation:
    from molgen.evaluate.journal import Journal, identity, journal_path

    name = "none" if scoring.reference is None else scoring.reference.name
    header = identity(scoring.path, scoring.plan, name, scoring.sample)
    journal = Journal(journal_path(target), header, resume, force)
    evaluation = score_entries(scoring, journal)
    if target.suffix.lower() == ".html":
        _write_report(scoring, evaluation, target, force or resume)
    else:
        evaluation.to_csv(target, force or resume)
    journal.remove()
    return evaluation


def score_entries(scoring: Scoring, journal: Journal | None) -> Evaluation:
    """Scores the entries that the journal does not hold yet."""
    from molgen.evaluate.collect import Rows
    from molgen.evaluate.score import conclude

    rows = Rows(scoring.reference)
    with journal or nullcontext():
        for row in () if journal is None else journal.rows():
            rows.add(row)
        try:
            for row in _new_rows(scoring, rows.count):
                if journal is not None:
                    journal.write(row)
                rows.add(row)
        except KeyboardInterrupt:
            if journal is None:
                raise
            done = f"{rows.count} of {scoring.total} entries are scored"
            raise KeyboardInterrupt(f"interrupted: {done}; --resume continues") from None
    evaluation = conclude(rows, scoring.reference, {"file": scoring.path.name}, progress=True)
    unread = evaluation.table["smiles"].isna()
    if unread.all():
        if journal is not None:
            journal.remove()
        first = evaluation.table["reason"].iloc[0]
        raise DataError(
            f"{scoring.path}: none of {len(unread)} entries is readable; the first: {first}"
        )
    return evaluation


def _new_rows(scoring: Scoring, start: int) -> Iterable[dict[str, Any]]:
    from molgen.evaluate.rows import make_jobs, make_rows
    from molgen.evaluate.score import rows_bar
    from molgen.io import read_records

    records = islice(read_records(scoring.path), start, None)
    jobs = make_jobs(records, scoring.sample, scoring.total, start)
    rows = make_rows(jobs, scoring.plan, scoring.processes, scoring.time_limit)
    return rows_bar(rows, scoring.total, True, start)


def _write_report(scoring: Scoring, evaluation: Evaluation, target: Path, force: bool) -> None:
    from molgen.evaluate.gallery import gallery
    from molgen.io import parse, read_records
    from pipelines.report import write_report

    unread = int(evaluation.table["smiles"].isna().sum())
    run = {"file": scoring.path.name, "entries": len(evaluation.table), "unreadable": unread}
    wanted = {index for group in gallery(evaluation.table) for index in group.indices}
    records = (record for record in read_records(scoring.path) if record.number in wanted)
    mols = {record.number: parse(record).mol for record in records if _safe(record, evaluation)}
    write_report(mols, evaluation, target, f"Evaluation of {scoring.path.name}", run, force)


def _safe(record: Record, evaluation: Evaluation) -> bool:
    """Whether a record was parsed before: one that ended its process is left alone."""
    return isinstance(evaluation.table["smiles"].iloc[record.number], str)


def _check_target(target: Path | None, resume: bool, force: bool) -> None:
    from molgen.evaluate.journal import journal_path
    from pipelines.report import check_output

    if resume and force:
        raise ConfigError("--resume continues a run and --force starts anew: give one of them")
    if target is None:
        if resume:
            raise ConfigError("--resume: expected the output (-o) of the interrupted run")
        return
    if target.suffix.lower() not in OUTPUTS:
        known = " or ".join(OUTPUTS)
        raise ConfigError(f"cannot write {target.name!r}: expected a file name ending in {known}")
    left = journal_path(target).exists()
    if resume and target.exists() and not left:
        raise OutputError(f"{target} is finished: nothing to resume (--force scores anew)")
    check_output(target, force or (resume and left))
