"""The strategies by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from diffcore.errors import ConfigError
from pipelines.design.names import unknown
from pipelines.design.plugins import (
    STRATEGIES,
    check_settings,
    declared,
    load_plugin,
    load_target,
)
from pipelines.design.proposals import Strategy

BUILTIN: dict[str, str] = {
    "surrogate": "pipelines.design.surrogate:surrogate",
    "best_of_n": "pipelines.design.proposals:best_of_n",
    "search": "pipelines.design.searching:search",
    "genetic": "pipelines.design.genetic:genetic",
    "archive": "pipelines.design.archive:archive",
}
"""Name in a campaign file -> function; its keyword-only options are the settings."""

DEFAULT = "surrogate"


def known_strategies() -> list[str]:
    """Names that a campaign file can use."""
    return [*declared(STRATEGIES), *BUILTIN]


def make_strategy(name: str, settings: Mapping[str, Any]) -> Strategy:
    """The strategy of a name with its settings.

    Raises:
        ConfigError: an unknown name or setting.
    """
    if name in declared(STRATEGIES):
        function = load_plugin(STRATEGIES, name)
    elif name in BUILTIN:
        function = load_target(BUILTIN[name])
    else:
        raise unknown("strategy", name, known_strategies())
    if not callable(function):
        raise ConfigError(f"strategy {name}: the entry point names no function")
    check_settings(f"strategy {name}", function, settings)
    return partial(function, **settings)
