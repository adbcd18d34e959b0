"""Batches of networks against torch's own modules, gradients and symmetries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffcore import random
from diffcore.errors import ConfigError
from structgen.netweights.fitting import Fit, accuracy, gradients, largest, train
from structgen.netweights.networks import (
    Perceptron,
    architecture,
    canonical,
    initial,
    paper_cnn,
)

NET = Perceptron(5, 7, 4)


@pytest.fixture
def rows() -> Tensor:
    return random.normal(random.generator(1), torch.empty(6, NET.parameters))


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    rng = random.generator(2)
    x = random.normal(rng, torch.empty(90, 5))
    return x, (2 * x[:, 0] + x[:, 1]).gt(0).long() + 2 * x[:, 2].gt(0).long()


def test_a_row_is_the_torch_module(rows: Tensor, data: tuple[Tensor, Tensor]) -> None:
    module = NET.module()
    made = NET.logits(rows, data[0])
    for k, row in enumerate(rows):
        module.load_state_dict(NET.state_dict(row))
        torch.testing.assert_close(made[k], module(data[0]))
        torch.testing.assert_close(NET.row(module.state_dict()), row)
        torch.testing.assert_close(nn.utils.parameters_to_vector(module.parameters()), row)


def test_shared_and_own_inputs_agree(rows: Tensor, data: tuple[Tensor, Tensor]) -> None:
    own = data[0].expand(len(rows), -1, -1)
    torch.testing.assert_close(NET.logits(rows, own), NET.logits(rows, data[0]))
    y = data[1].expand(len(rows), -1)
    torch.testing.assert_close(gradients(NET, rows, own, y), gradients(NET, rows, *data))


def test_gradients_are_autograds(rows: Tensor, data: tuple[Tensor, Tensor]) -> None:
    present = torch.tensor([[True, True, True, True]]).repeat(6, 1)
    leaf = rows.clone().requires_grad_()
    logits = NET.logits(leaf, data[0], present)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), data[1].repeat(6), reduction="sum")
    (expected,) = torch.autograd.grad(loss / len(data[1]), leaf)
    torch.testing.assert_close(gradients(NET, rows, *data, present), expected)


def test_chunks_go_there_and_back(rows: Tensor) -> None:
    assert NET.tokens(rows).shape == (6, 8, NET.token)
    assert torch.equal(NET.from_tokens(NET.tokens(rows)), rows)


def test_the_canonical_form_is_the_same_function(rows: Tensor, data: tuple[Tensor, Tensor]) -> None:
    present = torch.tensor([[True, True, True, False]])
    made = canonical(NET, rows, present)
    before = NET.logits(rows, data[0], present).softmax(-1)
    torch.testing.assert_close(NET.logits(made, data[0], present).softmax(-1), before)
    w1, b1, w2, b2 = NET.parts(made)
    into = (w1.square().sum(2) + b1.square()).sqrt()
    torch.testing.assert_close(into, w2.square().sum(1).sqrt())
    assert not w2[:, 3].any() and not b2[:, 3].any()
    torch.testing.assert_close(canonical(NET, made, present), made)


def test_training_learns_and_repeats_itself(data: tuple[Tensor, Tensor]) -> None:
    start = initial(NET, [3, 4, 5])
    fit = Fit(steps=200, batch=32, lr=0.03)
    first = train(NET, start, *data, fit, rng=random.generator(7))
    again = train(NET, start, *data, fit, rng=random.generator(7))
    other = train(NET, start, *data, fit, rng=random.generator(8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert accuracy(NET, first, *data).min() > 0.9 > accuracy(NET, start, *data).max()
    alone = train(NET, start[1:2], *data, fit, rng=random.generator(7))
    torch.testing.assert_close(alone, first[1:2], rtol=1e-3, atol=1e-4)


def test_absent_classes_are_never_answered(data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    present = torch.tensor([[True, True, False, True]])
    y = torch.where(y == 2, torch.zeros_like(y), y)
    made = train(NET, initial(NET, [0]), x, y, Fit(50, 0), present=present)
    assert (NET.logits(made, x, present).argmax(-1) != 2).all()


def test_pruned_weights_are_zero(data: tuple[Tensor, Tensor]) -> None:
    share = torch.tensor([0.0, 0.4, 0.8])
    made = train(NET, initial(NET, [0, 1, 2]), *data, Fit(60, 0), sparsity=share)
    zeros = (made[:, : NET.sizes[0]] == 0).double().mean(1)
    torch.testing.assert_close(zeros, share.double(), atol=0.02, rtol=0)
    kept = largest(NET, made, share)
    assert (made[kept == 0] == 0).all() and kept[:, NET.sizes[0] :].all()


def test_spread_says_how_far_networks_start_apart() -> None:
    for spread in (0.0, 0.3, 1.0):
        a, b = initial(NET, [1], spread), initial(NET, [2], spread)
        size = initial(NET, list(range(50)), 1.0).square().sum(1).mean().sqrt()
        assert (a - b).norm() / size == pytest.approx(spread * 2**0.5, abs=0.25 * spread)
    bound = initial(NET, list(range(50)))
    assert NET.parts(bound)[0].abs().max() <= 5**-0.5


def test_the_cnn_of_the_papers_has_2464_parameters() -> None:
    module = paper_cnn()
    assert sum(p.numel() for p in module.parameters()) == 2464
    assert module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    "value",
    [{"kind": "resnet"}, {"kind": "perceptron", "inputs": 3}, {}, {"kind": "perceptron", "x": 1}],
)
def test_unknown_architectures_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="architecture|perceptron"):
        architecture(value)


def test_wrong_sizes_are_refused(rows: Tensor) -> None:
    with pytest.raises(ConfigError, match="parameters"):
        NET.parts(rows[:, 1:])
    with pytest.raises(ConfigError, match="state dict"):
        NET.row(Perceptron(5, 8, 4).module().state_dict())
    with pytest.raises(ConfigError, match="at least"):
        Perceptron(0, 3, 2)
    assert architecture(NET.to_json()) == NET
