"""Evolution: the best finished samples are noised part of the way and finished again."""

from collections.abc import Iterator

import torch
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain, Particles, join
from diffcore.errors import ConfigError
from diffcore.search import (
    Ledger,
    Reward,
    Search,
    at_least_one,
    check_window,
    draw_seed,
    need_randomness,
)


def evolution(
    chain: Chain,
    reward: Reward,
    rng: torch.Generator,
    *,
    budget: float,
    first: float = 0.3,
    elite: int = 8,
    window: tuple[float, float] = (0.5, 0.75),
    batch: int = 16,
) -> Search:
    """Climb by partial noising: variation and selection around what is best so far.

    After independent samples, generations: parents are drawn from the best, noised to one level
    and finished again (the optimisation of DiffSBDD; Schneuing et al. 2024). For one
    sample of high reward; the states are a sample of no stated distribution.

    Args:
        chain: what is searched over; its method must have some randomness.
        reward: see `Reward`; taken of finished samples only.
        rng: seeds draws and choices.
        budget: network evaluations. A child costs the steps below its level.
        first: share of the budget for independent samples; at least one batch is drawn.
        elite: how many of the best have children. Samples of one reward count as one sample.
        window: shares of the steps that are made again, least and most, drawn for each generation.
        batch: children of a generation, and rows of a network call.

    Raises:
        ConfigError: an option is outside what is allowed.
    """
    at_least_one(elite=elite, batch=batch)
    check_window(window)
    if not 0 <= first <= 1:
        raise ConfigError(f"first: expected a share from 0 to 1, got {first}")
    need_randomness(chain)
    ledger = Ledger(chain, reward, budget)
    return Search(_generations(ledger, rng, first * budget, elite, window, batch), ledger)


def _generations(
    ledger: Ledger,
    rng: torch.Generator,
    first: float,
    elite: int,
    window: tuple[float, float],
    batch: int,
) -> Iterator[tuple[int, float]]:
    seed, choices = draw_seed(rng), random.generator(draw_seed(rng))
    chain, made = ledger.chain, 0
    best: Particles | None = None
    rewards = torch.zeros(0, dtype=torch.float64)
    while True:
        level = _level(chain.steps, window, choices) if best and ledger.evaluations >= first else 0
        rows = min(batch, ledger.affords(chain.cost(level)))
        if rows < 1:
            return
        rngs = random.row_generators(seed, range(made, made + rows))
        made += rows
        if best is None or level == 0:
            at = ledger.start(rows, rngs)
        else:
            parents = torch.randint(len(rewards), (rows,), generator=choices)
            at = ledger.back(best.take(parents.to(best.state.mask.device)), level, rngs)
        clean = ledger.predict(at)
        while at.level < chain.steps - 1:
            at = ledger.advance(at, clean, rngs)
            clean = ledger.predict(at)
        found = ledger.finish(at, clean)
        ended = Particles(chain.decode(at, clean), None, at.context, chain.steps)
        best, rewards = _fittest(best, rewards, ended, found, elite)
        yield ledger.now


def _level(steps: int, window: tuple[float, float], choices: torch.Generator) -> int:
    """The level from which a generation goes on: a step at least is made again."""
    low, high = window
    u = float(torch.rand((), generator=choices, dtype=torch.float64))
    return min(max(0, round(steps * (1 - (low + (high - low) * u)))), steps - 1)


def _fittest(
    best: Particles | None, rewards: Tensor, ended: Particles, found: Tensor, elite: int
) -> tuple[Particles | None, Tensor]:
    """The best so far, best first, and their rewards; of equal rewards the older."""
    good = found.isfinite().nonzero()[:, 0]
    if not len(good):
        return best, rewards
    ended = ended.take(good.to(ended.state.mask.device))
    both = ended if best is None else join([best, ended])
    values = torch.cat([rewards, found[good]])
    order = values.argsort(descending=True, stable=True)
    ranked = values[order]
    fresh = torch.ones(len(order), dtype=torch.bool)
    fresh[1:] = ranked[1:] != ranked[:-1]
    keep = order[fresh][:elite]
    return both.take(keep.to(both.state.mask.device)), values[keep]
