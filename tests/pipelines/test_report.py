"""The report and the scoring of files: self-contained, escaped, nothing half-written."""

from __future__ import annotations

import html
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

import molgen.evaluate
from diffcore.errors import ConfigError, DataError, OutputError
from molgen.evaluate.charts import histogram
from molgen.evaluate.gallery import gallery
from molgen.evaluate.pictures import depict
from molgen.evaluate.report import number, report
from molgen.io import MoleculeWriter
from pipelines.evaluate import evaluate_file
from pipelines.report import write_report

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
    assert [tag for tag, _ in found].count("script") == 2  # the viewer's own, and its buttons'
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
        "2 times in the set",
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


def test_a_notebook_shows_the_whole_page(mols: list[Chem.Mol | None]) -> None:
    evaluation = molgen.evaluate(mols, progress=False)
    shown = evaluation.report("In a notebook")
    widget = shown._repr_html_()
    assert widget.startswith("<iframe srcdoc=") and 'sandbox="allow-scripts"' in widget
    assert "<script" not in widget and html.escape("<h1>In a notebook</h1>") in widget
    assert not re.search(r"(src|href)=[\"']?https?:|@import|url\(", shown.page)
    assert "<canvas" in shown.page and shown.page.count("data-show=") > 6


def test_pictures_come_without_molecules(mols: list[Chem.Mol | None], tmp_path: Path) -> None:
    evaluation = molgen.evaluate(iter(mols), progress=False)
    page = evaluation.report().page
    assert "<canvas" not in page and page.count("data:image/svg+xml") > 5
    # As many as are given, by number: those of a file are read again, not kept.
    some = report(evaluation, "Some", {2: mols[2]}).page
    assert some.count("data-show=") == 1


def strained(n: int, **columns: Any) -> pd.DataFrame:
    """A row table of n different valid molecules, the later the more strained."""
    return pd.DataFrame(
        {
            "strict_valid": True,
            "smiles": [f"C{i}" for i in range(n)],
            "reason": "",
            "mmff_strain": [float(i) for i in range(n)],
        }
        | columns
    )


def test_the_worst_and_the_best_are_shown_and_nothing_twice() -> None:
    groups = gallery(strained(100))
    worst, best, rest = groups
    assert worst.indices == tuple(range(99, 87, -1)) and best.indices == tuple(range(12))
    assert "MMFF94s strain of 100 different" in worst.note and len(rest.indices) == 12
    everything = [i for group in groups for i in group.indices]
    assert len(set(everything)) == len(everything)
    (one,) = gallery(strained(5))
    assert one.title == "Most to least strained" and one.indices == (4, 3, 2, 1, 0)
    (plain,) = gallery(strained(5).drop(columns="mmff_strain"))
    assert plain.title == "Strictly valid molecules"


def test_the_better_energy_ranks_and_failed_poses_are_named() -> None:
    energy = [None] * 40 + [float(-i) for i in range(60)]
    failed = ["bond_lengths" if i == 70 else "" for i in range(100)]
    groups = {g.title: g for g in gallery(strained(100, xtb_energy=energy, pb_failed=failed))}
    assert groups["Most strained"].indices[0] == 40
    assert groups["Not accepted by PoseBusters"].indices == (70,)


def test_every_reason_of_a_rejection_is_shown() -> None:
    reasons = ["valency: a"] * 90 + ["radical: 1"] * 9 + ["fragments: 2"]
    (group,) = gallery(strained(100, strict_valid=False, reason=reasons))
    kinds = [reasons[i].split(":")[0] for i in group.indices]
    assert len(kinds) == 24 and set(kinds) == {"valency", "radical", "fragments"}
    assert kinds.count("radical") == 9


def test_bars_and_outline_are_shares() -> None:
    values = np.repeat([1.0, 2.0, 3.0], [10, 30, 60])
    known = (np.array([1.0, 2.0, 3.0]), np.array([500.0, 300.0, 200.0]))
    svg = histogram(values, True, known).svg
    heights = [float(h) for h in re.findall(r'class="bar".*?height="([\d.]+)"', svg)]
    assert heights[1] / heights[0] == pytest.approx(3, rel=0.02)
    assert heights[2] / heights[0] == pytest.approx(6, rel=0.02)
    ys = [float(y) for y in re.findall(r"V([\d.]+)H", svg.split('class="ref"')[1])]
    base = 146.0
    assert (base - ys[0]) / (base - ys[2]) == pytest.approx(2.5, rel=0.02)
    assert (base - ys[0]) / heights[2] == pytest.approx(50 / 60, rel=0.02)


def test_a_long_tail_is_left_out_and_said_so() -> None:
    values = np.concatenate([np.linspace(0, 10, 500), [1e6]])
    chart = histogram(values)
    assert chart.note.startswith("1 outside of 0 to")
    assert not histogram(np.array([3.0])).note and "<rect" in histogram(np.array([3.0] * 50)).svg


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
