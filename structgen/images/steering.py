"""What steering does to digits: the shared layer's own objects, put to the test.

Every function takes a `DigitDenoiser`, whatever network is behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain
from diffcore.denoisers import Counted, Denoiser
from diffcore.editing import Jumps, Known, inpaint
from diffcore.evidence import log_snr_grid
from diffcore.guidance import classifier_free, conditioned
from diffcore.likelihood import bound, classify
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import power_grid
from diffcore.search import SearchResult, run
from diffcore.searches import search
from diffcore.state import State
from diffcore.tree import Widening
from structgen.images.digits import CLASSES, LEVEL, ink, processes, symmetry, told
from structgen.images.judge import Judge

NOT_TOLD = torch.tensor([[math.nan]])
REWARDS: Mapping[str, Callable[[State], Tensor]] = {"ink": ink, "symmetry": symmetry}
HYPOTHESES = [{"label": torch.tensor([[float(k)]])} for k in range(CLASSES)]

LAST_TIME = 0.03
"""Of reading: here the noise of the pixels is 0.06, half a level of grey."""

Tick = Callable[[], object]


def unlabelled(denoiser: Denoiser) -> Denoiser:
    """The same denoiser, never told a label."""
    return conditioned(denoiser, label=NOT_TOLD)


def draw(
    denoiser: Denoiser, labels: Tensor, seed: int, *, steps: int = 25, method: str = "ddim"
) -> State:
    """One digit for every label [B] (NaN for any)."""
    rngs = random.row_generators(seed, range(len(labels)))
    mask = torch.ones(len(labels), 1, dtype=torch.bool)
    start = prior(processes(), mask, rngs).replace(label=labels.float().unsqueeze(1))
    grid = power_grid(steps)
    return sample(denoiser, processes(), start, grid, rngs, method=solver(method))


@dataclass(frozen=True)
class Guided:
    """Digits at one guidance strength.

    Attributes:
        scale: of `classifier_free`.
        accuracy: share that an independent classifier reads as the digit that was asked for.
        distance: Frechet distance to the training digits, in that classifier's hidden layer.
        diversity: mean distance of two digits of one class, over that of the training digits.
        evaluations: of the network, a digit.
        digits: what was made.
    """

    scale: float
    accuracy: float
    distance: float
    diversity: float
    evaluations: float
    digits: State


def guidance(
    denoiser: Denoiser, judge: Judge, train: State, scales: Iterable[float], number: int, seed: int
) -> list[Guided]:
    """Classifier-free guidance: what it gains in obedience and what it costs."""
    labels = torch.arange(number) % CLASSES
    found = []
    for scale in scales:
        network = Counted(denoiser)
        guided = classifier_free(network, unlabelled(network), processes(), scale)
        made = draw(guided, labels, seed)
        found.append(
            Guided(
                scale,
                judge.accuracy(made),
                judge.distance(made, train),
                spread_within(made) / spread_within(train),
                network.evaluations / number,
                made,
            )
        )
    return found


def spread_within(digits: State) -> float:
    """Root of the mean variance of the pixels within a class."""
    labels = digits["label"][:, 0]
    each = [digits["pix"][labels == k].var(0).mean() for k in labels.unique()]
    return float(torch.stack(each).mean().sqrt())


SEARCH_STEPS = 16


def searches(spread: float) -> dict[str, dict[str, Any]]:
    """The searches and their options, for a reward of standard deviation ``spread``."""
    tilt = 4 / spread
    widening = Widening(1.0, 0.3)
    return {
        "best_of_n": {},
        "feynman_kac": {"tilt": tilt, "potential": "difference"},
        "tree_sampling": {"tilt": tilt, "widening": widening, "batch": 4},
        "tree_search": {"tilt": tilt, "widening": widening, "batch": 4},
    }


def chain(denoiser: Denoiser) -> Chain:
    """The unconditional reverse process with 16 steps."""
    grid = power_grid(SEARCH_STEPS)
    return Chain(denoiser, processes(), grid, solver("ancestral"), told(math.nan))


@dataclass(frozen=True)
class Searched:
    """Best rewards of one search.

    Attributes:
        reward: name of the reward.
        search: name of the search.
        budget: network evaluations.
        best: best reward of every seed [S].
        confidence: mean probability of the digit that the judge reads in the best ones.
        scored: mean number of rewards taken.
        digits: the best of every seed.
    """

    reward: str
    search: str
    budget: int
    best: Tensor
    confidence: float
    scored: float
    digits: State


def reward_spread(denoiser: Denoiser, reward: str, seed: int, number: int = 500) -> Tensor:
    """Rewards of unsteered digits [number]."""
    labels = torch.full((number,), math.nan)
    made = draw(denoiser, labels, seed, steps=SEARCH_STEPS, method="ancestral")
    return REWARDS[reward](made)


def compare_searches(
    denoiser: Denoiser,
    judge: Judge,
    reward: str,
    budgets: Sequence[int],
    seeds: int,
    spread: float,
    tick: Tick,
) -> list[Searched]:
    """Best reward against network evaluations, every search with the same budgets and seeds."""
    found = []
    for name, options in searches(spread).items():
        for budget in budgets:
            results = []
            for seed in range(seeds):
                rng = random.generator(1000 + seed)
                one = search(name)(chain(denoiser), REWARDS[reward], rng, budget=budget, **options)
                results.append(run(one))
                tick()
            found.append(_summary(reward, name, budget, results, judge))
    return found


def _summary(
    reward: str, name: str, budget: int, results: Sequence[SearchResult], judge: Judge
) -> Searched:
    first = torch.tensor([0])
    fields = [one.states.take(first) for one in results]
    digits = State(
        {n: torch.cat([s[n] for s in fields]) for n in ("pix", "label")},
        torch.cat([s.mask for s in fields]),
    )
    best = torch.tensor([one.best for one in results], dtype=torch.float64)
    confidence = float(judge.confidence(digits).mean())
    scored = sum(one.scored for one in results) / len(results)
    return Searched(reward, name, budget, best, confidence, scored, digits)


@dataclass(frozen=True)
class Filled:
    """Digits whose upper half was kept.

    Attributes:
        repeats: how often each stretch was walked (RePaint's jumps).
        labelled: whether the digit was told.
        exact: share of rows whose kept half is what it was, bit for bit.
        accuracy: share that the judge reads as the digit that the upper half came from.
        evaluations: of the network, a digit.
        digits: what was made.
    """

    repeats: int
    labelled: bool
    exact: float
    accuracy: float
    evaluations: float
    digits: State


def fill(
    denoiser: Denoiser, judge: Judge, digits: State, repeats: int, labelled: bool, seed: int
) -> Filled:
    """Keep the upper half of digits and draw the lower half anew."""
    network = Counted(denoiser if labelled else unlabelled(denoiser))
    upper = torch.zeros_like(digits["pix"], dtype=torch.bool)
    upper[:, :, :4] = True
    made = inpaint(
        network,
        processes(),
        Known(digits, {"pix": upper}),
        power_grid(25),
        random.row_generators(seed, range(digits.rows)),
        method=solver("ancestral"),
        jumps=Jumps(5, repeats),
    )
    same = (made["pix"] == digits["pix"])[:, :, :4].flatten(1).all(1)
    return Filled(
        repeats,
        labelled,
        float(same.double().mean()),
        judge.accuracy(made),
        network.evaluations / digits.rows,
        made,
    )


def read(denoiser: Denoiser, digits: State, draws: int, seed: int) -> float:
    """Accuracy of the diffusion classifier with so many noisy copies a digit and class."""
    rng = random.generator(seed)
    grid = log_snr_grid(processes(), smallest=LAST_TIME)
    posterior = classify(
        denoiser, processes(), digits, HYPOTHESES, rng, draws=draws, grid=grid, batch=512
    )
    return float((posterior.argmax(1) == digits["label"][:, 0]).double().mean())


def bits(denoiser: Denoiser, digits: State, seed: int, repeats: int = 8) -> tuple[float, float]:
    """Bits a pixel of digits with 17 levels of grey, at most, and the standard error of the mean.

    The chain ends where the noise is about half a level: below, rounding knows better than the
    network. The uncertainty is that of the estimate, for these digits.
    """
    found = bound(
        unlabelled(denoiser),
        processes(),
        digits,
        random.generator(seed),
        draws=16,
        repeats=repeats,
        bins={"pix": LEVEL},
        grid=log_snr_grid(processes(), smallest=LAST_TIME),
        batch=512,
    )
    error = float((found.bits_error**2).sum().sqrt()) / digits.rows
    return float(found.bits_per_dim.mean()), error
