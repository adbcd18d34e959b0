"""Fronts and hypervolumes against closed forms, brute force and their own laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.design.genetic import crowding, ranked
from pipelines.design.pareto import front, hypervolume, improvement


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def by_inclusion(points: np.ndarray, reference: list[float]) -> float:
    """Volume of a union of boxes by inclusion and exclusion."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in itertools.combinations(points, size):
            edges = np.clip(np.asarray(reference) - np.max(chosen, axis=0), 0, None)
            total += (-1) ** (size + 1) * float(edges.prod())
    return total


grid = st.integers(0, 6).map(float)


@given(
    st.integers(1, 4).flatmap(lambda m: st.lists(st.tuples(*[grid] * m), min_size=1, max_size=7))
)
def test_front_and_volume_agree_with_their_definitions(rows: list[tuple[float, ...]]) -> None:
    points = np.array(rows)
    reference = [5.5] * points.shape[1]
    brute = [not any(dominates(b, a) for b in points) for a in points]
    assert front(points).tolist() == brute
    assert hypervolume(points, reference) == pytest.approx(by_inclusion(points, reference))


@given(
    st.lists(st.tuples(grid, grid), max_size=6),
    st.lists(st.tuples(grid, grid), min_size=1, max_size=6),
)
def test_improvement_is_the_difference_of_volumes(
    known: list[tuple[float, float]], new: list[tuple[float, float]]
) -> None:
    reference = [5.5, 4.5]
    gains = improvement(known, np.array(new), reference)
    base = hypervolume(known, reference)
    for point, gain in zip(new, gains, strict=True):
        assert gain == pytest.approx(hypervolume([*known, point], reference) - base)


def test_improvement_in_three_dimensions_and_of_impossible_points() -> None:
    known = [[1.0, 1.0, 1.0]]
    new = np.array([[[0.0, 2.0, 2.0], [np.inf, 0.0, 0.0]]])
    gains = improvement(known, new, [3.0, 3.0, 3.0])
    assert gains.shape == (1, 2)
    assert gains[0, 0] == pytest.approx(1.0) and gains[0, 1] == 0  # 1 x 1 x 1 left of the known box
    assert improvement([], np.array([[np.inf, 0.0]]), [1.0, 1.0])[0] == 0


def test_volume_below_a_curve() -> None:
    # points on f2 = 1 - sqrt(f1): below the reference (1, 1) they dominate 1 - (1 - 2/3) of it
    x = np.linspace(0, 1, 20_001)
    volume = hypervolume(np.stack([x, 1 - np.sqrt(x)], 1), [1.0, 1.0])
    assert volume == pytest.approx(2 / 3, abs=1e-3)


def test_no_points_and_points_beyond_the_reference() -> None:
    assert hypervolume([], [1.0, 1.0]) == 0
    assert hypervolume([[2.0, 0.0]], [1.0, 1.0]) == 0
    assert front([]).tolist() == []


def test_crowding_and_rank() -> None:
    points = np.array([[0.0, 4.0], [1.0, 3.0], [3.0, 1.0], [4.0, 0.0], [4.0, 4.0]])
    assert crowding(points[:4]).tolist() == [math.inf, 1.5, 1.5, math.inf]
    order = ranked(points, 5)
    assert set(order[:2]) == {0, 3} and order[-1] == 4
