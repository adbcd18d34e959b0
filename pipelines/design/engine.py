"""The loop: propose, evaluate, select, learn, record; the same however often it is interrupted.

What is proposed in a generation is a function of the campaign's settings, its seed and the finished
generations, and is written down before anything of it is evaluated. So a resumed campaign goes on
with the very candidates of the interrupted one, and evaluates those that have no result yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffcore.errors import YieldError
from pipelines.design.campaign import Campaign
from pipelines.design.evaluators import Evaluator
from pipelines.design.executors import Executor, Job, make_executor
from pipelines.design.history import History, Scored
from pipelines.design.proposals import Context, Proposal
from pipelines.design.versions import versions
from pipelines.store.database import Database
from pipelines.store.records import (
    CampaignRow,
    Candidate,
    Generation,
    Outcome,
    add_generation,
    add_outcomes,
    finish_generation,
    known_outcomes,
    open_campaign,
    read_candidates,
    read_generations,
    set_status,
)

if TYPE_CHECKING:
    import pandas as pd

WORTH = 0.05
"""Results are written as soon as so many seconds of evaluation would be lost with them."""

MOST = 500
"""And at the latest when there are so many."""


@dataclass(frozen=True)
class Progress:
    """What a campaign tells while it runs.

    Attributes:
        campaign: which one.
        row: as it stands in the store.
        history: the finished generations.
        generation: number of the one in work.
        done: evaluated candidates, those of earlier runs included.
        total: candidates that were asked for.
        began: candidates that were there when this run started.
        seconds: since this run started.
    """

    campaign: Campaign
    row: CampaignRow
    history: History
    generation: int
    done: int
    total: int
    began: int
    seconds: float


@dataclass(frozen=True)
class Finished:
    """A campaign that has run to its end.

    Attributes:
        campaign: which one.
        history: all candidates with values, and the Pareto front (`history.best`).
        hypervolumes: after each generation; None without a reference.
        evaluated: evaluations that this run made.
        known: evaluations that were in the store already.
    """

    campaign: Campaign
    history: History
    hypervolumes: tuple[float | None, ...]
    evaluated: int
    known: int

    @property
    def front(self) -> list[Scored]:
        """The candidates that no other one dominates."""
        return self.history.best

    @property
    def hypervolume(self) -> float | None:
        """Of the front."""
        return self.history.hypervolume()

    def table(self) -> pd.DataFrame:
        """All candidates, one row each."""
        from pipelines.store.export import campaign_frame

        return campaign_frame(self.campaign.store, self.campaign.name)


def run(
    campaign: Campaign,
    *,
    resume: bool = False,
    tell: Callable[[Progress], object] | None = None,
    executor: Executor | None = None,
) -> Finished:
    """Runs a campaign, or what is left of it.

    Args:
        campaign: see `pipelines.design.campaign.make_campaign`.
        resume: go on with what the store holds; a campaign that is not there is started.
        tell: called whenever results were written.
        executor: in place of the campaign's own; it is not closed.

    Raises:
        OutputError: the store holds the campaign and `resume` is not given, holds another one of
            its name, is written by another run, or cannot be written.
        DataError: the store is none, or one of a newer version.
        YieldError: the generator gives nothing new.
    """
    with Database(campaign.store, write=True) as database:
        about = (versions(), dict(campaign.source.identity))
        row = open_campaign(
            database, campaign.name, campaign.settings, campaign.seed, about, resume
        )
        own = executor is None
        crew = executor or make_executor(*campaign.executor)
        loop = _Loop(campaign, database, row, crew, tell)
        with closing(crew if own else _NoClose()):
            try:
                result = loop.go()
            except BaseException:
                _note(database, row, "stopped")
                raise
        set_status(database, row.id, "done")
        return result


class _NoClose:
    def close(self) -> None:
        """Somebody else's executor stays."""


def _note(database: Database, row: CampaignRow, status: str) -> None:
    """Says how a run ended; the error that ended it is the one to report."""
    from contextlib import suppress

    with suppress(Exception):
        set_status(database, row.id, status)


