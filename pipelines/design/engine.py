"""The loop: propose, evaluate, select, learn, record; the same however often it is interrupted.

What is proposed in a generation is a function of the campaign's settings, its seed and the finished
generations, and is written down before anything of it is evaluated. So a resumed campaign goes on
with the very candidates of the interrupted one, and evaluates those that have no result yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from diffcore.errors import YieldError
from pipelines.design.campaign import Campaign
from pipelines.design.executors import Executor, make_executor
from pipelines.design.history import History, Scored
from pipelines.design.proposals import Context, Proposal
from pipelines.design.scoring import Scorer
from pipelines.design.versions import versions
from pipelines.store.database import Database
from pipelines.store.records import (
    CampaignRow,
    Generation,
    add_generation,
    finish_generation,
    open_campaign,
    read_candidates,
    read_generations,
    set_status,
)

if TYPE_CHECKING:
    import pandas as pd


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
        place = getattr(executor, "place", None)
        self.source = campaign.source if place is None else place(campaign.source)
        self.history = History(campaign.aims)
        self.hypervolumes: list[float | None] = []
        self.done = self.began = self.number = 0
        self.scorer = Scorer(
            database, executor, campaign.evaluators, campaign.aims.refused, self._count
        )
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
            self.scorer.evaluated,
            self.scorer.known,
        )

    def _generation(self, number: int, there: Generation | None) -> None:
        began = time.monotonic()
        if there is None:
            proposal = self._propose(number)
            add_generation(self.database, self.row.id, number, proposal.candidates, proposal.notes)
        else:
            candidates = read_candidates(self.database, self.row.id, number)
            proposal = Proposal(candidates, dict(there.notes))
        self.number = number
        values = self.scorer.score(proposal.candidates)
        self.history.add(number, proposal.candidates, values, proposal.notes)
        volume = self.history.hypervolume()
        self.hypervolumes.append(volume)
        if there is None or there.seconds is None:
            seconds = time.monotonic() - began
            finish_generation(self.database, self.row.id, number, seconds, volume)
        self.number = number + 1
        self._count(0)

    def _propose(self, number: int) -> Proposal:
        campaign = self.campaign
        context = Context(self.source, campaign.aims, campaign.seed, campaign.batch, number)
        proposal = campaign.strategy(context, self.history)
        if not proposal.candidates and not self.history.rows:
            invalid, drawn = proposal.notes.get("invalid", 0), proposal.notes.get("drawn", 0)
            raise YieldError(
                f"the generator {campaign.source.name!r} gives no candidates: of {drawn} objects "
                f"{invalid} are none"
            )
        return proposal

    def _count(self, finished: int) -> None:
        self.done += finished
        if self.tell is None:
            return
        total = self.campaign.batch * self.campaign.generations
        seconds = time.monotonic() - self.start
        self.tell(
            Progress(
                self.campaign,
                self.row,
                self.history,
                self.number,
                min(self.done, total),
                total,
                self.began,
                seconds,
            )
        )
