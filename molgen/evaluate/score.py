"""`evaluate`: a row a molecule, a summary a set; a failure costs one row, never the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError, DataError, OutputError
from diffcore.files import whole
from molgen.evaluate.collect import Rows
from molgen.evaluate.options import check_sample, processes_for, sets_with_pocket
from molgen.evaluate.rows import Plan, Row, make_jobs, make_rows
from molgen.evaluate.summary import count_reasons, describe, summarise
from molgen.io import Entry, Record

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference
    from molgen.docking.pocket import Pocket
    from molgen.evaluate.report import Report


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        table: One row a molecule, in the order given: index, name, the columns of `METRICS` that
            have a row function, reason (first strict check failed), unique (first occurrence of a
            valid molecule), novel, error (what went wrong while scoring), and with a sample
            `sampled` (the dear sets were measured, too).
        summary: One row a metric: metric, value, std (over 5 interleaved subsets, each scored as
            a set of its own), n (molecules or atoms counted), reference (the value of the
            reference's own molecules, where known), unit, family, definition.
        reference: What the set was judged against, if anything.
        mols: The molecules, where a list of them was scored; the report draws some of them.
        run: How the set was made and scored, as far as it was said.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    reference: Reference | None = field(default=None, repr=False)
    mols: Sequence[Any] = field(default=(), repr=False)
    run: Mapping[str, Any] = field(default_factory=dict)

    def value(self, metric: str) -> float:
        """A value of the summary by name.

        Raises:
            ConfigError: No such metric.
        """
        found = self.summary.loc[self.summary["metric"] == metric, "value"]
        if found.empty:
            known = ", ".join(self.summary["metric"])
            raise ConfigError(f"no metric {metric!r} in the summary: expected one of {known}")
        return float(found.iloc[0])

    def reasons(self) -> dict[str, int]:
        """Kinds of failure (the part of `reason` before the colon) and how often each came."""
        return count_reasons(self.table)

    def errors(self) -> dict[str, int]:
        """What went wrong while scoring and in how many molecules; unreadable ones are left out."""
        read = self.table["error"].astype(bool) & (self.table["error"] != self.table["reason"])
        parts = self.table.loc[read, "error"].str.split("; ").explode()
        return {str(kind): int(count) for kind, count in parts.value_counts().items()}

    def to_csv(self, path: str | Path, force: bool = False) -> None:
        """Writes the rows as CSV, whole or not at all.

        Raises:
            OutputError: The file exists and `force` is not given, or it cannot be written.
        """
        path = Path(path)
        if path.exists() and not force:
            raise OutputError(f"{path} exists: give force (--force) to overwrite it")
        with whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            self.table.to_csv(file, index=False)

    def report(self, title: str = "Molecules", mols: Sequence[Any] | None = None) -> Report:
        """One page about the set, with pictures and a 3D viewer; a notebook shows it.

        Args:
            title: Heading.
            mols: The molecules in the order of the table, where they are not kept in `mols`.
        """
        from molgen.evaluate.report import report

        return report(self, title, mols)

    def text(self) -> str:
        """The summary as lines of text for a terminal."""
        return "\n".join(describe(self.table, self.summary, self.errors()))

    def _repr_html_(self) -> str:
        from molgen.evaluate.report import summary_html

        return summary_html(self)


def evaluate(
    mols: Iterable[Chem.Mol | Entry | Record | None],
    reference: str | Reference | None = "qm9",
    *,
    include: str | Iterable[str] = (),
    sample: int | None = None,
    workers: int = 1,
    time_limit: float | None = None,
    run: Mapping[str, Any] | None = None,
    progress: bool = True,
    pocket: Pocket | None = None,
) -> Evaluation:
    """Scores molecules by the metrics of `METRICS`; nothing given is changed.

    Args:
        mols: Molecules (sanitised or not, None for one that could not be made), entries or
            records of `molgen.io`; consumed one by one.
        reference: Name of a shipped reference, a `Reference`, or None to judge without: then
            valencies are RDKit's and stability and novelty stay empty.
        include: Sets of metrics beyond the cheap one: "posebusters", "xtb", "strain", and with a
            pocket "docking".
        sample: Measure those sets on so many molecules only, evenly spread over the set.
        workers: Processes; 0 for one a core. One works in this process, unless a time limit is
            given: only another process can be ended.
        time_limit: Wall seconds for a molecule. One that takes longer, or whose process dies, is
            reported as such in its own row. Left out, other processes have a minute for the cheap
            set, five for PoseBusters (which searches conformers) and ten for xTB.
        run: How the set was made. `seconds` (wall time to make all of them) and `evaluations`
            (network evaluations a molecule) are added to the summary.
        progress: Show a bar when it takes more than two seconds.
        pocket: The molecules are poses in this pocket (`molgen.docking.pocket.read_pocket`): the
            set "pocket" is measured, too.

    Returns:
        The row table and the summary.

    Raises:
        ConfigError: `mols` is one molecule, or an option is outside what is allowed.
        DataError: No molecules, or an unknown reference.
    """
    if isinstance(mols, Chem.Mol | str) or not isinstance(mols, Iterable):
        raise ConfigError(f"expected a list of molecules, got {type(mols).__name__}")
    known = find_reference(reference)
    total = len(mols) if isinstance(mols, Sequence) else None
    sets = sets_with_pocket(include, pocket)
    check_sample(sample, sets, total)
    processes = processes_for(workers, time_limit)
    plan = Plan.of(sets, None if known is None else known.valency, sample is not None, pocket)
    rows = Rows(known)
    made = make_rows(make_jobs(mols, sample, total), plan, processes, time_limit)
    for row in rows_bar(made, total, progress):
        rows.add(row)
    kept = mols if isinstance(mols, Sequence) else ()
    return conclude(rows, known, run or {}, kept, progress)


def conclude(
    rows: Rows,
    reference: Reference | None,
    run: Mapping[str, Any],
    mols: Sequence[Any] = (),
    progress: bool = False,
) -> Evaluation:
    """The evaluation of a set whose rows are all there.

    Raises:
        DataError: There are none.
    """
    if not rows.count:
        raise DataError("no molecules to evaluate: expected at least one, got an empty list")
    table = rows.table()
    with rdBase.BlockLogs():
        summary = summarise(table, reference, run, progress)
    return Evaluation(table, summary, reference, mols, dict(run))


def find_reference(reference: str | Reference | None) -> Reference | None:
    """A reference by name.

    Raises:
        DataError: There is none of this name.
    """
    if not isinstance(reference, str):
        return reference
    from molgen.datasets.reference import load_reference

    return load_reference(reference)


def rows_bar(
    rows: Iterable[Row], total: int | None, progress: bool, initial: int = 0
) -> Iterable[Row]:
    """The rows, under a bar with the time left that comes after two seconds."""
    from tqdm import tqdm

    bar: Iterable[Row] = tqdm(
        rows,
        desc="scoring",
        unit="mol",
        total=total,
        initial=initial,
        delay=2.0,
        mininterval=0.5,
        smoothing=0.05,
        disable=not progress,
        leave=False,
    )
    return bar
