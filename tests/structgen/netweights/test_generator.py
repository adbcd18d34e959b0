"""Generation end to end with a tiny model that is trained on the spot, and with the shipped one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffcore import random
from diffcore.errors import ConfigError, DataError, ModelFileError
from structgen.netweights import baselines
from structgen.netweights.evaluate import (
    calibration_error,
    curve,
    ensemble,
    memory,
    steps_to,
)
from structgen.netweights.fitting import Fit, accuracy, train
from structgen.netweights.generator import STEERING, Asked, WeightGenerator
from structgen.netweights.networks import Perceptron, canonical, initial
from structgen.netweights.tables import Table, from_arrays, split
from structgen.netweights.weights import find_model, shipped


def clusters(rows: int = 240, features: int = 9, classes: int = 3, seed: int = 0) -> Table:
    """Classes that a straight cut tells apart, on features of very different size."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    centres = 2.0 * rng.normal(size=(classes, features))
    x = (centres[y] + rng.normal(size=(rows, features))) * np.geomspace(0.01, 1000, features)
    return from_arrays(x, y, "clusters")


@pytest.fixture(scope="module")
def generator() -> WeightGenerator:
    if "tabular-mlp" not in shipped():
        pytest.skip("the weights tabular-mlp are not in this checkout")
    return WeightGenerator.from_pretrained("tabular-mlp")


def test_state_dicts_load_into_the_plain_module(generator: WeightGenerator) -> None:
    table = clusters()
    made = generator.sample(3, dataset=(table.x, table.y), seed=0)
    module = torch.nn.Sequential(torch.nn.Linear(9, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    for state in made:
        module.load_state_dict(state)
        assert module(torch.from_numpy(table.x).float()).shape == (240, 3)
    assert not torch.equal(made[0]["0.weight"], made[1]["0.weight"])


def test_generated_networks_classify_rows_that_nobody_saw(generator: WeightGenerator) -> None:
    shown, aside = split(clusters())
    told = generator.prompt(shown)
    x, y = told.rows(aside)
    for steering, least in (("none", 0.6), ("guided", 0.85)):
        flat = generator.draw(6, told, Asked(steering=steering), seed=1)
        raw, rows = told.encoding.fold(generator.task.net, flat, 3)
        found = accuracy(raw, rows.double(), torch.from_numpy(aside.x), y)
        assert found.mean() > least
        torch.testing.assert_close(
            found, accuracy(generator.task.net, flat, x, y, told.present), atol=0.02, rtol=0
        )


def test_a_network_depends_on_its_seed_and_number_alone(generator: WeightGenerator) -> None:
    told = generator.prompt(clusters())
    for steering in ("none", "guided"):
        asked = Asked(steering=steering, steps=6)
        many = generator.draw(4, told, asked, seed=3)
        assert torch.equal(generator.draw(4, told, asked, seed=3), many)
        torch.testing.assert_close(
            generator.draw(2, told, asked, seed=3), many[:2], atol=1e-4, rtol=1e-3
        )
        assert not torch.allclose(generator.draw(4, told, asked, seed=4), many, atol=1e-2)


def test_networks_drawn_at_a_low_temperature_are_near_each_other(
    generator: WeightGenerator,
) -> None:
    told = generator.prompt(clusters())
    apart = []
    for temperature in (1.0, 0.3, 0.0):
        asked = Asked(steering="none", steps=6, temperature=temperature)
        flat = generator.draw(4, told, asked)
        apart.append(float(torch.pdist(flat).mean()))
    assert apart[0] > 1.5 * apart[1] > 0.1 and apart[2] < 1e-3
    unasked = generator.draw(2, told, Asked(steering="none", steps=6))
    recommended = generator.card["sampling"]["temperature"]
    asked = Asked(steering="none", steps=6, temperature=recommended)
    assert torch.equal(generator.draw(2, told, asked), unasked)
    with pytest.raises(ConfigError, match="temperature"):
        Asked(temperature=1.5)


def test_shrunk_networks_lie_between_what_is_drawn_and_the_probe(
    generator: WeightGenerator,
) -> None:
    told = generator.prompt(clusters())
    net = generator.task.net

    def drawn(**asked: Any) -> torch.Tensor:
        return generator.draw(3, told, Asked(steps=6, **asked))

    end = canonical(net, generator.task.path(told.x, told.y, told.present)[-1], told.present)
    far = [float((drawn(steering="none", shrinkage=s) - end).norm(dim=1).mean()) for s in (0, 1)]
    assert far[1] < 0.05 * far[0], "the coder gives the probe back"
    half = float((drawn(steering="none", shrinkage=0.5) - end).norm(dim=1).mean())
    assert 0.3 * far[0] < half < 0.7 * far[0]
    recommended = generator.card["sampling"]["shrinkage"]
    assert torch.equal(drawn(steering="none", shrinkage=recommended), drawn(steering="none"))
    assert torch.equal(drawn(shrinkage=0.0), drawn()), "the rows steer: no shrinkage"
    with pytest.raises(ConfigError, match="shrinkage: expected 0 to 1"):
        Asked(shrinkage=1.5)


@pytest.mark.parametrize("steering", STEERING[1:])
def test_steering_lowers_the_loss_of_the_labelled_rows(
    generator: WeightGenerator, steering: Any
) -> None:
    told = generator.prompt(clusters(seed=3))
    energy = generator.energy(told)

    def loss(asked: Asked) -> float:
        flat = generator.draw(4, told, asked, seed=0)
        present = told.present
        logits = generator.task.net.logits(flat, told.x[0], present)
        y = told.y[0].repeat(len(flat))
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), y))

    plain = loss(Asked(steps=10, steering="none"))
    assert loss(Asked(steps=10, steering=steering, draws=4)) < plain
    size = generator.task.size.latent
    assert energy(generator.task.state(torch.zeros(2, 17, size), {}), {}).shape == (2,)


