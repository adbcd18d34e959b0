"""What strategies propose, and the two ways to new candidates: fresh ones, and children."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffcore.errors import DataError
from pipelines.design.forms import decode, encode, label
from pipelines.design.history import History, Scored
from pipelines.design.objectives import Aims
from pipelines.design.sources import Source
from pipelines.store.records import Candidate, digest

Rng = np.random.Generator

PATIENCE = 20
"""So many objects are drawn at most for each new candidate that is wanted, duplicates included."""


@dataclass(frozen=True)
class Context:
    """What a strategy has to work with; with the history it decides what is proposed.

    Attributes:
        source: where new objects come from.
        aims: of the campaign.
        seed: of the campaign.
        batch: candidates of a generation.
        generation: its number.
    """

    source: Source
    aims: Aims
    seed: int
    batch: int
    generation: int

    def rng(self, purpose: str) -> Rng:
        """Random numbers of this generation; those of another purpose are independent."""
        word = int(digest(purpose)[:8], 16)
        return np.random.default_rng([self.seed, self.generation, word])


@dataclass(frozen=True)
class Proposal:
    """Candidates of a generation, none tried before, and counts for the record.

    Attributes:
        candidates: in order.
        notes: `drawn` (of the generator's sequence), `duplicates`, `invalid` and what a strategy
            wants to say.
    """

    candidates: list[Candidate]
    notes: dict[str, Any] = field(default_factory=dict)


Strategy = Callable[..., Proposal]
"""(Context, History, *, settings) -> Proposal: a pure function of these."""


class Collector:
    """Takes objects and keeps those that are new candidates.

    Args:
        known: labels of what was there before.
    """

    def __init__(self, known: set[str]) -> None:
        """See the class."""
        self._known = known
        self._new: set[str] = set()
        self.candidates: list[Candidate] = []
        self.counts: Counter[str] = Counter()

    def add(self, thing: Any, origin: Mapping[str, Any]) -> Candidate | None:
        """The candidate of an object if it is new."""
        try:
            if thing is None:
                raise DataError("nothing")
            one = encode(thing, origin)
        except DataError:
            self.counts["invalid"] += 1
            return None
        name = label(one)
        if name in self._known or name in self._new:
            self.counts["duplicates"] += 1
            return None
        self._new.add(name)
        self.candidates.append(one)
        return one

    def fresh(self, context: Context, start: int, count: int) -> None:
        """Adds up to `count` new candidates of the generator's sequence, from `start` on.

        It stops where the sequence ends, and after `PATIENCE` objects for each one wanted.
        """
        wanted, at = len(self.candidates) + count, start
        while len(self.candidates) < wanted and at - start < PATIENCE * count:
            size = min(wanted - len(self.candidates), PATIENCE * count - (at - start))
            made = 0
            for thing in context.source.generator.sample(context.seed, at, size):
                self.add(thing, {"seed": context.seed, "index": at + made})
                made += 1
            at += made
            if made < size:
                break
        self.counts["drawn"] += at - start

    def children(self, context: Context, parents: Sequence[Scored], count: int, rng: Rng) -> None:
        """Adds up to `count` new children; earlier parents are chosen more often."""
        vary = context.source.vary
        if vary is None or not parents:
            return
        wanted = len(self.candidates) + count
        weights = 1.0 / (1.0 + np.arange(len(parents)))
        weights /= weights.sum()
        for _ in range(PATIENCE * count):
            if len(self.candidates) >= wanted:
                return
            number = 1 + int(len(parents) > 1 and rng.random() < 0.5)
            chosen = rng.choice(len(parents), size=number, replace=False, p=weights)
            both = [parents[int(i)].candidate for i in chosen]
            origin = {"parents": [one.key for one in both], "draft": True}
            self.add(vary([decode(one) for one in both], rng), origin)

    def finished(self, context: Context, ordered: Sequence[Candidate], count: int) -> None:
        """Keeps the first `count` of some candidates, children among them completed."""
        kept: list[Candidate] = []
        for one in ordered:
            if len(kept) == count:
                break
            done = completed(one, context.source)
            if done is None:
                self.counts["invalid"] += 1
            else:
                kept.append(done)
        self.candidates = kept

    def proposal(self, **notes: Any) -> Proposal:
        """What was collected."""
        return Proposal(self.candidates, dict(self.counts) | notes)


def completed(one: Candidate, source: Source) -> Candidate | None:
    """A child as it is evaluated; anything else as it is. None if it cannot be completed."""
    if not one.origin.get("draft"):
        return one
    origin = {key: value for key, value in one.origin.items() if key not in ("draft", "smiles")}
    if source.finish is None:
        return Candidate(one.form, one.content, {**one.origin, "draft": False})
    try:
        made = source.finish(decode(one), int(one.key[:7], 16))
        return None if made is None else encode(made, origin)
    except DataError:
        return None


def best_of_n(context: Context, history: History) -> Proposal:
    """The generator's own sequence, without learning: the yardstick."""
    found = Collector(history.labels)
    found.fresh(context, history.drawn, context.batch)
    return found.proposal()
