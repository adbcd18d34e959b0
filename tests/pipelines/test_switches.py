"""The comparison of switches: every one changes what it names, and the table is measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from diffcore.errors import ConfigError
from molgen import recipes
from molgen.models.eqgat import EqgatConfig
from pipelines.switches import SWITCHES, bench_switches
from tests.molgen.test_table import table_of


def test_every_switch_changes_one_part_of_the_recipe() -> None:
    base = recipes.recipe("qm9")
    for name, change in SWITCHES.items():
        changed = change(base)
        parts = [
            field.name
            for field in dataclasses.fields(base)
            if getattr(changed, field.name) != getattr(base, field.name)
        ]
        assert len(parts) == (name != "recipe"), name


def test_the_table_has_a_measured_row_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = EqgatConfig(
        layers=1, scalars=16, vectors=4, pairs=8, hidden=8, heads=4, radial=2, residual=True
    )
    recipe = dataclasses.replace(recipes.recipe("qm9"), network=tiny, batch=4)
    monkeypatch.setitem(recipes.RECIPES, "qm9", recipe)
    data = table_of(["C", "O", "CO", "C=O"] * 3).save(tmp_path / "table.safetensors")
    only = ["recipe", "without radial basis"]
    lines = bench_switches(data, steps=2, number=3, only=only).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in only]
    assert all(line.count("%") == 3 for line in lines[2:])


def test_unknown_switches_and_counts_are_refused_before_any_work() -> None:
    with pytest.raises(ConfigError, match="unknown switch 'magic'; known: recipe, "):
        bench_switches(only=["magic"])
    with pytest.raises(ConfigError, match="--steps: expected at least 1, got 0"):
        bench_switches(steps=0)
