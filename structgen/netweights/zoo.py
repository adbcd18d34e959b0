"""A zoo: many networks, what each was trained on and how good it is, in one file.

Networks are trained in shards. A shard depends on the seed and its number alone and is written as
soon as it is done, so that a run that was stopped goes on where it was, and ends in the same file.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcore import random
from diffcore.columns import load_columns, save_columns
from diffcore.errors import ConfigError, DataError, OutputError
from structgen.netweights.fitting import Fit, accuracy, train
from structgen.netweights.lessons import Lesson
from structgen.netweights.networks import Perceptron, architecture, canonical, initial

FORMAT = 1


@dataclass(frozen=True)
class Zoo:
    """M trained networks.

    Attributes:
        net: their architecture.
        weights: [M, P] float32 (float16 in the file).
        source: index into ``names`` [M]; -1 for a task drawn at random.
        accuracy: on rows that it was not trained on [M], NaN where there were none.
        epoch: times each example was seen [M].
        seed: of each network's starting weights [M].
        sparsity: share of the first layer's weights that were pruned [M].
        present: classes that its data have [M, C].
        names: the data sets.
        recipe: what else was set.
    """

    net: Perceptron
    weights: Tensor
    source: Tensor
    accuracy: Tensor
    epoch: Tensor
    seed: Tensor
    sparsity: Tensor
    present: Tensor
    names: tuple[str, ...]
    recipe: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weights)

    def take(self, rows: Tensor) -> Zoo:
        """Some of the networks."""
        parts = {n: getattr(self, n)[rows] for n in _COLUMNS}
        return Zoo(self.net, **parts, names=self.names, recipe=self.recipe)

    def of(self, name: str) -> Zoo:
        """The networks of one data set.

        Raises:
            ConfigError: there are none.
        """
        if name not in self.names:
            raise ConfigError(f"no networks of {name!r}; data sets: {', '.join(self.names)}")
        return self.take((self.source == self.names.index(name)).nonzero()[:, 0])


_COLUMNS = ("weights", "source", "accuracy", "epoch", "seed", "sparsity", "present")


def grow(
    net: Perceptron, lesson: Lesson, fit: Fit, seeds: Sequence[int], spread: float, start: int = 0
) -> dict[str, Tensor]:
    """Train one shard: the columns of a zoo."""
    m = len(lesson.source)
    trained = train(
        net,
        initial(net, list(seeds), spread, start),
        lesson.x,
        lesson.y,
        fit,
        present=lesson.present,
        rng=random.generator(start, seeds[0]),
        sparsity=lesson.sparsity,
    )
    right = accuracy(net, trained, lesson.test_x, lesson.test_y, lesson.present, lesson.test_known)
    known = lesson.test_known.sum(-1).expand(m) > 0
    rows = lesson.x.shape[-2]
    epochs = fit.steps * min(fit.batch or rows, rows) / rows
    return {
        "weights": canonical(net, trained, lesson.present),
        "source": lesson.source,
        "accuracy": torch.where(known, right, torch.nan).float(),
        "epoch": torch.full((m,), epochs),
        "seed": torch.tensor(seeds),
        "sparsity": torch.zeros(m) if lesson.sparsity is None else lesson.sparsity,
        "present": lesson.present.expand(m, -1).clone(),
    }


def build(
    path: Path,
    net: Perceptron,
    shards: Sequence[Callable[[], Lesson]],
    fit: Fit,
    *,
    names: Sequence[str],
    seed: int = 0,
    spread: float = 1.0,
    progress: bool = True,
) -> Zoo:
    """Train all shards and write one file.

    Args:
        path: the file; parts are kept in ``path.parts`` until all are there.
        net: the architecture.
        shards: the data of every shard, made when its turn comes.
        fit: how a network is trained.
        names: what ``source`` of the lessons points into.
        seed: of the starting weights and the order of examples.
        spread: how far networks start apart, see `networks.initial`.
        progress: show a bar.

    Raises:
        OutputError: the file exists, or its parts are of another zoo.
    """
    from tqdm import tqdm

    if path.exists():
        raise OutputError(f"{path} exists already")
    recipe = {"fit": asdict(fit), "seed": seed, "spread": spread, "shards": len(shards)}
    plan = {"format": FORMAT, "net": net.to_json(), "names": list(names), **recipe}
    folder = _parts_folder(path, plan)
    first = 0
    parts = []
    for number, shard in enumerate(tqdm(shards, desc="zoo", disable=not progress, mininterval=1)):
        file = folder / f"{number:05d}.safetensors"
        if file.exists():
            columns = _read(file)[0]
        else:
            lesson = shard()
            seeds = range(first, first + len(lesson.source))
            columns = grow(net, lesson, fit, [seed * 10**7 + s for s in seeds], spread, seed)
            _write(file, columns, {})
        first += len(columns["source"])
        parts.append(columns)
    joined = {n: torch.cat([p[n] for p in parts]) for n in _COLUMNS}
    _write(path, joined, plan)
    shutil.rmtree(folder)
    return load(path)


def _parts_folder(path: Path, plan: dict[str, Any]) -> Path:
    folder = path.with_suffix(".parts")
    note = folder / "plan.json"
    text = json.dumps(plan, sort_keys=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if note.exists() and note.read_text() != text:
            raise OutputError(
                f"{folder} holds parts of another zoo: remove it or name another file"
            )
        note.write_text(text)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _write(path: Path, columns: dict[str, Tensor], plan: dict[str, Any]) -> None:
    narrow = {"weights": columns["weights"].half(), "source": columns["source"].int()}
    save_columns(path, {**columns, **narrow, "seed": columns["seed"].long()}, plan, "zoo")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    columns, plan = load_columns(path, "zoo", tuple(_COLUMNS), "zoo")
    wide = {"weights": columns["weights"].float(), "source": columns["source"].long()}
    return {**{name: columns[name] for name in _COLUMNS}, **wide}, plan


def load(path: str | Path) -> Zoo:
    """Read a zoo; nothing in the file can execute.

    Raises:
        DataError: no file, no zoo, or one that was cut short.
    """
    columns, plan = _read(Path(path))
    if plan.get("format") != FORMAT:
        raise DataError(f"{path}: expected a zoo of format {FORMAT}, got {plan.get('format')}")
    try:
        net = architecture(plan["net"])
        names = tuple(str(n) for n in plan["names"])
    except (ConfigError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error
    if columns["weights"].shape[1:] != (net.parameters,):
        found = tuple(columns["weights"].shape)
        raise DataError(f"{path}: expected rows of {net.parameters} weights, got {found}")
    recipe = {k: v for k, v in plan.items() if k not in ("format", "net", "names")}
    return Zoo(net, **columns, names=names, recipe=recipe)
