"""The nodes of a tree of trajectories, and how several of them make a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

import torch

from diffcore.chain import Particles, join, join_states
from diffcore.state import State


@dataclass(eq=False)
class Node:
    """A particle in the tree. ``batch`` and ``clean`` are shared with others; ``row`` is its own.

    Attributes:
        level: steps made so far; -1 for the root above all draws from the prior.
        parent: the node that it was drawn from.
        children: draws of the next step.
        visits: rollouts that went through, those under way included.
        awaited: children that are about to be drawn.
        value: soft value, or None while its first rollout is under way.
    """

    level: int
    parent: "Node | None" = None
    batch: Particles | None = None
    row: int = 0
    clean: State | None = None
    clean_row: int = 0
    children: list["Node"] = field(default_factory=list)
    visits: int = 0
    awaited: int = 0
    value: float | None = None

    @property
    def ready(self) -> list["Node"]:
        """Children that have a value."""
        return [child for child in self.children if child.value is not None]


def gather_particles(nodes: Sequence[Node]) -> Particles:
    """The particles of nodes of one level as one batch, in order."""
    parts = []
    for batch, run in groupby(nodes, key=lambda node: id(node.batch)):
        members = list(run)
        found = members[0].batch
        assert found is not None, batch
        parts.append(_rows(found, found.state.rows, [node.row for node in members]))
    return join(parts)


def gather_clean(nodes: Sequence[Node]) -> State:
    """The predictions of nodes of one level as one batch, in order."""
    parts = []
    for batch, run in groupby(nodes, key=lambda node: id(node.clean)):
        members = list(run)
        found = members[0].clean
        assert found is not None, batch
        parts.append(_rows(found, found.rows, [node.clean_row for node in members]))
    return join_states(parts)


Batch = TypeVar("Batch", Particles, State)


def _rows(batch: Batch, size: int, rows: list[int]) -> Batch:
    if rows == list(range(size)):
        return batch
    device = batch.mask.device if isinstance(batch, State) else batch.state.mask.device
    return batch.take(torch.tensor(rows, device=device))
