"""Zoos of the CNN of the model-zoo papers: 2,464 parameters, 28 x 28 pixels, trained many at once.

Every network is a row [2464] in the order of `torch.nn.utils.parameters_to_vector`; `torch.func`
runs them side by side. Source: Schuerholt et al. 2022 (Model Zoos).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from diffcore import random
from diffcore.errors import DataError
from structgen.netweights.networks import paper_cnn

PIXELS = 28


@dataclass(frozen=True)
class CnnFit:
    """How they are trained: Adam, minibatches that all networks share.

    Attributes:
        epochs: passes over the rows.
        batch: rows a step.
        lr: learning rate.
        decay: weight of the squared norm in the loss.
    """

    epochs: int = 8
    batch: int = 64
    lr: float = 3e-3
    decay: float = 1e-4


def shapes() -> dict[str, torch.Size]:
    """Names and shapes of the parameters, in the order of a row."""
    with torch.random.fork_rng(devices=[]):
        return {n: p.shape for n, p in paper_cnn().named_parameters()}


def state_dict(row: Tensor) -> dict[str, Tensor]:
    """A state dict of `networks.paper_cnn` from one row [2464]."""
    found = shapes()
    parts = row.split([s.numel() for s in found.values()])
    return {n: p.reshape(s) for (n, s), p in zip(found.items(), parts, strict=True)}


def starts(seeds: list[int]) -> Tensor:
    """Starting weights [M, 2464]: normal, with variance 2 / fan in (He et al. 2015)."""
    rows = random.normal(random.row_generators(2, seeds), torch.empty(len(seeds), 2464))
    scale = []
    for name, shape in shapes().items():
        fan = shape[1:].numel() if name.endswith("weight") else 0
        scale.append(torch.full((shape.numel(),), (2 / fan) ** 0.5 if fan else 0.0))
    return rows * torch.cat(scale)


def images_of(x: Tensor) -> Tensor:
    """Rows [B, 784] as images [B, 1, 28, 28].

    Raises:
        DataError: rows of another length.
    """
    if x.dim() != 2 or x.shape[1] != PIXELS**2:
        raise DataError(f"expected images of 28 x 28 pixels, got rows {tuple(x.shape)}")
    return x.reshape(-1, 1, PIXELS, PIXELS)


def _one(module: nn.Module) -> Callable[[Mapping[str, Tensor], Tensor], Tensor]:
    def run(weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        out: Tensor = functional_call(module, dict(weights), (x,))
        return out

    return run


def _stacked(flat: Tensor) -> dict[str, Tensor]:
    found = shapes()
    parts = flat.split([s.numel() for s in found.values()], 1)
    return {n: p.reshape(len(flat), *s) for (n, s), p in zip(found.items(), parts, strict=True)}


def train_cnns(x: Tensor, y: Tensor, seeds: list[int], fit: CnnFit | None = None) -> Tensor:
    """Train M networks on the same rows: [M, 2464].

    Args:
        x: pixels [B, 784], about 0 to 1.
        y: classes [B], 0 to 9.
        seeds: of the starting weights; the order of rows is that of the first.
        fit: the recipe.

    Raises:
        DataError: other images.
    """
    fit = fit or CnnFit()
    pictures = images_of(x)
    with torch.random.fork_rng(devices=[]):
        run = _one(paper_cnn())

    def loss(weights: Mapping[str, Tensor], part: Tensor, truth: Tensor) -> Tensor:
        return F.cross_entropy(run(weights, part), truth)

    slope = vmap(grad(loss), (0, None, None))
    flat = starts(seeds)
    mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
    rng, step = random.generator(seeds[0], 4), 0
    for _ in range(fit.epochs):
        for index in torch.randperm(len(y), generator=rng).split(fit.batch):
            step += 1
            found = slope(_stacked(flat), pictures[index], y[index])
            g = torch.cat([v.flatten(1) for v in found.values()], 1) + 2 * fit.decay * flat
            mean.lerp_(g, 0.1)
            square.mul_(0.999).addcmul_(g, g, value=0.001)
            root = (square / (1 - 0.999**step)).sqrt().add_(1e-8)
            flat = flat - fit.lr / (1 - 0.9**step) * mean / root
    return flat


@torch.no_grad()
def cnn_accuracy(flat: Tensor, x: Tensor, y: Tensor, batch: int = 256) -> Tensor:
    """Share of right answers [M] of networks [M, 2464] on pixels [B, 784] with classes [B]."""
    with torch.random.fork_rng(devices=[]):
        run = vmap(_one(paper_cnn()), (0, None))
    weights = _stacked(flat)
    right = torch.zeros(len(flat), dtype=torch.float64)
    for part, truth in zip(images_of(x).split(batch), y.split(batch), strict=True):
        right += (run(weights, part).argmax(-1) == truth).double().sum(1)
    return right / len(y)
