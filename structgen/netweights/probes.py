"""What the labelled rows do to one fixed network: gradients, hidden unit by hidden unit.

Task2Vec (Achille et al. 2019) embeds a data set by the gradients of a fixed probe network. Here the
probe is the common starting point of the zoo, and the gradients are those of a few plain steps from
it, so that each generated chunk is told what its own unit would do first. Costs as much as so many
training steps; nothing that is generated is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from structgen.netweights.fitting import gradients
from structgen.netweights.networks import Perceptron, canonical, initial

RATE = 2.0
"""Step of the plain gradient descent."""


@torch.no_grad()
def unrolled(
    net: Perceptron, x: Tensor, y: Tensor, present: Tensor, *, steps: int, start: int
) -> Tensor:
    """Weights of the probe [steps + 1, B, P] after 0, 1, ... plain gradient steps on each data set.

    Args:
        net: the architecture.
        x: rows [B, S, D].
        y: classes [B, S].
        present: classes that there are [B, C].
        steps: of gradient descent.
        start: seed of the zoo's common starting point.
    """
    flat = initial(net, [0], 0.0, start).expand(len(x), -1).clone()
    out = [flat]
    for _ in range(steps):
        flat = flat - RATE * gradients(net, flat, x, y, present)
        out.append(flat)
    return torch.stack(out)


def probe(
    net: Perceptron, x: Tensor, y: Tensor, present: Tensor, *, steps: int, start: int
) -> Tensor:
    """The steps, chunk by chunk, and where they end, in canonical form: [B, N, (steps + 1) W]."""
    path = unrolled(net, x, y, present, steps=steps, start=start)
    moves = [net.tokens(b - a) for a, b in zip(path[:-1], path[1:], strict=True)]
    return torch.cat([*moves, net.tokens(canonical(net, path[-1], present))], -1)
