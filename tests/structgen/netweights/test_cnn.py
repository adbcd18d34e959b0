"""The papers' CNN: rows are its state dicts, and many learn at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from diffcore import random
from diffcore.errors import DataError
from structgen.netweights.cnn import CnnFit, cnn_accuracy, starts, state_dict, train_cnns
from structgen.netweights.networks import paper_cnn


def stripes(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Upright and lying stripes."""
    rng = random.generator(1)
    y = torch.arange(rows) % 2
    wave = (torch.arange(28) % 4 < 2).float()
    upright = wave.expand(28, 28)
    x = torch.stack([upright if k else upright.T for k in y]).flatten(1)
    return x + 0.3 * random.normal(rng, x), y


def test_a_row_is_a_state_dict() -> None:
    row = starts([7])[0]
    module = paper_cnn()
    module.load_state_dict(state_dict(row))
    torch.testing.assert_close(parameters_to_vector(module.parameters()), row)
    x, y = stripes(40)
    said = module(x.view(-1, 1, 28, 28)).argmax(1)
    expected = float((said == y).double().mean())
    assert float(cnn_accuracy(row[None], x, y)[0]) == pytest.approx(expected)


def test_many_learn_at_once_and_alike() -> None:
    x, y = stripes(96)
    fit = CnnFit(epochs=12, batch=16, lr=5e-3)
    made = train_cnns(x, y, [0, 1, 2], fit)
    assert made.shape == (3, 2464)
    assert float(cnn_accuracy(made, *stripes(60)).median()) > 0.9
    again = train_cnns(x, y, [0, 1, 2], fit)
    assert torch.equal(made, again)
    assert not torch.allclose(made[0], made[1])


def test_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="28 x 28"):
        train_cnns(torch.zeros(4, 64), torch.zeros(4, dtype=torch.int64), [0])
