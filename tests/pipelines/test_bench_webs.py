"""The benches of webs: tables with every row, and rows that mean what they say."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("manifold3d")

from diffcore.errors import ConfigError  # noqa: E402
from pipelines.bench_pulls import bench_pulls, deviation  # noqa: E402
from pipelines.bench_webs import bench_webs, random_pieces, with_edges  # noqa: E402
from structgen.webs.measures import PARAMETERS, condition_errors, parameters  # noqa: E402
from structgen.webs.recipes import HELD_OUT_SEED, recipe, webs_of  # noqa: E402


def test_random_pieces_have_the_counts_and_the_lengths_asked_for() -> None:
    asked = [parameters(web) for web in webs_of(recipe("orb"), 4, HELD_OUT_SEED)]
    made = random_pieces("orb", asked, 0)
    assert [w.n_nodes for w in made.webs] == [c["n_nodes"] for c in asked]
    assert [w.n_edges for w in made.webs] == [c["n_edges"] for c in asked]
    assert made.rejected == made.tried - 4
    errors = condition_errors(asked, made.webs)
    assert all(errors[name]["relative_error"] < 0.2 for name in PARAMETERS)


@pytest.mark.parametrize("change", [-6, 0, 6])
def test_threads_come_and_go_without_tearing_the_web(change: int) -> None:
    web = webs_of(recipe("orb"), 1, HELD_OUT_SEED)[0]
    changed = with_edges(web, web.n_edges + change, np.random.default_rng(0))
    assert changed.connected and changed.n_edges == web.n_edges + change
    assert len({tuple(sorted(pair)) for pair in changed.edges.tolist()}) == changed.n_edges


def test_a_model_is_asked_for_held_out_parameters(tmp_path) -> None:
    text = bench_webs(number=4, steps=8, mechanics=False, against="", output=tmp_path / "rows.csv")
    rows = {line[:22].strip(): line for line in reversed(text.splitlines())}
    for name in ("n_nodes", "n_edges", "edges_per_node"):
        ours = re.findall(r"([-\d.]+) / ([\d.]+)%", rows[name])[0]
        assert ours == ("1.000", "0.0"), "met by construction"
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 4 * len(PARAMETERS)
    shares = text.splitlines()[-4:]
    assert all(line.split()[-6] == "100.0%" for line in shares), "connected, every one"
    with pytest.raises(ConfigError, match="--number"):
        bench_webs(number=1)


def test_the_reference_solver_catches_a_force_that_is_off(monkeypatch) -> None:
    assert deviation("orb", 0, 40) < 1e-3
    from structgen.webs import reference

    right = reference.reference_force
    monkeypatch.setattr(reference, "reference_force", lambda *a: 1.01 * right(*a))
    assert 0.005 < deviation("orb", 0, 40) < 0.015


def test_the_cost_of_pulling_has_a_row_for_every_stage() -> None:
    text = bench_pulls(elements=100, blocks=2)
    for stage in ("orb", "hybrid", "tangle", "to a watertight body", "pulled to failure", "STL"):
        assert stage in text
    assert "NOT" not in text
    with pytest.raises(ConfigError, match="--blocks"):
        bench_pulls(blocks=1)
