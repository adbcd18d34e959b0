"""The commands of network weights: from a CSV to a file, training, the bench, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diffcore.errors import ConfigError
from pipelines import bench_weights, cli
from structgen.netweights import zoo
from structgen.netweights.generator import WeightGenerator
from structgen.netweights.weights import shipped

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], working_directory: Path) -> Run:
    """Run the command line in an empty folder: exit code, standard output, error stream."""

    def call(*words: str) -> tuple[int, str, str]:
        code = cli.main(list(words))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def needs_weights() -> None:
    if "tabular-mlp" not in shipped():
        pytest.skip("the weights tabular-mlp are not in this checkout")


def rows_of(classes: int = 3, seed: int = 0, rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return rng.normal(size=(rows, 5)) + 3 * rng.normal(size=(classes, 5))[y], y


def write_csv(path: Path, classes: int = 3) -> Path:
    x, y = rows_of(classes)
    names = np.array(["ash", "elm", "oak", "yew", *[f"t{k}" for k in range(20)]])
    lines = [
        ",".join(f"{v:.4f}" for v in row) + f",{names[k]}" for row, k in zip(x, y, strict=True)
    ]
    path.write_text("a,b,c,d,e,tree\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.usefixtures("needs_weights")
def test_a_csv_becomes_networks_that_load_into_torch(run: Run) -> None:
    write_csv(Path("my.csv"))
    words = ("--data", "my.csv", "--target", "tree", "-n", "4", "-o", "w.safetensors")
    code, out, err = run("generate", "weights", *words)
    assert code == 0, err
    assert "4 networks 5-16-3 for my.csv" in out and "kept aside" in out
    card = json.loads(Path("w.json").read_text())
    assert card["classes"] == ["ash", "elm", "oak"] and card["columns"] == list("abcde")
    stacked = load_file("w.safetensors")
    module = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    x, y = rows_of()
    for k in range(4):
        module.load_state_dict({name: tensor[k] for name, tensor in stacked.items()})
        said = module(torch.from_numpy(x).float()).argmax(1).numpy()
        assert (said == y).mean() > 0.8
    assert np.mean(card["accuracy"]["networks"]) > 0.8

    before = Path("w.safetensors").read_bytes()
    code, _, err = run("generate", "weights", *words)
    assert code == 2 and "exists already" in err
    assert run("generate", "weights", *words, "--force")[0] == 0
    assert Path("w.safetensors").read_bytes() == before


@pytest.mark.usefixtures("needs_weights")
@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("a,t\n1,x\n", {"--target": "label"}, "no column 'label'"),
        ("a,t\n1,x\n,y\n2,x\n3,y\n", {}, "missing values"),
        ("a,t\n1,x\n2,x\n3,x\n", {}, "at least two classes"),
        ("a,t\n1,0.5\n2,1.5\n3,0.25\n", {}, "fraction"),
        ("a,t\n" + "".join(f"{k},{k % 11}\n" for k in range(55)), {}, "11 classes"),
        ("a,t\n1,x\n1,y\n1,x\n1,y\n1,x\n1,y\n", {}, "constant"),
        ("a,t\n1,x\n2,y\n3,x\n4,y\n", {"--model": "vgg"}, "unknown model 'vgg'"),
        ("a,t\n1,x\n2,y\n3,x\n4,y\n", {"--output": "w.pt"}, "expected a .safetensors file"),
        ("a,t\n1,x\n2,y\n3,x\n4,y\n", {"--number": "0"}, "--number: expected at least 1"),
        ("a,t\n1,x\n2,y\n3,x\n4,y\n", {"--test-share": "1"}, "--test-share"),
    ],
)
def test_bad_input_is_one_line(run: Run, text: str, options: dict[str, str], said: str) -> None:
    Path("my.csv").write_text(text)
    asked = {"--data": "my.csv", "--target": "t"} | options
    code, out, err = run("generate", "weights", *[w for pair in asked.items() for w in pair])
    assert code == 2 and out == ""
    assert said in err and err.count("\n") == 1
    assert not list(Path().glob("*.safetensors"))


def test_data_and_target_are_needed(run: Run) -> None:
    code, _, err = run("generate", "weights")
    assert code == 2 and "--data" in err and "--target" in err
    code, _, err = run("generate", "weights", "--data", "absent.csv", "--target", "t")
    assert code == 2 and "absent.csv" in err


@pytest.fixture
def keel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three toy data sets, one of which has the name of one left out."""
    folder = tmp_path_factory.mktemp("keel")
    for name, classes, seed in (("banana", 2, 1), ("heart", 3, 2), ("wine", 3, 3)):
        x, y = rows_of(classes, seed)
        lines = [
            ", ".join(f"{v:.3f}" for v in row) + f", k{k}" for row, k in zip(x, y, strict=True)
        ]
        (folder / f"{name}.dat").write_text("\n".join(lines) + "\n")
    return folder


