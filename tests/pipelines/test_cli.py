"""The command line: what it imports, what it refuses, and that a refusal is one line and code 2."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore.errors import ConfigError, DataError, ModelFileError
from pipelines import cli

HEAVY = ("torch", "rdkit", "lightning", "pandas", "matplotlib", "numpy", "scipy", "e3nn")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], working_directory: Path) -> Run:
    """Run the command line in an empty folder: exit code, standard output, error stream."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def assert_refused(result: tuple[int, str, str], *parts: str) -> None:
    """Exit code 2, nothing on the output, one line on the error stream that names the parts."""
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("designloom: error: ")
    assert err.count("\n") == 1 and err.endswith("\n")
    for part in parts:
        assert part in err


class FakeGenerator:
    """Stands for the trained generator: molecule k depends on the seed and k alone."""

    stop_before: int | None = None

    @classmethod
    def from_pretrained(cls, name: str) -> FakeGenerator:
        if name != "qm9":
            raise ModelFileError(f"unknown model {name!r}: expected qm9")
        return cls()

    def stream(
        self,
        number: int,
        *,
        seed: int,
        start: int = 0,
        n_atoms: int | None = None,
        progress: Callable[[float], object],
    ) -> Iterator[Chem.Mol]:
        if n_atoms is not None and not 3 <= n_atoms <= 29:
            raise ConfigError(f"n_atoms: expected 3 to 29, got {n_atoms}")
        return self._molecules(seed, range(start, start + number), progress)

    def _molecules(
        self, seed: int, indices: range, progress: Callable[[float], object]
    ) -> Iterator[Chem.Mol]:
        for index in indices:
            progress(1.0)
            if index == self.stop_before:
                raise KeyboardInterrupt
            mol = Chem.AddHs(Chem.MolFromSmiles("C" * (1 + (seed + index) % 4)))
            AllChem.EmbedMolecule(mol, randomSeed=seed)
            mol.SetProp("_Name", f"{seed}-{index}")
            yield mol


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> type[FakeGenerator]:
    module = types.ModuleType("molgen.generate")
    module.MoleculeGenerator = FakeGenerator  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "molgen.generate", module)
    monkeypatch.setattr(FakeGenerator, "stop_before", None)
    return FakeGenerator


def command(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], short: dict) -> None:
    """Put a function of the test into the table, as ``designloom probe``."""
    module = types.ModuleType("probe_module")
    module.probe = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "probe_module", module)
    entry = cli.Command("probe_module:probe", "a probe", short)
    monkeypatch.setitem(cli.COMMANDS, ("probe",), entry)


