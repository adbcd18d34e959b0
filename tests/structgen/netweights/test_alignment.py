"""Weight matching: planted permutations are found, functions stay, barriers fall."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from diffcore import random
from diffcore.errors import ConfigError
from structgen.netweights.alignment import aligned, barriers, compare, losses, match, permuted
from structgen.netweights.fitting import Fit, train
from structgen.netweights.networks import Perceptron, initial

NET = Perceptron(3, 5, 3)


def draw(m: int, seed: int = 0) -> torch.Tensor:
    return random.normal(random.generator(seed), torch.empty(m, NET.parameters))


def test_a_planted_permutation_is_found_and_changes_nothing() -> None:
    flat = draw(4)
    order = torch.stack([torch.randperm(5, generator=random.generator(k)) for k in range(4)])
    moved = permuted(NET, flat, order)
    x = random.normal(random.generator(9), torch.empty(20, 3))
    torch.testing.assert_close(NET.logits(moved, x), NET.logits(flat, x))
    for k in range(4):
        back = aligned(NET, moved[k : k + 1], flat[k])
        assert torch.equal(back[0], flat[k])


def test_the_match_is_the_nearest_of_all_permutations() -> None:
    flat, reference = draw(3, 1), draw(1, 2)[0]
    every = torch.tensor(list(permutations(range(5))))
    for row, order in zip(flat, match(NET, flat, reference), strict=True):
        all_of_them = permuted(NET, row.expand(len(every), -1), every)
        best = (all_of_them - reference).norm(dim=1).min()
        found = (permuted(NET, row[None], order[None])[0] - reference).norm()
        assert found == pytest.approx(float(best), rel=1e-5)


def test_there_is_no_barrier_to_oneself_and_one_to_ones_permutation() -> None:
    rng = random.generator(3)
    x = random.normal(rng, torch.empty(200, 3))
    y = (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 1).long()
    flat = train(NET, initial(NET, [1]), x, y, Fit(300, 0, 0.05, 0.0))
    moved = permuted(NET, flat, torch.tensor([[1, 2, 3, 4, 0]]))
    assert barriers(NET, flat, flat, x, y).abs().max() < 1e-5
    assert barriers(NET, flat, moved, x, y).min() > 0.05
    torch.testing.assert_close(losses(NET, flat, x, y), losses(NET, moved, x, y))


def test_alignment_helps_a_zoo() -> None:
    rng = random.generator(4)
    net = Perceptron(6, 12, 3)
    x = random.normal(rng, torch.empty(300, 6))
    y = x[:, :3].argmax(1)
    flat = train(net, initial(net, list(range(12))), x, y, Fit(150, 0, 0.03))
    found = compare(net, flat, x, y)
    assert found.distance[1] < found.distance[0]
    assert found.barrier[1] < found.barrier[0]
    assert found.mean[1] > found.mean[0]
    assert found.members > 0.9


def test_what_cannot_be_aligned_is_refused() -> None:
    with pytest.raises(ConfigError, match="reference"):
        match(NET, draw(2), draw(1)[0, 1:])
    with pytest.raises(ConfigError, match="3 networks"):
        compare(NET, draw(2), torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
