"""The comparison of molecule sets: one scorer for all, and a broken file costs its own row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import ConfigError, OutputError
from molgen.datasets import qm9, reference_statistics
from molgen.generate import MoleculeGenerator, Sampling
from molgen.io import MoleculeWriter
from pipelines import against
from pipelines.cli import main

GOOD = ("CCO", "c1ccccc1", "C#N", "CC=O", "CCC", "CCN", "OCC=O", "C1CC1", "CO", "CCF")


def molecule(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    return mol


def written(path: Path, smiles: tuple[str, ...]) -> Path:
    with MoleculeWriter(path) as writer:
        for one in smiles:
            writer.write(molecule(one))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tools: a good one, one that repeats itself, one whose file is broken."""
    (tmp_path / "tools").mkdir()
    written(tmp_path / "tools" / "good.sdf", GOOD)
    written(tmp_path / "tools" / "same.sdf", ("CCO",) * 10)
    (tmp_path / "tools" / "page.sdf").write_text("<html>\n")
    (tmp_path / "tools" / "README.txt").write_text("not molecules")
    return tmp_path / "tools"


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that gives five of the good molecules and as many radicals."""

    def sample(number: int, seed: int) -> list[Chem.Mol]:
        radical = Chem.RWMol(molecule("CCO"))
        radical.RemoveAtom(8)
        radical.GetAtomWithIdx(2).SetNoImplicit(True)
        return [molecule(s) for s in GOOD[: number // 2]] + [radical.GetMol()] * (number // 2)

    generator = SimpleNamespace(sample=sample, evaluations=450, sampling=Sampling(steps=45))
    monkeypatch.setattr(MoleculeGenerator, "from_pretrained", lambda *_: generator)


def rows(text: str, title: str) -> dict[str, dict[str, str]]:
    """A table of the Markdown: set -> heading -> cell."""
    block = text.split(f"### {title}")[1].split("\n\n")[1]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


@pytest.mark.usefixtures("ours")
def test_one_table_of_all_sets(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "molecules", "--against", str(folder), "--number", "10"]
    assert main([*words, "--output", str(tmp_path / "table.md")]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text().strip() == text.rsplit("\n\nwritten:", 1)[0].strip()
    validity = rows(text, "Validity and diversity")
    names = list(validity)
    assert names[0] == "designloom qm9" and names[1] == "qm9 test molecules"
    assert names[2:] == ["good.sdf", "page.sdf", "same.sdf"]
    assert validity["designloom qm9"]["strict valid, %"].startswith("50.0")
    assert validity["good.sdf"]["strict valid, %"].startswith("100.0")
    assert validity["same.sdf"]["uniqueness, %"].startswith("10.0")
    assert (
        set(list(validity["page.sdf"].values())[2:]) == {"–"} and validity["page.sdf"]["n"] == "0"
    )
    assert "page.sdf is not an SDF file" in text and str(folder) not in text
    assert rows(text, "Cost")["designloom qm9"]["network evaluations"] == "45.0"
    assert "edm molecule stability, %" in rows(text, "Definitions of the papers")["good.sdf"]
    assert not re.search(r"\bnan\b|None", text)
    assert main([*words, "--output", str(tmp_path / "table.md")]) == 2


@pytest.mark.usefixtures("ours")
def test_the_scorer_is_that_of_evaluate(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "table.csv"
    assert main(["bench", "molecules", "--against", str(folder), "--output", str(output)]) == 0
    table = pd.read_csv(output)
    from pipelines.evaluate import evaluate_file

    alone = evaluate_file(folder / "good.sdf").summary.set_index("metric")
    found = table[table["set"] == "good.sdf"].set_index("metric")
    pd.testing.assert_series_equal(found["value"], alone["value"], check_names=False)
    pd.testing.assert_series_equal(found["n"], alone["n"], check_names=False)


def test_numbers_are_short_and_do_not_flatter() -> None:
    values = (0.0, 0.00038, 0.5, 12.345, 99.95, 100.0, -3.0)
    shown = ["0.00", "0.00038", "0.50", "12.3", "99.95", "100.0", "-3.00"]
    assert [against._short(value) for value in values] == shown


@pytest.fixture
def how() -> against.Comparison:
    return against.Comparison()


def test_the_reference_row_is_what_the_reference_holds(how: against.Comparison) -> None:
    stored = {"strict_valid": (0.999, 2000), "mmff_strain": (4.5, 1990), "gone": (1.0, 5)}
    reference = SimpleNamespace(name="qm9", scores=stored)
    line = against._reference_line(reference, 5, how)  # type: ignore[arg-type]
    assert line.n == 2000 and line.summary["strict_valid"]["value"] == pytest.approx(99.9)
    assert line.summary["mmff_strain"]["value"] == 4.5 and "gone" not in line.summary


def test_without_stored_values_test_molecules_are_scored(
    how: against.Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reference: Any = SimpleNamespace(name="qm9", scores={})
    monkeypatch.setattr(qm9, "cache_path", lambda: tmp_path / "absent")
    line = against._reference_line(reference, 5, how)
    assert line.n == 0 and "neither" in line.note

    class Table:
        def split_indices(self, _: str) -> Any:
            return SimpleNamespace(tolist=lambda: list(range(100, 100 + len(GOOD))))

        def select(self, chosen: list[int]) -> list[int]:
            return chosen

    def molecules(chosen: list[int]) -> Iterator[Chem.Mol]:
        yield from (molecule(GOOD[i - 100]) for i in chosen)

    (tmp_path / "there").touch()
    monkeypatch.setattr(qm9, "cache_path", lambda: tmp_path / "there")
    monkeypatch.setattr(qm9, "load", Table)
    monkeypatch.setattr(reference_statistics, "molecules", molecules)
    line = against._reference_line(reference, 5, how)
    assert line.n == 5 and line.summary["strict_valid"]["value"] == 100


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"against": "none"}, ConfigError, "expected a folder"),
        ({"against": "empty"}, ConfigError, "no molecule file"),
        ({"against": "tools", "output": "t.html"}, ConfigError, r"\.md or \.csv"),
        ({"against": "tools", "output": "no/t.md"}, OutputError, "existing folder"),
        ({"against": "tools", "include": "gold"}, ConfigError, "include: expected"),
        ({"against": "tools", "sample": 5}, ConfigError, "sample: expected"),
        ({"against": "tools", "workers": -1}, ConfigError, "workers: expected"),
        ({"include": "xtb"}, ConfigError, "--include: expected --against"),
        ({"time_limit": 5.0}, ConfigError, "--time-limit: expected --against"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_options_are_refused_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    from pipelines.bench import bench_molecules

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MoleculeGenerator, "from_pretrained", lambda *_: pytest.fail("worked"))
    paths = {k: Path(v) if k in ("against", "output") else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        bench_molecules(**paths)
