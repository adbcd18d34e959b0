"""`designloom generate molecules` with demands: what is in the files, and going on after a stop."""

from __future__ import annotations

import csv
import functools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore.errors import ConfigError
from pipelines import cli

Run = Callable[..., tuple[int, str, str]]

SEQUENCE = ["CCO", "O.O", "CCN", "CCO", "[CH3]", "CC=O", "COC", "CCC", "O.O", "C1CC1", "CCF"]
"""Of the first eleven molecules seven are strictly valid and unique: 0, 2, 5, 6, 7, 9, 10."""


@functools.cache
def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


class Scripted:
    """Stands for the trained generator."""

    stop_before: int | None = None
    reference = "qm9"

    @classmethod
    def from_pretrained(cls, name: str) -> Scripted:
        return cls()

    def source(self, *, seed: int, n_atoms: int | None = None) -> Callable[..., object]:
        def source(start: int, count: int, done: Callable[[float], object]) -> Iterator[Chem.Mol]:
            if n_atoms is not None:
                raise ConfigError(f"n_atoms: expected 3 to 29, got {n_atoms}")
            for index in range(start, start + count):
                if index == self.stop_before:
                    raise KeyboardInterrupt
                done(1.0)
                yield self.molecule(seed, index)

        return source

    def molecule(self, seed: int, index: int) -> Chem.Mol:
        mol = Chem.Mol(embedded(SEQUENCE[index % len(SEQUENCE)]))
        mol.SetProp("_Name", f"{seed}-{index}")
        mol.SetProp("seed", str(seed))
        return mol


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> type[Scripted]:
    module = types.ModuleType("molgen.generate")
    module.MoleculeGenerator = Scripted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "molgen.generate", module)
    monkeypatch.setattr(Scripted, "stop_before", None)
    return Scripted


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], working_directory: Path, generator: type[Scripted]
) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(["generate", "molecules", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


WORDS = ("--require", "strict_valid", "--unique", "--seed", "4")


def indices(name: str) -> list[int]:
    supplier = Chem.SDMolSupplier(name, removeHs=False, sanitize=False)
    return [int(mol.GetProp("index")) for mol in supplier]


def last_line(text: str) -> str:
    return text.replace("\r", "\n").rstrip("\n").splitlines()[-1]


def test_the_file_holds_the_number_asked_for_and_the_rejected_are_listed(run: Run) -> None:
    code, out, err = run("-n", "6", *WORDS, "-o", "m.sdf", "--rejected", "r.csv")
    assert code == 0, err
    assert out.splitlines() == [
        "m.sdf: 6 molecules written, 6 in all",
        "6 good of 10 made (60.0 %); rejected 4: strict_valid: fragments 2, duplicate 1, "
        "strict_valid: radical 1",
    ]
    assert indices("m.sdf") == [0, 2, 5, 6, 7, 9]
    with Path("r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["index"], row["reason"]) for row in rows] == [
        ("1", "strict_valid: fragments: 2"),
        ("3", "duplicate"),
        ("4", "strict_valid: radical: 1 unpaired electron"),
        ("8", "strict_valid: fragments: 2"),
    ]


@pytest.mark.parametrize("name", ["m.sdf", "m.csv"])
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_an_interrupted_run_ends_with_the_same_files(
    run: Run,
    generator: type[Scripted],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stop: int,
) -> None:
    words = ("-n", "6", *WORDS, "--repair", "mmff")
    whole = run(*words, "-o", f"whole-{name}", "--rejected", "whole.csv")
    monkeypatch.setattr(generator, "stop_before", stop)
    code, _, err = run(*words, "-o", name, "--rejected", "r.csv")
    assert code == 130
    held = {1: 1, 4: 2, 9: 5}[stop]
    assert last_line(err).endswith(f"{name} holds {held} of 6 molecules; --resume continues")
    assert Path("r.csv").exists()
    monkeypatch.setattr(generator, "stop_before", None)
    code, out, err = run(*words, "-o", name, "--rejected", "r.csv", "--resume")
    assert code == 0, err
    assert Path(name).read_bytes() == Path(f"whole-{name}").read_bytes()
    assert Path("r.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert out.splitlines()[1] == whole[1].splitlines()[1]
    assert "0 molecules written, 6 in all" in run(*words, "-o", name, "--resume")[1]


def test_rejections_that_no_file_holds_are_still_counted(
    run: Run, generator: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "stop_before", 7)
    run("-n", "6", *WORDS, "-o", "m.sdf")
    monkeypatch.setattr(generator, "stop_before", None)
    out = run("-n", "6", *WORDS, "-o", "m.sdf", "--resume")[1]
    assert out.splitlines()[1] == (
        "6 good of 10 made (60.0 %); rejected 4: before the interruption 3, "
        "strict_valid: fragments 1"
    )


def test_a_hopeless_run_keeps_what_it_found_and_says_so_in_one_line(run: Run) -> None:
    code, out, err = run("-n", "20", *WORDS, "-o", "m.sdf", "--rejected", "r.csv")
    assert (code, out) == (2, "")
    line = last_line(err)
    assert line.startswith("designloom: error: m.sdf holds 7 of 20 molecules after ")
    assert "duplicate" in line and "--max-tries, 2000" in line
    assert indices("m.sdf") == [0, 2, 5, 6, 7, 9, 10]
    assert len(Path("r.csv").read_text().splitlines()) > 200


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--require", "strictly"], "--require: unknown check 'strictly': did you mean"),
        (["--repair", "uff"], "--repair: expected one of mmff, xtb, got 'uff'"),
        (["--unique", "--max-tries", "5"], "--max-tries: expected at least the 100 molecules"),
        (["--unique", "--max-tries", "0"], "--max-tries: expected at least 1, got 0"),
        (["--unique", "--n-atoms", "300"], "--n-atoms: expected 3 to 29, got 300"),
        (["--max-tries", "5"], "--max-tries and --rejected need one of --require"),
        (["--rejected", "r.csv"], "--max-tries and --rejected need one of --require"),
        (["--unique", "--rejected", "no/folder/r.csv"], "cannot write no/folder/r.csv: no such"),
        (["--unique", "--rejected", "m.sdf"], "--rejected and --output name the same file"),
    ],
)
def test_refusals_are_one_line_in_the_words_of_the_command_line(
    run: Run, words: list[str], part: str
) -> None:
    code, out, err = run(*words, "-o", "m.sdf")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1, err
    assert err.startswith(f"designloom: error: {part}")
    assert list(Path().iterdir()) == []


def test_only_the_same_seed_and_demands_go_on(run: Run) -> None:
    assert run("-n", "2", *WORDS, "-o", "m.sdf")[0] == 0
    before = Path("m.sdf").read_bytes()
    for words, part in (
        (("--require", "strict_valid", "--seed", "4"), "was made with 'strict_valid unique'"),
        ((*WORDS[:3], "--seed", "5"), "was made with --seed 4: expected the same, got 5"),
        (("--seed", "4"), "expected the same, got 'none'"),
    ):
        code, _, err = run("-n", "4", *words, "-o", "m.sdf", "--resume")
        assert code == 2
        assert part in err
    assert Path("m.sdf").read_bytes() == before


def test_a_format_that_does_not_tell_is_not_resumed(run: Run) -> None:
    assert run("-n", "2", *WORDS, "-o", "m.smi")[0] == 0
    code, _, err = run("-n", "4", *WORDS, "-o", "m.smi", "--resume")
    assert code == 2
    assert "expected an .sdf or .csv file, got m.smi" in err


def test_no_table_is_overwritten_without_force(run: Run) -> None:
    Path("r.csv").write_text("mine")
    code, _, err = run("-n", "2", *WORDS, "-o", "m.sdf", "--rejected", "r.csv")
    assert code == 2
    assert "r.csv exists" in err
    assert Path("r.csv").read_text() == "mine"
    assert run("-n", "2", *WORDS, "-o", "m.sdf", "--rejected", "r.csv", "--force")[0] == 0
