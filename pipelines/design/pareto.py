"""Pareto fronts and hypervolumes of points whose coordinates are all to be minimised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]
"""[N, M]: N points, M objectives, smaller is better."""


def as_points(points: ArrayLike, objectives: int = 0) -> Points:
    """Points as an array [N, M]."""
    array = np.asarray(points, dtype=np.float64)
    return array.reshape(len(array), -1) if array.size else np.empty((0, objectives))


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other one dominates, [N] bool; of equal points all are kept.

    A point dominates another if it is nowhere worse and somewhere better.
    """
    array = as_points(points)
    keep = np.ones(len(array), dtype=bool)
    order = np.lexsort(array.T[::-1]) if len(array) else np.empty(0, dtype=np.int64)
    kept: list[int] = []
    for index in order:  # whatever dominates a point comes before it
        point = array[index]
        best = array[kept]
        beaten = (best <= point).all(1) & (best < point).any(1)
        if beaten.any():
            keep[index] = False
        else:
            kept.append(int(index))
    return keep


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Volume that the points dominate below the reference (Zitzler and Thiele 1998).

    Exact: by slicing along the last objective (Knowles 2002), O(N log N) in two dimensions.

    Args:
        points: [N, M], smaller is better; those beyond the reference add nothing.
        reference: [M].
    """
    limit = np.asarray(reference, dtype=np.float64)
    array = as_points(points, len(limit))
    array = array[(array < limit).all(1)]
    return _volume(array[front(array)], limit)


def _volume(points: Points, limit: Points) -> float:
    """The same of points on a front, all below the limit."""
    if not len(points):
        return 0.0
    if len(limit) == 1:
        return float(limit[0] - points.min())
    points = points[np.argsort(points[:, -1], kind="stable")]
    if len(limit) == 2:
        return _area(points, limit)
    ends = np.append(points[1:, -1], limit[-1])
    volume = 0.0
    for count, thickness in enumerate(ends - points[:, -1], start=1):
        if thickness > 0:
            slab = points[:count, :-1]
            volume += float(thickness) * _volume(slab[front(slab)], limit[:-1])
    return volume


def _area(points: Points, limit: Points) -> float:
    """Two objectives, sorted by the second one."""
    best = np.minimum.accumulate(points[:, 0])
    ends = np.append(points[1:, 1], limit[1])
    return float(((limit[0] - best) * (ends - points[:, 1])).sum())


def improvement(found: ArrayLike, candidates: ArrayLike, reference: Sequence[float]) -> Points:
    """What each candidate alone would add to the hypervolume.

    Args:
        found: points so far, [N, M].
        candidates: [..., M], any shape before the last axis.
        reference: [M].

    Returns:
        The gains, [...].
    """
    limit = np.asarray(reference, dtype=np.float64)
    known = as_points(found, len(limit))
    known = known[(known < limit).all(1)]
    known = known[front(known)]
    points = np.asarray(candidates, dtype=np.float64)
    flat = points.reshape(-1, len(limit))
    if len(limit) == 2:
        gains = _gains_2d(known, flat, limit)
    else:
        base = _volume(known, limit)
        gains = np.array([hypervolume(np.vstack([known, p]), reference) - base for p in flat])
    return gains.reshape(points.shape[:-1])


def _gains_2d(known: Points, points: Points, limit: Points) -> Points:
    """The area of each point's box that the staircase of the front leaves free.

    Above x the staircase has height h(x) = min over the front's points left of x of their second
    coordinate; a point (a, b) gains the integral of max(0, min(h, limit) - b) from a to the limit.
    """
    known = known[np.argsort(known[:, 0], kind="stable")]
    left = np.concatenate([[-np.inf], known[:, 0]])
    right = np.concatenate([known[:, 0], [limit[0]]])
    height = np.concatenate([[limit[1]], np.minimum.accumulate(known[:, 1])])
    a, b = points[:, :1], points[:, 1:]
    width = np.clip(np.minimum(right, limit[0]) - np.maximum(left, a), 0.0, None)
    gains: Points = (width * np.clip(height - b, 0.0, None)).sum(1)
    return gains
