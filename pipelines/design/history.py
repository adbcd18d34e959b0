"""What a campaign has tried so far, as strategies see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.design.forms import label
from pipelines.design.objectives import Aims
from pipelines.design.pareto import Points, front, hypervolume
from pipelines.store.records import Candidate


@dataclass(frozen=True)
class Scored:
    """A candidate and what is known of it.

    Attributes:
        candidate: what was tried.
        generation: in which.
        values: evaluator -> value, of those that gave one.
        losses: of the goals; None if a value is missing or a constraint does not hold.
    """

    candidate: Candidate
    generation: int
    values: Mapping[str, float]
    losses: tuple[float, ...] | None


@dataclass
class History:
    """All candidates of the finished generations, in order.

    Attributes:
        aims: of the campaign.
        rows: the candidates.
        labels: by which new ones are compared with those that were there.
        drawn: how many of the generator's sequence have been used up.
        reference: of the hypervolume; known after the first generation with losses.
        best: the Pareto front.
    """

    aims: Aims
    rows: list[Scored] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    drawn: int = 0
    reference: tuple[float, ...] | None = None
    best: list[Scored] = field(default_factory=list)

    def add(
        self,
        number: int,
        candidates: Sequence[Candidate],
        values: Iterable[Mapping[str, float]],
        notes: Mapping[str, Any],
    ) -> None:
        """Takes in a finished generation."""
        new = [
            Scored(one, number, found, self.aims.losses(found))
            for one, found in zip(candidates, values, strict=True)
        ]
        self.rows += new
        self.labels.update(label(one) for one in candidates)
        self.drawn += int(notes.get("drawn", 0))
        able = [row for row in new if row.losses is not None]
        if self.reference is None:
            self.reference = self.aims.reference([row.losses for row in able if row.losses])
        pool = [*self.best, *able]
        keep = front(_losses(pool, len(self.aims.goals)))
        self.best = [row for row, kept in zip(pool, keep, strict=True) if kept]

    @property
    def feasible(self) -> list[Scored]:
        """Candidates with losses."""
        return [row for row in self.rows if row.losses is not None]

    def points(self) -> Points:
        """Losses of the Pareto front, [N, M]."""
        return _losses(self.best, len(self.aims.goals))

    def hypervolume(self) -> float | None:
        """Of the front; None before there is a reference."""
        return None if self.reference is None else hypervolume(self.points(), self.reference)


def _losses(rows: Sequence[Scored], objectives: int) -> Points:
    return np.array([row.losses for row in rows], dtype=np.float64).reshape(-1, objectives)
