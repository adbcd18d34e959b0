"""Permutations of hidden units: a network's function does not see them, its weights do.

Weight matching of Ainsworth, Hayase and Srinivasa 2023 (Git Re-Basin, section 3.2): the permutation
that brings a network nearest to a reference. With one hidden layer it is one linear assignment, and
exact. Shapes: M networks, P parameters, H hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.errors import ConfigError
from structgen.netweights.fitting import accuracy
from structgen.netweights.networks import Perceptron


def permuted(net: Perceptron, flat: Tensor, order: Tensor) -> Tensor:
    """The same functions with hidden unit k where unit ``order[k]`` was.

    Args:
        net: the architecture.
        flat: [M, P].
        order: permutations [M, H].
    """
    w1, b1, w2, b2 = net.parts(flat)
    return net.join(
        w1.gather(1, order.unsqueeze(2).expand_as(w1)),
        b1.gather(1, order),
        w2.gather(2, order.unsqueeze(1).expand_as(w2)),
        b2,
    )


def match(net: Perceptron, flat: Tensor, reference: Tensor) -> Tensor:
    """Permutations [M, H] that bring networks [M, P] nearest to a reference [P].

    Raises:
        ConfigError: a reference of another size.
    """
    from scipy.optimize import linear_sum_assignment

    if reference.shape != (net.parameters,):
        raise ConfigError(f"reference: expected {net.parameters} weights, got {reference.shape}")
    units = net.tokens(flat)[:, :-1]
    aim = net.tokens(reference[None])[0, :-1]
    gain = torch.einsum("hw,mkw->mhk", aim, units).double().numpy()
    orders = [linear_sum_assignment(one, maximize=True)[1] for one in gain]
    return torch.stack([torch.from_numpy(order) for order in orders])


def aligned(net: Perceptron, flat: Tensor, reference: Tensor) -> Tensor:
    """Networks [M, P] with their hidden units in the order nearest to the reference's [P]."""
    return permuted(net, flat, match(net, flat, reference))


def losses(net: Perceptron, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy [M] on rows x [B, D] with classes y [B]."""
    logits = net.logits(flat, x)
    each = F.cross_entropy(logits.flatten(0, 1), y.repeat(len(flat)), reduction="none")
    return each.view(len(flat), -1).mean(1)


def barriers(
    net: Perceptron, first: Tensor, second: Tensor, x: Tensor, y: Tensor, points: int = 11
) -> Tensor:
    """Loss barriers [M] between networks [M, P] and [M, P] (Frankle et al. 2020).

    The largest excess of the loss on the straight line over the line between the ends' losses; at
    least 0.
    """
    ends = losses(net, first, x, y), losses(net, second, x, y)
    highest = torch.zeros(len(first))
    for share in torch.linspace(0, 1, points)[1:-1]:
        there = losses(net, (1 - share) * first + share * second, x, y)
        highest = torch.maximum(highest, there - (1 - share) * ends[0] - share * ends[1])
    return highest


@dataclass(frozen=True)
class Aligned:
    """What alignment does to a zoo.

    Attributes:
        distance: median distance between two networks, before and after.
        barrier: median loss barrier between two networks, before and after.
        mean: accuracy of the mean network, before and after.
        members: mean accuracy of the networks themselves.
    """

    distance: tuple[float, float]
    barrier: tuple[float, float]
    mean: tuple[float, float]
    members: float


def compare(net: Perceptron, flat: Tensor, x: Tensor, y: Tensor) -> Aligned:
    """Measure a zoo [M, P] of one data set before and after alignment to its first network.

    Raises:
        ConfigError: fewer than three networks.
    """
    if len(flat) < 3:
        raise ConfigError(f"expected at least 3 networks to align, got {len(flat)}")
    after = aligned(net, flat, flat[0])
    found = []
    for rows in (flat, after):
        a, b = rows[1:-1], rows[2:]
        found.append(
            (
                float((a - b).norm(dim=1).median()),
                float(barriers(net, a, b, x, y).median()),
                float(accuracy(net, rows.mean(0, keepdim=True), x, y)[0]),
            )
        )
    distance, barrier, mean = zip(*found, strict=True)
    return Aligned(distance, barrier, mean, float(accuracy(net, flat, x, y).mean()))
