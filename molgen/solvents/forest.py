"""Forests of regression trees as plain arrays: nothing but numbers is stored and read.

scikit-learn grows them; its own files would have to be unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError, ModelFileError

Floats = NDArray[np.float64]
PARTS = ("feature", "threshold", "left", "right", "value", "roots")


@dataclass(frozen=True)
class Forest:
    """Binary trees: a row goes left where its feature is at most the threshold.

    Attributes:
        feature: of every node of all trees, [nodes]; -1 in a leaf.
        threshold: [nodes].
        left: number of the left child, [nodes].
        right: number of the right child, [nodes].
        value: answer of a leaf, [nodes].
        roots: first node of every tree, [trees].
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float32]
    roots: NDArray[np.int32]

    def trees(self, rows: Floats) -> Floats:
        """Answer of every tree to every row, [trees, rows].

        Args:
            rows: features, [rows, features]; taken as float32, as scikit-learn does.

        Raises:
            ConfigError: fewer features than the trees ask for.
        """
        rows = np.asarray(rows, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] <= self.feature.max(initial=-1):
            raise ConfigError(
                f"forest: expected rows of more than {self.feature.max(initial=-1)} features, "
                f"got shape {rows.shape}"
            )
        at = np.broadcast_to(self.roots[:, None], (len(self.roots), len(rows))).copy()
        across = np.arange(len(rows))[None]
        while True:
            feature = self.feature[at]
            inner = feature >= 0
            if not inner.any():
                return self.value[at].astype(np.float64)
            goes_left = rows[across, np.maximum(feature, 0)] <= self.threshold[at]
            at = np.where(inner, np.where(goes_left, self.left[at], self.right[at]), at)

    def mean(self, rows: Floats) -> Floats:
        """Mean answer of the trees, [rows]."""
        return np.asarray(self.trees(rows).mean(0))

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """What is stored, by ``name.part``."""
        return {f"{name}.{part}": getattr(self, part) for part in PARTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> Forest:
        """A forest out of stored arrays.

        Raises:
            ModelFileError: a part is missing, or a child lies outside the forest or before its
                parent (a walk would not end).
        """
        missing = [part for part in PARTS if f"{name}.{part}" not in arrays]
        if missing:
            raise ModelFileError(f"forest {name!r}: expected {', '.join(PARTS)}, lacks {missing}")
        forest = cls(**{part: np.asarray(arrays[f"{name}.{part}"]) for part in PARTS})
        nodes = len(forest.feature)
        inner = np.flatnonzero(forest.feature >= 0)
        children = np.stack([forest.left[inner], forest.right[inner]])
        sizes = {len(getattr(forest, part)) for part in PARTS[:-1]}
        ends = bool((children > inner).all()) and bool((children < nodes).all())
        roots = bool(((forest.roots >= 0) & (forest.roots < nodes)).all()) and len(forest.roots)
        if sizes != {nodes} or not ends or not roots:
            raise ModelFileError(f"forest {name!r}: expected trees whose children follow parents")
        return forest


def forest_of(estimators: Sequence[Any]) -> Forest:
    """The trees of a fitted scikit-learn forest (its ``estimators_``) as arrays."""
    parts: dict[str, list[NDArray[Any]]] = {part: [] for part in PARTS}
    first = 0
    for estimator in estimators:
        tree = estimator.tree_
        leaf = tree.children_left < 0
        parts["feature"].append(np.where(leaf, -1, tree.feature).astype(np.int16))
        parts["threshold"].append(_below(tree.threshold))
        parts["left"].append(np.where(leaf, 0, tree.children_left + first).astype(np.int32))
        parts["right"].append(np.where(leaf, 0, tree.children_right + first).astype(np.int32))
        parts["value"].append(tree.value[:, 0, 0].astype(np.float32))
        parts["roots"].append(np.array([first], dtype=np.int32))
        first += tree.node_count
    return Forest(**{part: np.concatenate(values) for part, values in parts.items()})


def _below(values: Floats) -> NDArray[np.float32]:
    """The largest float32 not above each value: no float32 feature changes its side."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
