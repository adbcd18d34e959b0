"""The loop: the same candidates on every executor and after every interruption."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from diffcore.errors import OutputError, YieldError  # noqa: E402
from pipelines.design.campaign import Campaign, make_campaign  # noqa: E402
from pipelines.design.engine import Finished, run  # noqa: E402
from pipelines.design.evaluators import Evaluator, from_function  # noqa: E402
from pipelines.design.executors import InProcess, Pool  # noqa: E402
from pipelines.design.simple import Numbers, first, zdt1  # noqa: E402
from pipelines.store.export import campaign_frame  # noqa: E402

GOALS = [
    {"evaluator": "first", "goal": "minimise", "reference": 1.1},
    {"evaluator": "zdt1", "goal": "minimise", "reference": 6},
]


def trial(folder: Path, **changes: Any) -> Campaign:
    values: dict[str, Any] = {
        "name": "trial",
        "generator": {"name": "numbers", "dimensions": 3},
        "objectives": GOALS,
        "strategy": "best_of_n",
        "batch": 6,
        "generations": 3,
        "store": folder / "trial.sqlite",
    }
    return make_campaign(**values | changes)


def made(result: Finished) -> list[str]:
    return [row.candidate.content for row in result.history.rows]


# evaluators of a module's own, so that other processes find them by name


def hostile(vector: Sequence[float]) -> Any:
    """Fails in every way, by the first number."""
    kind = int(vector[0] * 6)
    if kind == 0:
        raise ValueError("does not\nconverge")
    if kind == 1:
        time.sleep(60)
    return [None, None, float("nan"), [1.0, 2.0], "text", 0.5][kind]


def deadly(vector: Sequence[float]) -> float:
    """Ends its process for some."""
    if vector[0] < 0.3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


REASONS = {
    0: "ValueError: does not",
    1: "time limit: ",
    2: "not finite: nan",
    3: "expected one number, got list of length 2",
    4: "expected one number, got str",
}


def check_hostile(result: Finished) -> None:
    table = result.table()
    seen = set()
    for text, reason, value in zip(
        table["content"], table["failure"], table["hostile"], strict=True
    ):
        kind = int(float(text[1:].split(",")[0]) * 6)
        seen.add(kind)
        if kind == 5:
            assert reason == "" and value == 0.5
        else:
            assert reason.startswith(f"hostile: {REASONS[kind]}") and value != value
    assert seen == {0, 1, 2, 3, 4, 5}, "the trial is to meet every kind"
    assert not table["pending"].any()
    assert {row.values["hostile"] for row in result.front} == {0.5}


def hostile_trial(folder: Path) -> Campaign:
    goals = [{"evaluator": "hostile", "goal": "minimise", "reference": 1}]
    return trial(
        folder, objectives=goals, evaluators={"hostile": hostile}, batch=9, generations=1, seed=12
    )


def test_a_failing_evaluator_costs_its_candidate_with_the_reason(tmp_path: Path) -> None:
    check_hostile(run(hostile_trial(tmp_path), executor=InProcess(time_limit=0.2)))


def test_the_same_on_a_pool_that_survives(tmp_path: Path) -> None:
    pool = Pool(workers=2, time_limit=1.5)
    try:
        check_hostile(run(hostile_trial(tmp_path), executor=pool))
        goals = [{"evaluator": "deadly", "goal": "minimise", "reference": 2}]
        killers = trial(
            tmp_path,
            name="deadly",
            objectives=goals,
            evaluators={"deadly": deadly},
            generations=1,
            batch=6,
        )
        table = run(killers, executor=pool).table()
    finally:
        pool.close()
    for text, reason in zip(table["content"], table["failure"], strict=True):
        dies = float(text[1:].split(",")[0]) < 0.3
        assert reason == ("deadly: process died: SIGKILL" if dies else "")
    assert table["failure"].astype(bool).any() and not table["failure"].all()


@pytest.mark.parametrize("strategy", ["best_of_n", "genetic", "archive", "surrogate"])
def test_the_same_seed_gives_the_same_candidates_and_another_one_others(
    tmp_path: Path, strategy: str
) -> None:
    if strategy == "surrogate":
        pytest.importorskip("sklearn")
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        campaign = trial(tmp_path / name, strategy=strategy, seed=seed, generations=4)
        results.append(run(campaign))
    assert made(results[0]) == made(results[1]) != made(results[2])
    assert len(set(made(results[0]))) == len(made(results[0])) == 24, "each is tried once"
    volumes = [v for v in results[0].hypervolumes if v is not None]
    assert volumes == sorted(volumes), "the front never gets worse"


def test_strategies_learn(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    volume = {}
    for strategy in ("best_of_n", "genetic", "surrogate"):
        found = []
        for seed in range(3):
            campaign = trial(
                tmp_path,
                name=f"{strategy}{seed}",
                strategy=strategy,
                seed=seed,
                batch=10,
                generations=8,
            )
            found.append(run(campaign).hypervolume or 0.0)
        volume[strategy] = sum(found) / 3
    assert volume["surrogate"] > volume["genetic"] > volume["best_of_n"]


class Interrupted(Exception):
    pass


class Stops:
    """An executor that is interrupted after so many jobs."""

    def __init__(self, after: int) -> None:
        self.left, self.inner = after, InProcess()
        self.ran: list[str] = []

    def run(self, jobs: Any) -> Iterator[Any]:
        for finished in self.inner.run(jobs):
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            self.ran.append(finished[0].key)
            yield finished

    def close(self) -> None:
        pass


@pytest.mark.parametrize("after", [0, 1, 7, 17])
def test_an_interrupted_campaign_goes_on_with_the_same_candidates(
    tmp_path: Path, after: int
) -> None:
    whole = run(trial(tmp_path, strategy="genetic", name="whole", store=tmp_path / "w.sqlite"))
    campaign = trial(tmp_path, strategy="genetic")
    with pytest.raises(Interrupted):
        run(campaign, executor=Stops(after))
    assert campaign_frame(campaign.store)["pending"].any() or after in (0, 6, 12)
    with pytest.raises(OutputError, match="--resume"):
        run(campaign)
    rest = Stops(-1)
    resumed = run(campaign, resume=True, executor=rest)
    assert made(resumed) == made(whole)
    assert resumed.hypervolumes == whole.hypervolumes
    assert len(rest.ran) >= 18 - after and not campaign_frame(campaign.store)["pending"].any()
    again = run(campaign, resume=True)
    assert (again.evaluated, again.known) == (0, 36), "nothing is done twice"
    assert made(again) == made(whole)


def test_a_longer_campaign_continues_a_shorter_one(tmp_path: Path) -> None:
    run(trial(tmp_path, strategy="genetic", generations=2))
    longer = run(trial(tmp_path, strategy="genetic", generations=4), resume=True)
    whole = run(trial(tmp_path, name="whole", strategy="genetic", generations=4))
    assert made(longer) == made(whole) and longer.evaluated == 24 and whole.known > 0


def test_campaigns_of_one_store_share_evaluations(tmp_path: Path) -> None:
    first_one = run(trial(tmp_path))
    second = run(trial(tmp_path, name="second"))
    assert first_one.evaluated == 36 and (second.evaluated, second.known) == (0, 36)


def test_a_cheap_constraint_spares_the_dear_evaluator(tmp_path: Path) -> None:
    calls = []

    def dear(vector: Sequence[float]) -> float:
        calls.append(vector)
        return float(vector[1])

    campaign = trial(
        tmp_path,
        evaluators={"dear": from_function("dear", dear, dear=True), "first": None},
        objectives=[
            {"evaluator": "dear", "goal": "minimise", "reference": 2},
            {"evaluator": "first", "goal": "constraint", "at_most": 0.5},
        ],
    )
    result = run(campaign)
    firsts = [row.values["first"] for row in result.history.rows]
    assert len(calls) == sum(value <= 0.5 for value in firsts) < len(firsts)
    assert all(row.values["first"] <= 0.5 for row in result.front)


class Empty:
    def sample(self, seed: int, start: int, count: int) -> list[Any]:
        return [None] * count


class Short:
    """A sequence that ends."""

    def sample(self, seed: int, start: int, count: int) -> list[Any]:
        return [[float(i)] for i in range(8)][start : start + count]


def test_a_generator_that_gives_nothing_and_one_that_ends(tmp_path: Path) -> None:
    with pytest.raises(YieldError, match="no candidates: of 120 objects 120 are none"):
        run(trial(tmp_path, generator=Empty()))
    evaluators = {"first": first}
    goals = [{"evaluator": "first", "goal": "maximise", "reference": 0}]
    campaign = trial(tmp_path, name="s", generator=Short(), evaluators=evaluators, objectives=goals)
    result = run(campaign)
    assert len(result.history.rows) == 8 and result.front[0].values["first"] == 7


def test_python_objects_are_as_good_as_names(tmp_path: Path) -> None:
    campaign = trial(
        tmp_path,
        generator=Numbers(dimensions=3),
        evaluators={"first": first, "zdt1": zdt1},
    )
    assert made(run(campaign)) == made(run(trial(tmp_path, name="names")))


def test_settings_and_versions_tell_evaluations_apart() -> None:
    one = Evaluator("a", "builtin", "gap", "eV", {"relax": "xtb"})
    other = [
        Evaluator("a", "builtin", "gap", "eV", {"relax": "mmff"}),
        Evaluator("a", "builtin", "gap", "eV", {"relax": "xtb"}, version="2"),
        Evaluator("a", "metric", "gap", "eV", {"relax": "xtb"}),
    ]
    assert len({e.key("c") for e in (one, *other)} | {one.key("d")}) == 5
    assert Evaluator("renamed", "builtin", "gap", "eV", {"relax": "xtb"}).key("c") == one.key("c")
