"""Work in supervised processes: one that dies or hangs costs the item it was busy with, no other.

Items are leased to a worker a few at a time and answered one by one, so that it is always known
which one a worker is busy with: the first of its lease that is not answered. That item is given up
when the worker dies or exceeds the time limit (it is killed: C code does not listen to anything
else), the rest of the lease goes to others, and a new worker takes the place.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from typing import Any

from diffcore.errors import DesignloomError
from molgen.datasets.parallel import main_hidden

Task = Callable[[Any, Callable[[Any], None]], Any]
"""Called with an item and a function that takes what is known of the result so far."""

AHEAD = 2048
"""Items that may be finished while an earlier one is still in work."""

GRACE = 30.0
"""Seconds after the time limit at which the system ends a worker whose parent is gone."""

START_LIMIT = 300.0
"""Seconds that a worker may take to load what it needs."""

MAX_FAILED_STARTS = 3


@dataclass(frozen=True)
class Lost:
    """What is left of an item that was given up.

    Attributes:
        why: "time limit: 10 s", "process died: SIGKILL" or the like.
        partial: The last that the task told before, or None.
    """

    why: str
    partial: Any = None


@dataclass
class _Worker:
    """A process and what it was given.

    Attributes:
        process: The process.
        pipe: Our end of the pipe to it.
        since: When it was started, or when its first open item was, on the monotonic clock.
        ready: It has loaded what it needs.
        lease: (index, item) not answered yet, in order; it is busy with the first.
        partial: What was told of the first item.
    """

    process: Any
    pipe: connection.Connection
    since: float
    ready: bool = False
    lease: deque[tuple[int, Any]] = field(default_factory=deque)
    partial: Any = None


def map_supervised(
    task: Task,
    items: Iterable[Any],
    *,
    workers: int,
    time_limit: float,
    lease: int = 8,
    weight: Callable[[Any], int] = lambda _: 1,
    warm_up: Callable[[], object] | None = None,
) -> Iterator[Any]:
    """Yields `task(item, tell)` of each item in order, or `Lost`; reads a bounded number ahead.

    Args:
        task: Module-level function or a partial of one.
        items: Picklable items.
        workers: Processes, at least 1.
        time_limit: Wall seconds for each item.
        lease: Items that a worker is given at a time: few where each takes long.
        weight: Size of an item; those above 64,000 are given alone.
        warm_up: Called once in each new worker, on no item's time.

    Raises:
        DesignloomError: Workers die or hang before they have loaded what they need.
    """
    pool = SupervisedPool(task, workers, time_limit, lease, weight, warm_up)
    done: dict[int, Any] = {}
    position = 0

    def ahead() -> int:
        return position + AHEAD

    try:
        for index, result in pool.run(items, ahead):
            done[index] = result
            while position in done:
                yield done.pop(position)
                position += 1
    finally:
        pool.close()


class SupervisedPool:
    """Workers that stay from one `run` to the next; see `map_supervised` for the arguments."""

    def __init__(
        self,
        task: Task,
        workers: int,
        time_limit: float,
        lease: int = 8,
        weight: Callable[[Any], int] = lambda _: 1,
        warm_up: Callable[[], object] | None = None,
    ) -> None:
        """See the class."""
        self._crew = _Crew(task, workers, time_limit, lease, weight, warm_up)

    def run(
        self, items: Iterable[Any], ahead: Callable[[], int] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Yields (index, result or `Lost`) of each item, as they are finished; all of them.

        Args:
            items: Picklable items, read as they are needed.
            ahead: Gives the index before which items may be taken; all of them if left out.

        Raises:
            DesignloomError: Workers die or hang before they have loaded what they need.
        """
        crew = self._crew
        crew.taken = 0
        source = enumerate(items)
        while True:
            crew.take(source, sys.maxsize if ahead is None else ahead())
            if crew.idle:
                return
            crew.hire()
            crew.give()
            yield from crew.listen().items()

    def close(self) -> None:
        """Ends the workers."""
        self._crew.dismiss()


