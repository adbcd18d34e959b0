"""Killing what runs a campaign, again and again, and counting what was lost: `bench chaos`.

At random moments the main process, a worker or the connection to the database is ended; whoever is
gone is started again with --resume. In the end the store is compared with that of a run that was
left in peace.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from pipelines.design.campaign import Campaign

VICTIMS = ("main", "worker", "connection")

LOG = "DESIGNLOOM_CHAOS_LOG"
"""Environment variable: a file that takes a line for each call of the evaluator."""


@dataclass
class Damage:
    """What happened, and what it did.

    Attributes:
        kills: how often each victim was ended.
        starts: how often the campaign was started.
        evaluations: that are in the store in the end.
        lost: that were in the store after a kill and are not in the end.
        missing: candidates without a result.
        twice: evaluations that are in the store more than once.
        calls: calls of the evaluator.
        repeated: calls beyond one for each evaluation: their results had not been written.
        needless: calls for results that were in the store when the call's run started.
        same: the candidates and values are those of the run in peace.
    """

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    evaluations: int = 0
    lost: int = 0
    missing: int = 0
    twice: int = 0
    calls: int = 0
    repeated: int = 0
    needless: int = 0
    same: bool = False

    def text(self) -> str:
        """The figures in lines."""
        kills = ", ".join(f"{self.kills[name]} of {name}" for name in VICTIMS)
        return "\n".join(
            [
                f"kills: {self.kills.total()} ({kills}); starts: {self.starts}",
                f"evaluations in the store: {self.evaluations}; lost {self.lost}, missing "
                f"{self.missing}, there twice {self.twice}",
                f"calls of the evaluator: {self.calls}; repeated {self.repeated}, needless "
                f"{self.needless}",
                f"same candidates and values as a run in peace: {'yes' if self.same else 'NO'}",
            ]
        )


def bench_chaos(kills: int = 50, seed: int = 0, batch: int = 40, generations: int = 15) -> str:
    """Kill -9 a campaign's main process, workers and database connection at random moments.

    Args:
        kills: How often in all.
        seed: Of the moments and the victims.
        batch: Candidates of a generation.
        generations: How many, at least; there are more if the kills need them.

    Returns:
        What was lost, missing, there twice or done twice, in lines.

    Raises:
        ConfigError: An option is outside what is allowed, or the system is not Linux.
    """
    if kills < 1 or not Path("/proc/self/task").exists():
        raise ConfigError("bench chaos: expected at least one kill, and Linux")
    with tempfile.TemporaryDirectory() as folder:
        damage = torment(Path(folder), kills, seed, batch, generations)
    return damage.text()


def logged(vector: Sequence[float]) -> float:
    """An evaluator that takes some milliseconds and notes its call."""
    path = os.environ.get(LOG)
    if path:
        with open(path, "a", encoding="ascii") as file:
            file.write(json.dumps([time.time(), list(vector)]) + "\n")
    time.sleep(0.02)
    return float(sum(vector))


def plan(folder: Path, batch: int, generations: int, name: str = "chaos") -> Campaign:
    """The campaign that is tormented."""
    from pipelines.design.campaign import make_campaign

    return make_campaign(
        "chaos",
        {"name": "numbers", "dimensions": 3},
        [{"evaluator": "logged", "goal": "minimise", "reference": 3}],
        evaluators={"logged": logged},
        strategy="genetic",
        batch=batch,
        generations=generations,
        executor={"name": "pool", "workers": 2, "time_limit": 60.0},
        store=folder / f"{name}.sqlite",
    )


def torment(folder: Path, kills: int, seed: int, batch: int, generations: int) -> Damage:
    """Runs the campaign under kills, then in peace, and compares."""
    rng = random.Random(seed)
    damage = Damage()
    seen: set[str] = set()
    starts: list[tuple[float, set[str]]] = []
    log = folder / "calls.log"
    process = _start(folder, log, batch, generations, damage, starts)
    try:
        while damage.kills.total() < kills:
            time.sleep(rng.uniform(0.05, 0.6))
            if process.poll() is not None:  # killed, or done: more generations, then
                if process.returncode == 0:
                    generations += 5
                seen |= _stored(folder)
                process = _start(folder, log, batch, generations, damage, starts)
            victim = rng.choice(VICTIMS)
            if _running(process) and _end(process, victim):
                damage.kills[victim] += 1
                seen |= _stored(folder)
        while process.wait() != 0:
            process = _start(folder, log, batch, generations, damage, starts)
    finally:
        process.kill()
        process.wait()
    _judge(folder, damage, seen, starts, log, (batch, generations))
    return damage


def _start(
    folder: Path,
    log: Path,
    batch: int,
    generations: int,
    damage: Damage,
    starts: list[tuple[float, set[str]]],
) -> subprocess.Popen[bytes]:
    starts.append((time.time(), _stored(folder)))
    damage.starts += 1
    (folder / "ready").unlink(missing_ok=True)
    words = [sys.executable, "-m", "pipelines.design.chaos", str(folder), str(batch)]
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [*words, str(generations)],
        env={**os.environ, LOG: str(log), "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _running(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is alive and has workers."""
    return process.poll() is None and bool(_workers(process.pid))


