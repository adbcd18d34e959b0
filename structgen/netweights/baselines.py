"""What a generator has to beat: networks that cost no more than looking at a zoo.

All of them give networks [n, P] in the encoded input space. A zoo is aligned first, where that
matters: to its first network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore import random
from structgen.netweights.alignment import aligned
from structgen.netweights.fitting import accuracy
from structgen.netweights.networks import Perceptron
from structgen.netweights.prompt import Prompt


def soup(net: Perceptron, flat: Tensor, told: Prompt, most: int = 50) -> Tensor:
    """A greedy soup (Wortsman et al. 2022, recipe 1) of aligned networks [M, P]: [1, P].

    Networks are added to the mean from the best on the labelled rows down, while that does not
    lower its accuracy on them.
    """
    x, y = told.x[0], told.y[0]
    right = accuracy(net, flat, x, y, told.present)
    order = right.argsort(descending=True, stable=True)[:most]
    ranked = aligned(net, flat[order], flat[order[0]])
    total, count = ranked[:1].clone(), 1
    best = float(accuracy(net, total, x, y, told.present)[0])
    for row in ranked[1:]:
        mixed = (total * count + row) / (count + 1)
        now = float(accuracy(net, mixed, x, y, told.present)[0])
        if now >= best:
            total, count, best = mixed, count + 1, now
    return total


def pca_gaussian(flat: Tensor, number: int, rank: int, rng: torch.Generator) -> Tensor:
    """Draws from a normal distribution in the principal components of aligned networks [M, P]."""
    mean = flat.mean(0)
    rank = min(rank, len(flat) - 1, flat.shape[1])
    _, s, v = torch.linalg.svd(flat - mean, full_matrices=False)
    scale = s[:rank] / max(1, len(flat) - 1) ** 0.5
    noise = random.normal(rng, torch.empty(number, rank))
    made: Tensor = mean + (noise * scale) @ v[:rank]
    return made


def kde(flat: Tensor, number: int, rng: torch.Generator, width: float = 0.3) -> Tensor:
    """Draws from a kernel density of aligned networks [M, P].

    Args:
        flat: the networks.
        number: of draws.
        rng: chooses networks and noise.
        width: standard deviation of the kernel in units of each weight's own.
    """
    index = torch.randint(len(flat), (number,), generator=rng)
    noise = random.normal(rng, torch.empty(number, flat.shape[1]))
    return flat[index] + width * flat.std(0) * noise


def nearest(code: Tensor, others: Tensor) -> Tensor:
    """Rows of ``others`` [M, E] from the most similar to ``code`` [E] down (cosine)."""
    return (others @ code).argsort(descending=True, stable=True)


def centroid(net: Perceptron, told: Prompt) -> Tensor:
    """Accuracy yardstick without a network: the class whose mean is nearest, as logits' weights.

    In whitened inputs this is close to linear discriminant analysis.

    Returns:
        Class means [C, D] and squared norms with log shares [C], for ``x @ means.T + bias``.
    """
    x, y = told.x[0], told.y[0]
    means = torch.zeros(net.classes, net.inputs)
    bias = torch.full((net.classes,), -torch.inf)
    for k in y.unique():
        rows = x[y == k]
        means[k] = rows.mean(0)
        bias[k] = -0.5 * means[k].square().sum()
    return torch.cat([means, bias[:, None]], 1)


def centroid_accuracy(net: Perceptron, told: Prompt, x: Tensor, y: Tensor) -> float:
    """Accuracy of `centroid` on rows [n, D] with classes [n]."""
    found = centroid(net, told)
    scores = x @ found[:, :-1].T + found[:, -1]
    return float((scores.argmax(1) == y).double().mean())
