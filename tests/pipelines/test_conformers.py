"""The conformer commands: a batch with broken rows, the bench, and a short training."""

import csv

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore.errors import ConfigError, DataError, OutputError
from molgen.conformers import ConformerGenerator
from pipelines.bench_conformers import bench_conformers, etkdg, etkdg_mmff
from pipelines.cli import main
from pipelines.conformers import generate_conformers
from pipelines.train_conformers import probe, torsion_table, train_conformers
from tests.molgen.test_conformers import model  # noqa: F401 - a fixture
from tests.molgen.test_torsions import table_of

LIGANDS = """CCCCO butanol
not_a_smiles broken
OC(=O)CCc1ccccc1 acid
C1CCCCC1 ring
[Na+].CCC(=O)[O-] salt
"""


@pytest.fixture
def ligands(tmp_path):
    path = tmp_path / "ligands.smi"
    path.write_text(LIGANDS)
    return path


def read_csv(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_batch_goes_on_and_every_molecule_has_its_line(ligands, tmp_path, model):  # noqa: F811
    out = tmp_path / "poses.sdf"
    line = generate_conformers(ligands, 3, out, model=str(model))
    assert "12 conformers of 4 molecules written, 1 molecules failed" in line
    rows = read_csv(tmp_path / "poses.csv")
    assert [r["name"] for r in rows] == ["butanol", "broken", "acid", "ring", "salt"]
    assert [r["conformers"] for r in rows] == ["3", "0", "3", "3", "3"]
    assert "SMILES" in rows[1]["reason"]
    assert all(not r["reason"] for k, r in enumerate(rows) if k != 1)
    mols = [m for m in Chem.SDMolSupplier(str(out), removeHs=False)]
    assert [m.GetProp("_Name") for m in mols[:4]] == ["butanol"] * 3 + ["acid"]
    assert [m.GetProp("rank") for m in mols[:4]] == ["1", "2", "3", "1"]
    assert {m.GetProp("model") for m in mols} == {"tiny"}
    assert {m.GetProp("seed") for m in mols} == {"0"}
    assert all(0 <= float(m.GetProp("confidence")) <= 1 for m in mols)
    assert all(m.GetConformer().Is3D() for m in mols)


def test_a_molecule_does_not_depend_on_the_others_in_the_file(ligands, tmp_path, model):  # noqa: F811
    generate_conformers(ligands, 2, tmp_path / "all.sdf", model=str(model))
    alone = tmp_path / "alone.smi"
    alone.write_text("OC(=O)CCc1ccccc1 acid\n")
    generate_conformers(alone, 2, tmp_path / "one.sdf", model=str(model))
    one = (tmp_path / "one.sdf").read_text()
    assert one in (tmp_path / "all.sdf").read_text()


def test_a_failure_inside_costs_one_molecule(ligands, tmp_path, model, monkeypatch):  # noqa: F811
    right = ConformerGenerator.sample

    def failing(self, mol, n=50, *, seed=0):
        if mol.GetProp("_Name") == "acid":
            raise RuntimeError("planted\nfault")
        return right(self, mol, n, seed=seed)

    monkeypatch.setattr(ConformerGenerator, "sample", failing)
    generate_conformers(ligands, 1, tmp_path / "p.sdf", model=str(model))
    rows = read_csv(tmp_path / "p.csv")
    assert rows[2]["reason"] == "RuntimeError: planted"
    assert rows[3]["conformers"] == "1"


def test_bad_options_and_files_are_refused(ligands, tmp_path, model):  # noqa: F811
    out = tmp_path / "p.sdf"
    for options in ({"number": 0}, {"seed": -1}, {"steps": 0}, {"output": tmp_path / "p.xyz"}):
        with pytest.raises(ConfigError, match="expected"):
            generate_conformers(ligands, **({"output": out, "model": str(model)} | options))
    out.write_text("old")
    with pytest.raises(OutputError, match="--force"):
        generate_conformers(ligands, output=out, model=str(model))
    bad = tmp_path / "bad.smi"
    bad.write_text("xyz nothing\n")
    with pytest.raises(DataError, match="no molecule gave a conformer"):
        generate_conformers(bad, output=tmp_path / "q.sdf", model=str(model))
    assert len(read_csv(tmp_path / "q.csv")) == 1
    assert not (tmp_path / "q.sdf").exists()


def test_the_commands_are_on_the_command_line(ligands, tmp_path, model, capsys):  # noqa: F811
    out = tmp_path / "poses.sdf"
    words = ["generate", "conformers", str(ligands), "-n", "2", "-o", str(out)]
    assert main([*words, "--model", str(model)]) == 0
    assert "8 conformers of 4 molecules" in capsys.readouterr().out
    assert main([*words, "--model", str(model)]) == 2
    assert "--force" in capsys.readouterr().err
    for command in ("train", "bench", "data"):
        name = "components" if command == "data" else "conformers"
        assert main([command, name, "--help"]) == 0


@pytest.fixture
def references(tmp_path):
    path = tmp_path / "known.sdf"
    with Chem.SDWriter(str(path)) as writer:
        for name, smiles in (("a", "CCCCO"), ("b", "CC(=O)Nc1ccccc1"), ("flat", None)):
            mol = Chem.AddHs(Chem.MolFromSmiles(smiles or "CCO"))
            if smiles:
                AllChem.EmbedMolecule(mol, randomSeed=3)
            mol.SetProp("_Name", name)
            writer.write(mol)
    return path


def test_the_bench_judges_all_methods_and_lists_what_it_left_out(
    references,
    tmp_path,
    model,  # noqa: F811
):
    table = bench_conformers(references, model=str(model), output=tmp_path / "b.csv")
    assert table.startswith("2 molecules")
    assert "| etkdg |" in table and "| etkdg_mmff |" in table and "| model |" in table
    assert "flat: no 3D molecule" in table
    for row in read_csv(tmp_path / "b.csv"):
        for method in ("etkdg", "etkdg_mmff", "model"):
            at = [float(row[f"{method}_{n}"]) for n in (1, 10, 50)]
            assert at[0] >= at[1] >= at[2] >= 0
            assert float(row[f"{method}_mat_recall"]) == at[2]  # one known conformer
            assert float(row[f"{method}_cov_recall"]) == float(at[2] <= 0.75)
            assert float(row[f"{method}_mat_precision"]) >= at[2]
    assert "COV below 0.75 A and MAT" in table and "the model against ETKDGv3 + MMFF94" in table
    # with 50 tries a known conformer of butanol is met closely
    assert float(read_csv(tmp_path / "b.csv")[0]["etkdg_50"]) < 0.3
    with pytest.raises(ConfigError, match="unknown method"):
        bench_conformers(references, only=["omega"])


def test_known_conformers_of_one_molecule_are_one_ensemble(tmp_path):
    from pipelines.bench_conformers import COUNTS

    path = tmp_path / "many.sdf"
    made = etkdg(Chem.AddHs(Chem.MolFromSmiles("CCCCO")), 3, 1)
    other = etkdg(Chem.AddHs(Chem.MolFromSmiles("CCCCN")), 1, 1)
    with Chem.SDWriter(str(path)) as writer:
        for mol, name in ((made, "x"), (other, "x"), (other, "y")):
            mol.SetProp("_Name", name)
            for conformer in mol.GetConformers():
                writer.write(mol, confId=conformer.GetId())
    out = tmp_path / "b.csv"
    text = bench_conformers(path, only=["etkdg"], output=out, threshold=0.1)
    assert text.startswith("3 molecules") and "COV below 0.1 A" in text
    first = read_csv(out)[0]
    # the mean over the known ones of the distance to the nearest: MAT recall, by another way
    assert float(first["etkdg_50"]) == pytest.approx(float(first["etkdg_mat_recall"]))
    assert float(first[f"etkdg_{COUNTS[0]}"]) > float(first["etkdg_50"])
    with pytest.raises(ConfigError, match="--threshold"):
        bench_conformers(path, threshold=0)


def test_one_command_makes_the_whole_table(tmp_path, references):
    for package in ("vina", "openbabel", "meeko"):
        pytest.importorskip(package)
    from tests.molgen.docking_examples import write

    (tmp_path / "set").mkdir()
    write(tmp_path / "set")
    rows = tmp_path / "r.csv"
    options = {"only": ["etkdg"], "complexes": tmp_path / "set", "redocking": rows}
    text = bench_conformers(references, **options, exhaustiveness=1)
    assert "| etkdg |" in text and "1 complexes: 1 redocked, 0 with a reason why not" in text
    assert len(read_csv(rows)) == 1
    with pytest.raises(OutputError, match="--resume"):
        bench_conformers(references, **options)


def test_minimisation_lowers_the_energy():
    from rdkit.Chem import rdForceFieldHelpers as forcefields

    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)Nc1ccccc1"))

    def energy(made):
        properties = forcefields.MMFFGetMoleculeProperties(made)
        return forcefields.MMFFGetMoleculeForceField(made, properties).CalcEnergy()

    assert energy(etkdg_mmff(mol, 1, 0)) < energy(etkdg(mol, 1, 0))
    assert mol.GetNumConformers() == 0


def test_training_writes_a_model_that_generates(tmp_path):
    table = table_of(*["CCCCO", "CC(C)CCN", "OC(=O)CCc1ccccc1"] * 4)
    table.split[-3:] = 1
    table.save(tmp_path / "t.safetensors")
    path = train_conformers(
        max_time="00:00:03",
        out=str(tmp_path / "run"),
        data=tmp_path / "t.safetensors",
        accelerator="cpu",
        threads=1,
    )
    generator = ConformerGenerator.from_pretrained(path)
    assert generator.card["kind"] == "conformers"
    assert generator.card["trained"]["steps"] > 0
    assert generator.sample("CCCCN", 3).GetNumConformers() == 3
    assert "validation_1.0" in (tmp_path / "run" / "curve.csv").read_text()
    with pytest.raises(OutputError, match="--resume"):
        train_conformers(out=str(tmp_path / "run"), data=tmp_path / "t.safetensors")
    with pytest.raises(ConfigError, match="devices"):
        train_conformers(out=str(tmp_path / "other"), devices=0)
    assert probe(generator.task, table_of("CCCCO"), 0) is None
    again = torsion_table(tmp_path, tmp_path / "t.safetensors", [])
    assert len(again) == 12
