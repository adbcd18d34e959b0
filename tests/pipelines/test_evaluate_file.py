"""Scoring files: broken entries, what is refused, and runs that are killed and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import ConfigError, DataError, OutputError
from molgen.evaluate.journal import Journal, journal_path
from molgen.evaluate.table import METRICS, Metric
from molgen.io import MoleculeWriter
from pipelines.evaluate import evaluate_file

SMILES = ("CCO", "c1ccccc1", "C#N", "CC=O", "CCC", "CCN", "OCC=O", "C1CC1", "CO", "N")


def molecule(smiles: str, name: str = "") -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    mol.SetProp("_Name", name)
    return mol


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Thirty molecules as an SDF."""
    path = tmp_path_factory.mktemp("sdf") / "m.sdf"
    with MoleculeWriter(path) as writer:
        for number in range(30):
            writer.write(molecule(SMILES[number % len(SMILES)], f"m{number}"))
    return path.read_text()


@pytest.fixture
def sdf(tmp_path: Path, text: str) -> Path:
    (tmp_path / "in.sdf").write_text(text)
    return tmp_path / "in.sdf"


BROKEN = {
    "junk": "junk\n\n\n  9  9  0  0  0  0  0  0  0  0999 V2000\nM  END\n$$$$\n",
    "no end": "torn\n  RDKit\n\n  2  1  0  0\n$$$$\n",
    "binary": "\0\1\2\3\n$$$$\n",
    "blank": "\n\n$$$$\n",
}


@pytest.mark.parametrize("workers", [None, 2])
def test_broken_entries_in_between_are_rows(
    tmp_path: Path, text: str, workers: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [f"{record}$$$$\n" for record in text.split("$$$$\n")[:-1]]
    mixed = [part for pair in zip(records, [*BROKEN.values()] * 9, strict=False) for part in pair]
    (tmp_path / "in.sdf").write_text("".join(mixed))
    limit = None if workers is None else 60.0
    result = evaluate_file(
        tmp_path / "in.sdf", tmp_path / "rows.csv", workers=workers, time_limit=limit
    )
    assert result.table["strict_valid"].tolist() == [True, False] * len(records)
    assert result.table["reason"].iloc[1::2].str.match("unreadable|truncated").all()
    assert result.value("unreadable") == 50
    assert result.table["name"].iloc[::2].tolist() == [f"m{i}" for i in range(len(records))]
    again = pd.read_csv(tmp_path / "rows.csv")
    assert len(again) == len(mixed) and not journal_path(tmp_path / "rows.csv").exists()
    assert "unreadable" in capsys.readouterr().out


def test_what_cannot_be_judged_is_a_row_too(tmp_path: Path) -> None:
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    with MoleculeWriter(tmp_path / "in.sdf") as writer:
        for mol in (flat, molecule("CCS"), molecule("CCO")):
            writer.write(mol)
    unknown = "\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n" + f"{0:10.4f}" * 3
    with (tmp_path / "in.sdf").open("a") as file:
        file.write(unknown + " Qq  0  0  0  0\nM  END\n$$$$\n")
    result = evaluate_file(tmp_path / "in.sdf")
    assert result.table["has_3d"].tolist() == [False, True, True, False]
    assert result.table["strict_valid"].tolist() == [True, False, True, False]
    assert result.table["reason"].iloc[1] == "element not in the reference: S"
    assert result.table["reason"].iloc[3] == "unreadable record: unknown element 'Qq'"
    assert result.value("has_3d") == 50 and result.value("unreadable") == 25


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("page.sdf", "<html><body>not found</body></html>\n", "is not an SDF file"),
        ("page.xyz", "<html>\n", "is not an XYZ file"),
        ("data.sdf", "\x7fELF\0\1\2" * 500, "is not an SDF file"),
        ("data.smi", "\x7fELF\0\1\2" * 500, "is not a SMILES file"),
        ("empty.sdf", "", "is empty"),
        ("none.sdf", BROKEN["junk"] * 3, "none of 3 entries is readable"),
    ],
)
@pytest.mark.parametrize("output", [None, "rows.csv", "r.html"])
def test_a_file_that_holds_no_molecules_is_one_line(
    tmp_path: Path, name: str, content: str, message: str, output: str | None
) -> None:
    (tmp_path / name).write_text(content)
    target = None if output is None else tmp_path / output
    with pytest.raises(DataError, match=message) as caught:
        evaluate_file(tmp_path / name, target)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": "gold"}, "include: expected one of posebusters, xtb, strain"),
        ({"workers": -2}, "workers: expected"),
        ({"time_limit": -1.0}, "time_limit: expected"),
        ({"sample": 5}, "sample: expected an include"),
        ({"resume": True}, "--resume: expected the output"),
        ({"resume": True, "force": True}, "give one of them"),
    ],
)
def test_bad_options(sdf: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate_file(sdf, **options)


# -------------------------------------------------------------------------------- interruptions


def slow(_: object) -> float:
    time.sleep(0.02)
    return 0.5


@pytest.fixture
def slow_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "slow", Metric("takes its time", row=slow))


