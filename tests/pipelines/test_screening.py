"""Screening: constant memory, each molecule once, cheap filters first, nothing done twice."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from diffcore.errors import ConfigError, DataError, OutputError  # noqa: E402
from pipelines import screening  # noqa: E402
from pipelines.cli import main  # noqa: E402
from pipelines.screening import screen  # noqa: E402
from pipelines.store.database import Database  # noqa: E402
from pipelines.store.records import list_campaigns, read_generations  # noqa: E402

SMILES = """CCO ethanol
OCC the same
c1ccccc1O phenol
nonsense broken
CC(=O)Oc1ccccc1C(=O)O aspirin
C/C=C/C trans
C/C=C\\C cis
"""


def library(folder: Path, text: str = SMILES) -> Path:
    path = folder / "library.smi"
    path.write_text(text)
    return path


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_library_is_scored_once_and_cheap_filters_come_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"where": "qed >= 0.5", "executor": "process"}
    said = screen(library(tmp_path), "qed,heavy_atoms,mmff_strain", out, **options)
    assert "7 read, 1 duplicates, 1 unreadable, 5 different molecules" in said
    assert "passed the filters: 2" in said
    found = {row["name"]: row for row in rows(out)}
    assert set(found) == {"ethanol", "phenol", "aspirin", "trans", "cis"}, "stereo is kept"
    assert found["aspirin"]["heavy_atoms"] == "13.0" and found["aspirin"]["passed"] == "1"
    assert 0.54 < float(found["aspirin"]["qed"]) < 0.56  # published: 0.55
    with Database(out / "screen.sqlite") as database:
        notes = read_generations(database, list_campaigns(database)[0].id)[0].notes
    assert notes["reasons"][0][1] == "broken"

    with pytest.raises(OutputError, match="--resume"):
        screen(library(tmp_path), "qed,heavy_atoms,mmff_strain", out, **options)
    again = screen(library(tmp_path), "qed,heavy_atoms,mmff_strain", out, resume=True, **options)
    assert "0 made" in again


def test_dear_evaluators_are_spared_where_a_filter_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("posebusters")
    out = tmp_path / "out"
    screen(
        library(tmp_path, "CCO a\nc1ccccc1O b\n"),
        "posebusters",
        out,
        where="qed >= 0.5",
        executor="process",
    )
    found = {row["name"]: row for row in rows(out)}
    assert found["a"]["posebusters"] == "" and found["b"]["posebusters"] == "1.0"


def test_an_interrupted_screening_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "PORTION", 10)
    text = "".join(f"{'C' * n}O {n}\n" for n in range(1, 36))
    path, out = library(tmp_path, text), tmp_path / "out"
    whole = screen(path, "qed", tmp_path / "whole", executor="process")

    from pipelines.design import scoring

    real, calls = scoring.add_outcomes, []

    def dying(database: Any, outcomes: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(database, outcomes)

    monkeypatch.setattr(scoring, "add_outcomes", dying)
    with pytest.raises(KeyboardInterrupt, match="--resume continues"):
        screen(path, "qed", out, executor="process")
    monkeypatch.setattr(scoring, "add_outcomes", real)
    assert not (out / "results.csv").exists()
    resumed = screen(path, "qed", out, executor="process", resume=True)
    assert "35 read" in resumed and "35 read" in whole
    assert rows(out) == rows(tmp_path / "whole")


def test_another_library_in_the_same_folder_uses_what_is_known(tmp_path: Path) -> None:
    out = tmp_path / "out"
    screen(library(tmp_path), "qed", out, executor="process")
    other = tmp_path / "other.smi"
    other.write_text("CCO x\nCCCO y\n")
    said = screen(other, "qed", out, executor="process", resume=True)
    assert "1 made, 1 known before" in said


def test_memory_does_not_grow_with_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "PORTION", 50)

    def peak(count: int) -> int:
        text = "".join(f"{'C' * (1 + n % 40)}{'O' * (1 + n // 40)} {n}\n" for n in range(count))
        folder = tmp_path / str(count)
        folder.mkdir()
        path = library(folder, text)
        tracemalloc.start()
        screen(path, "heavy_atoms", folder / "out", executor="process")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(20)  # what is loaded once
    small, large = peak(100), peak(800)
    assert large < 1.3 * small + 100_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evaluators": ""}, "expected names"),
        ({"evaluators": "qd"}, "unknown evaluator 'qd': did you mean 'qed'"),
        ({"evaluators": "qed", "where": "qed > 0.5"}, "expected filters such as"),
        ({"evaluators": "qed", "where": "qed >= lots"}, "expected a number"),
        ({"evaluators": "qed", "where": "import os"}, "expected filters such as"),
        ({"evaluators": "qed", "limit": 0}, "--limit"),
        ({"evaluators": "qed", "executor": "clod"}, "unknown executor"),
        ({"evaluators": "qed", "workers": -1, "executor": "pool"}, "workers"),
        ({"evaluators": "vina"}, "expected the setting 'pocket'"),
        ({"evaluators": "vina", "pocket": Path("none.pdb")}, "is no file"),
    ],
)
def test_wrong_options_are_named_before_any_work(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        screen(library(tmp_path), output=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "screen.sqlite").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    path = str(library(tmp_path))
    words = ["screen", path, "--evaluators", "qed,sa", "-o", out, "--executor", "process"]
    assert main(words) == 0
    assert "5 different molecules" in capsys.readouterr().out
    assert main(["screen", str(tmp_path / "none.smi"), "--evaluators", "qed", "-o", out]) == 2
    (tmp_path / "file").touch()
    assert main([*words[:4], "-o", str(tmp_path / "file")]) == 2
    assert "cannot write" in capsys.readouterr().err
