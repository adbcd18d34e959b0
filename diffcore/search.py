"""Search over trajectories for a black-box reward: what all searches share, and best-of-N.

A `Search` is an iterator that can be left at any time; its `result` is the best so far.
`diffcore.resampling` has Feynman-Kac resampling, `diffcore.tree` the tree searches.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain, Particles, join_states
from diffcore.denoisers import Counted
from diffcore.errors import ConfigError
from diffcore.random import Rng
from diffcore.state import State

Reward = Callable[[State], Tensor]
"""Clean states (means and class indices) -> one number a row [B]; larger is better. NaN or an
exception drops the sample; it is counted, and the search goes on."""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found so far.

    Attributes:
        states: M clean states, the best first.
        rewards: their rewards [M], float64.
        log_weights: [M]; weighted by their exponentials (which sum to 1) the states are a sample of
            the method's target: the unsteered distribution for best-of-N, p(x) exp(tilt r(x)) else.
        history: (network evaluations, best reward so far) whenever samples were finished.
        calls: calls of the network.
        evaluations: network evaluations: calls times rows.
        scored: states handed to the reward, predictions on the way included.
        dropped: finished samples without a reward.
        error: what the reward said when it failed first.
        log_normaliser: estimate of log E[exp(tilt r(x))] over the unsteered distribution.
        complete: false while nothing is finished: ``states`` are then predictions on the way.
    """

    states: State
    rewards: Tensor
    log_weights: Tensor
    history: tuple[tuple[int, float], ...]
    calls: int
    evaluations: int
    scored: int
    dropped: int
    error: str | None = None
    log_normaliser: float | None = None
    complete: bool = True

    @property
    def best(self) -> float:
        """The best reward, minus infinity if there is none."""
        return float(self.rewards[0]) if len(self.rewards) else -math.inf


@dataclass(frozen=True)
class Search:
    """A search under way: iterate to go on, leave when it is enough, and ask for the `result`.

    Each item is (network evaluations so far, best reward so far), one for every batch of calls.
    """

    moves: Iterator[tuple[int, float]]
    ledger: "Ledger"

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Go on where it was left."""
        return self.moves

    def result(self) -> SearchResult:
        """What has been found so far."""
        return self.ledger.result()


def run(
    search: Search,
    *,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int, float], object] | None = None,
) -> SearchResult:
    """Drive a search to the end of its budget, or until ``stop()`` is true: the best so far.

    Args:
        search: of `best_of_n`, `feynman_kac`, `tree_sampling` or `tree_search`.
        stop: asked after every batch of network calls.
        progress: told (network evaluations, best reward) as often.
    """
    for evaluations, best in search:
        if progress:
            progress(evaluations, best)
        if stop and stop():
            break
    return search.result()


class Ledger:
    """Steps a chain and scores what comes out, and counts both."""

    def __init__(self, chain: Chain, reward: Reward, budget: float) -> None:
        if not budget >= chain.cost(0):
            raise ConfigError(
                f"budget: expected at least {chain.cost(0):g} network evaluations (one trajectory),"
                f" got {budget:g}"
            )
        own = Counted(chain.denoiser)
        self.chain = replace(chain, denoiser=own)
        self.network = chain.network or own
        self.begun = (self.network.calls, self.network.evaluations)
        self.reward, self.budget = reward, budget
        self.kept: list[tuple[State, Tensor]] = []
        self.history: list[tuple[int, float]] = []
        self.best = -math.inf
        self.scored = self.dropped = 0
        self.error: str | None = None
        self.pending: tuple[State, Tensor] | None = None
        """Predictions on the way and their rewards: a result while nothing is finished."""
        self.measure: Callable[[], tuple[Tensor, float]] | None = None
        """Log-weights of all kept rows in their order, and the log-normaliser; equal by default."""

    @property
    def evaluations(self) -> int:
        """Network evaluations so far."""
        return self.network.evaluations - self.begun[1]

    def affords(self, cost: float) -> int:
        """How many times ``cost`` evaluations are left of the budget."""
        left = (self.budget - self.evaluations) / cost
        return int(min(left, 2**31))

    @torch.no_grad()
    def start(self, rows: int, rng: Rng) -> Particles:
        """Particles from the prior."""
        return self.chain.start(rows, rng)

    @torch.no_grad()
    def predict(self, at: Particles) -> State:
        """One evaluation a row."""
        return self.chain.predict(at)

    @torch.no_grad()
    def advance(self, at: Particles, clean: State, rng: Rng) -> Particles:
        """One step down."""
        return self.chain.advance(at, clean, rng)

    @torch.no_grad()
    def back(self, at: Particles, level: int, rng: Rng) -> Particles:
        """Finished particles noised to a level."""
        return self.chain.back(at, level, rng)

    def score(self, state: State) -> Tensor:
        """Rewards [B] in float64 on the CPU, NaN where there is none.

        Raises:
            ConfigError: the reward returns anything but one number a row.
        """
        self.scored += state.rows
        try:
            values = self.reward(state)
        except Exception as error:
            self._complain(error)
            if state.rows == 1:
                return torch.full((1,), torch.nan, dtype=torch.float64)
            rows = torch.arange(state.rows, device=state.mask.device)
            return torch.cat([self.score(state.take(row)) for row in rows.split(1)])
        values = torch.as_tensor(values).detach().to("cpu", torch.float64)
        if values.shape != (state.rows,):
            raise ConfigError(
                f"reward: expected one number for each of {state.rows} rows, "
                f"got shape {tuple(values.shape)}"
            )
        return torch.where(values.isfinite(), values, torch.nan)

    def _complain(self, error: Exception) -> None:
        text = " ".join(str(error).split())
        self.error = self.error or f"{type(error).__name__}: {text}"

    def finish(self, at: Particles, clean: State) -> Tensor:
        """Decode, score and keep the last predictions; their rewards [B], NaN where dropped."""
        state = self.chain.decode(at, clean)
        rewards = self.score(state)
        good = rewards.isfinite()
        self.dropped += int((~good).sum())
        index = good.nonzero()[:, 0]
        if len(index):
            self.kept.append((state.take(index.to(state.mask.device)), rewards[index]))
            self.best = max(self.best, float(rewards[index].max()))
        self.history.append((self.evaluations, self.best))
        return rewards

    @property
    def now(self) -> tuple[int, float]:
        """Network evaluations and best reward so far."""
        return self.evaluations, self.best

    def result(self) -> SearchResult:
        """The best so far."""
        kept, weights, normaliser = self.kept, None, None
        if kept and self.measure:
            weights, normaliser = self.measure()
        if not kept and self.pending is not None:
            good = self.pending[1].isfinite().nonzero()[:, 0]
            kept = [(self.pending[0].take(good), self.pending[1][good])]
        states = join_states([s for s, _ in kept]) if kept else self.start(0, []).state
        rewards = torch.cat([r for _, r in kept]) if kept else torch.zeros(0, dtype=torch.float64)
        weights = torch.zeros(len(rewards)) if weights is None else weights
        order = rewards.argsort(descending=True, stable=True)
        return SearchResult(
            states.take(order.to(states.mask.device)),
            rewards[order],
            weights.double().log_softmax(0)[order],
            tuple(self.history),
            self.network.calls - self.begun[0],
            self.evaluations,
            self.scored,
            self.dropped,
            self.error,
            normaliser,
            bool(self.kept),
        )


def draw_seed(rng: torch.Generator) -> int:
    """A seed for the generators of single rows: a function of the given generator's state."""
    return int(torch.randint(2**31 - 1, (), generator=rng, device=rng.device))


