"""The same campaign in process, on the pool and on a local Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from diffcore.errors import ConfigError  # noqa: E402
from pipelines.design.campaign import make_campaign  # noqa: E402
from pipelines.design.engine import Finished, run  # noqa: E402
from pipelines.design.executors import InProcess, Pool, make_executor  # noqa: E402
from pipelines.design.ray_cluster import check_token  # noqa: E402

GOALS = [
    {"evaluator": "first", "goal": "minimise", "reference": 1.1},
    {"evaluator": "zdt1", "goal": "minimise", "reference": 6},
]


def trial(folder: Path, name: str, executor: Any, **changes: Any) -> Finished:
    values: dict[str, Any] = {
        "name": name,
        "generator": {"name": "numbers", "dimensions": 3},
        "objectives": GOALS,
        "strategy": "genetic",
        "batch": 10,
        "generations": 3,
        "store": folder / f"{name}.sqlite",
    }
    return run(make_campaign(**values | changes), executor=executor)


def dies(vector: Sequence[float]) -> float:
    if vector[0] < 0.1:
        os._exit(1)
    return float(vector[0])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    made = make_executor("ray", {"workers": 2})
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_same_candidates_on_every_executor(tmp_path: Path, cluster: Any) -> None:
    here = trial(tmp_path, "process", InProcess())
    pool = Pool(workers=2)
    try:
        there = trial(tmp_path, "pool", pool)
    finally:
        pool.close()
    far = trial(tmp_path, "ray", cluster)
    results = [
        [(row.candidate.content, dict(row.values)) for row in result.history.rows]
        for result in (here, there, far)
    ]
    assert results[0] == results[1] == results[2] and len(results[0]) == 30


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_actor_that_dies_costs_its_candidate(tmp_path: Path, cluster: Any) -> None:
    goals = [{"evaluator": "dies", "goal": "minimise", "reference": 1}]
    options = {"objectives": goals, "evaluators": {"dies": dies}, "generations": 1}
    result = trial(tmp_path, "deadly", cluster, strategy="best_of_n", batch=20, **options)
    for row in result.history.rows:
        assert bool(row.values) == (float(row.candidate.content[1:].split(",")[0]) >= 0.1)
    failures = [text for text in result.table()["failure"] if text]
    assert failures and all("process died" in text for text in failures)


def test_a_remote_cluster_needs_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match="token"):
        check_token()
    with pytest.raises(ConfigError, match="token"):
        make_executor("ray", {"address": "192.0.2.1:6379"})
    (tmp_path / "none").write_text("secret")
    check_token()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ConfigError, match="RAY_AUTH_MODE=token, got 'disabled'"):
        check_token()