# ------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["generate", "--help"], ["oops"]])
def test_answers_without_importing_anything_heavy(words: list[str], repository: Path) -> None:
    program = (
        "import sys; from pipelines.cli import main; main(sys.argv[1:]); "
        f"print([name for name in {(*HEAVY, 'jsonargparse')!r} if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_module_runs_as_the_command(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "nonsense"],
        capture_output=True,
        text=True,
        cwd=repository,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_lists_every_command(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in cli.COMMANDS:
        assert " ".join(name) in out


def test_help_of_a_command_comes_from_its_signature(run: Run) -> None:
    code, out, _ = run("generate", "molecules", "--help")
    assert code == 0
    for option in (
        r"-n( NUMBER)?, --number",
        r"-o( OUTPUT)?, --output",
        "--n-atoms",
        "--batch-size",
    ):
        assert re.search(option, out), option  # Python 3.13 names the value once
    assert "Seed of the random numbers" in out


def test_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("designloom ")


# ---------------------------------------------------------------------------- options and YAML


def test_lists_are_given_one_by_one(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    seen: dict[str, Any] = {}

    def probe(
        exclude: list[Path] | None = None, stage: list[int] | None = None, name: str = ""
    ) -> None:
        """Probe."""
        seen.update(exclude=exclude, stage=stage, name=name)

    command(monkeypatch, probe, {})
    for words in (
        ("--exclude", "a b.sdf", "--exclude", "c", "--stage", "0", "--name=x", "--stage=2"),
        ("--exclude+", "a b.sdf", "--exclude+", "c", "--stage", "[0, 2]", "--name", "x"),
        ("--name", "x", "--stage", "0", "--stage+", "2", "--exclude", '["a b.sdf", "c"]'),
    ):
        code, _, err = run("probe", *words)
        assert (code, err) == (0, "")
        assert seen == {"exclude": [Path("a b.sdf"), Path("c")], "stage": [0, 2], "name": "x"}
    code, _, err = run("probe", "--stage", "first")
    assert code == 2 and err.startswith("designloom: error: --stage: ") and err.count("\n") == 1


def test_options_positionals_and_switches(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    seen: dict[str, Any] = {}

    def probe(
        source: Path, max_time: str | None = None, rate: float = 1.0, force: bool = False
    ) -> str:
        """Probe."""
        seen.update(source=source, max_time=max_time, rate=rate, force=force)
        return "done"

    command(monkeypatch, probe, {"-r": "rate"})
    code, out, _ = run("probe", "--force", "in.sdf", "--max-time", "00:30:00", "-r", "2")
    assert (code, out) == (0, "done\n")
    assert seen == {
        "source": Path("in.sdf"),
        "max_time": "00:30:00",
        "rate": 2.0,
        "force": True,
    }
    for words, force in (("--force=false", False), ("--force true", True), ("--force", True)):
        assert run("probe", "in.sdf", *words.split())[0] == 0
        assert seen["force"] is force
    assert_refused(run("probe"), "source")
    assert_refused(run("probe", "in.sdf", "more.sdf"), "more.sdf")


def test_yaml_gives_the_same_options_and_the_words_win(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    seen: dict[str, Any] = {}

    def probe(number: int = 1, max_time: str | None = None, force: bool = False) -> None:
        """Probe."""
        seen.update(number=number, max_time=max_time, force=force)

    command(monkeypatch, probe, {"-n": "number"})
    Path("c.yaml").write_text("number: 7\nmax_time: '00:10:00'\nforce: true\n")
    assert run("probe", "--config", "c.yaml")[0] == 0
    assert seen == {"number": 7, "max_time": "00:10:00", "force": True}
    assert run("probe", "--config", "c.yaml", "-n", "8")[0] == 0
    assert seen["number"] == 8


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("numbr: 3\n", "did you mean '--number'"),
        ("number: two\n", "expected int, got 'two'"),
        ("number: [1, 2\n", "config"),
        ("", "config"),
        ("3\n", "config"),
        ("[" * 5000, "error"),
    ],
)
def test_bad_yaml_is_one_line(run: Run, text: str, part: str) -> None:
    Path("c.yaml").write_text(text)
    assert_refused(run("generate", "molecules", "--config", "c.yaml"), part)


def test_yaml_that_is_not_text(run: Run) -> None:
    Path("c.yaml").write_bytes(b"\xff\xfe\x00number")
    assert_refused(run("generate", "molecules", "--config", "c.yaml"))


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.x"]
)
def test_yaml_builds_no_objects(run: Run, tag: str) -> None:
    Path("c.yaml").write_text(f"output: {tag} [made-by-yaml]\n")
    assert_refused(run("generate", "molecules", "--config", "c.yaml"), "constructor")
    assert not Path("made-by-yaml").exists()


# --------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "expected a command"),
        (["genrate", "molecules"], "did you mean 'generate'"),
        (["generate"], "molecules"),
        (["generate", "molecule"], "did you mean 'molecules'"),
        (["--versoin"], "did you mean '--version'"),
        (["generate", "molecules", "--sede", "1"], "did you mean '--seed'"),
        (["generate", "molecules", "--n-atms=3"], "did you mean '--n-atoms'"),
        (["generate", "molecules", "-n", "many"], "--number: expected int, got 'many'"),
        (["generate", "molecules", "-n"], "expected one argument"),
        (["generate", "molecules", "-n", "1.5"], "--number: expected int, got '1.5'"),
        (["generate", "molecules", "--temperature", "hot"], "expected float, got 'hot'"),
        (["generate", "molecules", "--config", "none.yaml"], "none.yaml"),
        (["generate", "molecules", "-n", "0"], "--number: expected at least 1, got 0"),
        (["generate", "molecules", "-n", "-3"], "--number: expected at least 1, got -3"),
        (["generate", "molecules", "--seed", "-1"], "--seed: expected 0 to"),
        (["generate", "molecules", "--seed", str(2**31)], "--seed: expected 0 to"),
        (["generate", "molecules", "--threads", "0"], "--threads: expected at least 1"),
        (["generate", "molecules", "--batch-size", "0"], "--batch-size: expected at least 1"),
        (["generate", "molecules", "--resume", "--force"], "--resume"),
        (["generate", "molecules", "-o", "x.pdb"], ".sdf"),
        (["generate", "molecules", "-o", "no/such/folder/x.sdf"], "folder"),
        (["generate", "molecules", "--model", "qm10"], "unknown model 'qm10'"),
        (["generate", "molecules", "--n-atoms", "400"], "expected 3 to 29, got 400"),
    ],
)
def test_refusals_are_one_line_and_leave_no_file(
    run: Run, generator: type[FakeGenerator], words: list[str], part: str
) -> None:
    assert_refused(run(*words), part)
    assert list(Path().iterdir()) == []


def test_number_is_checked_before_anything_heavy_is_loaded(repository: Path) -> None:
    program = (
        "import sys; from pipelines.cli import main; "
        "main(['generate', 'molecules', '-n', '0']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=repository
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [["--force"], []])
def test_an_unwritable_output(run: Run, generator: type[FakeGenerator], options: list[str]) -> None:
    Path("folder.sdf").mkdir()
    assert_refused(run("generate", "molecules", "-o", "folder.sdf", *options), "folder.sdf")


HEADER = "probe\n  none\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n"
UNKNOWN_ELEMENT = HEADER + "    0.0000    0.0000    0.0000 Zz  0  0\nM  END\n$$$$\n"
TORN = HEADER + "    0.0000    0.00"


