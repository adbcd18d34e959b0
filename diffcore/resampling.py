"""Feynman-Kac resampling: particles that promise more are copied in place of others."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain
from diffcore.errors import ConfigError
from diffcore.search import (
    Ledger,
    Reward,
    Search,
    at_least_one,
    check_window,
    draw_seed,
    need_randomness,
    usual_tilt,
)

Potential = Literal["difference", "max", "sum"]

POTENTIALS: tuple[Potential, ...] = ("difference", "max", "sum")


def feynman_kac(
    chain: Chain,
    reward: Reward,
    rng: torch.Generator,
    *,
    budget: float,
    tilt: float | None = None,
    particles: int | None = None,
    potential: Potential = "difference",
    threshold: float = 0.5,
    every: int = 1,
    window: tuple[float, float] = (0.0, 1.0),
) -> Search:
    """Feynman-Kac resampling of particles towards p(x) exp(tilt r(x)) (Singhal et al. 2025).

    On the way the reward is taken of the predicted clean state, and particles are copied or
    dropped in proportion to their weights. The potentials of a trajectory multiply to
    exp(tilt r(x)) whatever the predictions are worth, so that the weighted particles are a sample
    of the target (sequential Monte Carlo).

    Args:
        chain: what is searched over; its method must have some randomness.
        reward: see `Reward`. A prediction without a reward counts like the one before it, or like
            the mean of the others if there was none.
        rng: seeds particles and resampling.
        budget: network evaluations; rounds of ``particles`` are made as long as it suffices.
        tilt: lambda, in units of 1 / reward: 0 changes nothing, large values climb. By default
            4 / s, where s is the standard deviation of the first predictions that have rewards.
        particles: of a round; by default the whole budget is one round.
        potential: reward of the prediction against the step before (``difference``), best on the
            way so far (``max``) or their sum (``sum``).
        threshold: resample when the effective sample size falls below this share of the particles.
        every: steps between two looks at the reward; the last one is always taken.
        window: shares of the steps that are left, least and most, while it looks at the reward:
            before, predictions say little; after, copies come to the same end.

    Raises:
        ConfigError: an option is outside what is allowed.
    """
    at_least_one(every=every, particles=1 if particles is None else particles)
    if potential not in POTENTIALS:
        raise ConfigError(f"unknown potential {potential!r}; known: {', '.join(POTENTIALS)}")
    if not 0 <= threshold <= 1 or not math.isfinite(tilt or 0.0):
        raise ConfigError(
            f"expected a threshold from 0 to 1 and a finite tilt, got {threshold} and {tilt}"
        )
    check_window(window)
    need_randomness(chain)
    ledger = Ledger(chain, reward, budget)
    rows = min(particles or 2**31, ledger.affords(chain.cost(0)))
    plan = _Plan(draw_seed(rng), rows, tilt, potential, threshold, every, window)
    return Search(_rounds(ledger, plan), ledger)


@dataclass(frozen=True)
class _Plan:
    seed: int
    rows: int
    tilt: float | None
    potential: Potential
    threshold: float
    every: int
    window: tuple[float, float]

    def looks(self, level: int, steps: int) -> bool:
        """Whether the reward of the predictions is taken at a level."""
        low, high = self.window
        return level % self.every == 0 and low <= (steps - level) / steps <= high


def _rounds(ledger: Ledger, plan: _Plan) -> Iterator[tuple[int, float]]:
    clouds: list[_Cloud] = []

    def measure() -> tuple[Tensor, float]:
        ended = [cloud for cloud in clouds if cloud.kept is not None]
        normalisers = torch.tensor([c.log_normaliser for c in ended], dtype=torch.float64)
        mean = normalisers.logsumexp(0) - math.log(len(ended))
        return torch.cat([c.kept for c in ended if c.kept is not None]), float(mean)

    ledger.measure = measure
    last = ledger.chain.steps - 1
    while ledger.affords(ledger.chain.cost(0)) >= plan.rows:
        clouds.append(cloud := _Cloud(ledger, plan, len(clouds)))
        while cloud.at.level < last:
            if plan.looks(cloud.at.level, last + 1):
                cloud.weigh()
                cloud.resample()
            cloud.move()
            if cloud.at.level < last:
                yield ledger.now
        cloud.end()
        plan = replace(plan, tilt=cloud.tilt)
        yield ledger.now


class _Cloud:
    """Weighted particles of one round of Feynman-Kac resampling."""

    def __init__(self, ledger: Ledger, plan: _Plan, number: int) -> None:
        n = plan.rows
        self.ledger, self.plan = ledger, plan
        self.rngs = [random.generator(plan.seed, number, row) for row in range(n)]
        self.rng = random.generator(plan.seed, number, n)
        self.at = ledger.start(n, self.rngs)
        self.clean = ledger.predict(self.at)
        self.tilt, self.base = plan.tilt, math.nan
        """What a reward is worth, and the mean of the first predictions' rewards."""
        self.log_weights = torch.zeros(n, dtype=torch.float64)
        self.spent = torch.zeros(n, dtype=torch.float64)
        """Log-potentials of a particle's whole past."""
        self.seen = torch.full((n,), torch.nan, dtype=torch.float64)
        """Reward of the last prediction, or the best or the sum so far."""
        self.log_normaliser = 0.0
        self.kept: Tensor | None = None
        """At the end: log-weights of the samples that were kept, times the normaliser."""

    def weigh(self) -> None:
        """Multiply the weights by the potential of the predictions."""
        decoded = self.ledger.chain.decode(self.at, self.clean)
        promise = self.ledger.score(decoded)
        self.ledger.pending = (decoded, promise)
        if self.tilt is None:
            self.tilt = usual_tilt(promise)
        if math.isnan(self.base):
            self.base = float(promise.nanmean())
        if self.tilt is None or math.isnan(self.base):
            return
        promise = promise - self.base
        before = self.seen.nan_to_num(0.0)
        now = torch.where(promise.isnan(), self.seen, promise)
        if self.plan.potential == "max":
            now = torch.fmax(self.seen, now)
        elif self.plan.potential == "sum":
            now = before + promise.nan_to_num(0.0)
        self.seen = now
        gain = now.nan_to_num(0.0) - (before if self.plan.potential == "difference" else 0.0)
        self.log_weights = self.log_weights + self.tilt * gain
        self.spent = self.spent + self.tilt * gain

    def resample(self) -> None:
        """Copy particles in proportion to their weights, if few of them carry most of it."""
        share = self.log_weights.softmax(0)
        if not 1 / float((share**2).sum()) < self.plan.threshold * len(share):
            return
        self._settle()
        index = systematic(share, float(torch.rand((), generator=self.rng)))
        where = index.to(self.at.state.mask.device)
        self.at, self.clean = self.at.take(where), self.clean.take(where)
        self.spent, self.seen = self.spent[index], self.seen[index]
        self.log_weights = torch.zeros_like(self.spent)

    def _settle(self) -> None:
        mean = self.log_weights.logsumexp(0) - math.log(len(self.log_weights))
        self.log_normaliser += float(mean)

    def move(self) -> None:
        """One step down."""
        self.at = self.ledger.advance(self.at, self.clean, self.rngs)
        self.clean = self.ledger.predict(self.at)

    def end(self) -> None:
        """Score the finished samples and weigh those that are kept."""
        rewards = self.ledger.finish(self.at, self.clean)
        if self.tilt is None:
            self.tilt = usual_tilt(rewards) or 0.0
        base = 0.0 if math.isnan(self.base) else self.base
        gain = self.tilt * (rewards - base) - self.spent
        self.log_normaliser += self.tilt * base
        self.log_weights = self.log_weights + gain.nan_to_num(-torch.inf)
        self.kept = (self.log_weights + self.log_normaliser)[rewards.isfinite()]
        self._settle()


def systematic(share: Tensor, u: float) -> Tensor:
    """Systematic resampling: n indices, index ``i`` about ``n share[i]`` times.

    Args:
        share: probabilities [n].
        u: one uniform number in [0, 1).
    """
    n = len(share)
    points = (torch.arange(n, dtype=share.dtype) + u) / n
    return torch.searchsorted(share.cumsum(0), points, right=True).clamp_max(n - 1)
