"""Genetic algorithm: children of the best by non-dominated sorting (Deb et al. 2002, NSGA-II)."""

from __future__ import annotations

import numpy as np

from pipelines.design.history import History, Scored
from pipelines.design.pareto import Points, front
from pipelines.design.proposals import Collector, Context, Proposal


def genetic(context: Context, history: History, *, population: int = 20) -> Proposal:
    """Mutation and crossover of the best so far; the first generation is the generator's own.

    Args:
        context: what there is to work with.
        history: what was tried.
        population: how many of the best are parents.
    """
    found = Collector(history.labels)
    parents = elites(history, population)
    if context.generation > 0:
        found.children(context, parents, context.batch, context.rng("genetic"))
        found.finished(context, found.candidates, context.batch)
    missing = context.batch - len(found.candidates)
    if missing > 0:
        found.fresh(context, history.drawn, missing)
    return found.proposal()


def elites(history: History, count: int) -> list[Scored]:
    """The best so far: front by front, within a front the least crowded first."""
    rows = history.feasible
    if not rows:
        return []
    losses = np.array([row.losses for row in rows])
    return [rows[i] for i in ranked(losses, count)]


def ranked(losses: Points, count: int) -> list[int]:
    """The best indices by front, then by falling crowding distance (Deb et al. 2002, sec. III)."""
    left = np.arange(len(losses))
    order: list[int] = []
    while len(left) and len(order) < count:
        here = left[front(losses[left])]
        spread = crowding(losses[here])
        order += [int(here[i]) for i in np.argsort(-spread, kind="stable")]
        left = np.setdiff1d(left, here)
    return order[:count]


def crowding(losses: Points) -> Points:
    """Crowding distance of points of one front: the ends are infinitely far from others."""
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] or 1.0
        distance[order[[0, -1]]] = np.inf
        gaps = (column[order[2:]] - column[order[:-2]]) / span
        distance[order[1:-1]] += gaps
    return distance
