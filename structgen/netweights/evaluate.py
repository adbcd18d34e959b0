"""How good generated networks are: accuracy, speed of learning, calibration, diversity, memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore import random
from diffcore.errors import ConfigError
from structgen.netweights.alignment import aligned
from structgen.netweights.fitting import Fit, accuracy, train
from structgen.netweights.networks import Perceptron


def curve(
    net: Perceptron,
    flat: Tensor,
    train_rows: tuple[Tensor, Tensor],
    test_rows: tuple[Tensor, Tensor],
    present: Tensor,
    *,
    steps: int,
    fit: Fit | None = None,
    seed: int = 0,
) -> Tensor:
    """Test accuracy [steps + 1, M] of networks [M, P] before and after every training step.

    Args:
        net: the architecture.
        flat: where they start.
        train_rows: inputs [n, D] and classes [n].
        test_rows: as ``train_rows``.
        present: classes that there are [1, C].
        steps: of the optimiser.
        fit: the recipe; its rate does not fall, so that every step is a possible end.
        seed: of the order of examples.
    """
    base = fit or Fit()
    recipe = Fit(steps, base.batch, base.lr, base.decay, cool=0.0)
    found: list[Tensor] = []

    def watch(step: int, now: Tensor) -> None:
        found.append(accuracy(net, now, *test_rows, present))

    train(net, flat, *train_rows, recipe, present=present, rng=random.generator(seed), watch=watch)
    return torch.stack(found)


def steps_to(mean_curve: Tensor, level: float) -> int | None:
    """The first step at which a curve [steps + 1] is at ``level``; None if never."""
    there = (mean_curve >= level - 1e-9).nonzero()
    return int(there[0]) if len(there) else None


@dataclass(frozen=True)
class Memory:
    """Whether generated networks are copies.

    Attributes:
        nearest: median distance from a generated network to the nearest training network.
        pair: median distance between two training networks.
        closest: median distance from a training network to the nearest other one.
        agreement: share of test rows on which a generated network and its nearest training network
            say the same (median).
        pair_agreement: the same of two training networks.
    """

    nearest: float
    pair: float
    closest: float
    agreement: float
    pair_agreement: float

    @property
    def ratio(self) -> float:
        """Of ``nearest`` over ``pair``; 0 for copies."""
        return self.nearest / self.pair


def memory(net: Perceptron, made: Tensor, known: Tensor, x: Tensor, present: Tensor) -> Memory:
    """Audit generated networks [n, P] against training networks [M, P], after alignment.

    Every generated network is aligned to every training network that comes into question: first all
    of both to the first training network, then the twenty nearest once more, one by one.

    Raises:
        ConfigError: fewer than three training networks.
    """
    if len(known) < 3:
        raise ConfigError(f"expected at least 3 training networks, got {len(known)}")
    known = aligned(net, known, known[0])
    near, index = _nearest(net, aligned(net, made, known[0]), known, skip=0)
    some = known[:200]
    closest, _ = _nearest(net, some, known, skip=1)
    a, b = known[:-1], known[1:]
    pair = (a - b).norm(dim=1).median()
    said = _answers(net, made, x, present)
    said_known = _answers(net, known, x, present)
    same = (said == said_known[index]).double().mean(1).median()
    pair_same = (said_known[:-1] == said_known[1:]).double().mean(1).median()
    return Memory(
        float(near.median()), float(pair), float(closest.median()), float(same), float(pair_same)
    )


def _answers(net: Perceptron, flat: Tensor, x: Tensor, present: Tensor) -> Tensor:
    return torch.cat([net.logits(p, x, present).argmax(-1) for p in flat.split(200)])


def _nearest(net: Perceptron, made: Tensor, known: Tensor, skip: int) -> tuple[Tensor, Tensor]:
    """Distance [n] to, and index [n] of, the nearest of ``known``, aligned pair by pair."""
    rough = torch.cdist(made, known)
    best, place = [], []
    for row, order in zip(made, rough.argsort(1), strict=True):
        few = order[skip : skip + 20]
        gone = (aligned(net, known[few], row) - row).norm(dim=1)
        best.append(gone.min())
        place.append(few[gone.argmin()])
    return torch.stack(best), torch.stack(place)


@dataclass(frozen=True)
class Ensemble:
    """What networks say together.

    Attributes:
        single: mean accuracy of one network.
        together: accuracy of their mean probabilities.
        disagreement: share of rows on which two networks say different things.
        calibration: expected calibration error of single networks, 15 bins (Guo et al. 2017).
    """

    single: float
    together: float
    disagreement: float
    calibration: float


def ensemble(net: Perceptron, flat: Tensor, x: Tensor, y: Tensor, present: Tensor) -> Ensemble:
    """Measure networks [n, P] on rows x [B, D] with classes y [B].

    Raises:
        ConfigError: fewer than two networks.
    """
    if len(flat) < 2:
        raise ConfigError("expected at least 2 networks for an ensemble, got 1")
    p = net.logits(flat, x, present).softmax(-1)
    said = p.argmax(-1)
    differ = (said[1:] != said[:-1]).double().mean()
    right = (said == y).double()
    together = (p.mean(0).argmax(-1) == y).double().mean()
    errors = [calibration_error(q.max(-1).values, r) for q, r in zip(p, right, strict=True)]
    return Ensemble(float(right.mean()), float(together), float(differ), sum(errors) / len(errors))


def calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """Expected calibration error: mean |accuracy - confidence| over bins of confidence.

    Args:
        confidence: of every answer [B], 0 to 1.
        right: 1 where it is right [B].
        bins: of equal width.
    """
    place = (confidence * bins).long().clamp_max(bins - 1)
    count = torch.zeros(bins, dtype=torch.float64).index_add_(
        0, place, torch.ones_like(confidence, dtype=torch.float64)
    )
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(
        0, place, right.double() - confidence.double()
    )
    return float(gap.abs().sum() / count.sum())
