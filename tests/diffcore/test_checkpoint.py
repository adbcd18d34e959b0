"""Weights and cards: the round trip, and every way a file can be broken."""

import json
from pathlib import Path

import pytest
import torch

from diffcore.checkpoint import fill_module, load_card, load_weights, save_weights, sha256
from diffcore.errors import DesignloomError, ModelFileError, OutputError

WEIGHTS = {"weight": torch.linspace(-1, 1, 6).reshape(2, 3), "bias": torch.tensor([0.5, 2.0])}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_weights(tmp_path / "m.safetensors", WEIGHTS, {"name": "toy"}, torch.float32)


def refused(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_weights(path, load_card(path))
    assert isinstance(caught.value, DesignloomError)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_round_trip(saved: Path) -> None:
    card = load_card(saved)
    assert card["name"] == "toy"
    assert card["weights"] == "m.safetensors"
    assert card["sha256"] == sha256(saved)
    found = load_weights(saved, card)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[k], WEIGHTS[k]) for k in WEIGHTS)
    module = torch.nn.Linear(3, 2)
    fill_module(module, found, saved)
    assert torch.equal(module.weight, WEIGHTS["weight"])
    assert sorted(p.name for p in saved.parent.iterdir()) == ["m.json", "m.safetensors"]


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8)])
def test_half_precision_rounds_once_and_integers_stay(
    tmp_path: Path, dtype: torch.dtype, digits: float
) -> None:
    weights = WEIGHTS | {"count": torch.tensor([2**40 + 1])}
    path = save_weights(tmp_path / "half.safetensors", weights, {}, dtype)
    found = load_weights(path, load_card(path))
    assert found["weight"].dtype == torch.float32
    torch.testing.assert_close(found["weight"], WEIGHTS["weight"], rtol=digits, atol=1e-7)
    assert found["count"].item() == 2**40 + 1


def test_non_contiguous_weights(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "t.safetensors", {"w": WEIGHTS["weight"].T}, {}, torch.float32)
    assert torch.equal(load_weights(path, load_card(path))["w"], WEIGHTS["weight"].T)


def test_missing_card(saved: Path) -> None:
    saved.with_suffix(".json").unlink()
    assert refused(saved) == f"no model card {saved.with_suffix('.json')}"


def test_missing_weights(saved: Path) -> None:
    saved.unlink()
    assert refused(saved) == f"no weights {saved}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a model card"),
        ("\x00\xff", "is not a model card"),
        ("[1]", "expected a card of format 1, got list"),
        ('{"format": 2}', "expected a card of format 1, got 2"),
        ("{}", "expected a card of format 1, got None"),
    ],
)
def test_broken_card(saved: Path, text: str, message: str) -> None:
    saved.with_suffix(".json").write_bytes(text.encode("latin-1"))
    assert message in refused(saved)


def test_truncated_weights(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-4])
    assert "is damaged or was changed: expected sha256" in refused(saved)


def test_flipped_byte(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(bytes(content))
    assert "is damaged or was changed" in refused(saved)


def test_wrong_or_missing_hash(saved: Path) -> None:
    card_path = saved.with_suffix(".json")
    card = json.loads(card_path.read_text())
    card_path.write_text(json.dumps(card | {"sha256": "0" * 64}))
    assert "expected sha256 000000000000..., got" in refused(saved)
    del card["sha256"]
    card_path.write_text(json.dumps(card))
    assert "is damaged or was changed" in refused(saved)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 100, b"PK\x03\x04 pickle"])
def test_another_kind_of_file_with_a_right_hash(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    card_path = saved.with_suffix(".json")
    card = json.loads(card_path.read_text()) | {"sha256": sha256(saved)}
    card_path.write_text(json.dumps(card))
    assert "is not a safetensors file" in refused(saved)


@pytest.mark.parametrize(
    "weights",
    [
        WEIGHTS | {"weight": torch.zeros(2, 4)},
        {"weight": WEIGHTS["weight"]},
        WEIGHTS | {"other": torch.zeros(1)},
    ],
    ids=["shape", "missing", "unexpected"],
)
def test_weights_of_another_network(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not fit the network of its card: ") as caught:
        fill_module(torch.nn.Linear(3, 2), weights, tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value)


def test_unwritable_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write") as caught:
        save_weights(tmp_path / "file" / "m.safetensors", WEIGHTS, {})
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("blocked", ["m.part", "m.json.part", "m.json"])
def test_a_failed_write_leaves_no_half_file(tmp_path: Path, blocked: str) -> None:
    (tmp_path / blocked).mkdir()  # a folder where a file must go: works for root too
    with pytest.raises(OutputError, match="cannot write"):
        save_weights(tmp_path / "m.safetensors", WEIGHTS, {})
    left = {p.name for p in tmp_path.iterdir()}
    assert left <= {blocked, "m.safetensors"}


def test_a_card_that_is_no_json_leaves_the_old_model(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save_weights(saved, {"weight": torch.zeros(1)}, {"bad": object()})
    assert saved.read_bytes() == before
    assert load_card(saved)["name"] == "toy"
    assert sorted(p.name for p in saved.parent.iterdir()) == ["m.json", "m.safetensors"]
