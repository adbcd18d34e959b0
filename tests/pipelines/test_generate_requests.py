"""`designloom generate molecules` with requests: files, refusals, resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolDescriptors

from molgen.weights.files import shipped
from pipelines import cli

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif("qm9" not in shipped(), reason="the weights qm9 are not here")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], working_directory: Path) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(["generate", "molecules", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def read(path: str) -> list[Chem.Mol]:
    return list(Chem.SDMolSupplier(path, removeHs=False, sanitize=False))


def write_part(path: str, smiles: str = "CC(=O)N", copies: int = 1, flat: bool = False) -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if flat:
        AllChem.Compute2DCoords(mol)
    else:
        AllChem.EmbedMolecule(mol, randomSeed=7)
    with Chem.SDWriter(path) as writer:
        for _ in range(copies):
            writer.write(mol)


def test_a_formula_from_the_command_line_and_resuming_it(run: Run) -> None:
    words = ["--steps", "15", "-o", "m.sdf", "--seed", "3", "--formula", "C4H8O"]
    assert run("-n", "1", *words)[0] == 0
    assert run("-n", "3", *words, "--resume")[0] == 0
    mols = read("m.sdf")
    assert [m.GetProp("index") for m in mols] == ["0", "1", "2"]
    for mol in mols:
        mol.UpdatePropertyCache(strict=False)
        assert rdMolDescriptors.CalcMolFormula(mol) == "C4H8O"
        assert mol.GetProp("request") == "formula=C4H8O"
    words[-1] = "C4H8"
    code, _, err = run("-n", "4", *words, "--resume")
    assert code == 2 and "m.sdf was made with 'formula=C4H8O': expected the same" in err
    code, _, err = run("-n", "4", *words[:-2], "--resume")
    assert code == 2 and "expected the same, got 'none'" in err


def test_scaffold_fragment_charge_and_property(run: Run) -> None:
    write_part("part.sdf")
    assert run("-n", "1", "--steps", "15", "--scaffold", "c1ccccc1", "-o", "s.sdf")[0] == 0
    (mol,) = read("s.sdf")
    Chem.FastFindRings(mol)
    assert mol.HasSubstructMatch(Chem.MolFromSmarts("C1=CC=CC=C1"))
    words = "-n 1 --steps 15 --n-atoms 14 --keep part.sdf --charge 0 -o k.sdf"
    assert run(*words.split())[0] == 0
    (mol,), (part,) = read("k.sdf"), read("part.sdf")
    kept = mol.GetConformer().GetPositions()[:4] - part.GetConformer().GetPositions()[:4]
    assert abs(kept).max() < 1e-4
    words = "-n 1 --steps 8 --property gap=0.25 --property mu=0:3 --candidates 1 --strength 0"
    assert run(*words.split(), "-o", "p.sdf")[0] == 0
    asked = read("p.sdf")[0].GetProp("request")
    assert asked == "property={'gap': '0.25', 'mu': ('0', '3')} strength=0.0 candidates=1"


def test_a_reward_from_the_command_line(run: Run) -> None:
    words = "-n 2 --steps 10 --reward qed --budget 160 --search best_of_n --n-atoms 12 -o r.sdf"
    code, out, _ = run(*words.split())
    assert code == 0 and "r.sdf: 2 molecules written" in out
    assert "best_of_n: best reward" in out and "after 160 network evaluations" in out
    rewards = [float(m.GetProp("reward")) for m in read("r.sdf")]
    assert rewards == sorted(rewards, reverse=True)
    code, _, err = run(*words.replace("-n 2", "-n 16").split(), "--force")
    assert code == 2 and "r.sdf holds " in err and " of 16 molecules; best_of_n: best" in err
    assert len(read("r.sdf")) < 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--formula C2H5", "--formula: C2H5 has an odd number of electrons"),
        ("--formula C9Xx2", "--formula: 'Xx' in 'C9Xx2' is no element"),
        ("--formula C9H20Cl2", "--formula: the model knows H, C, N, O, F, got Cl"),
        ("--formula C20H42", "--formula: the model makes molecules of 3 to 29 atoms"),
        ("--formula C2H8", "--formula: C2H8 is impossible"),
        ("--charge 1.5", "--charge: expected int"),
        ("--scaffold c1ccc", "--scaffold: expected SMILES, or SMARTS"),
        ("--scaffold CCCCCCCCCCCCCC", "--scaffold: with its hydrogens it has 44 atoms"),
        ("--keep nowhere.sdf", "no such file: nowhere.sdf"),
        ("--keep several.sdf", "--keep: several.sdf: expected one molecule, got several"),
        ("--keep flat.sdf", "--keep: flat.sdf: expected 3D coordinates"),
        ("--keep part.sdf --scaffold CC", "expected a scaffold or a fragment to keep, got both"),
        ("--property gap", "--property: expected NAME=VALUE or NAME=LOW:HIGH, got 'gap'"),
        ("--property gap=1:2:3", "--property: expected NAME=VALUE or NAME=LOW:HIGH"),
        ("--property gap=0.2 --property gap=0.3", "--property: gap is given twice"),
        ("--property gap=big", "--property gap: expected a number, got 'big'"),
        ("--property logp=2", "--property: the model was not trained with 'logp'; it knows"),
        ("--property mu=2:1", "--property mu: expected low before high"),
        ("--strength 2", "--strength and --candidates need a --property"),
        ("--property mu=1 --strength -1", "--strength: expected a number of 0 or more"),
        ("--property mu=1 --candidates 0", "--candidates: expected at least 1, got 0"),
        ("--reward druglike", "--reward: expected a function or one of qed, sa, logp"),
        ("--reward qed --budget 10", "--budget: expected at least 45 network evaluations"),
        ("--reward qed --search beam", "unknown search 'beam'"),
        ("--reward qed --unique", "--reward: its molecules are valid and unique"),
        ("--reward qed --resume", "--reward: a search is made in one go"),
        ("--budget 900", "--budget and --search need a --reward"),
    ],
)
def test_bad_requests_are_one_line_and_leave_no_file(run: Run, words: str, message: str) -> None:
    write_part("part.sdf")
    write_part("several.sdf", copies=2)
    write_part("flat.sdf", flat=True)
    code, out, err = run("-n", "1", "-o", "out.sdf", *words.split())
    assert code == 2 and out == "" and err.count("\n") == 1
    assert message in err
    assert not Path("out.sdf").exists()
