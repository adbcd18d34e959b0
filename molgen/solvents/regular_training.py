"""Training the networks of `regular` on liquidus temperatures."""

from __future__ import annotations

import numpy as np
import torch

from molgen.solvents.liquidus import Floats
from molgen.solvents.regular import ExcessNetworks, Pairs

MEMBERS, EPOCHS, PARTS = 4, 250, 4
RATE, DECAY, DROP = 3e-3, 0.1, 0.15
SCALE = 20.0
"""K; up to here an error counts by its square, beyond by its size."""


def trained(pairs: Pairs, answers: Floats, weights: Floats, *, seed: int = 0) -> ExcessNetworks:
    """Networks fitted to liquidus temperatures.

    The loss is the root of one plus the squared error (Charbonnier), so that a slip in a table does
    not pull a whole system.

    Args:
        pairs: B of them.
        answers: measured temperatures, K, [B].
        weights: of the rows [B].
        seed: of weights, order and dropout.
    """
    networks = ExcessNetworks(MEMBERS, seed=seed)
    networks.standardise(pairs)
    target = torch.tensor(np.array(answers), dtype=torch.float32)
    share = torch.tensor(np.array(weights), dtype=torch.float32)
    share = share / share.mean()
    rng = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(networks.parameters(), RATE, weight_decay=DECAY)
    total = EPOCHS * PARTS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=total)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(target), generator=rng).chunk(PARTS):
            off = (networks(pairs.take(part), DROP, rng) - target[part]) / SCALE
            loss = ((off.square() + 1).sqrt() - 1).mul(share[part]).mean(1).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return networks.eval().requires_grad_(False)
