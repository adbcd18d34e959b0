"""One data set's trial: generated networks beside all baselines, on rows that nobody has seen.

Every network here gets the same: the training rows of the data set in the same encoded inputs, and
a test on the same rows. What a zoo gives comes from networks that were trained on other data sets
(for data sets left out) or on this one (for data sets that were seen).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffcore import random
from structgen.netweights import baselines
from structgen.netweights.alignment import aligned
from structgen.netweights.evaluate import Ensemble, Memory, curve, ensemble, memory, steps_to
from structgen.netweights.fitting import Fit, accuracy, train
from structgen.netweights.generator import Asked, WeightGenerator
from structgen.netweights.networks import canonical, initial
from structgen.netweights.prompt import Prompt
from structgen.netweights.tables import Table, split

NEAR = 0.01
"""How far below the accuracy of fully trained networks counts as having reached it."""

AUDITED = ("generated", "guided")
"""Methods whose networks are compared with those that were trained."""

CURVE_ROWS = 500
"""Test rows that the curves are measured on, at most."""


@dataclass(frozen=True)
class Shelf:
    """Networks trained on the data sets that were seen, for the baselines.

    Attributes:
        names: of the data sets [K].
        networks: of each of them [n, P].
        codes: of each data set, from the generator's encoder [K, E].
    """

    names: tuple[str, ...]
    networks: tuple[Tensor, ...]
    codes: Tensor


@dataclass(frozen=True)
class Trial:
    """What was found on one data set; accuracies are means over networks, 0 to 1.

    Attributes:
        name: of the data set.
        seen: whether the generator was trained on it.
        classes: number of classes.
        number: networks of each method.
        accuracy: by method.
        level: accuracy of fully trained networks that start at random.
        steps: by method, the first training step at which the mean accuracy is within one point of
            the level.
        strict: the same for the level itself.
        curves: by method, mean accuracy after every step.
        memory: audits by method, for a data set that was seen.
        ensembles: by method.
        seconds: that all networks of a method took, encoding of the data set included.
        told: steps of the probe that the generator was told.
    """

    name: str
    seen: bool
    classes: int
    number: int
    accuracy: Mapping[str, float]
    level: float
    steps: Mapping[str, int | None]
    strict: Mapping[str, int | None]
    curves: Mapping[str, list[float]]
    memory: Mapping[str, Memory]
    ensembles: Mapping[str, Ensemble] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    told: int = 0


def trained(
    generator: WeightGenerator, told: Prompt, number: int, fit: Fit, spread: float, seed: int = 10
) -> Tensor:
    """Networks trained on all labelled rows of a data set [number, P], in canonical form."""
    net = generator.task.net
    seeds = [seed * 10**7 + k for k in range(number)]
    x, y = told.rows(told.table)
    begin = initial(net, seeds, spread, generator.task.start)
    made = train(net, begin, x, y, fit, present=told.present, rng=random.generator(seed))
    return canonical(net, made, told.present)


def stock(
    generator: WeightGenerator, seen: Sequence[Table], number: int, fit: Fit, spread: float
) -> Shelf:
    """Train the baselines' networks; data sets with too many classes are left out."""
    net = generator.task.net
    kept = [t for t in seen if len(t.labels) <= net.classes]
    told = [generator.prompt(split(t)[0]) for t in kept]
    networks = tuple(trained(generator, one, number, fit, spread) for one in told)
    codes = torch.cat([code_of(generator, one) for one in told])
    return Shelf(tuple(t.name for t in kept), networks, codes)


@torch.no_grad()
def code_of(generator: WeightGenerator, told: Prompt) -> Tensor:
    """A unit vector for a data set [1, E]: its classes' moments and the encoder's tokens."""
    encoder = generator.parts.network.encoder
    tokens = encoder(told.x, told.y, told.present)
    return encoder.describe(tokens, told.present)


