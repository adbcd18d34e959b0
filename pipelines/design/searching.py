"""The strategy `search`: the sampler itself is searched for what an ensemble expects most of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, DataError
from pipelines.design.features import features, features_of
from pipelines.design.forms import encode
from pipelines.design.history import History
from pipelines.design.pareto import improvement
from pipelines.design.proposals import Collector, Context, Proposal
from pipelines.design.surrogate import FEWEST, Ensemble, fitted, training


def search(
    context: Context,
    history: History,
    *,
    method: str = "evolution",
    trajectories: float = 6.0,
    members: int = 24,
    explore: float = 0.2,
) -> Proposal:
    """Candidates by a search over the generator's trajectories (`diffcore.searches`).

    The reward is what the ensemble of the strategy `surrogate`, learned anew from all evaluations,
    expects: the improvement of the hypervolume, or how near to the front where none is expected.

    Args:
        context: what there is to work with; its generator needs a method `seek`.
        history: what was tried.
        method: of the search: evolution, feynman_kac, tree_search, tree_sampling, best_of_n.
        trajectories: whole trajectories that may be spent for each candidate.
        members: of the ensemble.
        explore: share of candidates that are the generator's own.

    Raises:
        ConfigError: a setting is out of range, or the generator cannot be searched.
    """
    if members < 2 or not 0 <= explore <= 1 or trajectories < 1:
        raise ConfigError(
            "strategy search: expected members >= 2, 0 <= explore <= 1, trajectories >= 1"
        )
    seek: Callable[..., Any] | None = getattr(context.source.generator, "seek", None)
    if seek is None:
        raise ConfigError(
            f"strategy search: the generator {context.source.name!r} cannot be searched: "
            "expected molecules, or one with a method seek"
        )
    found = Collector(history.labels)
    if len(history.feasible) < FEWEST or history.reference is None:
        found.fresh(context, history.drawn, context.batch)
        return found.proposal(model="none")
    rows = training([row for row in history.rows if row.values], history)
    seen = features([row.candidate for row in rows])
    seed = int(context.rng("search").integers(2**31 - 1))
    ensemble = fitted(rows, seen, history.aims, members, seed)
    wanted = max(1, context.batch - round(explore * context.batch))
    reward = _reward(ensemble, history)
    made = seek(reward, wanted, seed, method, trajectories * context.batch)
    for thing in made:
        found.add(thing, {"search": method, "seed": seed})
    searched = len(found.candidates)
    found.fresh(context, history.drawn, context.batch - searched)
    return found.proposal(model=method, searched=searched)


def _reward(ensemble: Ensemble, history: History) -> Callable[[Any], float]:
    front, reference = history.points(), history.reference
    assert reference is not None
    size = np.maximum(np.abs(np.asarray(reference)), 1e-9)

    def expected(thing: Any) -> float:
        """Mean improvement over the members; below zero where none is expected."""
        try:
            row = features_of(encode(thing, {}))
        except DataError:
            return float("nan")
        samples = ensemble.losses(row[None])
        gain = float(improvement(front, samples, reference).mean())
        able = samples[0][np.isfinite(samples[0]).all(1)]
        if gain > 0:
            return gain
        return -float((able.mean(0) / size).sum()) if len(able) else -1e3

    return expected
