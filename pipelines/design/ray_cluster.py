"""Evaluations on Ray (https://ray.io): one machine or a cluster, by actors that may die.

A cluster of several machines is joined only with its token. Nothing here stops a cluster: a local
one ends with this process, any other one stays.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError
from pipelines.design.evaluators import Result, assess
from pipelines.design.executors import ATTEMPTS, Finished, Job
from pipelines.design.sources import Source, make_source

CHUNK = 8
"""Jobs of one call; a chunk that fails is tried again job by job."""


@dataclass
class _Lease:
    """Jobs that an actor is busy with."""

    jobs: list[tuple[Job, int]]
    since: float = field(default_factory=time.monotonic)


class RayCluster:
    """Actors on a Ray cluster.

    Args:
        workers: actors, one core each; 0 for all cores of the cluster.
        time_limit: wall seconds for a job.
        address: of a running cluster; empty for one of this machine alone.
        gpus: of the actor that samples; with 0 candidates are made in this process.

    Raises:
        ConfigError: Ray is not installed, the cluster's token is missing, or it cannot be joined.
    """

    def __init__(
        self, workers: int = 0, time_limit: float = 600.0, address: str = "", gpus: float = 0.0
    ) -> None:
        """See the class."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address:
            check_token()
        self._ray = _ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            self._join(workers, address)
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self.workers = min(workers or cores, cores)
        self.time_limit, self.gpus = time_limit, gpus
        self._actors: list[Any] = []
        self._worker = self._ray.remote(_Worker)

    def _join(self, workers: int, address: str) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        options: dict[str, Any] = {"address": address or "local"}
        if not address:
            options |= {"include_dashboard": False, "num_cpus": workers or None}
        try:
            self._ray.init(
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
                runtime_env={"env_vars": environment},
                **options,
            )
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            line = (str(error).strip().splitlines() or [""])[0]
            raise ConfigError(
                f"executor ray: cannot join {address or 'a cluster'}: {line}"
            ) from error

    def run(self, jobs: Sequence[Job]) -> Iterator[Finished]:
        """See `Executor`."""
        size = max(1, min(CHUNK, len(jobs) // (2 * self.workers)))
        waiting: deque[list[tuple[Job, int]]] = deque(
            [(job, 1) for job in jobs[at : at + size]] for at in range(0, len(jobs), size)
        )
        busy: dict[Any, tuple[Any, _Lease]] = {}
        while waiting or busy:
            self._give(waiting, busy)
            ready, _ = self._ray.wait(list(busy), num_returns=1, timeout=1.0)
            for reference in ready:
                actor, lease = busy.pop(reference)
                yield from self._take(reference, actor, lease, waiting)
            for reference in [r for r, (_, lease) in busy.items() if self._late(lease)]:
                actor, lease = busy.pop(reference)
                self._ray.kill(actor)
                yield from _again(lease.jobs, f"time limit: {self.time_limit:g} s", waiting, 1)

    def _give(self, waiting: deque[list[tuple[Job, int]]], busy: dict[Any, Any]) -> None:
        while waiting and len(busy) < self.workers:
            actor = (
                self._actors.pop() if self._actors else self._worker.options(num_cpus=1).remote()
            )
            lease = _Lease(waiting.popleft())
            busy[actor.assess.remote([job for job, _ in lease.jobs])] = (actor, lease)

    def _late(self, lease: _Lease) -> bool:
        return time.monotonic() - lease.since > self.time_limit * len(lease.jobs) + START

    def _take(
        self, reference: Any, actor: Any, lease: _Lease, waiting: deque[list[tuple[Job, int]]]
    ) -> Iterator[Finished]:
        try:
            results = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # its process has died
            line = (str(error).strip().splitlines() or [""])[0]
            yield from _again(lease.jobs, f"process died: {line[:200]}", waiting, ATTEMPTS)
            return
        self._actors.append(actor)
        for (job, _), found in zip(lease.jobs, results, strict=True):
            yield job, found

    def place(self, source: Source) -> Source:
        """The source with its generator in an actor of its own, on a GPU; itself without GPUs."""
        if not self.gpus:
            return source
        maker = self._ray.remote(_Sampler).options(num_gpus=self.gpus)
        actor = maker.remote(source.name, dict(source.settings), source.folder)
        return replace(source, generator=_Remote(self._ray, actor, source.generator))

    def close(self) -> None:
        """Ends the actors; a cluster that was started here ends, too, any other one stays."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors.clear()
        if self._own:
            self._ray.shutdown()


START = 60.0
"""Seconds that a new actor may take to start, on top of a job's time limit."""


def _again(
    jobs: Iterable[tuple[Job, int]],
    why: str,
    waiting: deque[list[tuple[Job, int]]],
    most: int,
) -> Iterator[Finished]:
    """Queues the jobs of a lost call one by one; a single one that was tried enough has failed."""
    lost = list(jobs)
    for job, tried in lost:
        if len(lost) == 1 and tried >= most:
            yield job, [(one.name, None, why, 0.0) for one in job.evaluators]
        else:
            waiting.append([(job, tried + (len(lost) == 1))])


class _Worker:
    """An actor that evaluates."""

    def assess(self, jobs: list[Job]) -> list[list[Result]]:
        return [assess(job.form, job.content, job.evaluators) for job in jobs]


class _Sampler:
    """An actor that makes candidates."""

    def __init__(self, name: str, settings: dict[str, Any], folder: str) -> None:
        self._source = make_source(name, settings, Path(folder) if folder else None)

    def sample(self, seed: int, start: int, count: int) -> list[Any]:
        return list(self._source.generator.sample(seed, start, count))


class _Remote:
    """A generator whose objects are made by an actor."""

    def __init__(self, ray: Any, actor: Any, generator: Any) -> None:
        self._ray, self._actor = ray, actor
        for name in ("vary", "finish"):
            if hasattr(generator, name):
                setattr(self, name, getattr(generator, name))

    def sample(self, seed: int, start: int, count: int) -> list[Any]:
        made: list[Any] = self._ray.get(self._actor.sample.remote(seed, start, count))
        return made


def check_token() -> None:
    """Refuses to join a cluster of several machines without its token.

    Raises:
        ConfigError: there is no token, or it is switched off.
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if mode != "token":
        raise ConfigError(f"executor ray: expected RAY_AUTH_MODE=token, got {mode!r}")
    if not os.environ.get("RAY_AUTH_TOKEN") and not file.is_file():
        raise ConfigError(
            "executor ray: expected the cluster's token in RAY_AUTH_TOKEN or in a file named by "
            "RAY_AUTH_TOKEN_PATH, got none"
        )


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError('the executor ray needs: pip install "designloom[scale]"') from error
    return ray
