"""The commands bench rewards and bench requests: tables, figure, options; very few molecules."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from molgen.weights.files import shipped
from pipelines import bench_requests, bench_rewards
from pipelines.bench_rewards import Climb, Findings, diversity, tables
from pipelines.cli import main

needs_weights = pytest.mark.skipif("qm9" not in shipped(), reason="the weights qm9 are not here")


def test_gains_are_differences_of_means_in_spreads() -> None:
    best = {"best_of_n": [[1.0, 2.0], [3.0, 4.0]], "evolution": [[2.0, 4.0], [4.0, 6.0]]}
    climbs = {
        (name, "r"): Climb(best.get(name, best["best_of_n"]), [1.0, 0.5], [0.5, 0.5], [3, 5])
        for name in ("best_of_n", *bench_rewards.SEARCHES)
    }
    found = Findings((10, 20), 2, climbs, {"r": [0.0, 4.0, 0.0, 4.0]}, seeds=2)
    assert found.spread("r") == pytest.approx(np.std([0, 4, 0, 4], ddof=1))
    (row,) = [line for line in tables(found) if "`evolution`" in line]
    gains = [float(g) for g in re.findall(r"[+-]\d\.\d\d", row.split(" | ")[4])]
    assert gains == pytest.approx([1 / found.spread("r"), 2 / found.spread("r")], abs=0.006)
    assert "3.000 +- 1.000 | 5.000 +- 1.000" in row and "| 75 % | 0.50 | 4 |" in row
    found.seeds = 1  # interrupted: the second seed is not complete
    assert found.best("evolution", "r").tolist() == [[2.0, 4.0]]


def test_diversity_is_one_for_molecules_with_nothing_in_common() -> None:
    mols = [Chem.MolFromSmiles(s) for s in ("CCC", "N#N", "CCC")]
    assert diversity(mols) == 1  # one graph twice is one graph
    near = [Chem.MolFromSmiles(s) for s in ("CCCCO", "CCCCCO")]
    assert 0 < diversity(near) < 0.6
    assert math.isnan(diversity(mols[:1]))


@needs_weights
def test_the_table_and_the_figure(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "rewards", "--rewards", "[logp]", "--trajectories", "8", "--seeds", "1"]
    words += ["--steps", "10", "--figure", "f.png"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "| 20 | 40 | 80 |" in shown
    for name in ("best_of_n", "feynman_kac", "tree_search", "evolution"):
        assert shown.count(f"`{name}`") == 1
    assert Path("f.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(working_directory.glob("*.part*"))
    assert main(words) == 2
    assert "f.png exists" in capsys.readouterr().err


@needs_weights
def test_requests_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(bench_requests.REQUESTS, "size", lambda: {"n_atoms": 12, "steps": 10})
    assert main(["bench", "requests", "-n", "4", "--requests", "[size]"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| size")]
    assert row.count("%") == 3


def test_the_two_ends_of_the_linker_are_apart() -> None:
    ends = bench_requests.two_ends()
    assert sorted(Chem.MolToSmiles(ends).split(".")) == ["CC#N", "CC=O"]
    assert ends.GetConformer().Is3D()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rewards --seeds 0", "--seeds: expected at least 1, got 0"),
        ("rewards --trajectories 4", "--trajectories: expected at least 8, got 4"),
        ("rewards --rewards [druglike]", "reward: expected a function or one of qed, sa"),
        ("rewards --figure f.pdf", "expected a file name ending in .png"),
        ("requests -n 0", "--number: expected at least 1, got 0"),
        ("requests --requests [colour]", "--requests: expected some of nothing, size"),
    ],
)
def test_bad_options_are_refused_in_a_line(
    words: str, message: str, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
