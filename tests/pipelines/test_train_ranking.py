"""Training of a ranking from the command line: conformers, weights, and their use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from diffcore import random
from diffcore.checkpoint import load_card, save_weights
from diffcore.errors import ConfigError, OutputError
from molgen.conformers import ConformerGenerator
from molgen.models.torsion import TorsionConfig
from molgen.tasks.conformers import ConformerTask
from pipelines.train_ranking import train_ranking
from tests.molgen.test_torsions import molecule_table

SMILES = [f"{'C' * k}C(=O)N{'C' * (m + 1)}O" for k in range(1, 5) for m in range(1, 4)]
TASK = ConformerTask(TorsionConfig(width=64, layers=1, pair_width=16, harmonics=4))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("pipelines.train_ranking.ligands", lambda *_: molecule_table(*SMILES))
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        weights = TASK.build().state_dict()
    card = {"kind": "conformers", "name": "tiny", "task": TASK.to_json(), "sampling": {"steps": 2}}
    return save_weights(tmp_path / "tiny.safetensors", weights, card)


def test_a_ranking_is_trained_and_goes_with_its_model(model: Path, tmp_path: Path) -> None:
    options = {"model": str(model), "molecules": 10, "out": str(tmp_path / "run"), "workers": 1}
    made = train_ranking(**options, max_time="00:00:02")
    card = load_card(made)
    assert (card["kind"], card["name"]) == ("ranking", "tiny-ranking")
    assert card["data"]["ligands"] == 10 and card["trained"]["steps"] > 0
    assert (tmp_path / "run" / "curve.png").exists()
    with pytest.raises(OutputError, match="holds a training run already"):
        train_ranking(**options, max_time="00:00:02")

    for suffix in (".safetensors", ".json"):
        (tmp_path / f"tiny-ranking{suffix}").write_bytes(made.with_suffix(suffix).read_bytes())
    note = json.loads(model.with_suffix(".json").read_text())
    model.with_suffix(".json").write_text(json.dumps({**note, "ranking": "tiny-ranking"}))
    generator = ConformerGenerator.from_pretrained(model)
    assert generator.ranker is not None
    assert generator.sample(SMILES[0], 3).GetNumConformers() == 3


def test_options_are_checked_before_anything_is_drawn(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--molecules: expected 10 or more, got 9"):
        train_ranking(str(model), molecules=9, out=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="--workers: expected 1 or more, got 0"):
        train_ranking(str(model), workers=0, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