def test_sparse_networks_are_sparse(generator: WeightGenerator) -> None:
    told = generator.prompt(clusters())
    flat = generator.draw(2, told, Asked(sparsity=0.5, steps=4))
    zeros = (flat[:, : generator.task.net.sizes[0]] == 0).double().mean(1)
    assert (zeros - 0.5).abs().max() < 0.02


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accuracy": 1.5}, "accuracy: expected 0 to 1"),
        ({"sparsity": -0.1}, "sparsity"),
        ({"steering": "prayer"}, "known: none, guided"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"draws": 0}, "draws"),
        ({"strength": -1.0}, "strength"),
        ({"method": "magic"}, "unknown sampler"),
    ],
)
def test_options_outside_their_range_are_refused(
    generator: WeightGenerator, options: dict[str, Any], said: str
) -> None:
    table = clusters(60)
    with pytest.raises(ConfigError, match=said):
        generator.sample(1, dataset=(table.x, table.y), **options)


def test_data_that_do_not_fit_are_refused(generator: WeightGenerator) -> None:
    table = clusters(60)
    with pytest.raises(ConfigError, match="number: expected at least 1"):
        generator.sample(0, dataset=table)
    with pytest.raises(DataError, match="12 classes"):
        generator.sample(1, dataset=clusters(60, classes=12))
    with pytest.raises(DataError, match="two classes"):
        generator.sample(1, dataset=(table.x, np.ones(60)))
    with pytest.raises(DataError, match="missing"):
        generator.sample(1, dataset=(np.where(table.x > 0, np.nan, table.x), table.y))
    with pytest.raises(DataError, match="fraction"):
        generator.sample(1, dataset=(table.x, table.x[:, 0]))


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="unknown model 'vgg'"):
        find_model("vgg")
    if "tabular-mlp" not in shipped():
        pytest.skip("the weights tabular-mlp are not in this checkout")
    source = shipped()["tabular-mlp"]
    target = tmp_path / "model.safetensors"
    target.write_bytes(source.read_bytes())
    card = json.loads(source.with_suffix(".json").read_text())
    for change, said in (
        ({"kind": "webs"}, "expected a model of network weights, got 'webs'"),
        ({"task": card["task"] | {"net": {"kind": "resnet"}}}, "unknown architecture 'resnet'"),
        ({"sha256": "0" * 64}, "damaged or was changed"),
    ):
        target.with_suffix(".json").write_text(json.dumps(card | change))
        with pytest.raises(ModelFileError, match=said):
            WeightGenerator.from_pretrained(target)
    target.write_bytes(source.read_bytes()[:1000])
    target.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ModelFileError, match="damaged"):
        WeightGenerator.from_pretrained(target)


