"""Training from the command line: seconds of it, on real molecules, resumed, and its refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from diffcore.checkpoint import load_card, load_weights
from diffcore.errors import ConfigError, DataError, ModelFileError, OutputError
from molgen import recipes
from molgen.generate import MoleculeGenerator
from molgen.models.eqgat import EqgatConfig
from pipelines.cli import main
from pipelines.runs import rank_of, seconds
from pipelines.train import begin_with, train_molecules
from tests.molgen.test_table import table_of

TINY = EqgatConfig(layers=1, scalars=16, vectors=4, pairs=8, hidden=8, heads=4, residual=True)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(recipes.RECIPES, "tiny", recipes.Recipe("qm9", TINY, batch=4))
    path = tmp_path / "table.safetensors"
    table_of(["C", "O", "CO", "C#N", "C=O", "CC", "N"] * 4).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("text", "value"), [("00:30:00", 1800), ("0:00:05", 5), ("1:02:03:04", 93784)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "30", "1:2:3", "00:00:00", "-1:00:00", "one:00:00"])
def test_times_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="time"):
        seconds(text)


def test_a_run_leaves_a_model_a_card_a_curve_and_can_go_on(data: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = {"recipe": "tiny", "out": str(folder), "data": data, "accelerator": "cpu"}
    path = train_molecules(**options, max_time="00:00:02", curve_every=0.5, probe=2)  # type: ignore[arg-type]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["kind"] == "molecules"
    assert card["recipe"]["batch"] == 4
    assert card["task"]["elements"] == [1, 6, 7, 8]
    assert (folder / "curve.png").stat().st_size > 1000
    rows = list(csv.DictReader((folder / "curve.csv").read_text().splitlines()))
    assert len(rows) >= 2
    assert {"minutes", "steps", "loss", "pos", "atom", "bond", "strict_valid"} <= set(rows[0])
    mols = MoleculeGenerator.from_pretrained(path).sample(3, steps=2, progress=False)
    assert len(mols) == 3

    with pytest.raises(OutputError, match="holds a training run already; give --resume"):
        train_molecules(**options, max_time="00:00:01")  # type: ignore[arg-type]

    train_molecules(**options, max_time="00:00:01", resume=True, probe=0)  # type: ignore[arg-type]
    later = json.loads(path.with_suffix(".json").read_text())["trained"]
    assert later["steps"] > card["trained"]["steps"] > 0
    assert later["minutes"] >= card["trained"]["minutes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accelerator", "tpu"], "accelerator: expected one of cpu, gpu, auto, got 'tpu'"),
        (["--precision", "8"], "precision: expected one of 32-true, bf16-mixed, got '8'"),
        (["--devices", "0"], "devices: expected at least 1, got 0"),
        (["--threads", "-1"], "threads: expected 0 or more, got -1"),
        (["--recipe", "qm10"], "unknown recipe 'qm10'; known: qm9, qm9-paper"),
        (["--max-time", "soon"], "expected a time as HH:MM:SS, got 'soon'"),
        (["--data", "missing.safetensors"], "no molecule table at missing.safetensors"),
    ],
)
def test_bad_options_are_one_line(
    words: list[str], message: str, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "molecules", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert list(working_directory.iterdir()) == []


def test_torn_data_is_refused(data: str, tmp_path: Path) -> None:
    path = Path(data)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable molecule table"):
        train_molecules(recipe="tiny", data=data, out=str(tmp_path / "run"))


def test_a_torn_checkpoint_is_one_line(data: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(b"PK torn")
    with pytest.raises(ModelFileError, match="last.ckpt is not a readable checkpoint: ") as error:
        train_molecules(recipe="tiny", data=data, out=str(folder), resume=True, accelerator="cpu")
    assert "\n" not in str(error.value)


def test_rank_comes_from_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_of(1, 1) == 0
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rank_of(2, 1) == 1
    monkeypatch.setenv("NODE_RANK", "2")
    assert rank_of(2, 3) == 5
    monkeypatch.setenv("RANK", "4")
    assert rank_of(2, 3) == 4


def test_the_global_random_state_is_left_alone(data: str, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    train_molecules(
        recipe="tiny",
        data=data,
        out=str(tmp_path / "run"),
        max_time="00:00:01",
        probe=0,
        accelerator="cpu",
    )
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_starts_from_a_models_weights(data: str, tmp_path: Path) -> None:
    again = {"recipe": "tiny", "data": data, "accelerator": "cpu", "max_time": "00:00:01"}
    first = train_molecules(**again, out=str(tmp_path / "a"))  # type: ignore[arg-type]
    given = load_weights(first, load_card(first))
    network = MoleculeGenerator.from_pretrained(first).task.build()
    assert any(
        not torch.equal(v.float(), given[k].float()) for k, v in network.state_dict().items()
    )
    begin_with(network, str(first))
    for name, value in network.state_dict().items():
        assert torch.equal(value.float(), given[name].float())

    # What only the network has stays: here a layer that the file knows nothing of.
    wider = torch.nn.ModuleDict({"added": torch.nn.Linear(2, 2)})
    wider.update(dict(network.named_children()))
    before = wider.state_dict()["added.weight"].clone()
    begin_with(wider, str(first))
    assert torch.equal(wider.state_dict()["added.weight"], before)

    path = train_molecules(**again, out=str(tmp_path / "b"), start_from=str(first))  # type: ignore[arg-type]
    assert json.loads(path.with_suffix(".json").read_text())["recipe"]["start_from"] == str(first)


def test_weights_of_another_size_are_refused_before_training(data: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        train_molecules(
            recipe="tiny",
            data=data,
            accelerator="cpu",
            out=str(tmp_path / "c"),
            max_time="00:00:01",
            start_from="qm9",
        )
    assert "\n" not in str(caught.value)