def _end(process: subprocess.Popen[bytes], victim: str) -> bool:
    try:
        if victim == "main":
            process.kill()
            process.wait()
        elif victim == "worker":
            os.kill(random.Random(time.time_ns()).choice(_workers(process.pid)), signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGUSR1)  # closes the connection under whatever it does
    except (ProcessLookupError, IndexError):
        return False
    return True


def _workers(pid: int) -> list[int]:
    """Processes that a process has spawned to work."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [
            int(child)
            for child in children
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:
        return []


def _stored(folder: Path, name: str = "chaos") -> set[str]:
    """Keys of the candidates that have a result."""
    found = _rows(folder, name)
    return {candidate for candidate, _ in found}


def _rows(folder: Path, name: str) -> list[tuple[str, float]]:
    from sqlalchemy import select

    from diffcore.errors import DesignloomError
    from pipelines.store.database import Database
    from pipelines.store.tables import evaluations

    query = select(evaluations.c.candidate, evaluations.c.value)
    try:
        with Database(folder / f"{name}.sqlite") as database:
            return database.transact(lambda c: [(row[0], row[1]) for row in c.execute(query)])
    except DesignloomError:
        return []  # there is no store yet


def _judge(
    folder: Path,
    damage: Damage,
    seen: set[str],
    starts: Sequence[tuple[float, set[str]]],
    log: Path,
    size: tuple[int, int],
) -> None:
    from pipelines.design.engine import run
    from pipelines.store.export import campaign_frame
    from pipelines.store.records import Candidate, to_json

    run(plan(folder, *size, name="peace"))
    rows = _rows(folder, "chaos")
    there = [candidate for candidate, _ in rows]
    damage.evaluations = len(rows)
    damage.twice = len(there) - len(set(there))
    damage.lost = len(seen - set(there))
    tables: list[Any] = [
        campaign_frame(folder / f"{name}.sqlite").drop(columns="origin")
        for name in ("chaos", "peace")
    ]
    damage.missing = int(tables[0]["logged"].isna().sum())
    damage.same = bool(tables[0].equals(tables[1]))
    calls = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("]")]
    damage.calls = len(calls)
    keys = [Candidate("vector", to_json(vector)).key for _, vector in calls]
    damage.repeated = len(keys) - len(set(keys))
    for (at, _), key in zip(calls, keys, strict=True):
        known = next((found for start, found in reversed(starts) if start <= at), set())
        damage.needless += key in known


def _main(words: Sequence[str]) -> None:
    """One start of the campaign, in a process of its own."""
    import sqlalchemy

    from pipelines.design.engine import run

    live: list[Any] = []
    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", lambda c, _: live.append(c))

    def cut(*_: object) -> None:
        while live:
            live.pop().close()

    signal.signal(signal.SIGUSR1, cut)
    folder, batch, generations = Path(words[0]), int(words[1]), int(words[2])
    # by its own name, not as part of the main module, so that workers find the evaluator
    from pipelines.design import chaos

    run(chaos.plan(folder, batch, generations), resume=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
