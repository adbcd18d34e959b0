"""Objectives: what a campaign wants of its scores, as losses that are all to be minimised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffcore.errors import ConfigError
from pipelines.design.names import unknown
from pipelines.design.units import in_unit

GOALS = ("minimise", "maximise", "target", "constraint")

_SPELLINGS = {"minimize": "minimise", "maximize": "maximise"}


@dataclass(frozen=True)
class Objective:
    """One wish.

    Attributes:
        evaluator: whose value it is about.
        goal: one of `GOALS`.
        unit: the evaluator's; all numbers here are in it.
        target: wanted value of the goal `target`.
        reference: the worst value that counts (for `target`, the largest distance); where it is
            None, the worst of the first generation is taken.
        at_least: lower bound of a constraint, or None.
        at_most: upper bound of a constraint, or None.
    """

    evaluator: str
    goal: str
    unit: str = ""
    target: float | None = None
    reference: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def loss(self, value: float) -> float:
        """What is minimised: the value, minus the value, or the distance from the target."""
        if self.goal == "target":
            assert self.target is not None
            return abs(value - self.target)
        return -value if self.goal == "maximise" else value

    def met(self, value: float) -> bool:
        """Whether a value satisfies a constraint; other goals are met by any value."""
        low = -math.inf if self.at_least is None else self.at_least
        high = math.inf if self.at_most is None else self.at_most
        return low <= value <= high

    @property
    def limit(self) -> float | None:
        """The reference as a loss."""
        if self.reference is None:
            return None
        return -self.reference if self.goal == "maximise" else self.reference

    @property
    def title(self) -> str:
        """In words, for figures and reports."""
        unit = f" {self.unit}" if self.unit else ""
        if self.goal == "target":
            return f"|{self.evaluator} - {self.target:g}{unit}|"
        if self.goal == "constraint":
            low = "" if self.at_least is None else f"{self.at_least:g}{unit} <= "
            high = "" if self.at_most is None else f" <= {self.at_most:g}{unit}"
            return f"{low}{self.evaluator}{high}"
        return f"{self.goal} {self.evaluator}{unit}"


_KEYS = {
    "minimise": {"reference"},
    "maximise": {"reference"},
    "target": {"value", "reference"},
    "constraint": {"at_least", "at_most"},
}


def parse_objective(given: Mapping[str, Any], units: Mapping[str, str]) -> Objective:
    """An objective from a campaign file.

    Args:
        given: evaluator, goal, and value, reference, at_least or at_most as the goal needs them.
        units: evaluator -> its unit.

    Raises:
        ConfigError: an unknown key, evaluator, goal or unit (named, with the nearest known one), a
            missing or an impossible number.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"objectives: expected evaluator and goal, got {given!r}")
    name = str(given.get("evaluator"))
    if name not in units:
        raise unknown("evaluator of an objective", name, units)
    goal = _SPELLINGS.get(str(given.get("goal")), given.get("goal"))
    if goal not in GOALS:
        raise unknown(f"objective of {name}", goal, GOALS)
    allowed = _KEYS[str(goal)]
    for key in given:
        if key not in {"evaluator", "goal", *allowed}:
            raise unknown(f"key of the objective {name}", key, ("evaluator", "goal", *allowed))
    numbers = {
        key: in_unit(given[key], units[name], f"{key} of {name}") for key in allowed if key in given
    }
    numbers = {("target" if key == "value" else key): x for key, x in numbers.items()}
    objective = Objective(str(name), str(goal), units[name], **numbers)
    _check(objective)
    return objective


def _check(one: Objective) -> None:
    if one.goal == "target" and one.target is None:
        raise ConfigError(f"objective of {one.evaluator}: a target needs its value")
    if one.goal == "target" and one.reference is not None and one.reference <= 0:
        raise ConfigError(f"reference of {one.evaluator}: expected a distance above 0")
    if one.goal == "constraint":
        if one.at_least is None and one.at_most is None:
            raise ConfigError(f"constraint on {one.evaluator}: expected at_least or at_most")
        if not one.met(one.at_most if one.at_least is None else one.at_least):  # type: ignore[arg-type]
            raise ConfigError(f"constraint on {one.evaluator}: at_least is above at_most")


@dataclass(frozen=True)
class Aims:
    """All objectives of a campaign.

    Attributes:
        goals: what is minimised, maximised or aimed at; at least one.
        constraints: what has to hold.
    """

    goals: tuple[Objective, ...]
    constraints: tuple[Objective, ...] = ()

    @classmethod
    def of(cls, objectives: Sequence[Objective]) -> Aims:
        """Sorted into goals and constraints.

        Raises:
            ConfigError: there is no goal, or one evaluator has the same goal twice.
        """
        goals = tuple(o for o in objectives if o.goal != "constraint")
        if not goals:
            raise ConfigError("objectives: expected one to minimise, to maximise or as a target")
        if len(set(goals)) < len(goals):
            raise ConfigError("objectives: expected each once, got one twice")
        return cls(goals, tuple(o for o in objectives if o.goal == "constraint"))

    def losses(self, values: Mapping[str, float]) -> tuple[float, ...] | None:
        """Losses of the goals; None where a value is missing or a constraint does not hold."""
        if not self.feasible(values) or any(o.evaluator not in values for o in self.goals):
            return None
        return tuple(o.loss(values[o.evaluator]) for o in self.goals)

    def feasible(self, values: Mapping[str, float]) -> bool:
        """Whether all constraints are known to hold."""
        return all(o.evaluator in values and o.met(values[o.evaluator]) for o in self.constraints)

    def refused(self, values: Mapping[str, float]) -> bool:
        """Whether a constraint is known not to hold."""
        return any(
            o.evaluator in values and not o.met(values[o.evaluator]) for o in self.constraints
        )

    def reference(self, first: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
        """The reference of the hypervolume in losses.

        Args:
            first: losses of the first generation, [N, M]; what has no reference of its own takes
                the worst of them plus a tenth of their range.

        Returns:
            [M], or None if one is missing and the first generation has no losses.
        """
        limits = []
        for column, objective in enumerate(self.goals):
            limit = objective.limit
            if limit is None:
                if not first:
                    return None
                losses = [row[column] for row in first]
                spread = max(losses) - min(losses)
                limit = max(losses) + (0.1 * spread or 1.0)
            limits.append(limit)
        return tuple(limits)