class _Crew:
    """The workers, and the items that wait for one."""

    def __init__(
        self,
        task: Task,
        size: int,
        time_limit: float,
        lease: int,
        weight: Callable[[Any], int],
        warm_up: Callable[[], object] | None,
    ) -> None:
        self.task, self.size, self.time_limit = task, size, time_limit
        self.lease, self.weight, self.warm_up = lease, weight, warm_up
        self.workers: list[_Worker] = []
        self.waiting: deque[tuple[int, Any]] = deque()
        self.taken = 0
        self.failed_starts = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is in work."""
        return not self.waiting and not any(worker.lease for worker in self.workers)

    def take(self, source: Iterator[tuple[int, Any]], stop: int) -> None:
        """Fills the queue with what the workers will ask for next, never beyond index `stop`."""
        while len(self.waiting) < self.size * self.lease and self.taken < stop:
            found = next(source, None)
            if found is None:
                return
            self.waiting.append(found)
            self.taken += 1

    def hire(self) -> None:
        """Starts the workers that there is work for."""
        unused = sum(1 for worker in self.workers if not worker.lease)
        while len(self.workers) < self.size and unused * self.lease < len(self.waiting):
            self.workers.append(_start(self.task, self.time_limit, self.warm_up))
            unused += 1

    def give(self) -> None:
        """Leases items to the workers that have none; those wait at their pipe, so it is free."""
        for worker in self.workers:
            if not worker.ready or worker.lease or not self.waiting:
                continue
            chunk = [self.waiting.popleft()]
            size = self.weight(chunk[0][1])
            while self.waiting and len(chunk) < self.lease:
                size += self.weight(self.waiting[0][1])
                if size > 64_000:
                    break
                chunk.append(self.waiting.popleft())
            worker.lease.extend(chunk)
            worker.since, worker.partial = time.monotonic(), None
            with suppress(OSError):  # died just now: seen by `listen`
                worker.pipe.send([item for _, item in chunk])

    def listen(self) -> dict[int, Any]:
        """Waits for answers, deaths or deadlines; what was finished or given up, by index."""
        handles = [h for w in self.workers for h in (w.pipe, w.process.sentinel)]
        deadline = min(map(self._deadline, self.workers), default=0.0)
        connection.wait(handles, max(0.0, min(deadline - time.monotonic(), 5.0)))
        done: dict[int, Any] = {}
        for worker in list(self.workers):
            alive = self._hear(worker, done)
            late = time.monotonic() > self._deadline(worker)
            if not alive or late:
                self._replace(worker, late and alive, done)
        return done

    def _deadline(self, worker: _Worker) -> float:
        if not worker.ready:
            return worker.since + START_LIMIT
        return worker.since + self.time_limit if worker.lease else float("inf")

    def _hear(self, worker: _Worker, done: dict[int, Any]) -> bool:
        """Takes all messages of a worker; False if it is gone."""
        gone = not worker.process.is_alive()  # asked first: its last words may still come
        try:
            while worker.pipe.poll():
                word, value = worker.pipe.recv()
                self._obey(worker, word, value, done)
        except (EOFError, OSError):
            return False
        return not gone

    def _obey(self, worker: _Worker, word: str, value: Any, done: dict[int, Any]) -> None:
        if word == "ready":
            worker.ready, self.failed_starts = True, 0
        elif word in ("partial", "unfit"):
            worker.partial = value
        else:
            index, _ = worker.lease.popleft()
            done[index] = Lost(value, worker.partial) if word == "failed" else value
            worker.since, worker.partial = time.monotonic(), None

    def _replace(self, worker: _Worker, late: bool, done: dict[int, Any]) -> None:
        self.workers.remove(worker)
        _end(worker)
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts >= MAX_FAILED_STARTS:
                why = worker.partial or f"they end with {_epitaph(worker)}"
                raise DesignloomError(f"worker processes cannot start: {why}")
        if not worker.lease:
            return
        index, _ = worker.lease.popleft()
        why = f"time limit: {self.time_limit:g} s" if late else f"process died: {_epitaph(worker)}"
        done[index] = Lost(why, worker.partial)
        self.waiting.extendleft(reversed(worker.lease))

    def dismiss(self) -> None:
        """Ends all workers and forgets what they had to do."""
        for worker in self.workers:
            _end(worker)
        self.workers.clear()
        self.waiting.clear()


def _start(task: Task, time_limit: float, warm_up: Callable[[], object] | None) -> _Worker:
    context = get_context("spawn")  # a fork would copy the locks of running threads
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_serve, args=(theirs, task, time_limit, warm_up), daemon=True, name="scorer"
    )
    with main_hidden(), _one_thread():
        process.start()
    theirs.close()
    return _Worker(process, ours, time.monotonic())


@contextmanager
def _one_thread() -> Iterator[None]:
    """New processes use one thread each, unless the user has said otherwise."""
    names = [n for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if n not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()


def _epitaph(worker: _Worker) -> str:
    code = worker.process.exitcode
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


# ------------------------------------------------------------------------------- in the worker


def _serve(
    pipe: connection.Connection,
    task: Task,
    time_limit: float,
    warm_up: Callable[[], object] | None,
) -> None:
    """Answers leases until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends us in order
    try:
        if warm_up is not None:
            warm_up()
    except Exception as error:
        pipe.send(("unfit", _said(error)))
        return
    with suppress(EOFError, OSError):
        pipe.send(("ready", None))
        while True:
            for item in pipe.recv():
                _alarm(time_limit + GRACE)
                answer = _answer(task, item, pipe)
                _alarm(0)
                pipe.send(answer)


def _answer(task: Task, item: Any, pipe: connection.Connection) -> tuple[str, Any]:
    try:
        return "done", task(item, lambda partial: pipe.send(("partial", partial)))
    except Exception as error:
        return "failed", _said(error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _alarm(seconds: float) -> None:
    """Asks the system to end this process after so long: nobody else does if the parent died."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
