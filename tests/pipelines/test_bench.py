"""The bench on a tiny network: what is counted, what is compared, and its one-line refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from diffcore.errors import ConfigError, ModelFileError, OutputError
from diffcore.state import State
from molgen.generate import LANES, MoleculeGenerator, Sampling
from molgen.models.eqgat import EqgatConfig
from molgen.tasks.molecules import MoleculeDenoiser, MoleculeTask
from pipelines import bench, timing
from pipelines.cli import main
from pipelines.timing import Case, NetworkCost, Stopwatch, time_generation, time_network

STEPS = 4


def tiny_task() -> MoleculeTask:
    network = EqgatConfig(layers=1, scalars=16, vectors=4, pairs=4, hidden=8, heads=4)
    marginals = {"atom": (0.5, 0.5), "charge": (1.0,), "bond": (0.7, 0.1, 0.1, 0.1)}
    return MoleculeTask((1, 6), (0,), marginals, {4: 3, 5: 1}, 1.0, network=network)


def tiny_generator(sampler: str = "ddim") -> MoleculeGenerator:
    task = tiny_task()
    network = task.build().requires_grad_(False).eval()
    denoiser = MoleculeDenoiser(network, task.processes(), task.predicts)
    return MoleculeGenerator(task, denoiser, Sampling(steps=STEPS, sampler=sampler))


def tiny_case(name: str = "tiny", published: float | None = None) -> Case:
    generator = tiny_generator()
    return Case(name, generator.task, generator.denoiser, 7, 8, 4, published)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with a tiny model and tiny cases."""
    monkeypatch.setattr(MoleculeGenerator, "from_pretrained", lambda *_: tiny_generator())
    cases = [tiny_case("one"), tiny_case("the paper's size", timing.PUBLISHED)]
    monkeypatch.setattr(timing, "cases", lambda _: cases)


@pytest.mark.parametrize(("sampler", "evaluations"), [("ddim", STEPS), ("heun", 2 * STEPS - 1)])
def test_a_molecule_takes_exactly_the_steps_of_the_sampler(sampler: str, evaluations: int) -> None:
    done: list[float] = []
    generator = tiny_generator(sampler)
    cost = time_generation(generator, 11, 3, done.append)
    assert cost.evaluations == evaluations
    assert cost.padding >= 1
    assert cost.rows == pytest.approx(cost.padding * evaluations * 11)
    assert cost.rows <= (11 + (LANES - 1) * len(generator.task.sizes)) * evaluations
    assert sum(done) == pytest.approx(11)
    assert len(cost.mols) == 11


def test_timing_changes_neither_the_molecules_nor_the_generator() -> None:
    generator = tiny_generator()
    cost = time_generation(generator, 3, 5)
    again = generator.sample(3, seed=5, progress=False)
    for one, other in zip(cost.mols, again, strict=True):
        assert (one.GetConformer().GetPositions() == other.GetConformer().GetPositions()).all()
    assert type(generator) is MoleculeGenerator


@pytest.mark.parametrize("clock", ["cpu", "wall"])
def test_the_parts_add_up_to_the_whole(clock: str) -> None:
    cost = time_generation(tiny_generator(), 5, 0)
    parts = cost.parts(clock)
    assert list(parts) == ["network", "sampler", "RDKit"]
    assert sum(parts.values()) == pytest.approx(getattr(cost.total, clock))
    assert min(parts.values()) > 0


def test_stopwatch_sums_its_laps() -> None:
    watch = Stopwatch()
    for _ in range(3):
        with watch:
            torch.ones(200, 200) @ torch.ones(200, 200)
    assert watch.laps == 3
    assert 0 < watch.cpu
    assert 0 < watch.wall


class Product(nn.Module):
    """A denoiser that is one matrix product of known size."""

    def forward(self, state: State, times: object, context: object) -> State:
        torch.mm(torch.ones(64, 32), torch.ones(32, 16))
        return state


