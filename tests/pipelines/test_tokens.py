"""Training, writing and comparing of models of tokens, small."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcore.errors import ConfigError, OutputError
from molgen.datasets.table import SPLITS
from molgen.tokens.generator import load_tokens
from pipelines.cli import main
from pipelines.tokens import bench_tokens, generate_smiles
from pipelines.train_tokens import train_tokens
from tests.molgen.test_table import table_of

SMALL = {"width": 32, "layers": 1, "batch": 4, "threads": 1, "notation": "smiles"}


def trained(folder: Path, methods: tuple[str, ...], **more: object) -> Path:
    """A folder with data and a model of a second for each method."""
    table = table_of(["C", "O", "CO", "C=O", "N", "CC"] * 6)
    table.split[-6:] = SPLITS.index("test")
    data = table.save(folder / "table.safetensors")
    for method in methods:
        options = {"max_time": "00:00:01", "out": str(folder / method), "data": data}
        train_tokens(method, **options, **SMALL, **more)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a writer and a reader."""
    return trained(tmp_path_factory.mktemp("tokens"), ("absorbing", "direct"))


def model(run: Path, method: str) -> Path:
    return run / method / f"qm9-{method}-smiles.safetensors"


def test_a_card_says_what_was_trained(run: Path) -> None:
    denoiser, card = load_tokens(model(run, "absorbing"), reads=False)
    assert card["trained"]["steps"] > 0 and "odd" in card["data"]["part"]
    assert denoiser.task.method == "absorbing"


def test_written_to_a_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "made.smi"
    said = generate_smiles(5, out, model=str(model(run, "absorbing")))
    assert said.endswith(f"of 5 draws are molecules: {out}")
    assert len(out.read_text().splitlines()) == int(said.split()[0])
    with pytest.raises(OutputError, match="--force"):
        generate_smiles(5, out, model=str(model(run, "absorbing")))
    with pytest.raises(ConfigError, match=r"\.smi"):
        generate_smiles(5, tmp_path / "made.csv")


def test_the_bench_reads_and_writes(run: Path) -> None:
    writer, reader = (str(model(run, m)) for m in ("absorbing", "direct"))
    said = bench_tokens(4, writer, reader, data=run / "table.safetensors")
    assert "read off SMILES" in said and "novel among the unique" in said


def test_what_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match="--resume"):
        train_tokens("direct", out=str(run / "direct"))
    with pytest.raises(ConfigError, match="multiple of 32"):
        train_tokens("direct", out=str(run / "other"), width=50)
    with pytest.raises(ConfigError, match="at least 2"):
        bench_tokens(1)
    assert main(["generate", "smiles", "--model", "nothing", "-o", str(run / "x.smi")]) == 2
    assert "nothing" in capsys.readouterr().err
