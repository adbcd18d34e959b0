"""The command bench steering: options, tables and figure, with an untrained network."""

from pathlib import Path

import pytest

from pipelines import bench_steering as bench
from pipelines.cli import main

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")


def test_the_tables_and_the_figure(
    monkeypatch: pytest.MonkeyPatch, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DESIGNLOOM_CACHE", str(working_directory / "cache"))
    monkeypatch.setattr(bench, "SCALES", (0.0, 1.0, 3.0))
    monkeypatch.setattr(bench, "BUDGETS", (16, 32))
    monkeypatch.setattr(bench, "DRAWS", (1, 2))
    words = "bench steering digits --number 100 --seeds 2 --steps 2 --figure f.png".split()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "| 3 |" in shown and "| held-out digits | 0.9" in shown
    assert "| best_of_n |" in shown and "+0.00 / +0.00" in shown
    assert shown.count("| 100 % |") == 3
    assert "bits a pixel, at most" in shown and "written: f.png" in shown
    for line in shown.splitlines():
        if line.startswith("| feynman_kac"):
            assert line.count("|") == 7
    assert Path("f.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(working_directory.glob("*.part*"))
    assert main(words) == 2
    assert "f.png exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("molecules", "--domain: expected one of 'digits', got 'molecules'"),
        ("digits --network dit", "--network"),
        ("digits --number 10", "--number: expected at least 100"),
        ("digits --seeds 0", "--seeds: expected at least 1, got 0"),
        ("digits --seed -1", "--seed: expected 0 or more"),
        ("digits --steps 0", "steps: expected at least 1"),
        ("digits --figure f.pdf", "expected a file name ending in .png"),
        ("digits --figure missing/f.png", "expected a file in an existing folder"),
    ],
)
def test_bad_options_are_refused_in_a_line(
    words: str, message: str, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "steering", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