class _Loop:
    """One run."""

    def __init__(
        self,
        campaign: Campaign,
        database: Database,
        row: CampaignRow,
        executor: Executor,
        tell: Callable[[Progress], object] | None,
    ) -> None:
        self.campaign, self.database, self.row, self.executor = campaign, database, row, executor
        self.tell = tell
        self.history = History(campaign.aims)
        self.hypervolumes: list[float | None] = []
        self.evaluated = self.known = self.done = self.began = 0
        self.start = time.monotonic()

    def go(self) -> Finished:
        there = {one.number: one for one in read_generations(self.database, self.row.id)}
        finished = [one for one in there.values() if one.seconds is not None]
        self.began = self.campaign.batch * len(finished)
        for number in range(self.campaign.generations):
            self._generation(number, there.get(number))
        return Finished(
            self.campaign,
            self.history,
            tuple(self.hypervolumes),
            self.evaluated,
            self.known,
        )

    def _generation(self, number: int, there: Generation | None) -> None:
        began = time.monotonic()
        if there is None:
            proposal = self._propose(number)
            add_generation(self.database, self.row.id, number, proposal.candidates, proposal.notes)
        else:
            candidates = read_candidates(self.database, self.row.id, number)
            proposal = Proposal(candidates, dict(there.notes))
        values = self._evaluate(proposal.candidates, number)
        self.history.add(number, proposal.candidates, values, proposal.notes)
        volume = self.history.hypervolume()
        self.hypervolumes.append(volume)
        if there is None or there.seconds is None:
            seconds = time.monotonic() - began
            finish_generation(self.database, self.row.id, number, seconds, volume)
        self._say(number + 1)

    def _propose(self, number: int) -> Proposal:
        campaign = self.campaign
        context = Context(campaign.source, campaign.aims, campaign.seed, campaign.batch, number)
        proposal = campaign.strategy(context, self.history)
        if not proposal.candidates and not self.history.rows:
            invalid, drawn = proposal.notes.get("invalid", 0), proposal.notes.get("drawn", 0)
            raise YieldError(
                f"the generator {campaign.source.name!r} gives no candidates: of {drawn} objects "
                f"{invalid} are none"
            )
        return proposal

    def _evaluate(self, candidates: Sequence[Candidate], number: int) -> list[dict[str, float]]:
        """Values of each candidate: cheap evaluators first, the others where constraints hold."""
        values: dict[str, dict[str, float]] = {one.key: {} for one in candidates}
        done_before = self.done
        stages = [
            [one for one in self.campaign.evaluators if one.dear is dear] for dear in (False, True)
        ]
        stages = [stage for stage in stages if stage]
        for place, stage in enumerate(stages):
            last = place + 1 == len(stages)
            left = [one for one in candidates if not self.campaign.aims.refused(values[one.key])]
            if last:
                self.done = done_before + len(candidates) - len(left)
            self._stage(left, tuple(stage), values, number, last)
        self.done = done_before + len(candidates)
        return [values[one.key] for one in candidates]

    def _stage(
        self,
        candidates: Sequence[Candidate],
        stage: tuple[Evaluator, ...],
        values: dict[str, dict[str, float]],
        number: int,
        count: bool,
    ) -> None:
        keys = {(one.key, e.name): e.key(one.key) for one in candidates for e in stage}
        known = known_outcomes(self.database, list(keys.values()))
        self.known += len(known)
        jobs = []
        for one in candidates:
            todo = []
            for evaluator in stage:
                found = known.get(keys[one.key, evaluator.name])
                if found is None:
                    todo.append(evaluator)
                elif found.value is not None:
                    values[one.key][evaluator.name] = found.value
            if todo:
                jobs.append(Job(one.form, one.content, one.key, tuple(todo)))
            else:
                self.done += count
        for outcomes in self._written(self.executor.run(jobs), keys, count):
            for outcome in outcomes:
                if outcome.value is not None:
                    values[outcome.candidate][outcome.evaluator] = outcome.value
            self._say(number)

    def _written(
        self, results: Iterator[Any], keys: dict[tuple[str, str], str], count: bool
    ) -> Iterator[list[Outcome]]:
        """Results in portions, each after it was written."""
        waiting: list[Outcome] = []
        since = time.monotonic()
        for job, found in results:
            waiting += [
                Outcome(keys[job.key, name], job.key, name, value, reason, seconds)
                for name, value, reason, seconds in found
            ]
            self.done += count
            worth = sum(one.seconds for one in waiting[-len(found) :])
            late = time.monotonic() - since > 1.0
            if worth > WORTH or len(waiting) >= MOST or late or self._worth(waiting):
                yield self._write(waiting)
                waiting, since = [], time.monotonic()
        if waiting:
            yield self._write(waiting)

    def _worth(self, waiting: Sequence[Outcome]) -> bool:
        return len(waiting) % 16 == 0 and sum(one.seconds for one in waiting) > WORTH

    def _write(self, outcomes: list[Outcome]) -> list[Outcome]:
        add_outcomes(self.database, outcomes)
        self.evaluated += len(outcomes)
        return outcomes

    def _say(self, number: int) -> None:
        if self.tell is None:
            return
        total = self.campaign.batch * self.campaign.generations
        seconds = time.monotonic() - self.start
        self.tell(
            Progress(
                self.campaign,
                self.row,
                self.history,
                number,
                min(self.done, total),
                total,
                self.began,
                seconds,
            )
        )
