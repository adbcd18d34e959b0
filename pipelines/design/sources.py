"""What candidates come from: generators of the workbench, libraries, plugins, Python objects.

A generator has ``sample(seed, start, count)``, which yields objects `start` to `start + count` of
the seed's endless sequence (None for one that could not be made), each a function of the seed and
its place alone. It may have ``vary(parents, rng)``, which makes a child of one or two objects (None
if there is none), ``finish(child, seed)``, which does the dear part of that for the children that
are chosen, ``seek(reward, count, seed, method, trajectories)``, which searches for objects of high
reward, and ``identity``, a mapping with hashes of its weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from diffcore.errors import ConfigError, DataError, DesignloomError
from pipelines.design.names import unknown
from pipelines.design.plugins import (
    GENERATORS,
    check_settings,
    declared,
    load_plugin,
    load_target,
    plugin_version,
)


@runtime_checkable
class Generator(Protocol):
    """Anything that yields objects by seed and place."""

    def sample(self, seed: int, start: int, count: int) -> Iterable[Any]:
        """Objects `start` to `start + count` of a seed."""
        ...


BUILTIN: dict[str, str] = {
    "molecules": "pipelines.design.sources:Molecules",
    "library": "pipelines.design.sources:Library",
    "orbs": "pipelines.design.webs:Orbs",
    "numbers": "pipelines.design.simple:Numbers",
}
"""Name in a campaign file -> class; its keyword options are the settings."""

FILES = ("file",)
"""Settings that are paths, inside the folder of the campaign."""


@dataclass(frozen=True)
class Source:
    """A generator with its name and settings.

    Attributes:
        name: in the campaign file, or of the class of an object given in Python.
        settings: keyword options.
        generator: the object.
        identity: hashes of weights and files, version of a plugin.
        folder: of the campaign file, if the settings came from one.
    """

    name: str
    settings: Mapping[str, Any]
    generator: Generator
    identity: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def vary(self) -> Callable[..., Any] | None:
        """Makes a child of one or two objects, if the generator can."""
        found: Callable[..., Any] | None = getattr(self.generator, "vary", None)
        return found

    @property
    def finish(self) -> Callable[..., Any] | None:
        """Completes a child that was chosen, if there is something to complete."""
        found: Callable[..., Any] | None = getattr(self.generator, "finish", None)
        return found


def known_generators() -> list[str]:
    """Names that a campaign file can use."""
    return [*declared(GENERATORS), *BUILTIN]


def factory_of(name: str) -> Callable[..., Any]:
    """The class or function that makes the generator of a name.

    Raises:
        ConfigError: there is none.
    """
    if name in declared(GENERATORS):
        made: Callable[..., Any] = load_plugin(GENERATORS, name)
        return made
    if name not in BUILTIN:
        raise unknown("generator", name, known_generators())
    return load_target(BUILTIN[name])  # type: ignore[no-any-return]


def make_source(name: str, settings: Mapping[str, Any], folder: Path | None = None) -> Source:
    """The generator of a name, ready to sample.

    Args:
        name: see `known_generators`.
        settings: its keyword options; paths among them are inside `folder`.
        folder: of the campaign file.

    Raises:
        ConfigError: an unknown name or setting.
        ModelFileError: the model is not there or broken.
    """
    factory = factory_of(name)
    check_settings(f"generator {name}", factory, settings)
    placed = {
        key: str(inside(folder, value)) if key in FILES and name in BUILTIN else value
        for key, value in settings.items()
    }
    try:
        made = factory(**placed)
    except (DesignloomError, OSError):
        raise
    except Exception as error:  # somebody else's code: it may fail in any way
        raise ConfigError(f"generator {name}: {type(error).__name__}: {error}") from error
    if not isinstance(made, Generator):
        raise ConfigError(f"generator {name}: expected an object with sample(), got {made!r}")
    identity = dict(getattr(made, "identity", {}))
    version = plugin_version(GENERATORS, name)
    if version:
        identity["plugin"] = version
    return Source(name, settings, made, identity, str(folder or ""))


def source_of(generator: Generator) -> Source:
    """A source of an object that was given in Python."""
    name = f"{type(generator).__module__}.{type(generator).__qualname__}"
    return Source(name, {}, generator, dict(getattr(generator, "identity", {})))


def inside(folder: Path | None, value: str | Path) -> Path:
    """A path of a campaign file, below its folder.

    Raises:
        ConfigError: it leads out of the folder, also by way of a link.
    """
    if folder is None:
        return Path(value)
    path = (folder / value).resolve()
    if not path.is_relative_to(folder.resolve()) or "\0" in str(value):
        raise ConfigError(f"path {str(value)!r}: expected one inside the folder of the campaign")
    return path


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Molecules:
    """Molecules of a trained generator; children by mutation and crossover of graphs.

    Args:
        model: name of a shipped model.
        steps: network evaluations; the model's own if None.
        temperature: of the class probabilities; the model's own if None.
        n_atoms: atoms in every molecule; any if None.
        formula: of every molecule; any if empty.
        scaffold: SMILES or SMARTS in every molecule; none if empty.
        batch_size: rows of one network call.
        max_heavy: heavy atoms of a child at most.
        device: where the network runs, such as cuda; seeds give other molecules there.
    """

    def __init__(
        self,
        *,
        model: str = "qm9",
        steps: int | None = None,
        temperature: float | None = None,
        n_atoms: int | None = None,
        formula: str = "",
        scaffold: str = "",
        batch_size: int = 64,
        max_heavy: int = 9,
        device: str = "cpu",
    ) -> None:
        """See the class."""
        from molgen.generate import MoleculeGenerator
        from molgen.mutation import Alphabet
        from molgen.weights.files import find_model, shipped

        if model not in shipped():
            raise unknown("model", model, shipped())
        self._generator = MoleculeGenerator.from_pretrained(model, device)
        self._options: dict[str, Any] = {
            "steps": steps,
            "temperature": temperature,
            "n_atoms": n_atoms,
            "formula": formula or None,
            "scaffold": scaffold or None,
            "batch_size": batch_size,
        }
        self._alphabet = Alphabet(max_heavy=max_heavy)
        self.identity = {"weights": file_hash(find_model(model))}

    def sample(self, seed: int, start: int, count: int) -> Iterator[Any]:
        """Molecules with coordinates."""
        yield from self._generator.stream(count, seed=seed, start=start, **self._options)

    def vary(self, parents: Any, rng: Any) -> Any:
        """The graph of a child of one or two molecules, or None."""
        from molgen.mutation import child

        return child(parents, rng, self._alphabet)

    def finish(self, draft: Any, seed: int) -> Any:
        """A child with hydrogens and a geometry of ETKDG and MMFF94s, or None."""
        from molgen.mutation import placed

        return placed(draft, seed)

    def seek(
        self,
        reward: Callable[[Any], float],
        count: int,
        seed: int,
        method: str,
        trajectories: float,
    ) -> list[Any]:
        """Molecules of high reward by a search over trajectories, the best first.

        Args:
            reward: of a molecule; larger is better.
            count: how many at most.
            seed: of the search.
            method: name of the search, see `diffcore.searches`.
            trajectories: that may be spent, in whole ones.
        """
        own = {k: v for k, v in self._options.items() if k != "batch_size"}
        steps = own["steps"] or self._generator.sampling.steps
        budget = steps * max(count, trajectories)
        return self._generator.optimise(
            count, reward, budget=budget, search=method, seed=seed, progress=False, **own
        ).mols


class Library:
    """The molecules of a file, shuffled by the seed; after the last one comes nothing.

    Args:
        file: a molecule file in the folder of the campaign.
        max_heavy: heavy atoms of a child at most.
    """

    def __init__(self, *, file: str, max_heavy: int = 50) -> None:
        """See the class."""
        from molgen.io import read_molecules
        from molgen.mutation import Alphabet

        path = Path(file)
        self._entries = [entry.mol for entry in read_molecules(path)]
        if not self._entries:
            raise DataError(f"{path}: expected molecules, got none")
        self._alphabet = Alphabet(max_heavy=max_heavy)
        self.identity = {"file": file_hash(path)}

    def sample(self, seed: int, start: int, count: int) -> Iterator[Any]:
        """Molecules `start` to `start + count` of the seed's order; fewer where the file ends."""
        import numpy as np

        order = np.random.default_rng(seed).permutation(len(self._entries))
        for index in order[start : start + count]:
            yield self._entries[index]

    def vary(self, parents: Any, rng: Any) -> Any:
        """The graph of a child of one or two molecules, or None."""
        from molgen.mutation import child

        return child(parents, rng, self._alphabet)

    def finish(self, draft: Any, seed: int) -> Any:
        """A child with hydrogens and a geometry of ETKDG and MMFF94s, or None."""
        from molgen.mutation import placed

        return placed(draft, seed)
