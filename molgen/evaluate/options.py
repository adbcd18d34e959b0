"""Checks of what a set is to be scored with."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

from diffcore.errors import ConfigError
from molgen.evaluate.rows import COSTS


def checked_sets(include: str | Iterable[str]) -> tuple[str, ...]:
    """The sets to measure beyond the cheap one, each once, cheapest first.

    Args:
        include: Their names, or one text with commas between them.

    Raises:
        ConfigError: There is no such set.
    """
    given = include.split(",") if isinstance(include, str) else list(include)
    sets = [one.strip() for one in given if one.strip()]
    for one in sets:
        if one not in COSTS:
            raise ConfigError(f"include: expected one of {', '.join(COSTS[1:])}, got {one!r}")
    return tuple(one for one in COSTS[1:] if one in sets)


IN_POCKET = ("pocket", "docking")
"""Sets that judge a pose in a protein."""


def sets_with_pocket(include: str | Iterable[str], pocket: object | None) -> tuple[str, ...]:
    """As `checked_sets`; a pocket brings the set `pocket`, and is needed for those in one.

    Raises:
        ConfigError: There is no such set, or it lacks a pocket.
    """
    sets = checked_sets(include)
    if pocket is not None:
        return tuple(one for one in COSTS[1:] if one in (*sets, IN_POCKET[0]))
    for one in sets:
        if one in IN_POCKET:
            raise ConfigError(f"include: {one} needs a protein: expected a pocket (--pocket)")
    return sets


def processes_for(workers: int, time_limit: float | None) -> int:
    """How many processes to start; 0 for none.

    Raises:
        ConfigError: An option is outside what is allowed.
    """
    if workers < 0:
        raise ConfigError(f"workers: expected 1 or more, or 0 for one a core, got {workers}")
    if time_limit is not None and not (math.isfinite(time_limit) and time_limit > 0):
        raise ConfigError(f"time_limit: expected seconds above 0, got {time_limit}")
    if workers == 1 and time_limit is None:
        return 0
    return workers or cores()


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_sample(sample: int | None, sets: Sequence[str], total: int | None) -> None:
    """Checks the size of a sample for the dear sets.

    Raises:
        ConfigError: It is not positive, has nothing to apply to, or the set's size is not known.
    """
    if sample is None:
        return
    if sample < 1:
        raise ConfigError(f"sample: expected at least 1 molecule, got {sample}")
    if not sets:
        raise ConfigError(f"sample: expected an include of {', '.join(COSTS[1:])} to apply to")
    if total is None:
        raise ConfigError("sample: expected a list of molecules, whose length is known")
