"""Training and the ablation bench of Cartesian conformers, small."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffcore.errors import ConfigError, DataError, ModelFileError, OutputError
from molgen.datasets.complex_table import flat, of_complexes
from molgen.datasets.complexes import find_complexes
from molgen.sidegen.features import NO_TARGET
from molgen.sidegen.generator import CartesianGenerator
from pipelines.bench_sidegen import FIGURES, bench_sidegen, table
from pipelines.cli import main
from pipelines.streamed import StreamedTable, finished
from pipelines.train_chemistry import train_chemistry
from pipelines.train_sidegen import train_sidegen
from tests.molgen.docking_examples import write
from tests.molgen.test_sidegen import arrays


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of seconds, beside it the complexes it was trained on."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "set" / "one").mkdir(parents=True)
    write(folder / "set" / "one")
    rows = [arrays(smiles) | NO_TARGET for smiles in ("CCCO", "CC(C)CN", "OCCc1ccccc1") * 3]
    flat(rows, [0] * 6 + [1] * 3, {"source": "test"}).save(folder / "out/ligands.safetensors")
    options = {"max_time": "00:00:02", "out": str(folder / "out"), "accelerator": "cpu"}
    train_sidegen(complexes=folder / "set", batch=4, threads=1, **options)
    return folder


def test_training_writes_a_model_that_generates(trained: Path) -> None:
    path = trained / "out/sidegen.safetensors"
    generator = CartesianGenerator.from_pretrained(path)
    assert generator.card["trained"]["steps"] > 0
    assert generator.card["data"]["complexes"]["names"] == ["one"]
    assert generator.sample("CCCN", 2, steps=2).GetNumConformers() == 2
    assert "validation_0.5" in (trained / "out/curve.csv").read_text()
    with pytest.raises(OutputError, match="--resume"):
        train_sidegen(out=str(trained / "out"))
    with pytest.raises(ConfigError, match="unknown recipe 'nothing'"):
        train_sidegen("nothing")
    with pytest.raises(ConfigError, match="batch: expected 2 or more"):
        train_sidegen(batch=1)
    with pytest.raises(ConfigError, match="pieces: expected 0 or more"):
        train_sidegen(pieces=-1)


def test_pieces_of_proteins_are_trained_on_as_well(trained: Path) -> None:
    found = find_complexes(trained / "set")
    plain = of_complexes(found)
    drawn = [of_complexes(found, pieces=1, seed=seed) for seed in (0, 1, 2, 3, 0)]
    assert len(plain) == 1 and {len(table) for table in drawn} == {2}
    assert {table.card["pieces"] for table in drawn} == {1} and "pieces" not in plain.card
    places = [table.fields["pos"].sum().item() for table in drawn]
    assert places[0] == places[-1] and len(set(places)) > 1, "a seed chooses"


def test_poses_of_a_cartesian_model(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("vina")
    from rdkit import Chem

    model = str(trained / "out/sidegen.safetensors")
    protein, sdf = write(tmp_path)
    out = tmp_path / "o.sdf"
    words = ["generate", "conformers", str(sdf), "--model", model, "-o", str(out), "-n", "2"]
    words += ["--pocket", str(protein), "--reference-ligand", str(sdf), "--steps", "2"]
    assert main([*words, "--exhaustiveness", "1"]) == 0
    made = list(Chem.SDMolSupplier(str(out), removeHs=False))
    assert [mol.GetProp("rank") for mol in made] == [str(k + 1) for k in range(len(made))]
    energies = [float(mol.GetProp("vina_min")) for mol in made]
    assert energies == sorted(energies) and {mol.GetProp("model") for mol in made} == {"sidegen"}
    words = [
        "bench",
        "sidegen",
        str(trained / "set"),
        "--model",
        model,
        "--place",
        "-o",
        str(tmp_path / "b.csv"),
    ]
    assert main([*words, "--conformers", "2", "--steps", "2", "--exhaustiveness", "1"]) == 0


def test_an_energy_model_learns_and_guides(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tblite")
    from molgen.datasets import chemical_table
    from molgen.sidegen.chemistry import chemical_energy, read_chemistry, scalar_features
    from molgen.sidegen.generator import Guidance
    from pipelines import train_chemistry as module
    from tests.molgen.test_torsions import embedded

    polar, apolar = (scalar_features(embedded(s)) for s in ("OC=O", "CCC"))
    assert polar.charges[2] < -0.2 < 0.1 < polar.charges[1]  # the carbonyl group
    assert abs(apolar.charges).max() < 0.1
    assert abs(polar.charges.sum()) < 1e-6 and polar.gap > 0 > polar.energy
    rows = [arrays(s) | NO_TARGET for s in ("CCCO", "CC(C)CN", "OCCc1ccccc1")]
    ligands = flat(rows, [0] * 3, {"source": "test"})
    sizes = int(ligands.counts["atoms"].sum())
    made = chemical_table.ChemicalTable(ligands, torch.randn(3, 2), torch.randn(sizes, 1))
    batch = made.batch([2, 0])
    assert torch.equal(batch["charge"][1, :4], made.charge[:4]) and not batch["charge"][1, 4:].any()
    monkeypatch.setattr(module, "features", lambda *_: made)
    path = train_chemistry(max_time="00:00:02", out=str(trained / "chem"), threads=1)
    energy = chemical_energy(read_chemistry(path))
    generator = CartesianGenerator.from_pretrained(trained / "out/sidegen.safetensors")
    plain = generator.sample("CCCN", 2, steps=4)
    led = generator.sample("CCCN", 2, steps=4, guidance=Guidance(energy, 50.0, 0.5))
    ends = [m.GetConformer(0).GetPositions() for m in (plain, led)]
    assert abs(ends[0] - ends[1]).max() > 1e-3
    with pytest.raises(ModelFileError, match="expected an energy model"):
        read_chemistry(trained / "out/sidegen.safetensors")
    with pytest.raises(ConfigError, match="--molecules"):
        train_chemistry(molecules=1)


def test_the_bench_compares_variants(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(trained / "out/sidegen.safetensors")
    out = tmp_path / "b.csv"
    words = ["bench", "sidegen", str(trained / "set"), "--model", model, "-o", str(out)]
    assert main([*words, "--conformers", "2", "--steps", "2"]) == 0
    text = capsys.readouterr().out
    assert "1 complexes, medians" in text and "| no messages |" in text
    assert "messages against no target, aligned RMSD:" in text and out.exists()
    assert main(words) == 2 and "or --force" in capsys.readouterr().err
    again = [*words, "--conformers", "2", "--resume"]
    assert main([*again, "--steps", "2"]) == 0
    assert capsys.readouterr().out == text, "nothing is drawn twice"
    assert main([*again, "--steps", "3"]) == 2
    assert "was made with steps 2, expected 3" in capsys.readouterr().err
    with pytest.raises(DataError, match="no such file"):
        bench_sidegen(tmp_path / "nowhere", model, output=tmp_path / "n.csv")
    with pytest.raises(ConfigError, match="--steps"):
        bench_sidegen(trained / "set", model, steps=0)


def test_an_interrupted_table_goes_on(tmp_path: Path) -> None:
    path, columns, same = tmp_path / "t.csv", ("name", "seed", "x"), {"seed": 1}
    assert finished(path, same, columns) == []
    with StreamedTable(path, columns) as table:
        table.write({"name": "a", "seed": 1, "x": 2.5})
        assert path.read_text() == "name,seed,x\na,1,2.5\n", "on disk before the end"
    path.write_text(path.read_text() + "b,1,")
    rows = finished(path, same, columns)
    assert [row["name"] for row in rows] == ["a"] and path.read_text().endswith("2.5\n")
    with StreamedTable(path, columns, append=True) as table:
        table.write({"name": "b", "seed": 1})
    assert len(finished(path, same, columns)) == 2
    with pytest.raises(ConfigError, match="seed 1, expected 2"):
        finished(path, {"seed": 2}, columns)
    with pytest.raises(ConfigError, match="other columns"):
        finished(path, same, ("name", "y"))
    with pytest.raises(OutputError, match="cannot write"), StreamedTable(tmp_path, columns):
        pass


def test_the_table_by_hand() -> None:
    names = ["no target", "messages"]
    rows = [
        {f"{n}: {what}": v * k for n, v in zip(names, (2.0, 1.5), strict=True) for what in FIGURES}
        for k in (1, 2, 3)
    ]
    lines = table(rows, names)
    expected = "messages against no target, aligned RMSD: first -25.0 %, mean -25.0 %"
    assert lines[-1] == expected
    assert lines[3].startswith("| no target | 4.000 | 4.000 | 4.000 |  |")
    assert lines[4].startswith("| messages | 3.000 | 3.000 | 3.000 | 3.00 |")


def test_a_cartesian_model_makes_conformers_of_a_file(trained: Path, tmp_path: Path) -> None:
    from rdkit import Chem

    model = str(trained / "out/sidegen.safetensors")
    (tmp_path / "l.smi").write_text("CCCO one\nnonsense two\n", encoding="utf-8")
    out = tmp_path / "o.sdf"
    words = ["generate", "conformers", str(tmp_path / "l.smi"), "--model", model, "-o", str(out)]
    assert main([*words, "-n", "3", "--steps", "2"]) == 0
    made = list(Chem.SDMolSupplier(str(out), removeHs=False))
    assert [mol.GetProp("rank") for mol in made] == ["1", "2", "3"]
    assert {mol.GetProp("model") for mol in made} == {"sidegen"}
    assert float(made[0].GetProp("confidence")) == pytest.approx(1 / 3, abs=1e-4)
    assert "unreadable SMILES" in out.with_suffix(".csv").read_text("utf-8")
