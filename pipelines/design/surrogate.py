"""The default strategy: over-generate, predict by an ensemble, take what promises most.

New objects are the generator's own and children of the Pareto front. An ensemble of randomised
trees (Geurts et al. 2006) is fitted to every evaluator; its members are samples of what each object
may score. Objects are chosen one by one by their expected hypervolume improvement over the members
(Emmerich et al. 2006), each choice being believed at its mean before the next; or by Thompson
sampling, each choice by another member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError
from pipelines.design.features import features
from pipelines.design.genetic import elites
from pipelines.design.history import History, Scored
from pipelines.design.names import unknown
from pipelines.design.objectives import Aims
from pipelines.design.pareto import improvement
from pipelines.design.proposals import Collector, Context, Proposal
from pipelines.store.records import Candidate

ACQUISITIONS = ("ehvi", "thompson", "botorch")

MAX_ROWS = 2000
"""The ensemble learns from the best and the latest, no more than so many."""

SPARE = 5
"""So many more are chosen, for those that cannot be completed."""

FEWEST = 8
"""Candidates with values below which nothing is learned."""

Samples = NDArray[np.float64]
"""[objects, members, goals]: losses; infinite where a constraint is not met."""


def surrogate(
    context: Context,
    history: History,
    *,
    acquisition: str = "ehvi",
    members: int = 48,
    children: float = 8.0,
    fresh: float = 0.5,
    explore: float = 0.1,
    population: int = 30,
) -> Proposal:
    """Candidates that the ensemble expects most of.

    Args:
        context: what there is to work with.
        history: what was tried.
        acquisition: ehvi, thompson, or botorch (needs the extra `botorch`).
        members: of the ensemble.
        children: children that are made for each candidate that is wanted.
        fresh: objects of the generator for each candidate that is wanted.
        explore: share of candidates that are the generator's own, unseen by the ensemble.
        population: parents.

    Raises:
        ConfigError: a setting is out of range.
    """
    if acquisition not in ACQUISITIONS:
        raise unknown("acquisition", acquisition, ACQUISITIONS)
    if members < 2 or not 0 <= explore <= 1 or min(children, fresh) < 0:
        raise ConfigError(
            "strategy surrogate: expected members >= 2, 0 <= explore <= 1, others >= 0"
        )
    found = Collector(history.labels)
    learned = [row for row in history.rows if row.values]
    if len(history.feasible) < FEWEST or history.reference is None:
        found.fresh(context, history.drawn, context.batch)
        return found.proposal(model="none")
    batch = context.batch
    parents = elites(history, population)
    found.children(context, parents, round(children * batch), context.rng("children"))
    made = len(found.candidates)
    found.fresh(context, history.drawn, max(1, round(max(fresh, explore) * batch)))
    chosen = _choose(context, history, learned, found.candidates, (acquisition, members))
    own = found.candidates[made:]
    extra = [one for one in own if one not in chosen][: round(explore * batch)]
    first = chosen[: batch - len(extra)] + extra
    size = len(found.candidates)
    rest = [one for one in chosen if one not in first]
    found.finished(context, [*first, *rest], batch)
    return found.proposal(model=acquisition, pool=size)


def _choose(
    context: Context,
    history: History,
    learned: Sequence[Scored],
    pool: list[Candidate],
    how: tuple[str, int],
) -> list[Candidate]:
    """The pool's most promising objects, best first."""
    acquisition, members = how
    rows = training(learned, history)
    seen = features([row.candidate for row in rows])
    new = features(pool)
    seed = int(context.rng("ensemble").integers(2**31 - 1))
    assert history.reference is not None
    count = min(context.batch + SPARE, len(pool))
    if acquisition == "botorch":
        from pipelines.design.gaussian import botorch_choice

        order = botorch_choice(rows, seen, new, history, count, seed)
    else:
        samples = fitted(rows, seen, history.aims, members, seed).losses(new)
        known = history.points()
        greedy = acquire if acquisition == "ehvi" else thompson
        order = greedy(samples, known, history.reference, count)
    return [pool[i] for i in order]