@pytest.mark.parametrize(
    ("name", "text", "options", "part"),
    [
        ("in.sdf", None, [], "no such file: in.sdf"),
        ("in.sdf", "", [], "in.sdf is empty"),
        ("in.sdf", "hello\n", [], "not an SDF file"),
        ("in.sdf", TORN, [], "truncated"),
        ("in.sdf", UNKNOWN_ELEMENT, [], "in.sdf"),
        ("in.pdb", "ATOM", [], ".sdf"),
        ("in.smi", "CCO", ["--reference", "qm8"], "qm8"),
        ("in.smi", "CCO", ["-o", "no/such/folder/r.html"], "folder"),
        ("in.smi", "CCO", ["-o", "r.docx"], ".html"),
    ],
)
def test_evaluate_refuses_in_one_line_and_leaves_no_file(
    run: Run, name: str, text: str | None, options: list[str], part: str
) -> None:
    if text is not None:
        Path(name).write_text(text)
    before = list(Path().iterdir())
    assert_refused(run("evaluate", name, *(options or ["-o", "r.html"])), part)
    assert list(Path().iterdir()) == before


def test_evaluate_keeps_an_old_report_unless_told_and_able(run: Run) -> None:
    Path("r.html").write_text("mine")
    Path("in.smi").write_text("CCO ethanol\n")
    Path("empty.sdf").touch()
    assert_refused(run("evaluate", "in.smi", "-o", "r.html"), "r.html", "--force")
    assert_refused(run("evaluate", "empty.sdf", "-o", "r.html", "--force"), "empty.sdf")
    assert Path("r.html").read_text() == "mine"


@pytest.mark.parametrize("error", [DataError("two\nlines"), OSError(28, "No space left", "x.sdf")])
def test_errors_of_a_command_are_one_line(
    monkeypatch: pytest.MonkeyPatch, run: Run, error: Exception
) -> None:
    def probe() -> None:
        """Probe."""
        raise error

    command(monkeypatch, probe, {})
    assert_refused(run("probe"), "two lines" if isinstance(error, DataError) else "x.sdf: No space")
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(type(error)):
        cli.main(["probe"])


def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> None:
        """Probe."""
        raise ZeroDivisionError

    command(monkeypatch, probe, {})
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


# -------------------------------------------------------------------------------- generation


def test_generate_writes_the_number_asked_for(run: Run, generator: type[FakeGenerator]) -> None:
    code, out, _ = run("generate", "molecules", "-n", "5", "--seed", "3", "-o", "m.sdf")
    assert code == 0
    assert "m.sdf: 5 molecules written, 5 in all" in out
    names = [mol.GetProp("_Name") for mol in Chem.SDMolSupplier("m.sdf", removeHs=False)]
    assert names == [f"3-{index}" for index in range(5)]


def test_nothing_is_overwritten_without_force(run: Run, generator: type[FakeGenerator]) -> None:
    Path("m.sdf").write_text("mine")
    assert_refused(run("generate", "molecules", "-n", "2", "-o", "m.sdf"), "m.sdf", "--force")
    assert Path("m.sdf").read_text() == "mine"
    words = ["generate", "molecules", "-n", "2", "-o", "m.sdf", "--force"]
    assert_refused(run(*words, "--n-atoms", "400"), "400")
    assert Path("m.sdf").read_text() == "mine"
    assert run(*words)[0] == 0
    assert len(Chem.SDMolSupplier("m.sdf")) == 2


@pytest.mark.parametrize("name", ["m.sdf", "m.smi", "m.xyz", "m.csv"])
def test_an_interrupted_run_is_valid_and_resumes_to_the_same_file(
    run: Run, generator: type[FakeGenerator], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words = ["generate", "molecules", "-n", "6", "--seed", "1", "-o"]
    assert run(*words, f"whole-{name}")[0] == 0
    monkeypatch.setattr(generator, "stop_before", 4)
    code, _, err = run(*words, name)
    assert code == 130
    last = err.splitlines()[-1]
    assert last == f"designloom: interrupted: {name} holds 4 of 6 molecules; --resume continues"
    monkeypatch.setattr(generator, "stop_before", None)
    whole = Path(f"whole-{name}").read_bytes()
    assert whole.startswith(Path(name).read_bytes())
    Path(name).write_bytes(Path(name).read_bytes() + whole[:3])  # a torn record after a kill
    code, out, _ = run(*words, name, "--resume")
    assert code == 0
    assert "2 molecules written, 6 in all" in out
    assert Path(name).read_bytes() == whole
    assert "0 molecules written, 6 in all" in run(*words, name, "--resume")[1]


def test_an_interrupt_before_the_first_molecule_leaves_no_file(
    run: Run, generator: type[FakeGenerator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "stop_before", 0)
    code, _, err = run("generate", "molecules", "-o", "m.sdf")
    assert code == 130
    assert err.splitlines()[-1] == "designloom: interrupted"
    assert not Path("m.sdf").exists()
