"""Pull tests against closed forms and an independent solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve

from diffcore.errors import ConfigError, DataError
from structgen.webs import deposit, make_web
from structgen.webs.mechanics import Load, damage, pull, rest_lengths, stretch
from structgen.webs.silk import SILKS, axial_stiffness, silk_set
from structgen.webs.web import Web

pytest.importorskip("numba")

ONE = make_web([[0, 0], [2, 0]], [[0, 1]], anchors=[0, 1], radius=1.5)


def oracle(web: Web, load: Load, silk: str, u: float, steps: int) -> float:
    """Force at a displacement by a sparse Newton method in small steps; scipy, no numba."""
    silks = silk_set(silk)
    ea, rest = axial_stiffness(web, silks), rest_lengths(web, silks)
    knee = np.array([s.yield_strain for s in silks])[web.thread]
    slope = np.array([s.hardening / s.modulus for s in silks])[web.thread]
    i, j = web.edges.T
    free = np.flatnonzero(np.repeat(~load.held, 3))
    x = web.pos.copy()

    def tension(points: np.ndarray) -> tuple[np.ndarray, ...]:
        d = points[j] - points[i]
        length = np.linalg.norm(d, axis=1)
        strain = length / rest - 1
        force = np.where(strain <= knee, ea * strain, ea * (knee + slope * (strain - knee)))
        tangent = np.where(strain <= knee, ea, ea * slope) / rest
        taut = strain > 0
        return d / length[:, None], np.where(taut, force, 0), np.where(taut, tangent, 0), length

    def forces(points: np.ndarray) -> np.ndarray:
        unit, force, _, _ = tension(points)
        total = np.zeros_like(points)
        np.add.at(total, i, force[:, None] * unit)
        np.add.at(total, j, -force[:, None] * unit)
        return total

    for _ in range(steps):
        x += load.direction * u / steps
        for _ in range(500):
            f = forces(x)
            if np.abs(f.ravel()[free]).max() < 1e-7 * tension(x)[1].max():
                break
            unit, force, tangent, length = tension(x)
            across = force / length
            block = (tangent - across)[:, None, None] * unit[:, :, None] * unit[:, None, :]
            block += across[:, None, None] * np.eye(3)
            rows, columns, values = [], [], []
            for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                rows.append(
                    (3 * a[:, None, None] + np.arange(3)[None, :, None] + 0 * block).ravel()
                )
                columns.append(
                    (3 * b[:, None, None] + np.arange(3)[None, None, :] + 0 * block).ravel()
                )
                values.append(sign * block.ravel())
            n = 3 * web.n_nodes
            entries = np.concatenate(rows).astype(int), np.concatenate(columns).astype(int)
            matrix = csc_matrix((np.concatenate(values), entries), shape=(n, n))
            matrix = matrix[free][:, free] + csc_matrix(np.eye(len(free)) * 1e-6 * tangent.max())
            move = np.zeros(n)
            move[free] = spsolve(matrix, f.ravel()[free])
            size, now = 1.0, np.linalg.norm(f.ravel()[free])
            while size > 0.01:
                new = forces(x + size * move.reshape(-1, 3)).ravel()[free]
                if np.linalg.norm(new) < now:
                    break
                size *= 0.5
            x += size * move.reshape(-1, 3)
    return -float((forces(x) * load.direction).sum())


def test_a_net_is_solved_as_a_dense_matrix_is() -> None:
    from structgen.webs.factor import factorise, plan_of, substitute

    web = deposit("tangle", 0, nodes=60)
    rng = np.random.default_rng(0)
    state = np.column_stack(
        [web.spans / web.lengths[:, None], rng.uniform(0.1, 2, (web.n_edges, 2))]
    )
    state[3, 3:] = 0.0  # a broken thread
    dense = np.zeros((web.n_nodes, 3, web.n_nodes, 3))
    for (i, j), row in zip(web.edges, state, strict=True):
        block = row[4] * np.eye(3) + (row[3] - row[4]) * np.outer(row[:3], row[:3])
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            dense[a, :, b] += sign * block
    free = ~web.anchors
    n = int(free.sum())
    matrix = dense[free][:, :, free].reshape(3 * n, 3 * n) + 1e-6 * np.eye(3 * n)
    right = rng.normal(size=(web.n_nodes, 3))
    plan = plan_of(web.edges, web.anchors)
    found = substitute(plan, *factorise(plan, web.edges, state, 1e-6), right)
    np.testing.assert_allclose(found[free].ravel(), np.linalg.solve(matrix, right[free].ravel()))
    assert not found[~free].any()


@pytest.mark.parametrize("silk", ["dragline", "caerostris", "linear"])
def test_one_thread_follows_its_silk_to_the_break(silk: str) -> None:
    test = pull(ONE, silk=silk, steps=0.005)
    law = silk_set(silk)[0]
    area = np.pi * 1.5**2 * 1e-6  # mm^2
    assert test.strength == pytest.approx(law.strength * 1e9 * area, rel=1e-6)
    assert test.break_strain == pytest.approx(law.break_strain, rel=1e-6)
    assert test.stiffness == pytest.approx(law.modulus * 1e9 * area / 2, rel=1e-6)
    assert test.toughness == pytest.approx(law.toughness, rel=2e-3)
    assert test.failed and len(test.broken) == 1 and test.force[-1] == 0


def test_two_threads_in_a_row_share_the_strain_and_the_thinner_breaks() -> None:
    web = make_web([[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 2]], anchors=[0, 2], radius=[1.0, 1.1])
    test = pull(web, silk="linear")
    assert test.broken.tolist() == [0]
    ea = axial_stiffness(web, silk_set("linear"))
    assert test.stiffness == pytest.approx(1 / (1 / ea[0] + 1 / ea[1]), rel=1e-4)


def test_a_pushed_thread_bears_like_a_string() -> None:
    # F = 2 T sin(angle), T from the elongation: exact for two halves of a straight thread
    web = make_web([[-1, 0], [0, 0], [1, 0]], [[0, 1], [1, 2]], anchors=[0, 2], tension=100.0)
    test = pull(web, silk="linear", load="push", largest=0.1)
    ea = axial_stiffness(web, silk_set("linear"))[0]
    rest = 1 / (1 + 100 / ea)
    u = test.displacement
    length = np.sqrt(1 + u**2)
    expected = 2 * ea * (length / rest - 1) * u / length
    np.testing.assert_allclose(test.force, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("family", "silk"), [("orb", "araneus"), ("tangle", "dragline"), ("hybrid", "dragline")]
)
def test_before_failure_the_force_is_that_of_the_oracle(family: str, silk: str) -> None:
    web = deposit(family, 1, nodes=60)
    load = stretch(web)
    test = pull(web, silk=silk, largest=0.1, load=load)
    before = np.flatnonzero(test.displacement < (test.broken_at[0] if len(test.broken) else np.inf))
    k = int(before[-1])
    assert k >= 3
    expected = oracle(web, load, silk, float(test.displacement[k]), 10)
    assert test.force[k] == pytest.approx(expected, rel=1e-3)


def test_threads_break_one_at_a_time_and_the_test_ends() -> None:
    web = deposit("tangle", 2, nodes=60)
    test = pull(web)
    assert test.failed and test.unsettled == 0
    assert len(set(test.broken.tolist())) == len(test.broken) >= 2
    assert np.isfinite(test.force).all() and np.isfinite(test.displacement).all()
    assert (np.diff(test.displacement) >= 0).all()
    # energy: no more work than the threads can take up, and some
    silks = silk_set("araneus")
    most = max(s.toughness for s in silks)
    assert 0 < test.toughness < most


def test_a_finer_step_gives_the_same_strength() -> None:
    web = deposit("orb", 3, nodes=50)
    coarse, fine = pull(web, steps=0.02), pull(web, steps=0.005)
    assert coarse.strength == pytest.approx(fine.strength, rel=0.02)
    assert coarse.broken[0] == fine.broken[0]


def test_a_dead_weight_cut_costs_strength() -> None:
    web = deposit("orb", 3, nodes=50)
    left = damage(web, 10, seed=1, repeats=2)
    assert 0 < left.strength <= 1.01 and 0 < left.work
    with pytest.raises(ConfigError, match="removed: expected 1 to"):
        damage(web, 0)


def test_what_cannot_be_pulled_is_named() -> None:
    with pytest.raises(DataError, match="unstable web: the prestress of edge 0"):
        pull(ONE.but(tension=np.array([1e6])))
    with pytest.raises(DataError, match="no node of the web is held"):
        pull(ONE.but(anchors=np.zeros(2, dtype=bool)))
    with pytest.raises(ConfigError, match="no extent there"):
        stretch(ONE, axis=2)
    for options in ({"silk": "nylon"}, {"load": "twist"}, {"steps": 0.0}):
        with pytest.raises(ConfigError):
            pull(ONE, **options)  # type: ignore[arg-type]
    assert SILKS["capture"].toughness == pytest.approx(150, rel=0.1)