def test_operations_are_those_of_the_matrix_products() -> None:
    cost = time_network(Case("product", tiny_task(), Product(), 0, 8, 4), 1)
    assert cost.flops == 2 * 64 * 32 * 16
    assert cost.shares["dense layers"] > 0


def test_a_plain_product_is_as_dear_as_itself() -> None:
    size = timing.DENSE

    class Dense(Product):
        def forward(self, state: State, times: object, context: object) -> State:
            torch.mm(left, left)
            return state

    left = torch.ones(size, size)
    cost = time_network(Case("dense", tiny_task(), Dense(), 0, 8, 4), 5)
    assert cost.flops == 2 * size**3
    assert 0.5 < cost.ratio < 2


def test_one_evaluation_is_compared_and_split() -> None:
    ticks: list[None] = []
    cost = time_network(tiny_case(), 3, lambda: ticks.append(None))
    assert len(ticks) == 3 + 2
    assert len(cost.network) == len(cost.dense) == 3
    assert cost.flops > 0
    assert cost.ratio > 0
    assert cost.milliseconds("network") > 0
    assert sum(cost.shares.values()) == pytest.approx(1)
    assert set(cost.shares) == {*timing.GROUPS, timing.OTHER}


def test_the_ratio_is_the_median_of_the_ratios() -> None:
    cost = NetworkCost(tiny_case(), 1, [2.0, 30.0, 4.0], [1.0, 10.0, 1.0], {})
    assert cost.ratio == 3
    assert cost.milliseconds("network") == pytest.approx(4.0 / 8 * 1e3)


def test_the_cases_are_the_model_and_the_papers_size() -> None:
    generator = tiny_generator()
    own, paper = timing.cases(generator)
    assert (own.rows, own.atoms, own.published) == (64, 18, None)
    assert own.denoiser is generator.denoiser
    assert own.parameters == sum(p.numel() for p in own.task.build().parameters())
    assert (paper.rows, paper.atoms, paper.published) == (32, 18, 144.0)
    assert paper.parameters == pytest.approx(12.3e6, rel=0.03)


@pytest.mark.usefixtures("tiny")
def test_the_command_prints_and_writes_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "speed.csv"
    threads = torch.get_num_threads()
    words = ["bench", "molecules", "--number", "3", "--repeats", "1", "--output", str(output)]
    assert main(words) == 0
    assert torch.get_num_threads() == threads
    text = capsys.readouterr().out
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["section", "name", "value", "unit", "note"]
    sections = list(dict.fromkeys(row["section"] for row in rows))
    assert len(sections) == 3
    for row in rows:
        assert row["section"] in text
        assert row["name"] in text
    first = [row for row in rows if row["section"] == sections[0]]
    assert float(first[0]["value"]) == STEPS
    ratios = [float(row["value"]) for row in rows if row["name"] == "ratio"]
    assert len(ratios) == 2
    assert min(ratios) > 0
    bars = {row["name"]: float(row["value"]) for row in rows if row["section"] == sections[2]}
    assert bars["published implementation"] == 144
    assert bars["bar"] == 72

    written = output.read_bytes()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "exists" in error
    assert "--force" in error
    assert output.read_bytes() == written
    assert main([*words, "--force"]) == 0


@pytest.mark.parametrize(
    "options",
    [{"number": 0}, {"repeats": 0}, {"threads": 0}, {"threads": -1}, {"seed": -1}, {"seed": 2**31}],
)
def test_bad_options_are_refused_before_any_work(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(options))}: expected .*, got"):
        bench.bench_molecules(**options)  # type: ignore[arg-type]


def test_bad_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ending in .csv"):
        bench.bench_molecules(output=tmp_path / "speed.xlsx")
    with pytest.raises(OutputError, match="existing folder"):
        bench.bench_molecules(output=tmp_path / "none" / "speed.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(OutputError, match="folder.csv"):
        bench.bench_molecules(output=folder, force=True)
    assert not list(folder.iterdir())


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelFileError, match="unknown model 'qm8'"):
        bench.bench_molecules(model="qm8")