@pytest.mark.parametrize("output", ["rows.csv", "report.html"])
@pytest.mark.usefixtures("slow_metric")
def test_a_killed_run_goes_on_where_it_was(sdf: Path, tmp_path: Path, output: str) -> None:
    target = tmp_path / output
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import time
            from molgen.evaluate.table import METRICS, Metric
            from pipelines.evaluate import evaluate_file
            METRICS["slow"] = Metric("takes its time", row=lambda _: time.sleep(0.1) or 0.5)
            evaluate_file({str(sdf)!r}, {str(target)!r})
            """
        )
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    run = subprocess.Popen([sys.executable, str(script)], env=environment)
    journal = journal_path(target)
    end = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < 6:
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    run.kill()
    run.wait()
    assert not target.exists()

    with pytest.raises(OutputError, match=r"interrupted run: give --resume .* or --force"):
        evaluate_file(sdf, target)
    lines = journal.read_bytes().splitlines(keepends=True)
    done = sum(line.endswith(b"\n") for line in lines) - 1
    assert 5 <= done < 30
    first = json.loads(lines[1])
    first["name"] = "kept"  # would be m0 again if it were scored again
    lines[1] = json.dumps(first).encode() + b"\n"
    journal.write_bytes(b"".join(lines) + b'{"index": 29, "na')  # torn by the kill

    result = evaluate_file(sdf, target, resume=True)
    assert result.table["name"].tolist() == ["kept", *(f"m{i}" for i in range(1, 30))]
    whole = evaluate_file(sdf, tmp_path / "whole.csv")
    columns = [c for c in whole.table.columns if c != "name"]
    pd.testing.assert_frame_equal(result.table[columns], whole.table[columns], check_exact=True)
    pd.testing.assert_frame_equal(result.summary, whole.summary, check_exact=True)
    assert target.exists() and not journal.exists()
    with pytest.raises(OutputError, match="finished: nothing to resume"):
        evaluate_file(sdf, target, resume=True)


@pytest.mark.usefixtures("slow_metric")
def test_an_interrupt_says_how_to_go_on(
    sdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def interrupt(_: object) -> float:
        seen.append(1)
        if len(seen) == 8:
            raise KeyboardInterrupt
        return 0.5

    monkeypatch.setitem(METRICS, "slow", Metric("takes its time", row=interrupt))
    with pytest.raises(KeyboardInterrupt, match="7 of 30 entries are scored; --resume continues"):
        evaluate_file(sdf, tmp_path / "rows.csv")
    evaluate_file(sdf, tmp_path / "rows.csv", resume=True)
    assert len(seen) == 8 + 23


def interrupted(sdf: Path, target: Path, rows: int) -> Path:
    """The journal of a run that was cut off after some rows."""
    keep = Journal.remove
    try:
        Journal.remove = lambda self: None  # type: ignore[method-assign]
        evaluate_file(sdf, target)
    finally:
        Journal.remove = keep  # type: ignore[method-assign]
    target.unlink()
    journal = journal_path(target)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[: rows + 1]))
    return journal


def test_another_run_is_not_continued(sdf: Path, tmp_path: Path, text: str) -> None:
    target = tmp_path / "rows.csv"
    journal = interrupted(sdf, target, 3)
    before = journal.read_bytes()
    with pytest.raises(OutputError, match="another run .reference"):
        evaluate_file(sdf, target, reference="none", resume=True)
    sdf.write_text(text.replace("m0\n", "x0\n"))
    with pytest.raises(OutputError, match="another run .beginning of the input"):
        evaluate_file(sdf, target, resume=True)
    sdf.write_text(text + text)
    with pytest.raises(OutputError, match="another run .bytes of the input"):
        evaluate_file(sdf, target, resume=True)
    assert journal.read_bytes() == before
    journal.write_text("something else\n")
    with pytest.raises(OutputError, match="no record of an interrupted run"):
        evaluate_file(sdf, target, resume=True)
    evaluate_file(sdf, target, force=True)
    assert not journal.exists()


def test_a_journal_torn_in_its_first_line_starts_anew(sdf: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    journal = interrupted(sdf, target, 3)
    journal.write_bytes(journal.read_bytes()[:20])
    assert len(evaluate_file(sdf, target, resume=True).table) == 30


def test_a_damaged_row_and_what_follows_is_scored_again(sdf: Path, tmp_path: Path) -> None:
    target = tmp_path / "rows.csv"
    journal = interrupted(sdf, target, 9)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[4] = b"\0" * 40 + b"\n"
    journal.write_bytes(b"".join(lines))
    result = evaluate_file(sdf, target, resume=True)
    assert result.table["name"].tolist() == [f"m{i}" for i in range(30)]


def test_resume_without_an_interrupted_run_just_runs(sdf: Path, tmp_path: Path) -> None:
    assert len(evaluate_file(sdf, tmp_path / "rows.csv", resume=True).table) == 30