def test_training_writes_a_model_that_generates_and_is_benched(run: Run, keel: Path) -> None:
    words = ("train", "weights", "--keel", str(keel), "--networks", "24", "--steps", "3")
    code, _, err = run(*words, "-o", "run")
    assert code == 0, err
    card = json.loads(Path("run/tabular-mlp.json").read_text())
    assert card["data"]["datasets"] == ["banana", "heart"]
    assert "wine" in card["data"]["held_out"] and card["trained"]["steps"] == 3
    assert len(zoo.load("run/zoo.safetensors")) == card["data"]["networks"] == 2 * 2 + 24

    generator = WeightGenerator.from_pretrained("run/tabular-mlp.safetensors")
    assert len(generator.sample(2, dataset=rows_of(), steps=3)) == 2

    code, _, err = run(*words, "-o", "run")
    assert code == 2 and "--resume" in err
    code, _, err = run(*words[:-1], "5", "-o", "run", "--resume")
    assert code == 0, err
    assert json.loads(Path("run/tabular-mlp.json").read_text())["trained"]["steps"] == 5

    options = ("--number", "3", "--shelf", "4", "--budget", "4", "--figure", "curves.png")
    model = ("--model", "run/tabular-mlp.safetensors", "--keel", str(keel))
    code, out, err = run("bench", "weights", *model, *options)
    assert code == 0, err
    assert "Seen in training: 2 data sets" in out and "Left out of training whole: 1" in out
    assert "| wine |" in out and "nearest data set" in out and "median distance ratio" in out
    assert Path("curves.png").stat().st_size > 5000
    code, _, err = run("bench", "weights", *model, *options)
    assert code == 2 and "curves.png exists already" in err
    code, _, err = run("bench", "weights", *model, "--datasets", "[nothing]")
    assert code == 2 and "no data set is left" in err


def test_shares_of_steps_count_failures() -> None:
    from structgen.netweights.trial import Trial

    def trial(own: int | None, plain: int | None) -> Trial:
        curves = {"guided": [0.5] * 101, "random start": [0.5] * 101}
        steps = {"guided": own, "random start": plain}
        return Trial("t", False, 2, 16, {}, 0.9, steps, steps, curves, {})

    said = bench_weights.speed_up
    assert "0.25" in said([trial(10, 40)], "guided")
    assert "2.02" in said([trial(None, 50)], "guided")
    assert "0.10" in said([trial(10, None)], "guided")
    assert "neither gets there" in said([trial(10, 40), trial(None, None)], "guided")
    assert bench_weights.median([3.0, 1.0, 2.0]) == 2 and bench_weights.median([1.0, 2.0]) == 1.5


def test_options_of_the_bench_are_checked(run: Run) -> None:
    for words, said in (
        (("--number", "1"), "--number"),
        (("--shelf", "3"), "--shelf"),
        (("--seed", "-1"), "--seed"),
        (("--model", "vgg"), "unknown model"),
    ):
        code, _, err = run("bench", "weights", *words)
        assert code == 2 and said in err
    code, _, err = run("train", "weights", "--keel", "absent", "-o", "run")
    assert code == 2 and "absent: expected KEEL's .dat files" in err
    code, _, err = run("train", "weights", "--recipe", "cnn")
    assert code == 2 and "unknown recipe 'cnn'" in err
    with pytest.raises(ConfigError, match="known: "):
        from structgen.netweights.recipes import recipe

        recipe("x")
