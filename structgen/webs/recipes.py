"""Named training recipes of web models, and their data: made anew from seeds, never a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, DataError
from structgen.webs.layout import turn
from structgen.webs.web import Floats, Web

HELD_OUT_SEED = 1_000_000
"""Seeds from here on are never trained on."""

PULLED_NODES = 500
"""Larger webs are not pulled for a training set."""


GRAPHS: Mapping[str, Any] = {
    "weights": {"pos": 1.0, "anchor": 0.5, "edge": 4.0},
    "bounds": (0.5, 1.5),
    "field_bounds": {"pos": (1.0, 50.0)},
}
"""The objective of the equivariant models."""


@dataclass(frozen=True)
class Recipe:
    """What to train and how.

    Attributes:
        family: ``orb`` (whole small orbs), or a family whose large web is cut into pieces.
        sizes: nodes, smallest and largest.
        large: webs that pieces are cut out of, and their nodes.
        number: training webs.
        method: one of `methods.METHODS`.
        task: options of the method's task; ``network`` are those of its size.
        objective: options of `diffcore.objective.Objective`, beside those of every web model.
        optimisation: options of `diffcore.training.Optimisation`.
        batch: webs a batch, at most.
        nodes: nodes a batch, at most, those that fill up included.
        by_logarithm: sizes are drawn evenly in their logarithm.
        pulled: webs whose mechanics are measured, so that they can be asked for.
    """

    family: str
    sizes: tuple[int, int] = (19, 44)
    large: tuple[int, int] = (1, 10_000)
    number: int = 2000
    method: str = "equivariant"
    task: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    optimisation: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 16
    nodes: int = 100_000
    by_logarithm: bool = False
    pulled: int = 500


_ROWS: Mapping[str, Any] = {"bounds": (0.5, 5.0), "independent": 0.0, "align": False}

RECIPES = {
    "orb": Recipe("orb", objective=GRAPHS, optimisation={"lr": 2e-3}),
    "tangle": Recipe("tangle", objective=GRAPHS, optimisation={"lr": 2e-3}),
    "hybrid": Recipe("hybrid", large=(5, 2000), objective=GRAPHS, optimisation={"lr": 2e-3}),
    "orb-analog": Recipe(
        "orb",
        sizes=(19, 128),
        number=3000,
        method="analog",
        objective={**_ROWS, "weights": {"pos": 1.0, "bits": 2.0}, "self_condition": 0.5},
        by_logarithm=True,
    ),
    "orb-adjacency": Recipe(
        "orb",
        method="adjacency",
        objective={**_ROWS, "weights": GRAPHS["weights"]},
    ),
    "orb-autoregressive": Recipe(
        "orb",
        method="autoregressive",
        task={"network": {"width": 128, "layers": 4, "heads": 4}},
        objective={"weighting": "uniform", "independent": 0.0},
    ),
    "orb-large": Recipe(
        "orb",
        sizes=(45, 2000),
        number=2000,
        method="sparse",
        objective={
            "weights": {"pos": 1.0, "anchor": 0.5, "edge": 4.0},
            "bounds": (0.5, 1.5),
            "field_bounds": {"pos": (1.0, 400.0)},
            "independent": 0.0,
            "stages": (("edge", "anchor"), ("pos",)),
            "shares": (0.5, 0.5),
            "align": False,
        },
        optimisation={"lr": 2e-3},
        nodes=1200,
        by_logarithm=True,
        pulled=200,
    ),
}
"""``orb-analog``, ``-adjacency`` and ``-autoregressive`` are the paper's; the others are ours."""


def recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def webs_of(
    one: Recipe, number: int, first_seed: int = 0, tick: Callable[[], object] = lambda: None
) -> list[Web]:
    """Webs of a recipe's kind, turned at random and stretched by up to 1.5 along their own axes.

    A stretch and a turn of a tension equilibrium are tension equilibria (`equilibrium`).
    """
    return list(
        _orbs(one, number, first_seed, tick)
        if one.family == "orb"
        else _pieces(one, number, first_seed, tick)
    )


def _orbs(one: Recipe, number: int, first: int, tick: Callable[[], object]) -> Iterator[Web]:
    from structgen.webs.deposition import deposit

    seed, made = first, 0
    while made < number:
        rng = np.random.default_rng([seed, 1])
        low, high = one.sizes
        # the family gives about so many: drawn wide, kept if inside
        if one.by_logarithm:
            nodes = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
        else:
            nodes = int(rng.integers(max(12, low - 6), high + 6))
        web = deposit("orb", seed, nodes=nodes, size=10.0)
        seed += 1
        if low <= web.n_nodes <= high:
            made += 1
            tick()
            yield mapped(web, turn(rng) @ np.diag(np.exp(rng.uniform(-0.4, 0.4, 3))))


def _pieces(one: Recipe, number: int, first: int, tick: Callable[[], object]) -> Iterator[Web]:
    from structgen.webs.deposition import deposit
    from structgen.webs.subgraphs import pieces

    many, nodes = one.large
    rng = np.random.default_rng([first, 1])
    for k in range(many):
        large = deposit(one.family, first + k, nodes=nodes, size=100.0)
        for web in pieces(large, (number + many - 1 - k) // many, one.sizes, first + k):
            tick()
            yield mapped(web, turn(rng) @ np.diag(np.exp(rng.uniform(-0.4, 0.4, 3))))


def mapped(web: Web, matrix: Floats) -> Web:
    """The web under a linear map [3, 3]; force densities stay, so does the equilibrium."""
    density = web.tension / web.lengths
    moved = web.but(pos=web.pos @ matrix.T)
    return moved.but(tension=density * moved.lengths)


def values_for(
    one: Recipe, webs: Sequence[Web], tick: Callable[[], object] = lambda: None
) -> list[dict[str, float]]:
    """Parameters of every web, with the mechanics of the first ones (`Recipe.pulled`)."""
    from structgen.webs.measures import mechanics
    from structgen.webs.task import values_of

    found = []
    for number, web in enumerate(webs):
        try:
            measured = number < one.pulled and web.n_nodes <= PULLED_NODES
            pulled = mechanics(web) if measured else None
        except (DataError, ConfigError):
            pulled = None
        found.append(values_of(web, pulled))
        tick()
    return found