def training(learned: Sequence[Scored], history: History) -> list[Scored]:
    """What an ensemble learns from: all, or the best and the latest."""
    if len(learned) <= MAX_ROWS:
        return list(learned)
    best = elites(history, MAX_ROWS // 2)
    keys = {row.candidate.key for row in best}
    rest = [row for row in learned if row.candidate.key not in keys]
    return best + rest[-(MAX_ROWS - len(best)) :]


@dataclass(frozen=True)
class Ensemble:
    """Randomised trees for every evaluator that the aims ask for.

    Attributes:
        aims: of the campaign.
        members: of each ensemble.
        forests: evaluator -> fitted ensemble; None where no value is known yet.
        binary: evaluators whose values were all 0 or 1.
    """

    aims: Aims
    members: int
    forests: Mapping[str, Any]
    binary: frozenset[str]

    def losses(self, new: NDArray[np.float32]) -> Samples:
        """Losses of objects with features [P, F] by each member; infinite if it expects failure."""
        able = np.ones((len(new), self.members), dtype=bool)
        losses = np.empty((len(new), self.members, len(self.aims.goals)))
        for column, objective in enumerate(self.aims.goals):
            values = self._values(new, objective.evaluator)
            losses[:, :, column] = np.vectorize(objective.loss, otypes=[float])(values)
        for constraint in self.aims.constraints:
            values = self._values(new, constraint.evaluator)
            if constraint.evaluator in self.binary:
                values = np.round(values)
            able &= np.vectorize(constraint.met, otypes=[bool])(values)
        losses[~able] = np.inf
        return losses

    def _values(self, new: NDArray[np.float32], evaluator: str) -> NDArray[np.float64]:
        """What each tree predicts, [P, members]."""
        forest = self.forests[evaluator]
        if forest is None:
            return np.zeros((len(new), self.members))
        return np.stack([tree.predict(new) for tree in forest.estimators_], 1)


def fitted(
    rows: Sequence[Scored], seen: NDArray[np.float32], aims: Aims, members: int, seed: int
) -> Ensemble:
    """Fits the ensembles.

    Args:
        rows: what was tried, with values.
        seen: their features, [N, F].
        aims: of the campaign.
        members: of each ensemble.
        seed: of the ensembles.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    asked = [(one.evaluator, seed + k) for k, one in enumerate(aims.goals)]
    asked += [(one.evaluator, seed + 100 + k) for k, one in enumerate(aims.constraints)]
    forests = {name: _forest(rows, seen, name, members, own) for name, own in reversed(asked)}
    binary = {
        name for name, _ in asked if {row.values.get(name, 0.0) for row in rows} <= {0.0, 1.0}
    }
    return Ensemble(aims, members, forests, frozenset(binary))


def _forest(
    rows: Sequence[Scored], seen: NDArray[np.float32], evaluator: str, members: int, seed: int
) -> Any:
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError as error:
        raise ConfigError(
            'the strategy surrogate needs scikit-learn: pip install "designloom[loops]"'
        ) from error
    there = [i for i, row in enumerate(rows) if evaluator in row.values]
    if not there:
        return None
    values = np.array([rows[i].values[evaluator] for i in there])
    forest = ExtraTreesRegressor(
        members, min_samples_leaf=1, max_features=0.3, bootstrap=True, random_state=seed, n_jobs=1
    )
    return forest.fit(seen[there], values)


def acquire(samples: Samples, known: Samples, reference: Sequence[float], count: int) -> list[int]:
    """Objects by expected hypervolume improvement, one after the other.

    Args:
        samples: see `Samples`.
        known: losses of the front, [K, goals].
        reference: of the hypervolume.
        count: how many.

    Returns:
        Indices, the best first.
    """
    mean = _means(samples)
    chosen: list[int] = []
    front = known
    gains = improvement(front, samples, reference).mean(1)
    for _ in range(count):
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        if gains[best] <= 0:  # nothing promises more: the nearest to the front by its mean
            best = _nearest(mean, reference, chosen)
        chosen.append(best)
        front = np.vstack([front, mean[best]])
        gains = improvement(front, samples, reference).mean(1)
    return chosen


def thompson(samples: Samples, known: Samples, reference: Sequence[float], count: int) -> list[int]:
    """Objects by the improvement that one member expects, another member for each choice."""
    chosen: list[int] = []
    front = known
    for number in range(count):
        here = samples[:, number % samples.shape[1]]
        gains = improvement(front, here, reference)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            best = _nearest(_means(samples), reference, chosen)
        chosen.append(best)
        front = np.vstack([front, here[best]])
    return chosen


def _means(samples: Samples) -> NDArray[np.float64]:
    """Mean losses over the members that expect the constraints to hold; infinite without any."""
    able = np.asarray(np.isfinite(samples).all(2))
    total = np.where(able[:, :, None], samples, 0.0).sum(1)
    number = able.sum(1)[:, None]
    return np.where(number > 0, total / np.maximum(number, 1), np.inf)


def _nearest(mean: NDArray[np.float64], reference: Sequence[float], chosen: list[int]) -> int:
    """The object whose losses, in units of the reference's size, have the smallest sum."""
    size = np.maximum(np.abs(np.asarray(reference)), 1e-9)
    total = (mean / size).sum(1)
    total[chosen] = np.inf
    left = [i for i in range(len(total)) if i not in set(chosen)]
    return min(left, key=lambda i: float(total[i]))
