"""Where evaluations run: in this process, on a pool of processes, on a Ray cluster.

All of them take jobs and give back what came of each as soon as it is finished, in any order.
What is recorded does not depend on that order.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from diffcore.errors import ConfigError, DesignloomError
from pipelines.design.evaluators import Evaluator, Result, assess
from pipelines.design.names import unknown

ATTEMPTS = 3
"""A job whose process died is tried so often: something else may have ended the process."""


@dataclass(frozen=True)
class Job:
    """A candidate and what to evaluate of it."""

    form: str
    content: str
    key: str
    evaluators: tuple[Evaluator, ...]


Finished = tuple[Job, list[Result]]


class Executor(Protocol):
    """Runs jobs."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """Each job with the results of all of its evaluators, as they are finished."""
        ...

    def close(self) -> None:
        """Ends whatever was started."""
        ...


class InProcess:
    """One job after the other, here.

    In the main thread a Python function that hangs is interrupted; C code that hangs can only be
    ended on a pool.

    Args:
        time_limit: wall seconds for one evaluation.
    """

    def __init__(self, time_limit: float = 600.0) -> None:
        """See the class."""
        self.time_limit = time_limit

    def run(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """See `Executor`."""
        can = hasattr(signal, "setitimer")
        can = can and threading.current_thread() is threading.main_thread()
        guard = partial(_limited, seconds=self.time_limit) if can else _plain
        for job in jobs:
            yield job, assess(job.form, job.content, job.evaluators, guard=guard)

    def close(self) -> None:
        """Nothing was started."""


def _plain(call: Callable[[], Any]) -> Any:
    return call()


class _TimeLimitError(Exception):
    pass


def _limited(call: Callable[[], Any], seconds: float) -> Any:
    """Calls a function; raises in it when it takes too long."""

    def ring(*_: object) -> None:
        raise _TimeLimitError(f"{seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return call()
    except _TimeLimitError as error:
        raise DesignloomError(f"time limit: {error}") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Pool:
    """Processes that are supervised: one that dies or hangs costs no more than its own job.

    A job whose process was killed is tried again, so that a kill from outside loses nothing; one
    that ends its process `ATTEMPTS` times has failed.

    Args:
        workers: processes; 0 for one a core.
        time_limit: wall seconds for a job: one candidate, the cheap or the dear evaluators.
    """

    def __init__(self, workers: int = 0, time_limit: float = 600.0) -> None:
        """See the class."""
        self.workers, self.time_limit = workers, time_limit
        self._pool: Any = None

    def _started(self, evaluators: tuple[Evaluator, ...]) -> Any:
        """The processes; what evaluators load is on no job's time."""
        if self._pool is None:
            from molgen.evaluate.options import cores
            from molgen.evaluate.workers import SupervisedPool

            warm_up = partial(_warm_up, evaluators)
            number = self.workers or cores()
            self._pool = SupervisedPool(_work, number, self.time_limit, warm_up=warm_up)
        return self._pool

    def run(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """See `Executor`."""
        done: dict[int, list[Result]] = {}
        left = list(enumerate(jobs))
        if not left:
            return
        pool = self._started(jobs[0].evaluators)
        for attempt in range(1, ATTEMPTS + 1):
            again: list[tuple[int, Job]] = []
            sent = [(one.form, one.content, rest(one, done.get(i, []))) for i, one in left]
            for place, answer in pool.run(sent):
                number, job = left[place]
                results = done.get(number, []) + _results(answer)
                missing = rest(job, results)
                if missing and _died(answer) and attempt < ATTEMPTS:
                    done[number] = results
                    again.append((number, job))
                    continue
                if missing:
                    results = results + _failed(missing, answer)
                yield job, results
            if not again:
                return
            left = sorted(again, key=lambda pair: pair[0])

    def close(self) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _warm_up(evaluators: tuple[Evaluator, ...]) -> None:
    for one in evaluators:
        one.warm()


def rest(job: Job, results: Iterable[Result]) -> tuple[Evaluator, ...]:
    """Evaluators of a job that have no result yet."""
    there = {name for name, *_ in results}
    return tuple(one for one in job.evaluators if one.name not in there)


def _work(
    item: tuple[str, str, tuple[Evaluator, ...]], tell: Callable[[list[Result]], None]
) -> list[Result]:
    form, content, evaluators = item
    return assess(form, content, evaluators, tell)


def _results(answer: Any) -> list[Result]:
    return list(answer) if isinstance(answer, list) else list(answer.partial or [])


def _died(answer: Any) -> bool:
    return getattr(answer, "why", "").startswith("process died")


def _failed(missing: Sequence[Evaluator], answer: Any) -> list[Result]:
    """The evaluator that was in work failed; those after it had no chance."""
    why = str(getattr(answer, "why", "no result"))
    reasons = [why] + [f"not tried: {missing[0].name} failed ({why})"] * (len(missing) - 1)
    return [(one.name, None, reason, 0.0) for one, reason in zip(missing, reasons, strict=True)]


EXECUTORS = ("process", "pool", "ray")


def checked_factory(name: str, settings: Mapping[str, Any]) -> Callable[..., Executor]:
    """What makes the executor of a name, its settings checked.

    Raises:
        ConfigError: an unknown name or setting, or one that is out of range.
    """
    from pipelines.design.plugins import check_settings

    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    factory = _FACTORIES[name]
    check_settings(f"executor {name}", factory, settings)
    if settings.get("time_limit", 1.0) <= 0 or settings.get("workers", 0) < 0:
        raise ConfigError(f"executor {name}: expected time_limit above 0, workers of 0 or more")
    return factory


def make_executor(name: str, settings: Mapping[str, Any]) -> Executor:
    """The executor of a name, started.

    Raises:
        ConfigError: an unknown name or setting, or Ray is not installed or refuses.
    """
    made: Executor = checked_factory(name, settings)(**settings)
    return made


def _process(*, time_limit: float = 600.0) -> Executor:
    return InProcess(time_limit)


def _pool(*, workers: int = 0, time_limit: float = 600.0) -> Executor:
    return Pool(workers, time_limit)


def _ray(
    *, workers: int = 0, time_limit: float = 600.0, address: str = "", gpus: float = 0.0
) -> Executor:
    from pipelines.design.ray_cluster import RayCluster

    cluster: Executor = RayCluster(workers, time_limit, address, gpus)
    return cluster


_FACTORIES: dict[str, Callable[..., Executor]] = {"process": _process, "pool": _pool, "ray": _ray}
