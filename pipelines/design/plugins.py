"""What other packages bring: generators, evaluators and strategies, by the name of an entry point.

A campaign file names them; only what an installed package has declared can be loaded, never a
module path from a file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module, metadata
from typing import Any

from diffcore.errors import ConfigError
from pipelines.design.names import unknown

GENERATORS = "designloom.generators"
EVALUATORS = "designloom.evaluators"
STRATEGIES = "designloom.strategies"


def declared(group: str) -> dict[str, metadata.EntryPoint]:
    """Entry points of a group by name."""
    return {point.name: point for point in metadata.entry_points(group=group)}


def load_plugin(group: str, name: str) -> Any:
    """What an entry point names.

    Raises:
        ConfigError: there is none, or it cannot be imported.
    """
    points = declared(group)
    if name not in points:
        raise unknown(group.removeprefix("designloom.").rstrip("s"), name, points)
    try:
        return points[name].load()
    except Exception as error:  # somebody else's code: it may fail in any way
        raise ConfigError(
            f"the entry point {name!r} of {group} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def load_target(target: str) -> Any:
    """An object of our own tables, ``module:name``."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def plugin_version(group: str, name: str) -> str:
    """Version of the package that declares an entry point; empty if unknown."""
    point = declared(group).get(name)
    dist = None if point is None else point.dist
    return "" if dist is None else f"{dist.name} {dist.version}"


def options_of(function: Callable[..., Any], skip: Iterable[str] = ()) -> dict[str, Any]:
    """Keyword options of a function and their defaults (`inspect.Parameter.empty` if none)."""
    found = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.KEYWORD_ONLY,)
    return {p.name: p.default for p in found if p.kind in named and p.name not in skip}


def check_settings(what: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Checks settings against the keyword-only options of a function.

    Raises:
        ConfigError: an unknown one, one of another type than its default, or one that is missing.
    """
    known = options_of(function)
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
        return
    for key, value in settings.items():
        if key not in known:
            raise unknown(f"setting of {what}", key, known or ["none"])
        default = known[key]
        if default is inspect.Parameter.empty or default is None:
            continue
        numbers = isinstance(default, float) and type(value) in (int, float)
        if not numbers and type(value) is not type(default):
            wanted = type(default).__name__
            raise ConfigError(f"{what}: {key}: expected {wanted}, got {value!r}")
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in settings:
            raise ConfigError(f"{what}: expected the setting {key!r}, got none")