def best_of_n(
    chain: Chain, reward: Reward, rng: torch.Generator, *, budget: float, batch: int = 64
) -> Search:
    """Independent samples, of which the best count: the yardstick of every search.

    Args:
        chain: what is searched over.
        reward: see `Reward`.
        rng: seeds the samples; sample ``i`` does not depend on the batch it is drawn in.
        budget: network evaluations; as many samples are drawn as they suffice for.
        batch: rows of a network call.

    Raises:
        ConfigError: the budget is less than one sample costs, or an empty batch.
    """
    at_least_one(batch=batch)
    ledger = Ledger(chain, reward, budget)
    return Search(_independent(ledger, draw_seed(rng), batch), ledger)


def _independent(ledger: Ledger, seed: int, batch: int) -> Iterator[tuple[int, float]]:
    done, cost = 0, ledger.chain.cost(0)
    while rows := min(batch, ledger.affords(cost)):
        rngs = random.row_generators(seed, range(done, done + rows))
        done += rows
        at = ledger.start(rows, rngs)
        clean = ledger.predict(at)
        while at.level < ledger.chain.steps - 1:
            at = ledger.advance(at, clean, rngs)
            clean = ledger.predict(at)
        ledger.finish(at, clean)
        yield ledger.now


def usual_tilt(rewards: Tensor) -> float | None:
    """4 / s for the standard deviation s of rewards [B]; None while it cannot be told."""
    known = rewards[rewards.isfinite()]
    spread = float(known.std()) if len(known) > 1 else 0.0
    return 4 / spread if spread > 0 else None


def need_randomness(chain: Chain) -> None:
    """Refuse a chain whose branches would all be the same.

    Raises:
        ConfigError: every field moves by a deterministic rule.
    """
    if not chain.branches:
        raise ConfigError(
            "a search that branches needs a sampler with randomness, such as 'ancestral'"
        )


def check_window(window: tuple[float, float]) -> None:
    """Refuse shares of steps, least and most, that are none.

    Raises:
        ConfigError: they do not lie between 0 and 1, or the wrong way round.
    """
    low, high = window
    if not 0 <= low <= high <= 1 or not high > 0:
        raise ConfigError(
            f"window: expected shares of the steps, least and most, from 0 to 1, got {window}"
        )


def at_least_one(**numbers: int) -> None:
    """Refuse numbers below 1.

    Raises:
        ConfigError: there is one.
    """
    for name, value in numbers.items():
        if value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