def test_pixels_want_images_of_their_size() -> None:
    if "digits-mlp" not in shipped():
        pytest.skip("the weights digits-mlp are not in this checkout")
    sklearn = pytest.importorskip("sklearn.datasets")
    digits = WeightGenerator.from_pretrained("digits-mlp")
    x, y = sklearn.load_digits(return_X_y=True)
    made = digits.sample(4, dataset=(x, y), seed=0)
    module = digits.task.net.module()
    module.load_state_dict(made[0])
    said = module(torch.from_numpy(x).float()).argmax(1)
    assert (said == torch.from_numpy(y)).double().mean() > 0.8
    table = clusters(60)
    with pytest.raises(DataError, match="8 x 8 pixels"):
        digits.sample(1, dataset=table)


NET = Perceptron(4, 6, 3)


@pytest.fixture(scope="module")
def small() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = random.generator(5)
    x = random.normal(rng, torch.empty(200, 4))
    y = x[:, :3].argmax(1)
    flat = train(NET, initial(NET, list(range(10))), x, y, Fit(120, 0, 0.05))
    return flat, x, y


PRESENT = torch.ones(1, 3, dtype=torch.bool)


def test_copies_are_found_out(small: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    from structgen.netweights.alignment import permuted

    flat, x, _ = small
    order = torch.tensor([[1, 0, 2, 3, 5, 4]]).expand(3, -1)
    found = memory(NET, permuted(NET, flat[4:7], order), flat, x, PRESENT)
    assert found.nearest < 1e-5 and found.agreement == 1 and found.ratio < 1e-5
    fresh = train(NET, initial(NET, [50, 51, 52]), x, small[2], Fit(120, 0, 0.05))
    assert memory(NET, fresh, flat, x, PRESENT).ratio > 0.4
    with pytest.raises(ConfigError, match="3 training networks"):
        memory(NET, fresh, flat[:2], x, PRESENT)


def test_curves_begin_at_the_start_and_climb(
    small: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    flat, x, y = small
    start = initial(NET, [0, 1])
    found = curve(NET, start, (x, y), (x, y), PRESENT, steps=30)
    assert found.shape == (31, 2)
    torch.testing.assert_close(found[0], accuracy(NET, start, x, y))
    assert found[-1].mean() > found[0].mean() + 0.2
    assert steps_to(torch.tensor([0.1, 0.5, 0.9, 0.7]), 0.7) == 2
    assert steps_to(torch.tensor([0.1, 0.5]), 0.7) is None


def test_calibration_and_ensembles(
    small: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    flat, x, y = small
    one = torch.full((100,), 0.8)
    right = (torch.arange(100) < 80).double()
    assert calibration_error(one, right) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(one, torch.zeros(100)) == pytest.approx(0.8, abs=1e-6)
    found = ensemble(NET, flat, x, y, PRESENT)
    assert found.together >= found.single - 0.02 and 0 < found.disagreement < 0.3
    same = ensemble(NET, flat[:1].expand(3, -1), x, y, PRESENT)
    assert same.disagreement == 0 and same.single == pytest.approx(same.together)
    with pytest.raises(ConfigError, match="2 networks"):
        ensemble(NET, flat[:1], x, y, PRESENT)


def test_baselines_have_the_statistics_they_claim() -> None:
    rng = random.generator(6)
    plane = random.normal(rng, torch.empty(3, 40))
    flat = 5 + random.normal(rng, torch.empty(300, 3)) @ plane
    drawn = baselines.pca_gaussian(flat, 2000, 3, rng)
    torch.testing.assert_close(drawn.mean(0), flat.mean(0), atol=0.4, rtol=0.1)
    torch.testing.assert_close(drawn.std(0), flat.std(0), atol=0.2, rtol=0.2)
    smooth = baselines.kde(flat, 2000, rng, width=0.5)
    torch.testing.assert_close(smooth.var(0), flat.var(0) * 1.25, atol=0.3, rtol=0.2)
    code = torch.tensor([1.0, 0.0])
    others = torch.tensor([[0.0, 1.0], [1.0, 0.1], [-1.0, 0.0]])
    assert baselines.nearest(code, others).tolist() == [1, 0, 2]
