"""Training many perceptrons at once, by Adam with the gradients written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore import random
from structgen.netweights.networks import Perceptron


@dataclass(frozen=True)
class Fit:
    """How a network is trained: Adam (Kingma and Ba 2015), a linear fall of the rate at the end.

    Attributes:
        steps: of the optimiser.
        batch: examples a step; 0 takes all of them.
        lr: learning rate.
        decay: weight of the squared norm of the parameters in the loss.
        cool: share of the steps at the end in which the rate falls to zero.
    """

    steps: int = 100
    batch: int = 64
    lr: float = 0.02
    decay: float = 1e-3
    cool: float = 0.3


def gradients(
    net: Perceptron, flat: Tensor, x: Tensor, y: Tensor, present: Tensor | None = None
) -> Tensor:
    """Gradient [M, P] of the mean cross-entropy of M networks.

    Args:
        net: the architecture.
        flat: [M, P].
        x: [B, D], or [M, B, D].
        y: classes [B], or [M, B].
        present: classes that a data set has, [M, C] or [1, C].
    """
    m = len(flat)
    _, _, w2, _ = net.parts(flat)
    units = net.hidden_units(flat, x)
    out = torch.bmm(units, w2.transpose(1, 2)) + net.parts(flat)[3].unsqueeze(1)
    if present is not None:
        out = out.masked_fill(~present.unsqueeze(1), -1e9)
    wrong = out.softmax(-1)
    wrong = wrong - F.one_hot(y, net.classes).to(wrong.dtype).expand_as(wrong)
    wrong = wrong / wrong.shape[1]
    back = torch.bmm(wrong, w2) * (units > 0)
    if x.dim() == 2:
        g1 = back.permute(0, 2, 1).reshape(-1, len(x)) @ x
        g1 = g1.view(m, net.hidden, net.inputs)
    else:
        g1 = torch.bmm(back.transpose(1, 2), x)
    return net.join(g1, back.sum(1), torch.bmm(wrong.transpose(1, 2), units), wrong.sum(1))


@torch.no_grad()
def train(
    net: Perceptron,
    flat: Tensor,
    x: Tensor,
    y: Tensor,
    fit: Fit,
    *,
    present: Tensor | None = None,
    rng: torch.Generator | None = None,
    sparsity: Tensor | None = None,
    watch: Callable[[int, Tensor], object] | None = None,
) -> Tensor:
    """Train M networks at once.

    Args:
        net: the architecture.
        flat: starting weights [M, P]; not changed.
        x: [B, D] for all networks, or one set each [M, B, D].
        y: [B] or [M, B].
        fit: the recipe.
        present: classes that a data set has.
        rng: of the order of the examples, which all networks of a call share.
        sparsity: [M] share of the first layer's weights that are pruned by size half-way and stay
            zero; none by default.
        watch: told (step, weights) before every step and after the last one.

    Returns:
        Trained weights [M, P].
    """
    flat = flat.clone()
    mean, square = torch.zeros_like(flat), torch.zeros_like(flat)
    rows = x.shape[-2]
    size = min(fit.batch or rows, rows)
    order = torch.arange(rows)
    rng = rng or random.generator(0)
    at = 0
    kept: Tensor | None = None
    for step in range(fit.steps):
        if watch:
            watch(step, flat)
        if size < rows and at + size > rows or step == 0 and size < rows:
            order, at = torch.randperm(rows, generator=rng), 0
        if size < rows:
            index = order[at : at + size]
            at += size
            part_x, part_y = x[..., index, :], y[..., index]
        else:
            part_x, part_y = x, y
        g = gradients(net, flat, part_x, part_y, present).add_(flat, alpha=2 * fit.decay)
        mean.lerp_(g, 0.1)
        square.mul_(0.999).addcmul_(g, g, value=0.001)
        left = (fit.steps - step) / max(1.0, fit.cool * fit.steps)
        rate = fit.lr * min(1.0, left) / (1 - 0.9 ** (step + 1))
        root = square.sqrt().div_((1 - 0.999 ** (step + 1)) ** 0.5).add_(1e-8)
        flat.addcdiv_(mean, root, value=-rate)
        if sparsity is not None and step >= fit.steps // 2:
            kept = largest(net, flat, sparsity) if kept is None else kept
            flat.mul_(kept)
    if watch:
        watch(fit.steps, flat)
    return flat


def largest(net: Perceptron, flat: Tensor, sparsity: Tensor) -> Tensor:
    """1 for weights to keep, 0 for the ``sparsity`` [M] smallest of the first layer: [M, P]."""
    size = net.sizes[0]
    rank = flat[:, :size].abs().argsort(1).argsort(1)
    kept = torch.ones_like(flat)
    kept[:, :size] = (rank >= (sparsity * size).round().unsqueeze(1)).to(flat.dtype)
    return kept


@torch.no_grad()
def accuracy(
    net: Perceptron,
    flat: Tensor,
    x: Tensor,
    y: Tensor,
    present: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Share of right answers [M] of M networks.

    Args:
        net: the architecture.
        flat: [M, P].
        x: [B, D] or [M, B, D].
        y: [B] or [M, B].
        present: classes that a data set has.
        known: [M, B] or [B], examples that count; all of them by default.
    """
    parts = []
    for rows in torch.arange(len(flat)).split(max(1, 2_000_000 // (x.shape[-2] * net.hidden))):
        own = x if x.dim() == 2 else x[rows]
        here = None if present is None else present if len(present) == 1 else present[rows]
        right = net.logits(flat[rows], own, here).argmax(-1) == (y if y.dim() == 1 else y[rows])
        if known is None:
            parts.append(right.double().mean(1))
        else:
            count = known if known.dim() == 2 else known.expand(len(flat), -1)
            count = count[rows].double()
            parts.append((right * count).sum(1) / count.sum(1).clamp_min(1))
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