def compare(
    generator: WeightGenerator,
    table: Table,
    shelf: Shelf,
    fit: Fit,
    *,
    spread: float,
    number: int = 16,
    budget: int = 200,
    seed: int = 0,
    temperature: float | None = None,
    shrinkage: float | None = None,
) -> Trial:
    """Everything about one data set.

    Args:
        generator: what is tried.
        table: the whole data set; it is split here as everywhere.
        shelf: networks of the data sets that were seen.
        fit: how networks are trained.
        spread: see `networks.initial`, for the zoo.
        number: networks of each method.
        budget: training steps of the curves.
        seed: of everything random.
        temperature: of the noise; the model's own by default.
        shrinkage: of the zero-shot networks; the model's own by default.
    """
    net = generator.task.net
    train_table, test_table = split(table)
    told = generator.prompt(train_table)
    x, y = told.rows(test_table)
    seen = table.name in shelf.names
    random_start = initial(net, [99 * 10**7 + k for k in range(number)])
    made: dict[str, Tensor] = {"random start": random_start}
    seconds = {}
    zero_shot = Asked(steering="none", temperature=temperature, shrinkage=shrinkage)
    for name, asked in (("generated", zero_shot), ("guided", Asked(temperature=temperature))):
        begin = time.perf_counter()
        made[name] = generator.draw(number, generator.prompt(train_table), asked, seed=seed)
        seconds[name] = time.perf_counter() - begin
    task = generator.task
    if task.size.probes:
        made["probe"] = task.path(told.x, told.y, told.present)[-1]
    made |= from_shelf(generator, told, shelf, number, seed)
    begin = time.perf_counter()
    full = train(
        net,
        random_start,
        *told.rows(train_table),
        fit,
        present=told.present,
        rng=random.generator(seed, 1),
    )
    seconds["trained"] = time.perf_counter() - begin
    made["trained"] = full
    found = {n: float(accuracy(net, w, x, y, told.present).mean()) for n, w in made.items()}
    found["nearest class mean"] = baselines.centroid_accuracy(net, told, x, y)
    some = x[:CURVE_ROWS], y[:CURVE_ROWS]
    level = float(accuracy(net, full, *some, told.present).mean())
    curves = {}
    for name in ("random start", "generated", "guided", "probe", "nearest data set"):
        if name in made:
            start = made[name]
            path = curve(
                net,
                start,
                told.rows(train_table),
                some,
                told.present,
                steps=budget,
                fit=fit,
                seed=seed,
            )
            curves[name] = path.mean(1)
    own = shelf.networks[shelf.names.index(table.name)] if seen else None
    return Trial(
        table.name,
        seen,
        len(table.labels),
        number,
        found,
        level,
        {n: steps_to(c, level - NEAR) for n, c in curves.items()},
        {n: steps_to(c, level) for n, c in curves.items()},
        {n: [round(float(v), 4) for v in c] for n, c in curves.items()},
        {}
        if own is None
        else {n: memory(net, made[n], own, some[0], told.present) for n in AUDITED},
        {
            n: ensemble(net, made[n], x, y, told.present)
            for n in ("generated", "guided", "trained")
            if len(made[n]) > 1
        },
        seconds,
        task.size.probes,
    )


def from_shelf(
    generator: WeightGenerator, told: Prompt, shelf: Shelf, number: int, seed: int
) -> dict[str, Tensor]:
    """The baselines that only look at networks that are there already."""
    net = generator.task.net
    order = baselines.nearest(code_of(generator, told)[0], shelf.codes).tolist()
    others = [k for k in order if shelf.names[k] != told.table.name]
    rng = random.generator(seed, 2)
    made = {}
    if others:
        made["nearest data set"] = shelf.networks[others[0]][:number]
    if told.table.name in shelf.names:
        pool = shelf.networks[shelf.names.index(told.table.name)]
        made["zoo"] = pool
    else:
        pool = torch.cat([n[: max(4, number // 2)] for n in shelf.networks])
    lined = aligned(net, pool, pool[0])
    right = accuracy(net, pool, told.x[0], told.y[0], told.present)
    made["zoo's best on the rows"] = pool[right.argmax()][None]
    made["zoo's mean network"] = lined.mean(0, keepdim=True)
    made["soup"] = baselines.soup(net, pool, told)
    made["PCA Gaussian"] = baselines.pca_gaussian(lined, number, 128, rng)
    made["KDE"] = baselines.kde(lined, number, rng)
    return made
