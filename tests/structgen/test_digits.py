"""Digits: data, networks, judge and weights; and every kind of steering with a diffusers U-Net."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcore import random
from diffcore.denoisers import Counted
from diffcore.errors import ConfigError
from diffcore.state import State

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")

from structgen.images import fitting, steering  # noqa: E402
from structgen.images.digits import (  # noqa: E402
    HELD_OUT,
    LEVEL,
    DiffusersUnet,
    DigitDenoiser,
    DigitNetwork,
    ink,
    load,
    processes,
    symmetry,
    told,
)
from structgen.images.judge import Judge, frechet  # noqa: E402


@pytest.fixture(scope="module")
def data() -> tuple[State, State]:
    return load()


@pytest.fixture(scope="module")
def judge(data: tuple[State, State]) -> Judge:
    return Judge.trained(data[0])


def untrained(network: torch.nn.Module) -> DigitDenoiser:
    rng = random.generator(5)
    for weight in network.parameters():
        weight.data = 0.1 * random.normal(rng, weight.data)
    return DigitDenoiser(network.eval().requires_grad_(False))


@pytest.fixture(scope="module", params=["perceptron", "unet"])
def denoiser(request: pytest.FixtureRequest) -> DigitDenoiser:
    """Small untrained networks: our own, and a U-Net of diffusers."""
    if request.param == "perceptron":
        return untrained(DigitNetwork(width=16, depth=2, channels=16))
    pytest.importorskip("diffusers", reason="the extra 'media'")
    return untrained(DiffusersUnet(block_out_channels=(8, 16), norm_num_groups=4))


def test_the_data_have_17_levels_and_the_split_has_no_digit_twice(data) -> None:
    train, held_out = data
    assert train.rows + held_out.rows == 1797 and held_out.rows == HELD_OUT
    levels = (train["pix"] + 1) / LEVEL
    assert torch.equal(levels, levels.round()) and levels.unique().tolist() == list(range(17))
    assert held_out["label"].unique().tolist() == list(range(10))
    assert torch.equal(load()[1]["pix"], held_out["pix"])


def test_the_judge_knows_digits_it_was_not_trained_on(data, judge: Judge) -> None:
    train, held_out = data
    assert judge.accuracy(held_out) > 0.95
    half = torch.arange(train.rows) % 2 == 0
    one, other = (train.take(which.nonzero()[:, 0]) for which in (half, ~half))
    mirrored = other.replace(pix=other["pix"].flip(-1))
    assert judge.distance(one, other) < 0.2 * judge.distance(one, mirrored)
    assert judge.accuracy(mirrored) < 0.7


def test_the_frechet_distance_of_normal_data_is_the_closed_form() -> None:
    """|m|^2 + sum (s1 - s2)^2 for independent components, whatever the basis."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    stds, mean = np.array([1.0, 2.0, 0.5, 3.0]), np.array([0.5, 0.0, -1.0, 0.0])
    z = rng.normal(size=(200_000, 4))
    one, other = z @ basis, (mean + rng.permutation(z) * stds) @ basis
    expected = (mean**2).sum() + ((stds - 1) ** 2).sum()
    assert frechet(one, other) == pytest.approx(expected, rel=0.02)
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)


def test_rewards() -> None:
    blank = torch.full((1, 1, 8, 8), -1.0)
    left = blank.clone()
    left[..., :4] = 1.0
    state = State({"pix": torch.cat([blank, -blank, left])}, torch.ones(3, 1).bool())
    assert ink(state).tolist() == [0, 16, 8]
    assert symmetry(state).tolist() == [0, 0, -16]


