"""Map a function over a stream of inputs in a few processes, in order, surviving lost workers."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from diffcore.errors import DataError

In = TypeVar("In")
Out = TypeVar("Out")


def map_in_order(
    function: Callable[[In], Out], inputs: Iterable[In], workers: int, attempts: int = 3
) -> Iterator[tuple[In, Out]]:
    """Yield (input, function(input)) in the order of the inputs, reading only a few ahead.

    Args:
        function: a module-level function; it must not depend on the state of this process.
        inputs: a stream of picklable inputs.
        workers: processes; 1 or less works in this process.
        attempts: times that lost workers are replaced before giving up.

    Raises:
        DataError: workers were lost more than `attempts` times.
    """
    if workers <= 1:
        yield from ((one, function(one)) for one in inputs)
        return
    source = iter(inputs)
    waiting: deque[tuple[In, Future[Out]]] = deque()
    pool = _pool(workers)
    try:
        while True:
            try:
                _fill(pool, function, source, waiting, 3 * workers)
                if not waiting:
                    return
                result = waiting[0][1].result()
            except BrokenProcessPool as error:
                attempts -= 1
                if attempts <= 0:
                    raise DataError("worker processes were lost again and again") from error
                pool.shutdown(wait=False)
                pool = _pool(workers)
                lost, waiting = waiting, deque()
                _fill(pool, function, iter([one for one, _ in lost]), waiting, len(lost))
                continue
            yield waiting.popleft()[0], result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupt)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent, which ends the workers in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fill(
    pool: ProcessPoolExecutor,
    function: Callable[[In], Out],
    source: Iterator[In],
    waiting: deque[tuple[In, Future[Out]]],
    limit: int,
) -> None:
    """Submit inputs until `limit` are waiting."""
    while len(waiting) < limit:
        try:
            one = next(source)
        except StopIteration:
            return
        try:
            with main_hidden():
                future = pool.submit(function, one)
        except BrokenProcessPool as error:  # met again, with the input kept, when it is waited for
            future = Future()
            future.set_exception(error)
        waiting.append((one, future))


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep new workers from running the caller's script again.

    A spawned process imports the parent's main file; a script without a main guard would then
    start this very work again. The workers need nothing of it.
    """
    main = vars(sys.modules["__main__"])
    hidden: dict[str, Any] = {
        name: main.pop(name) for name in ("__spec__", "__file__") if name in main
    }
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)
