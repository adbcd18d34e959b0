"""Poses into a file, ligands judged by the command line, and the redocking bench."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from rdkit import Chem

from diffcore.errors import ConfigError, DataError, ModelFileError, OutputError
from molgen.docking.structure import parse_pdb
from molgen.weights.files import shipped
from pipelines.bench_redocking import COLUMNS, bench_redocking, summary, wilson
from pipelines.cli import main
from tests.molgen.docking_examples import ligand, peptide_block, write
from tests.molgen.test_docking_structure import atom

READY = ("vina", "openbabel", "meeko", "posebusters")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_poses_keep_order_names_and_hydrogens(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in READY:
        pytest.importorskip(package)
    write(working_directory)
    Path("l.smi").write_text("CCO first\nnonsense second\nC[C@H](O)F third\n", encoding="utf-8")
    words = (
        "generate conformers l.smi --pocket probe_protein.pdb --reference-ligand probe_ligand.sdf "
        "-n 2 --exhaustiveness 1 -o out.sdf"
    )
    assert main(words.split()) == 0, capsys.readouterr().err
    made = [mol for mol in Chem.SDMolSupplier("out.sdf", removeHs=False)]
    names = [mol.GetProp("_Name") for mol in made]
    assert names == sorted(names) and set(names) == {"first", "third"}
    for mol in made:
        known = mol.GetPropsAsDict()
        wanted = {"rank", "confidence", "vina_score", "vina_min", "strain", "pb_valid", "seed"}
        assert wanted | {"model"} <= set(known) and known["model"] == "bound"
        assert not any(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    rows = rows_of(Path("out.csv"))
    assert [row["name"] for row in rows] == ["first", "second", "third"]
    assert "unreadable SMILES" in rows[1]["reason"] and rows[0]["vina_min"]
    assert "molgenComplex(root," in Path("out.html").read_text("utf-8")
    assert main(words.split()) == 2 and "expected --force" in capsys.readouterr().err


def test_a_table_of_complexes(working_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in READY:
        pytest.importorskip(package)
    write(working_directory)
    Path("pairs.csv").write_text(
        "name,protein,ligand,reference_ligand\n"
        "one,probe_protein.pdb,CCO,probe_ligand.sdf\n"
        "two,none.pdb,CCO,probe_ligand.sdf\n"
        "three,probe_protein.pdb,CCO,\n"
        "four,probe_protein.pdb,none.sdf,\n",
        encoding="utf-8",
    )
    assert main("generate conformers pairs.csv -n 1 --exhaustiveness 1 -o o.sdf".split()) == 0
    reasons = {row["name"]: row["reason"] for row in rows_of(Path("o.csv"))}
    assert reasons["one"] == "" and "no such file" in reasons["two"]
    assert "expected --reference-ligand or --centre" in reasons["three"]
    assert "no such file" in reasons["four"]


def messy(path: Path) -> None:
    """The peptide as real files have it: models, alternate locations, odd residues, waters."""
    lines = [x for x in peptide_block().splitlines() if x.startswith(("ATOM", "HETATM"))]
    gone = next(k for k, x in enumerate(lines) if x[12:16].strip() == "CG")
    last = lines.pop(gone)  # a missing atom
    other = lines[1][:16] + "B" + lines[1][17:30] + "  50.000" + lines[1][38:]
    lines[1] = lines[1][:16] + "A" + lines[1][17:]
    far = [("HETATM", "C1", "XYZ", 90, 3.0), ("HETATM", "O", "HOH", 91, 6.0)]
    base = parse_pdb(peptide_block()).positions.mean(0)
    odd = [
        atom(name, residue, number, tuple(base + [0, 0, 9 + z]), record=record, element=name[0])
        for record, name, residue, number, z in far
    ]
    model = [*lines, other, *odd]
    shifted = last[:30] + "  99.000" + last[38:]
    text = ["MODEL        1", *model, "ENDMDL", "MODEL        2", shifted, "ENDMDL", "END", ""]
    path.write_text("\n".join(text), encoding="utf-8")


def test_nothing_bad_is_dropped_without_a_word(
    working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in READY:
        pytest.importorskip(package)
    write(working_directory)
    messy(Path("messy.pdb"))
    bad = {
        "nonsense": "unreadable SMILES",
        "[C@H]12C[C@@H]1C2": "cannot be embedded",
        "CC(=O)[O-].[Na+]": "expected a ligand of one fragment, got 2",
        "*CC": "open end or query atom",
        "CCO": "",
    }
    Path("l.smi").write_text("".join(f"{s} n{k}\n" for k, s in enumerate(bad)), encoding="utf-8")
    words = "generate conformers l.smi --pocket messy.pdb --reference-ligand probe_ligand.sdf -n 1"
    assert main([*words.split(), "--exhaustiveness", "1", "-o", "o.sdf"]) == 0
    rows = rows_of(Path("o.csv"))
    assert [row["name"] for row in rows] == [f"n{k}" for k in range(len(bad))]
    for row, reason in zip(rows, bad.values(), strict=True):
        assert reason in row["reason"] and bool(row["reason"]) == bool(reason)
    for said in (
        "first of 2 models",
        "1 waters removed",
        "1 atoms at alternate locations left out",
        "1 residues with missing atoms, the first ASP",
    ):
        assert said in rows[-1]["notes"]
    capsys.readouterr()


def test_pockets_that_are_none_cost_their_own_row(working_directory: Path) -> None:
    for package in READY:
        pytest.importorskip(package)
    _, sdf = write(working_directory)
    away = Chem.Mol(ligand())
    away.GetConformer().SetPositions(away.GetConformer().GetPositions() + 60.0)
    with Chem.SDWriter("away.sdf") as writer:
        writer.write(away)
    water = atom("O", "HOH", 1, (0, 0, 0), record="HETATM", element="O")
    Path("water.pdb").write_text(f"{water}\nEND\n", encoding="utf-8")
    table = (
        "name,protein,ligand,reference_ligand,centre\n"
        "outside,probe_protein.pdb,CCO,away.sdf,\n"
        'empty,probe_protein.pdb,CCO,,"90,90,90"\n'
        f"water,water.pdb,CCO,{sdf.name},\n"
        f"good,probe_protein.pdb,CCO,{sdf.name},\n"
    )
    Path("t.csv").write_text(table, encoding="utf-8")
    assert main("generate conformers t.csv -n 1 --exhaustiveness 1 -o o.sdf".split()) == 0
    reasons = {row["name"]: row["reason"] for row in rows_of(Path("o.csv"))}
    assert "expected a reference ligand in the protein" in reasons["outside"]
    assert "expected protein atoms in the pocket" in reasons["empty"]
    assert "expected protein or nucleic acid atoms, found none" in reasons["water"]
    assert reasons["good"] == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("l.smi --centre 0,0,0", "--centre: expected --pocket beside it"),
        ("l.smi --pocket probe_protein.pdb", "expected --reference-ligand or --centre beside it"),
        ("l.smi --pocket probe_protein.pdb --centre 1,2", "--centre: expected 3 numbers"),
        ("l.smi --pocket none.pdb --centre 1,2,3", "no such file: none.pdb"),
        ("l.smi --pocket probe_protein.pdb --centre 900,2,3", "expected protein atoms in the pock"),
        ("l.smi --pocket probe_protein.pdb --centre 0,0,0 --time-limit 0", "--time-limit"),
        ("t.csv --pocket probe_protein.pdb", "says where each ligand goes"),
    ],
)
def test_options_that_do_not_fit(
    words: str, said: str, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("vina")
    pytest.importorskip("openbabel")
    write(working_directory)
    Path("l.smi").write_text("CCO a\n", encoding="utf-8")
    Path("t.csv").write_text("name,protein,ligand\na,b,CCO\n", encoding="utf-8")
    before = sorted(p.name for p in working_directory.iterdir())
    assert main(["generate", "conformers", *words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert sorted(p.name for p in working_directory.iterdir()) == before


def test_no_vina_is_one_line(
    working_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "vina" else real(name))
    write(working_directory)
    Path("l.smi").write_text("CCO a\n", encoding="utf-8")
    for words in (
        "generate conformers l.smi --pocket probe_protein.pdb --centre 0,0,0",
        "bench redocking .",
    ):
        assert main(words.split()) == 2
        assert 'pip install "designloom[docking]"' in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--centre 0,0,0", "--box 10", "--reference-ligand x.sdf"])
def test_evaluate_needs_the_protein_first(
    words: str, working_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(working_directory)
    assert main(["evaluate", "probe_ligand.sdf", *words.split()]) == 2
    assert "expected --pocket beside it" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- bench


def result(name: str, bonds: int, top: float, best: float) -> dict[str, object]:
    return {
        "name": name,
        "rotatable_bonds": bonds,
        "top1_rmsd": top,
        "best_rmsd": best,
        "aligned_rmsd": top / 2,
        "free_rmsd": 3.0,
        "reason": "",
    }


def test_the_summary_counts_by_hand() -> None:
    rows = [
        result("a", 2, 0.5, 0.5),
        result("b", 6, 2.0, 1.0),
        result("c", 6, 5.0, 1.5),
        result("d", 7, 9.0, 8.0),
        {"name": "e", "reason": "no such file"},
    ]
    lines = summary(rows)
    assert lines[0] == "5 complexes: 4 redocked, 1 with a reason why not"
    few, many, every = (line.split("|") for line in lines[3:6])
    assert few[2].strip() == "3" and few[3].strip() == "66.7 %" and few[5].strip() == "100.0 %"
    assert many[3].strip() == "0.0 %" and every[3].strip() == "50.0 %"
    assert lines[-1] == "e: no such file"
    assert "first pose 1.750 A, first conformer without a pocket 3.000 A" in lines[-2]


def test_wilson_interval() -> None:
    low, high = wilson(5, 10)
    assert low == pytest.approx(0.2366, abs=1e-3) and high == pytest.approx(0.7634, abs=1e-3)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-9) and wilson(10, 10)[1] == pytest.approx(1)


def test_a_bench_goes_on_where_it_was(working_directory: Path) -> None:
    for package in READY[:3]:
        pytest.importorskip(package)
    for name in ("one", "two"):
        (working_directory / "set" / name).mkdir(parents=True)
        write(working_directory / "set" / name)
    (working_directory / "set/three").mkdir()
    protein, ligand = write(working_directory / "set/three")
    ligand.write_text("nothing\n", encoding="utf-8")
    out = Path("r.csv")
    text = bench_redocking(Path("set"), out, exhaustiveness=1)
    assert "3 complexes: 2 redocked, 1 with a reason why not" in text
    whole = out.read_text("utf-8")
    lines = whole.splitlines(keepends=True)
    assert lines[0].strip() == ",".join(COLUMNS)
    with pytest.raises(OutputError, match="--resume"):
        bench_redocking(Path("set"), out)
    out.write_text("".join(lines[:3]) + lines[3][:5], encoding="utf-8")  # torn in its last line
    bench_redocking(Path("set"), out, exhaustiveness=1, resume=True)

    def lasting(text: str) -> list[dict[str, str]]:
        rows = csv.DictReader(text.splitlines())
        return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]

    assert lasting(out.read_text("utf-8")) == lasting(whole)
    with pytest.raises(ConfigError, match="was made with exhaustiveness 1, expected 2"):
        bench_redocking(Path("set"), out, exhaustiveness=2, resume=True)
    with pytest.raises(DataError, match="no such file or folder"):
        bench_redocking(Path("nowhere"), Path("x.csv"))
    with pytest.raises(ModelFileError, match="nothing"):
        bench_redocking(Path("set"), Path("x.csv"), model="nothing")


def test_a_bench_of_a_models_poses(working_directory: Path) -> None:
    for package in READY[:3]:
        pytest.importorskip(package)
    if "bound" not in shipped():
        pytest.skip("the weights bound are not in this checkout")
    (working_directory / "set").mkdir()
    write(working_directory / "set")
    out = Path("r.csv")
    text = bench_redocking(Path("set"), out, model="bound", exhaustiveness=1)
    assert "1 complexes: 1 redocked" in text and "aligned RMSD, median" in text
    row = next(csv.DictReader(out.read_text("utf-8").splitlines()))
    assert row["model"] == "bound" and 0 < float(row["aligned_rmsd"]) < 3
    assert float(row["best_rmsd"]) <= float(row["top1_rmsd"])
    with pytest.raises(ConfigError, match="was made with model bound, expected"):
        bench_redocking(Path("set"), out, exhaustiveness=1, resume=True)
