"""The report and the scoring of files: self-contained, escaped, nothing half-written."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

import molgen.evaluate
from diffcore.errors import ConfigError, DataError, OutputError
from molgen.io import MoleculeWriter
from pipelines.evaluate import evaluate_file
from pipelines.report import depict, number, write_report

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def molecule(smiles: str, name: str = "") -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=3)
    mol.SetProp("_Name", name)
    return mol


@pytest.fixture(scope="module")
def mols() -> list[Chem.Mol | None]:
    pentavalent = Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    good = [molecule(s, HOSTILE) for s in ("CCO", "CCO", "c1ccccc1", "C#N", "CC=O", "CCC")]
    return [*good, pentavalent, Chem.MolFromSmiles("CO.C"), None, molecule("CS"), molecule("CCN")]


@pytest.fixture(scope="module")
def page(mols: list[Chem.Mol | None], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "r.html"
    evaluation = molgen.evaluate(mols, progress=False)
    run = {"model": HOSTILE, "seed": 0, "seconds": 1.5, "note": None}
    assert write_report(mols, evaluation, path, f"Title {HOSTILE}", run) == path
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_report_needs_no_other_file(page: str) -> None:
    found = tags(page)
    assert not [tag for tag, _ in found if tag in ("link", "iframe", "object", "embed")]
    sources = [attrs["src"] or "" for _, attrs in found if "src" in attrs]
    assert sources and all(source.startswith("data:image/") for source in sources)


def test_titles_and_names_are_escaped(page: str) -> None:
    found = tags(page)
    assert [tag for tag, _ in found].count("script") == 1  # the viewer's own
    assert not [attrs for _, attrs in found if any(name.startswith("on") for name in attrs)]
    assert page.count("&lt;script&gt;alert") >= 3  # title, heading, run record, names


def test_report_says_what_was_found(page: str) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for part in (
        "11 molecules scored against qm9",
        "Legacy metrics",
        "Rejected molecules",
        "does not sanitise",
        "fragments: 2",
        "element not in the reference: S",
        "no molecule",
        "repeated",
        "1.50",
        "Distributions",
    ):
        assert part in text, part
    assert not re.search(r"\b(nan|None|NaN|&lt;NA&gt;)\b", re.sub(r"\s+", " ", text))


def test_report_without_a_single_valid_molecule(tmp_path: Path) -> None:
    mols = [None, Chem.MolFromSmiles("CC"), Chem.Mol()]
    evaluation = molgen.evaluate(mols, progress=False)
    path = write_report(mols, evaluation, tmp_path / "r.html")
    text = path.read_text()
    assert "<canvas" not in text and "None." in text and "–" in text
    mols = [molecule("C")]
    write_report(mols, molgen.evaluate(mols, None, progress=False), path, force=True)
    assert "every molecule passed" in path.read_text()


def test_report_refuses(tmp_path: Path, mols: list[Chem.Mol | None]) -> None:
    evaluation = molgen.evaluate(mols[:2], progress=False)
    with pytest.raises(DataError, match="expected the 2 molecules"):
        write_report(mols, evaluation, tmp_path / "r.html")
    path = tmp_path / "there.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_report(mols[:2], evaluation, path)
    assert path.read_text() == "mine"
    with pytest.raises(OutputError, match="existing folder"):
        write_report(mols[:2], evaluation, tmp_path / "no" / "r.html")


def test_numbers_for_people() -> None:
    missing = (None, math.nan, math.inf, pd.NA, "")
    assert [number(value) for value in missing] == ["–"] * len(missing)
    assert number(1234.5) == "1,234.50" and number(12, 0) == "12" and number(True, 0) == "1"


def test_anything_can_be_drawn() -> None:
    assert depict(None) == "" and depict(Chem.Mol()) == ""
    for mol in (
        Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False),
        Chem.MolFromSmiles("c1cccc1", sanitize=False),
        molecule("c1ccccc1"),
    ):
        before = mol.ToBinary()
        assert "<svg" in depict(mol)
        assert mol.ToBinary() == before


@pytest.fixture
def sdf(tmp_path: Path, mols: list[Chem.Mol | None]) -> Path:
    with MoleculeWriter(tmp_path / "in.sdf") as writer:
        for mol in mols:
            if mol is not None:
                writer.write(mol)
    return tmp_path / "in.sdf"


def test_evaluate_file(sdf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sdf.open("a") as file:
        file.write("torn\n  RDKit\n")
    evaluation = evaluate_file(sdf, tmp_path / "rows.csv")
    assert len(pd.read_csv(tmp_path / "rows.csv")) == len(evaluation.table) == 11
    assert "truncated record" in evaluation.table["reason"].iloc[-1]
    out = capsys.readouterr().out
    assert "strict_valid" in out and "written:" in out
    evaluate_file(sdf, tmp_path / "r.html", reference="none")
    assert "torn" in (tmp_path / "r.html").read_text()
    with pytest.raises(OutputError, match="exists"):
        evaluate_file(sdf, tmp_path / "r.html")
    evaluate_file(sdf, tmp_path / "r.html", force=True)


def test_evaluate_file_refuses(sdf: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.html or \.csv"):
        evaluate_file(sdf, tmp_path / "r.pdf")
    with pytest.raises(DataError, match="no such file"):
        evaluate_file(tmp_path / "none.sdf", tmp_path / "r.html")
    with pytest.raises(DataError, match="unknown reference"):
        evaluate_file(sdf, reference="nope")
    broken = tmp_path / "broken.sdf"
    broken.write_text("x\n\n\n  9  9  0  0  0  0  0  0  0  0999 V2000\nM  END\n$$$$\n")
    with pytest.raises(DataError, match="none of 1 entries is readable"):
        evaluate_file(broken, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
