"""What scores candidates: our own evaluators, every metric of `molgen.evaluate`, and plugins.

An evaluator is a function of one decoded candidate that returns one finite number in its unit.
Anything else (an error, NaN, an array, no answer in time) is a failure with a reason.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError, DataError, DesignloomError
from pipelines.design.forms import FORMS
from pipelines.design.names import unknown
from pipelines.design.plugins import (
    EVALUATORS,
    check_settings,
    declared,
    load_plugin,
    load_target,
    plugin_version,
)
from pipelines.design.sources import file_hash, inside
from pipelines.store.records import digest, to_json


@dataclass(frozen=True)
class Builtin:
    """One row of `BUILTIN`.

    Attributes:
        target: the function, as ``module:name``; imported only when it is used.
        unit: of its values.
        definition: what is measured.
        dear: it takes more than some tens of milliseconds.
        version: raised whenever its values change.
    """

    target: str
    unit: str
    definition: str
    dear: bool = False
    version: str = "1"


BUILTIN: dict[str, Builtin] = {
    "gap": Builtin(
        "molgen.orbitals:orbital_gap",
        "eV",
        "HOMO-LUMO gap of GFN2-xTB, at the geometry that GFN2-xTB (or `relax`: mmff, none) relaxes",
        dear=True,
    ),
    "vina": Builtin(
        "pipelines.design.docked:vina",
        "kcal/mol",
        "energy of the best pose of AutoDock Vina in the pocket of `pocket` (PDB), which `ligand` "
        "(a molecule file) or `centre` shows; from a fresh conformer",
        dear=True,
    ),
    "web_toughness": Builtin(
        "pipelines.design.webs:web_toughness",
        "MJ/m^3",
        "work to failure of an orb web for each volume of its silk, pushed or stretched",
        dear=True,
    ),
    "silk_volume": Builtin("pipelines.design.webs:silk_volume", "mm^3", "silk of an orb web"),
    "heavy_atoms": Builtin("pipelines.design.simple:heavy_atoms", "atoms", "heavy atoms"),
    "first": Builtin("pipelines.design.simple:first", "", "first number of a vector: for trials"),
    "zdt1": Builtin(
        "pipelines.design.simple:zdt1",
        "",
        "second objective of ZDT1 (Zitzler et al. 2000): for trials; `first` is the first one",
    ),
}
"""Evaluators that are no metric of molecules."""

ALIASES = {"sa": "sa_score", "posebusters": "pb_valid", "valid": "strict_valid"}

FILES = ("pocket", "ligand")
"""Settings of our own evaluators that are files."""

IN_POCKET = ("pocket", "docking")
"""Sets of metrics that judge poses in a protein, which candidates of a loop are not."""

WITH_REFERENCE = ("strict_valid", "atom_stability", "molecule_stability")
"""Metrics that ask which valencies occur in QM9."""


@dataclass(frozen=True)
class Evaluator:
    """One evaluator with its settings; picklable.

    Attributes:
        name: under which it stands in the campaign.
        kind: ``builtin``, ``metric``, ``plugin`` or ``function``.
        source: its name in the table, of the metric or of the entry point.
        unit: of its values.
        settings: keyword arguments of its function.
        dear: it is run after the cheap ones, and only where their constraints hold.
        version: of its code.
        function: the function itself, if it was given in Python.
        files: setting -> hash of the file, of those that are files: their place does not matter.
    """

    name: str
    kind: str
    source: str
    unit: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    dear: bool = False
    version: str = ""
    function: Callable[..., Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """Hash of all that decides its values."""
        settings = dict(self.settings) | dict(self.files)
        return digest(self.kind, self.source, self.version, to_json(settings))

    def key(self, candidate: str) -> str:
        """Key of the evaluation of a candidate (by its own key)."""
        return digest(candidate, self.identity)

    def measure(self, scene: Scene) -> Any:
        """Whatever the function returns."""
        if self.kind == "metric":
            metric = _metric(self.source)
            return metric(scene.prepared(self.source in WITH_REFERENCE, placed=self.dear))
        return self.load()(scene.thing, **self.settings)

    def warm(self) -> None:
        """Loads what it needs."""
        if self.kind == "metric":
            _metric(self.source)
            if self.source in WITH_REFERENCE:
                _valencies()
        else:
            self.load()

    def load(self) -> Callable[..., Any]:
        """The function."""
        if self.function is not None:
            return self.function
        return _function(self.kind, self.source)


@lru_cache(maxsize=64)
def _function(kind: str, source: str) -> Callable[..., Any]:
    if kind == "plugin":
        function: Callable[..., Any] = load_plugin(EVALUATORS, source)
    else:
        function = load_target(BUILTIN[source].target)
    return function


@lru_cache(maxsize=64)
def _metric(name: str) -> Callable[[Any], Any]:
    from molgen.evaluate.table import METRICS

    metric = METRICS[name]
    if metric.missing:
        raise ConfigError(metric.missing)
    assert metric.row is not None
    return metric.row


@lru_cache(maxsize=1)
def _valencies() -> Any:
    from molgen.datasets.reference import load_reference

    return load_reference("qm9").valency


class Scene:
    """A candidate as evaluators see it: decoded once."""

    def __init__(self, form: str, content: str) -> None:
        """See the class."""
        self.form = form
        self.thing = FORMS[form].decode(content)
        self._prepared: dict[tuple[bool, bool], Any] = {}

    def prepared(self, reference: bool, placed: bool = False) -> Any:
        """For the metrics of molecules.

        Args:
            reference: with the valencies of QM9.
            placed: with a conformer (ETKDG, seed 0) where it has none.

        Raises:
            ConfigError: it is no molecule.
            DataError: no conformer can be made.
        """
        if self.form not in ("molecule", "smiles"):
            raise ConfigError(f"expected a molecule, got a candidate of the form {self.form!r}")
        key = (reference, placed)
        if key not in self._prepared:
            from molgen.evaluate.prepared import Prepared
            from molgen.orbitals import with_geometry

            mol = with_geometry(self.thing) if placed else self.thing
            self._prepared[key] = Prepared(mol, _valencies() if reference else None)
        return self._prepared[key]


Result = tuple[str, float | None, str, float]
"""(name of the evaluator, value or None, reason, seconds)."""


def assess(
    form: str,
    content: str,
    evaluators: tuple[Evaluator, ...],
    tell: Callable[[list[Result]], object] | None = None,
    guard: Callable[[Callable[[], Any]], Any] = lambda call: call(),
) -> list[Result]:
    """Scores one candidate; never raises.

    Args:
        form: of the candidate.
        content: of the candidate.
        evaluators: run in this order.
        tell: called with the results so far before each but the first.
        guard: calls a function under a time limit.
    """
    results: list[Result] = []
    scene: Scene | None = None
    for one in evaluators:
        if results and tell is not None:
            tell(results)
        start = time.perf_counter()
        value, reason = None, ""
        try:
            scene = scene or Scene(form, content)
            here = scene
            value, reason = as_number(guard(lambda here=here, one=one: one.measure(here)))  # type: ignore[misc]
        except Exception as error:  # one evaluator of one candidate fails, nothing else
            reason = said(error)
        results.append((one.name, value, reason, time.perf_counter() - start))
    return results


def as_number(value: Any) -> tuple[float | None, str]:
    """(the number, "") or (None, why it is none)."""
    shape = getattr(value, "shape", ())
    if shape not in ((), None) or isinstance(value, list | tuple | dict | set):
        size = f"shape {tuple(shape)}" if shape else f"length {len(value)}"
        return None, f"expected one number, got {type(value).__name__} of {size}"
    if value is None:
        return None, "no value"
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None, f"expected one number, got {type(value).__name__}"
    return (number, "") if math.isfinite(number) else (None, f"not finite: {number}")


def said(error: BaseException) -> str:
    """An error in one line."""
    line = (str(error).strip().splitlines() or [""])[0]
    return line if isinstance(error, DesignloomError) else f"{type(error).__name__}: {line}"


# ------------------------------------------------------------------------------- looking them up


def metric_names() -> list[str]:
    """Metrics of `molgen.evaluate` that give one number, or yes or no, for one molecule."""
    from molgen.evaluate.table import METRICS

    return [
        name
        for name, metric in METRICS.items()
        if metric.row is not None and metric.kind != "text" and metric.cost not in IN_POCKET
    ]


def known_evaluators() -> list[str]:
    """All names that a campaign can use, plugins first."""
    return [*declared(EVALUATORS), *BUILTIN, *ALIASES, *metric_names()]


def make_evaluator(
    name: str, settings: Mapping[str, Any] | None = None, folder: Path | None = None
) -> Evaluator:
    """The evaluator of a name: a plugin, our own, or a metric of molecules.

    Args:
        name: see `known_evaluators`.
        settings: keyword options of its function.
        folder: that files among the settings must be inside of; None: any path.

    Raises:
        ConfigError: an unknown name or setting, or a package that it needs is missing.
    """
    settings = dict(settings or {})
    if name in declared(EVALUATORS):
        return plugin_evaluator(name, settings)
    if name in BUILTIN:
        row = BUILTIN[name]
        check_settings(f"evaluator {name}", load_target(row.target), settings)
        settings, files = _with_files(name, settings, folder)
        return Evaluator(
            name, "builtin", name, row.unit, settings, row.dear, row.version, files=files
        )
    source = ALIASES.get(name, name)
    if source not in metric_names():
        raise unknown("evaluator", name, known_evaluators())
    return _metric_evaluator(name, source, settings)


def _with_files(
    name: str, settings: Mapping[str, Any], folder: Path | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings with whole paths, and the hashes of the files.

    Raises:
        ConfigError: a path leads out of the folder.
        DataError: a file is not there.
    """
    placed, hashes = dict(settings), {}
    for key in FILES:
        if placed.get(key):
            path = inside(folder, placed[key])
            if not path.is_file():
                raise DataError(f"evaluator {name}: {key}: {path} is no file")
            placed[key], hashes[key] = str(path.resolve()), file_hash(path)
    return placed, hashes


