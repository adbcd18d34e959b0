"""Training of web models: one stage at a time, and further from given weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("numba")

from diffcore.checkpoint import load_card, load_weights  # noqa: E402
from diffcore.errors import ConfigError, ModelFileError  # noqa: E402
from pipelines.webs import generate_webs  # noqa: E402
from pipelines.webs_train import train_webs  # noqa: E402
from structgen.webs import recipes  # noqa: E402


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of large webs, for small ones."""
    network = {"layers": 1, "scalars": 16, "pairs": 8, "heads": 2, "width": 16, "blocks": 1}
    large = recipes.RECIPES["orb-large"]
    one = replace(large, sizes=(45, 55), task={"network": network}, pulled=0)
    monkeypatch.setattr(recipes, "RECIPES", {"orb-large": one, "orb": recipes.RECIPES["orb"]})


def changed(one: Path, other: Path) -> set[str]:
    """Which of the two networks have other weights."""
    first, second = (load_weights(path, load_card(path)) for path in (one, other))
    return {k.split(".")[0] for k in first if not first[k].equal(second[k])}


def test_a_stage_is_trained_alone_and_further(small: None, tmp_path: Path) -> None:
    options = {"recipe": "orb-large", "number": 6, "max_time": "00:00:02"}
    first = train_webs(**options, stage=[0], out=str(tmp_path / "a"))
    second = train_webs(**options, stage=[1], start_from=str(first), out=str(tmp_path / "b"))
    assert changed(first, second) == {"places"}
    assert load_card(second)["recipe"]["objective"]["shares"] == [0.0, 0.5]
    both = train_webs(**options, start_from=str(second), out=str(tmp_path / "c"))
    assert changed(second, both) == {"threads", "places"}


def test_what_does_not_fit_is_said_before_anything_is_trained(small: None, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="orb-large has 2 stages, got .2."):
        train_webs("orb-large", stage=[2], out=str(tmp_path))
    with pytest.raises(ConfigError, match="orb has 0 stages, got .0."):
        train_webs("orb", stage=[0], out=str(tmp_path))
    with pytest.raises(ModelFileError, match="orb"):
        train_webs("orb-large", number=4, start_from="orb", out=str(tmp_path))
    assert not (tmp_path / "last.ckpt").exists()


def test_what_drawn_webs_are_off_by_is_said(tmp_path: Path) -> None:
    """Four lengths are more than three axes can meet."""
    lengths = "mean_edge_length=3,mean_dx=1.7,mean_dy=1.7,mean_dz=1.7"
    out = tmp_path / "webs.jsonl"
    said = generate_webs(1, out, model="orb", condition=f"n_nodes=24,{lengths}", steps=4)
    assert "\nweb 1: mean_edge_length" in said and "instead of 3" in said
    assert "instead" not in generate_webs(
        1, out, model="orb", condition="n_nodes=24,mean_edge_length=3", steps=4, force=True
    )
