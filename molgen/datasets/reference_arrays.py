"""How a reference's large statistics lie in its safetensors file.

Values are kept as integers of a step (0.001 Angstrom, 0.5 and 1 degree) with their counts, all
types of a kind joined; ring systems as joined text; ChemNet's covariance as its upper triangle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Histogram = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(values ascending, how often each came)."""

STEPS = {"bond_lengths": 0.001, "bond_angles": 0.5, "torsion_angles": 1.0}
"""Kind -> width of a bin: Angstrom, degree, degree."""

Arrays = dict[str, NDArray[Any]]


def packed_histograms(kind: str, counts: Mapping[str, Mapping[int, int]]) -> Arrays:
    """Arrays of the histograms of one kind, {type: {bin: count}}, types in sorted order."""
    names = sorted(counts)
    bins = [sorted(counts[name]) for name in names]
    rows = [counts[name][b] for name, found in zip(names, bins, strict=True) for b in found]
    return {
        f"{kind}.bins": np.array([b for found in bins for b in found], dtype=np.uint16),
        f"{kind}.counts": np.array(rows, dtype=np.uint32),
        f"{kind}.lengths": np.array([len(found) for found in bins], dtype=np.uint16),
    }


def packed_names(counts: Mapping[str, int]) -> Arrays:
    """Arrays of {ring system: count}."""
    names = sorted(counts)
    text = "\n".join(names).encode()
    return {
        "ring_systems.text": np.frombuffer(text, dtype=np.uint8).copy(),
        "ring_systems.counts": np.array([counts[name] for name in names], dtype=np.uint32),
    }


def packed_moments(mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> Arrays:
    """Arrays of ChemNet's mean [512] and covariance [512, 512]."""
    upper = covariance[np.triu_indices(len(mean))]
    return {
        "chemnet.mean": mean.astype(np.float32),
        "chemnet.covariance": upper.astype(np.float32),
    }


def unpacked(
    arrays: Mapping[str, NDArray[Any]], types: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """The fields of `Reference` that lie in the arrays; none for those that are not there.

    Args:
        arrays: content of the safetensors file.
        types: kind -> names of its types, sorted.
    """
    found: dict[str, Any] = {}
    for kind, step in STEPS.items():
        if f"{kind}.bins" in arrays:
            ends = np.cumsum(arrays[f"{kind}.lengths"].astype(np.int64))[:-1]
            values = np.split(arrays[f"{kind}.bins"].astype(np.float64) * step, ends)
            counts = np.split(arrays[f"{kind}.counts"].astype(np.float64), ends)
            pairs = zip(values, counts, strict=True)
            found[kind] = dict(zip(types[kind], pairs, strict=True))
    if "ring_systems.text" in arrays:
        names = arrays["ring_systems.text"].tobytes().decode().split("\n")
        found["ring_systems"] = dict(
            zip(names, arrays["ring_systems.counts"].tolist(), strict=True)
        )
    if "chemnet.mean" in arrays:
        mean = arrays["chemnet.mean"].astype(np.float64)
        covariance = np.zeros((len(mean), len(mean)))
        covariance[np.triu_indices(len(mean))] = arrays["chemnet.covariance"]
        found["chemnet"] = mean, covariance + np.triu(covariance, 1).T
    return found
