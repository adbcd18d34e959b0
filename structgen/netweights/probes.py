"""What the labelled rows do to one fixed network, hidden unit by hidden unit.

Task2Vec (Achille et al. 2019) embeds a data set by the gradients of a fixed probe network. Here the
probe is the common starting point of the zoo, and the data set is told by a few steps from
it, so that each generated chunk is told what its own unit would do first: plain gradient
steps, or Gauss-Newton steps, which solve the network's linearisation in closed form. Costs as much
as so many training steps; nothing that is generated is trained.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from structgen.netweights.fitting import gradients
from structgen.netweights.networks import ABSENT, Perceptron, canonical, initial

RATE = 2.0
"""Step of the plain gradient descent."""

CURVATURE, RIDGE = 0.25, 0.03
"""Of the Newton steps; chosen by their accuracy on the data sets that are trained on."""


@torch.no_grad()
def unrolled(
    net: Perceptron,
    x: Tensor,
    y: Tensor,
    present: Tensor,
    *,
    steps: int,
    start: int,
    newton: bool = False,
) -> Tensor:
    """Weights of the probe [steps + 1, B, P] after 0, 1, ... steps on each data set.

    Args:
        net: the architecture.
        x: rows [B, S, D].
        y: classes [B, S].
        present: classes that there are [B, C].
        steps: how many.
        start: seed of the zoo's common starting point.
        newton: take Gauss-Newton steps, see `newton_step`, in place of plain gradient steps.
    """
    flat = initial(net, [0], 0.0, start).expand(len(x), -1).clone()
    out = [flat]
    for _ in range(steps):
        if newton:
            flat = newton_step(net, flat, x, y, present)
        else:
            flat = flat - RATE * gradients(net, flat, x, y, present)
        out.append(flat)
    return torch.stack(out)


def probe(net: Perceptron, path: Tensor, present: Tensor) -> Tensor:
    """What `unrolled` says, chunk by chunk [B, N, (steps + 1) W]: its steps, and where they end.

    Args:
        net: the architecture.
        path: weights after every step [steps + 1, B, P].
        present: classes that there are [B, C].
    """
    moves = [net.tokens(b - a) for a, b in zip(path[:-1], path[1:], strict=True)]
    return torch.cat([*moves, net.tokens(canonical(net, path[-1], present))], -1)


def newton_step(
    net: Perceptron,
    flat: Tensor,
    x: Tensor,
    y: Tensor,
    present: Tensor,
    *,
    curvature: float = CURVATURE,
    ridge: float = RIDGE,
) -> Tensor:
    """One damped Gauss-Newton step of the mean cross-entropy for each network: [B, P].

    The softmax's curvature is bounded by a constant times the identity (Boehning 1992 has 1/2), so
    that the classes couple through the first layer only and the last layer is eliminated:
    step = (J^T J curvature / S + ridge)^-1 J^T (y - p) / S with the Jacobian J of the logits, by
    the Schur complement, one system of H (D + 1) unknowns.

    Args:
        net: the architecture.
        flat: [B, P]; weights of absent classes stay.
        x: rows [B, S, D].
        y: classes [B, S].
        present: classes that there are [B, C].
        curvature: of the softmax.
        ridge: added to the diagonal.
    """
    b, s, d = x.shape
    w1, b1, w2, b2 = net.parts(flat)
    there = present.to(x.dtype)
    out = w2 * there.unsqueeze(2)
    units = net.hidden_units(flat, x)
    logits = torch.bmm(units, w2.transpose(1, 2)) + b2.unsqueeze(1)
    chance = logits.masked_fill(~present.unsqueeze(1), ABSENT).softmax(-1)
    wrong = (F.one_hot(y, net.classes).to(x.dtype) - chance) / s
    one = x.new_ones(b, s, 1)
    first, last = torch.cat([x, one], -1), torch.cat([units, one], -1)
    open_units = (units > 0).to(x.dtype)
    moved = (open_units.unsqueeze(-1) * first.unsqueeze(-2)).flatten(2)  # [B, S, H (D + 1)]
    scale = curvature / s
    inner = scale * torch.bmm(last.transpose(1, 2), last)
    inverse = torch.linalg.inv(inner + ridge * torch.eye(net.hidden + 1, dtype=x.dtype))
    cross = scale * torch.bmm(moved.transpose(1, 2), last)
    schur = scale * torch.bmm(moved.transpose(1, 2), moved)
    schur -= torch.bmm(torch.bmm(cross, inverse), cross.transpose(1, 2))
    pairs = torch.bmm(out.transpose(1, 2), out)
    pairs = pairs.repeat_interleave(d + 1, 1).repeat_interleave(d + 1, 2)
    fan = out.repeat_interleave(d + 1, 2)  # [B, C, H (D + 1)]
    pull_first = torch.bmm((torch.bmm(wrong, out) * open_units).transpose(1, 2), first).flatten(1)
    pull_last = torch.bmm(wrong.transpose(1, 2), last)
    seen = torch.bmm(torch.bmm(pull_last, inverse), cross.transpose(1, 2))
    system = pairs * schur + ridge * torch.eye(pairs.shape[-1], dtype=x.dtype)
    into = torch.linalg.solve(system, pull_first - (fan * seen).sum(1))
    onto = torch.bmm(pull_last - torch.bmm(fan * into.unsqueeze(1), cross), inverse)
    into, onto = into.view(b, net.hidden, d + 1), onto * there.unsqueeze(2)
    return flat + net.join(into[..., :-1], into[..., -1], onto[..., :-1], onto[..., -1])