def _metric_evaluator(name: str, source: str, settings: Mapping[str, Any]) -> Evaluator:
    from molgen.evaluate.table import METRICS

    metric = METRICS[source]
    if metric.missing:
        raise ConfigError(f"evaluator {name}: {metric.missing}")
    if settings:
        raise unknown(f"setting of evaluator {name}", next(iter(settings)), ["none"])
    unit = "" if metric.unit == "%" or metric.kind == "flag" else metric.unit
    from pipelines.design.versions import rdkit_version

    return Evaluator(
        name, "metric", source, unit, {}, metric.cost != "cheap", f"1 rdkit {rdkit_version()}"
    )


def plugin_evaluator(name: str, settings: Mapping[str, Any]) -> Evaluator:
    """An evaluator that another package brings; attributes of the function say the rest.

    ``unit`` (text), ``dear`` (bool) and ``version`` (text) may be set on the function.
    """
    function = load_plugin(EVALUATORS, name)
    if not callable(function):
        raise ConfigError(f"evaluator {name}: the entry point names no function")
    check_settings(f"evaluator {name}", function, settings)
    version = f"{plugin_version(EVALUATORS, name)} {getattr(function, 'version', '')}".strip()
    return Evaluator(
        name,
        "plugin",
        name,
        str(getattr(function, "unit", "")),
        dict(settings),
        bool(getattr(function, "dear", True)),
        version,
    )


def from_function(name: str, function: Callable[[Any], Any], **about: Any) -> Evaluator:
    """An evaluator of a Python function: in this process, or a module's own function on a pool.

    Args:
        name: under which it is recorded.
        function: decoded candidate -> number.
        about: `unit`, `dear`, `version`.
    """
    source = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', name)}"
    return Evaluator(name, "function", source, function=function, **about)
