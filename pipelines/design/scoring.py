"""Evaluating candidates: what is known is not done again, what is finished is written at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from pipelines.design.evaluators import Evaluator
from pipelines.design.executors import Executor, Finished, Job
from pipelines.store.database import Database
from pipelines.store.records import Candidate, Outcome, add_outcomes, known_outcomes

WORTH = 0.05
"""Results are written as soon as so many seconds of evaluation would be lost with them."""

MOST = 500
"""And at the latest when there are so many."""


class Scorer:
    """Runs evaluators on candidates, the cheap ones first.

    Args:
        database: where results are looked up and written.
        executor: where evaluators run.
        evaluators: cheap ones before dear ones.
        refused: whether values so far rule a candidate out, so that dear evaluators are spared.
        say: called with the number of candidates that were finished, after results were written.

    Attributes:
        evaluated: evaluations that were made.
        known: evaluations that the store had.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        evaluators: Sequence[Evaluator],
        refused: Callable[[Mapping[str, float]], bool],
        say: Callable[[int], object],
    ) -> None:
        """See the class."""
        self.database, self.executor, self.refused, self.say = database, executor, refused, say
        stages = [tuple(e for e in evaluators if e.dear is dear) for dear in (False, True)]
        self.stages = [stage for stage in stages if stage]
        self.evaluated = self.known = 0
        self._told = 0

    def score(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Values of each candidate; an evaluator that failed or was spared is left out."""
        values: dict[str, dict[str, float]] = {one.key: {} for one in candidates}
        self._told = 0
        for place, stage in enumerate(self.stages):
            last = place + 1 == len(self.stages)
            left = [one for one in candidates if not self.refused(values[one.key])]
            self._stage(left, stage, values, last)
        self._finished(len(candidates) - self._told)
        return [values[one.key] for one in candidates]

    def _finished(self, count: int) -> None:
        self._told += count
        self.say(count)

    def _stage(
        self,
        candidates: Sequence[Candidate],
        stage: tuple[Evaluator, ...],
        values: dict[str, dict[str, float]],
        last: bool,
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
        for outcomes, count in self._written(self.executor.run(jobs), keys):
            for outcome in outcomes:
                if outcome.value is not None:
                    values[outcome.candidate][outcome.evaluator] = outcome.value
            self._finished(count if last else 0)

    def _written(
        self, results: Iterator[Finished], keys: Mapping[tuple[str, str], str]
    ) -> Iterator[tuple[list[Outcome], int]]:
        """Results in portions, each after it was written, and of how many candidates."""
        waiting: list[Outcome] = []
        count, worth, since = 0, 0.0, time.monotonic()
        for job, found in results:
            for name, value, reason, seconds in found:
                outcome = Outcome(keys[job.key, name], job.key, name, value, reason, seconds)
                waiting.append(outcome)
                worth += seconds
            count += 1
            if worth > WORTH or len(waiting) >= MOST or time.monotonic() - since > 1.0:
                yield self._write(waiting), count
                waiting, count, worth, since = [], 0, 0.0, time.monotonic()
        if waiting:
            yield self._write(waiting), count

    def _write(self, outcomes: list[Outcome]) -> list[Outcome]:
        add_outcomes(self.database, outcomes)
        self.evaluated += len(outcomes)
        return outcomes