def test_weights_are_trained_once_and_alike(tmp_path: Path, capsys) -> None:
    options = {"steps": 3, "seed": 4, "progress": False}
    one = fitting.fitted("perceptron", folder=tmp_path / "a", **options)
    again = fitting.fitted("perceptron", folder=tmp_path / "b", **options)
    kept = next((tmp_path / "a").glob("*.safetensors"))
    written = kept.stat().st_mtime_ns
    cached = fitting.fitted("perceptron", folder=tmp_path / "a", **options)
    assert kept.stat().st_mtime_ns == written
    other = fitting.fitted("perceptron", folder=tmp_path / "a", **(options | {"seed": 5}))
    for name, weight in one.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[name]), name
        assert torch.equal(weight, cached.network.state_dict()[name])
    assert not torch.equal(one.network.begin.weight, other.network.begin.weight)
    with pytest.raises(ConfigError, match="unknown network 'dit'; known: perceptron, unet"):
        fitting.fitted("dit")
    with pytest.raises(ConfigError, match="steps: expected at least 1"):
        fitting.fitted("perceptron", steps=0)


def test_the_cache_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DESIGNLOOM_CACHE", str(tmp_path))
    assert fitting.cache_folder() == tmp_path / "digits"


def test_guidance_costs_what_it_says(denoiser: DigitDenoiser, data, judge: Judge) -> None:
    found = steering.guidance(denoiser, judge, data[0], [1.0, 3.0], 20, 0)
    assert [one.evaluations for one in found] == [25, 50]
    for one in found:
        assert one.digits["pix"].isfinite().all() and one.digits["label"][13] == 3
    assert not torch.equal(found[0].digits["pix"], found[1].digits["pix"])


def test_all_searches_run_on_digits(denoiser: DigitDenoiser, judge: Judge) -> None:
    ticks = []
    found = steering.compare_searches(denoiser, judge, "ink", [48], 1, 1.0, lambda: ticks.append(0))
    assert [one.search for one in found] == list(steering.searches(1.0)) and len(ticks) == 4
    for one in found:
        assert ink(one.digits).tolist() == pytest.approx(one.best.tolist())


def test_the_kept_half_is_kept(denoiser: DigitDenoiser, data, judge: Judge) -> None:
    digits = data[1].take(torch.arange(6))
    found = steering.fill(denoiser, judge, digits, 2, False, 0)
    assert found.exact == 1 and found.evaluations > 25
    assert not torch.equal(found.digits["pix"][:, :, 4:], digits["pix"][:, :, 4:])


def test_reading_an_untrained_network_tells_nothing(denoiser: DigitDenoiser, data) -> None:
    digits = data[1].take(torch.arange(20))
    assert steering.read(denoiser, digits, 2, 0) < 0.5
    mean, error = steering.bits(denoiser, digits, 0, repeats=2)
    assert mean > math.log2(17) and error > 0


def test_a_label_that_is_not_told_is_a_class_of_its_own(denoiser: DigitDenoiser) -> None:
    counted = Counted(denoiser)
    noise = random.normal(random.generator(0), torch.zeros(1, 1, 8, 8))
    times = {"pix": torch.tensor([0.5])}
    made = [
        counted(told(label).replace(pix=noise), times, {})["pix"] for label in (math.nan, 0.0, 9.0)
    ]
    never = steering.unlabelled(counted)(told(9.0).replace(pix=noise), times, {})["pix"]
    assert torch.equal(never, made[0])
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])
    assert set(processes()) == {"pix"}


@pytest.mark.slow
def test_a_trained_network_can_be_steered(tmp_path: Path, data, judge: Judge) -> None:
    """A minute of training: guidance obeys, search climbs, the classifier reads."""
    train, held_out = data
    network = fitting.fitted("perceptron", steps=2000, folder=tmp_path, progress=False)
    free, asked = steering.guidance(network, judge, train, [0.0, 1.5], 300, 0)
    assert asked.accuracy > 0.97 > 0.3 > free.accuracy
    assert asked.distance < 6
    assert steering.read(network, held_out, 16, 0) > 0.95
    spread = float(steering.reward_spread(network, "ink", 7).std())
    found = steering.compare_searches(network, judge, "ink", [800], 4, spread, lambda: None)
    best = {one.search: float(one.best.mean()) for one in found}
    for name in ("feynman_kac", "tree_search"):
        assert best[name] > best["best_of_n"] + 0.2 * spread
