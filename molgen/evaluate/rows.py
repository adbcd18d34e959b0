"""One molecule, one row: whatever goes wrong with a molecule is said in its row and stays there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from rdkit import Chem, rdBase

from diffcore.errors import DesignloomError
from molgen.evaluate.prepared import Prepared, Valencies
from molgen.evaluate.table import METRICS, Cost, Metric
from molgen.evaluate.validity import reason as strict_reason
from molgen.evaluate.workers import Lost, map_supervised
from molgen.io import Entry, Record, parse, to_binary

if TYPE_CHECKING:
    from molgen.docking.pocket import Pocket

Row = dict[str, Any]

COSTS: tuple[str, ...] = get_args(Cost)
"""The sets of metrics, cheapest first; the first is always measured."""

LIMITS: Mapping[str, float] = {
    "cheap": 60.0,
    "posebusters": 300.0,
    "xtb": 600.0,
    "strain": 600.0,
    "pocket": 300.0,
    "docking": 1200.0,
}
"""Wall seconds that a set may take for one molecule where no time limit is given."""

DEFAULT_LIMIT = 60.0
"""The same for a set that is not listed."""

_DOING = "_doing"


class Job(NamedTuple):
    """One molecule to score.

    Attributes:
        number: Its place in the set.
        thing: What was given: a molecule, an entry, a record of a file, None or anything wrong.
        dear: Measure the sets beyond the cheap one, too.
    """

    number: int
    thing: Any
    dear: bool


@dataclass(frozen=True)
class Plan:
    """What to measure; the same for all molecules of a set, and picklable.

    Attributes:
        include: Sets beyond the cheap one.
        valencies: Allowed valencies of the reference, or None.
        metrics: Name -> metric with a row function, of the sets to measure.
        sampled: Only some molecules get the sets beyond the cheap one.
        missing: Name of a metric -> what to install before it can be measured.
        pocket: What poses are judged in, or None.
    """

    include: tuple[str, ...] = ()
    valencies: Valencies | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    sampled: bool = False
    missing: Mapping[str, str] = field(default_factory=dict)
    pocket: Pocket | None = None

    @classmethod
    def of(
        cls,
        include: Iterable[str],
        valencies: Valencies | None,
        sampled: bool = False,
        pocket: Pocket | None = None,
    ) -> Plan:
        """The plan for the sets to include, with the metrics that `METRICS` holds now."""
        chosen = tuple(cost for cost in COSTS[1:] if cost in set(include))
        sets = (COSTS[0], *chosen)
        found = {k: m for k, m in METRICS.items() if m.row is not None and m.cost in sets}
        missing = {key: metric.missing for key, metric in found.items() if metric.missing}
        return cls(chosen, valencies, found, sampled, missing, pocket)

    @cached_property
    def stages(self) -> list[tuple[str, dict[str, Metric]]]:
        """(set, its metrics) in the order of measuring."""
        return [
            (cost, {key: metric for key, metric in self.metrics.items() if metric.cost == cost})
            for cost in (COSTS[0], *self.include)
        ]

    @property
    def time_limit(self) -> float:
        """Wall seconds for a molecule where none are given."""
        return sum(LIMITS.get(cost, DEFAULT_LIMIT) for cost in (COSTS[0], *self.include))

    def blank(self, job: Job, name: str) -> Row:
        """The row of a molecule of which nothing is known yet."""
        row: Row = {"index": job.number, "name": name}
        for key, metric in self.metrics.items():
            measured = job.dear or metric.cost == COSTS[0]
            row[key] = metric.failed if measured else None
        if self.sampled:
            row["sampled"] = job.dear
        return row | {"reason": "", "error": ""}


def make_row(job: Job, tell: Callable[[Row], None], plan: Plan) -> Row:
    """Measures one molecule; never raises.

    Args:
        job: The molecule.
        tell: Takes the row as far as it is known before each dear set.
        plan: What to measure.
    """
    entry = opened(job)
    row = plan.blank(job, entry.name)
    if entry.mol is None:
        wrong = entry.reason or "no molecule"
        kind = "no molecule" if wrong.startswith("expected an rdkit") else wrong
        return row | {"reason": kind, "error": wrong}
    errors: dict[str, list[str]] = {}
    with rdBase.BlockLogs():
        prepared = Prepared(entry.mol, plan.valencies, plan.pocket)
        row["reason"] = _measure("reason", strict_reason, prepared, errors) or ""
        for stage, metrics in plan.stages:
            if stage != COSTS[0]:
                if not job.dear:
                    break
                tell(_concluded(row, errors) | {_DOING: stage})
            for key, metric in metrics.items():
                if key in plan.missing:
                    errors.setdefault(plan.missing[key], []).append(key)
                    row[key] = None
                else:
                    row[key] = _measure(key, metric.row, prepared, errors, metric.failed)
    return _concluded(row, errors)


def _concluded(row: Row, errors: Mapping[str, list[str]]) -> Row:
    said = "; ".join(f"{_listed(columns)}: {what}" for what, columns in errors.items())
    failed = said and not row["strict_valid"] and not row["reason"]
    return row | {"error": said, "reason": "scoring failed" if failed else row["reason"]}


def _listed(columns: list[str]) -> str:
    more = f" and {len(columns) - 2} more" if len(columns) > 2 else ""
    return ", ".join(columns[:2]) + more


def _measure(
    name: str, function: Any, prepared: Prepared, errors: dict[str, list[str]], failed: Any = None
) -> Any:
    try:
        return function(prepared)
    except Exception as error:  # a hostile molecule must cost one cell, not the batch
        lines = str(error).strip().splitlines() or [""]
        kind = "" if isinstance(error, DesignloomError) else f"{type(error).__name__}: "
        errors.setdefault(kind + lines[0], []).append(name)
        return failed


def opened(job: Job) -> Entry:
    """The molecule of a job with its name, or the reason why there is none."""
    thing = job.thing
    if isinstance(thing, Record):
        thing = parse(thing)
    if isinstance(thing, Chem.Mol):
        thing = Entry(job.number, "", thing, "")
    if not isinstance(thing, Entry):
        got = f"expected an rdkit Mol, got {type(thing).__name__}"
        return Entry(job.number, "", None, "" if thing is None else got)
    name = thing.name
    if not name and thing.mol is not None and thing.mol.HasProp("_Name"):
        name = thing.mol.GetProp("_Name")
    return thing._replace(name=name)


def lost_row(job: Job, lost: Lost, plan: Plan) -> Row:
    """The row of a molecule whose process died or took too long: what was known, and why."""
    name = getattr(job.thing, "name", "")
    row = dict(lost.partial or plan.blank(job, name))
    doing = row.pop(_DOING, "")
    why = f"{lost.why} in {doing}" if doing else lost.why
    row["error"] = "; ".join(part for part in (row["error"], why) if part)
    if not row["strict_valid"] and not row["reason"]:
        row["reason"] = why
    return row


# ------------------------------------------------------------------------------------ all rows


def make_jobs(
    things: Iterable[Any], sample: int | None, total: int | None, start: int = 0
) -> Iterator[Job]:
    """Molecules as jobs, numbered from `start`; `sample` of `total` get the dear sets."""
    for number, thing in enumerate(things, start=start):
        yield Job(number, thing, sample is None or is_sampled(number, sample, total or 0))


def is_sampled(number: int, sample: int, total: int) -> bool:
    """Whether a molecule is one of `sample`, evenly spread over `total`."""
    sample = min(sample, total)
    return (number + 1) * sample // total > number * sample // total


def make_rows(
    jobs: Iterable[Job], plan: Plan, workers: int = 0, time_limit: float | None = None
) -> Iterator[Row]:
    """The rows of molecules, in order, as they are finished.

    Args:
        jobs: The molecules, consumed one by one.
        plan: What to measure.
        workers: Processes; 0 works in this one, where nothing can end a molecule that hangs.
        time_limit: Wall seconds for a molecule; the plan's own if left out.
    """
    if workers < 1:
        for job in jobs:
            yield make_row(job, lambda _: None, plan)
        return
    sent: dict[int, Job] = {}
    results = map_supervised(
        partial(make_row, plan=plan),
        _remembered(jobs, sent),
        workers=workers,
        time_limit=plan.time_limit if time_limit is None else time_limit,
        lease=1 if plan.include else 16,
        weight=_weight,
        warm_up=partial(_warm_up, plan),
    )
    for position, result in enumerate(results):
        job = sent.pop(position)
        yield lost_row(job, result, plan) if isinstance(result, Lost) else result


def _remembered(jobs: Iterable[Job], sent: dict[int, Job]) -> Iterator[Job]:
    """Jobs in a form that can be sent, each kept without its molecule until its row is there."""
    for position, job in enumerate(jobs):
        job = job._replace(thing=_portable(job))
        text = getattr(job.thing, "name", "")
        sent[position] = job._replace(thing=Entry(job.number, text, None, ""))
        yield job


def _portable(job: Job) -> Any:
    """What was given, with every molecule in RDKit's own binary form, to the last bit."""
    if isinstance(job.thing, Record) or job.thing is None:
        return job.thing
    entry = opened(job)
    if entry.mol is None:
        return entry
    return to_binary(job.number, entry.name, entry.mol)


def _weight(job: Job) -> int:
    return len(job.thing.text) if isinstance(job.thing, Record) else 1


def _warm_up(plan: Plan) -> None:
    """Loads whatever the metrics load at their first use, on no molecule's time."""
    atoms = ("C 0 0 0", "H .6 .6 .6", "H -.6 -.6 .6", "H -.6 .6 -.6", "H .6 -.6 -.6")
    block = "\n".join(["5", "methane", *atoms, ""])
    make_row(Job(0, Record(0, "", "xyz", block), True), lambda _: None, plan)
