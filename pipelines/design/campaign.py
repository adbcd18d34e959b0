"""`Campaign`: all that a design loop is told, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError
from pipelines.design.evaluators import Evaluator, from_function, make_evaluator
from pipelines.design.names import unknown
from pipelines.design.objectives import Aims, parse_objective
from pipelines.design.proposals import Strategy
from pipelines.design.sources import Generator, Source, make_source, source_of
from pipelines.design.strategies import DEFAULT, make_strategy

MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Campaign:
    """A design loop, ready to run.

    Attributes:
        name: under which it is recorded.
        source: where new candidates come from.
        evaluators: by name, cheap ones first.
        aims: the objectives.
        strategy: what proposes.
        strategy_name: as it is recorded, with its settings.
        batch: candidates of a generation.
        generations: how many.
        seed: of all random numbers.
        executor: name and settings.
        store: path or URL.
        settings: all that decides which candidates there are and how they are scored.
    """

    name: str
    source: Source
    evaluators: tuple[Evaluator, ...]
    aims: Aims
    strategy: Strategy
    strategy_name: tuple[str, Mapping[str, Any]]
    batch: int
    generations: int
    seed: int
    executor: tuple[str, Mapping[str, Any]]
    store: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def make_campaign(
    name: str,
    generator: Generator | str | Mapping[str, Any],
    objectives: Sequence[Mapping[str, Any]],
    evaluators: Mapping[str, Any] | Sequence[str] = (),
    strategy: str | Mapping[str, Any] = DEFAULT,
    batch: int = 20,
    generations: int = 10,
    seed: int = 0,
    executor: str | Mapping[str, Any] = "process",
    store: str | Path | None = None,
    folder: Path | None = None,
) -> Campaign:
    """A campaign from plain values, functions and objects.

    Args:
        name: under which it is recorded; the store's default name.
        generator: a name, a mapping with `name` and settings, or an object with `sample`.
        objectives: mappings with `evaluator`, `goal` (minimise, maximise, target, constraint) and
            `value`, `reference`, `at_least`, `at_most`: numbers or text with a unit.
        evaluators: name -> settings, or -> a Python function of a decoded candidate (attributes
            `unit`, `dear`, `version` of the function are heeded), or an `Evaluator`; those that
            only stand in an objective need not be named.
        strategy: a name, or a mapping with `name` and settings.
        batch: candidates of a generation.
        generations: how many.
        seed: of all random numbers.
        executor: a name (process, pool, ray), or a mapping with `name` and settings.
        store: path of the SQLite file, or a URL; ``NAME.sqlite`` if left out.
        folder: that all paths must be inside of; None: any path.

    Raises:
        ConfigError: anything unknown (named, with the nearest known name), missing or out of range.
    """
    if not name or not isinstance(name, str) or "/" in name or len(name) > 100:
        raise ConfigError(f"name: expected up to 100 letters without '/', got {name!r}")
    for what, number, top in (("batch", batch, 10**6), ("generations", generations, 10**6)):
        _whole(what, number, 1, top)
    _whole("seed", seed, 0, MAX_SEED)
    made = _evaluators(evaluators, objectives, folder)
    units = {one.name: one.unit for one in made}
    aims = Aims.of([parse_objective(one, units) for one in objectives])
    how, options = named("strategy", strategy)
    where, places = named("executor", executor)
    check_executor(where, places)
    plan = make_strategy(how, options)
    source = _source(generator, folder)
    settings = {
        "generator": [source.name, dict(source.settings), dict(source.identity)],
        "evaluations": {one.name: one.identity for one in made},
        "objectives": [dict(one) for one in objectives],
        "strategy": [how, dict(options)],
        "batch": batch,
        "seed": seed,
    }
    return Campaign(
        name,
        source,
        tuple(sorted(made, key=lambda one: one.dear)),
        aims,
        plan,
        (how, options),
        batch,
        generations,
        seed,
        (where, places),
        str(store or f"{name}.sqlite"),
        settings,
    )


def _whole(what: str, number: object, low: int, high: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
        raise ConfigError(f"{what}: expected a whole number from {low} to {high}, got {number!r}")


def named(what: str, given: Any) -> tuple[str, dict[str, Any]]:
    """(name, settings) of a name or of a mapping with `name`.

    Raises:
        ConfigError: neither.
    """
    if isinstance(given, str):
        return given, {}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ConfigError(f"{what}: expected a name, or name and settings, got {given!r}")
    if not all(isinstance(key, str) for key in given):
        raise ConfigError(f"{what}: expected texts as keys")
    return given["name"], {key: value for key, value in given.items() if key != "name"}


def _source(generator: Any, folder: Path | None) -> Source:
    if not isinstance(generator, str | Mapping) and isinstance(generator, Generator):
        return source_of(generator)
    return make_source(*named("generator", generator), folder)


def _evaluators(
    given: Mapping[str, Any] | Sequence[str],
    objectives: Sequence[Mapping[str, Any]],
    folder: Path | None,
) -> list[Evaluator]:
    """Those that are named and those that only stand in an objective."""
    if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
        raise ConfigError(f"evaluators: expected names, or names with settings, got {given!r}")
    if isinstance(objectives, str | Mapping) or not isinstance(objectives, Sequence):
        raise ConfigError(f"objectives: expected a list, got {objectives!r}")
    table = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given)
    for objective in objectives:
        name = objective.get("evaluator") if isinstance(objective, Mapping) else None
        if isinstance(name, str):
            table.setdefault(name, None)
    return [_evaluator(str(name), value, folder) for name, value in table.items()]


def _evaluator(name: str, value: Any, folder: Path | None) -> Evaluator:
    if isinstance(value, Evaluator):
        return value
    if callable(value):
        about = {
            key: getattr(value, key) for key in ("unit", "dear", "version") if hasattr(value, key)
        }
        return from_function(name, value, **about)
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"evaluator {name}: expected settings, got {value!r}")
    return make_evaluator(name, value, folder)


def check_executor(name: str, settings: Mapping[str, Any]) -> None:
    """Checks an executor without starting it.

    Raises:
        ConfigError: an unknown name or setting.
    """
    from pipelines.design.executors import checked_factory

    checked_factory(name, settings)


def from_mapping(values: Mapping[str, Any], folder: Path | None = None) -> Campaign:
    """A campaign from the content of a campaign file.

    Raises:
        ConfigError: an unknown or missing key, and whatever `make_campaign` refuses.
    """
    known = list(_parameters())
    if not isinstance(values, Mapping):
        raise ConfigError(f"expected keys such as name and generator, got {type(values).__name__}")
    for key in values:
        if key not in known:
            raise unknown("key", key, known)
    for key in ("name", "generator", "objectives"):
        if key not in values:
            raise ConfigError(f"expected the key {key!r}, got {', '.join(map(str, values))}")
    return make_campaign(**values, folder=folder)


def _parameters() -> list[str]:
    import inspect

    make: Callable[..., Any] = make_campaign
    return [name for name in inspect.signature(make).parameters if name != "folder"]
