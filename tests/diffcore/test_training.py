"""The training loop on a toy state: time budget, resume, moving average, curve, and a kill."""

import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from diffcore import random
from diffcore.domains import Grid
from diffcore.objective import Objective
from diffcore.processes import Gaussian
from diffcore.schedules import FlowTime
from diffcore.state import State

training = pytest.importorskip("diffcore.training", reason="needs lightning")

# Lightning warns of data loaders without workers, and of resuming in the middle of an epoch
pytestmark = pytest.mark.filterwarnings("ignore")

PROCESSES = {"x": Gaussian(FlowTime(), Grid((1,)))}


class Batches(torch.utils.data.IterableDataset):
    """Endless batches around 2."""

    def __iter__(self) -> Iterator[State]:
        rng = random.generator(0)
        while True:
            yield State({"x": 2 + torch.randn(32, 1, generator=rng)}, torch.ones(32, 1).bool())


def make_denoiser(network: nn.Module):
    def denoiser(state: State, times, context) -> State:
        return State({"x": network(torch.cat([state["x"], times["x"][:, None]], 1))}, state.mask)

    return denoiser


def build(seconds: float, steps: int | None = None) -> "training.Diffusion":
    network = nn.Linear(2, 1)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    return training.Diffusion(
        network, make_denoiser, PROCESSES, Objective(align=False),
        training.Optimisation(lr=0.1, warmup=5), training.Budget(seconds, steps),
    )  # fmt: skip


def train(folder: Path, seconds: float, resume: bool = False, probe=None, steps=None, **options):
    module = build(seconds, steps)
    loader = torch.utils.data.DataLoader(Batches(), batch_size=None, collate_fn=lambda x: x)
    run = training.Run(folder, seconds, resume, progress=False, **options)
    path = training.fit(module, loader, run, probe)
    return module, path


def content(path: Path) -> dict:
    return torch.load(path, weights_only=True)  # noqa: TID251  (the checkpoint is Lightning's)


def test_a_run_ends_in_time_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    probes = []

    def probe(denoiser) -> dict[str, float]:
        mask = torch.ones(1, 1, dtype=torch.bool)
        clean = denoiser(State({"x": torch.zeros(1, 1)}, mask), {"x": torch.ones(1)}, {})
        probes.append(clean["x"].item())
        return {"mean": probes[-1]}

    began = time.monotonic()
    first, path = train(tmp_path, 2.0, probe=probe, curve_every=0.5)
    wall = time.monotonic() - began
    assert first.budget.elapsed == pytest.approx(2.0, abs=1.5)
    assert wall < 60  # preparations included, on a busy machine
    assert path == tmp_path / "last.ckpt"
    steps = first.global_step
    assert steps > 20
    saved = content(path)
    assert saved["global_step"] == steps
    elapsed = first.budget.elapsed

    # the moving average is another set of weights, and on its way to the same answer
    raw, mean = first.network.weight, first.averaged.weight
    assert not torch.equal(raw, mean)
    assert not first.averaged.weight.requires_grad
    assert first.averaged.bias.item() != 0
    mask = torch.ones(1, 1, dtype=torch.bool)
    at_one = State({"x": torch.zeros(1, 1)}, mask), {"x": torch.ones(1)}, {}
    # a row that falls on the very last step is written before that step's averaging
    assert probes[-1] == pytest.approx(make_denoiser(first.averaged)(*at_one)["x"].item(), abs=0.2)
    assert all(name in saved["state_dict"] for name in ("network.weight", "averaged.weight"))

    with (tmp_path / "curve.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) >= 2
    assert list(rows[0]) == ["minutes", "steps", "loss", "x", "mean"]
    assert int(float(rows[-1]["steps"])) == steps
    assert float(rows[-1]["x"]) < float(rows[0]["x"])

    second, _ = train(tmp_path, 1.0, resume=True, probe=probe, curve_every=10)
    assert second.global_step > steps
    assert content(path)["global_step"] == second.global_step
    assert second.budget.before == pytest.approx(elapsed, abs=0.5)
    assert second.budget.elapsed > elapsed + 0.9
    with (tmp_path / "curve.csv").open() as stream:
        more = list(csv.DictReader(stream))
    assert more[: len(rows)] == rows
    assert len(more) == len(rows) + 1
    assert float(more[-1]["minutes"]) > float(rows[-1]["minutes"])


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    first, _ = train(tmp_path, 0.3)
    second, _ = train(tmp_path, 0.3)
    assert second.budget.before == 0
    assert second.budget.elapsed < 0.3 + 1.5
    assert first.global_step > 0


def test_the_learning_rate_warms_up_and_falls_with_time() -> None:
    module = build(100.0)
    optimiser = module.configure_optimizers()
    module.optimizers = lambda: optimiser  # type: ignore[method-assign]

    def rate(step: int, elapsed: float) -> float:
        module.budget.before, module.budget.seconds = elapsed, 100.0 - elapsed
        type(module).global_step = property(lambda self: step)  # type: ignore[assignment]
        module.on_train_batch_start(State({}, torch.ones(1, 1)), 0)
        return optimiser.param_groups[0]["lr"]

    original = type(module).__mro__[1].global_step
    try:
        o = module.optimisation
        assert rate(0, 0) == pytest.approx(o.lr / 5)
        assert rate(4, 0) == pytest.approx(o.lr)
        assert rate(10, 50) == pytest.approx(o.lr * (o.final + (1 - o.final) / 2))
        assert rate(10, 100) == pytest.approx(o.lr * o.final)
    finally:
        type(module).global_step = original


def test_a_number_of_steps_gives_the_same_weights_at_any_speed(tmp_path: Path) -> None:
    weights, rates = [], []
    for pause in (0.0, 0.01):
        slow = lambda denoiser, pause=pause: time.sleep(pause) or {}  # noqa: E731
        module, _ = train(tmp_path / str(pause), 60.0, probe=slow, steps=40, curve_every=0.01)
        assert module.budget.made == 40 and module.budget.fraction == 1
        weights.append(module.averaged.weight)
        rates.append(module.optimizers().param_groups[0]["lr"])
    assert torch.equal(weights[0], weights[1])
    assert rates[0] == rates[1] < 0.1 * 0.1  # at the end of the cosine


def test_describe_is_json() -> None:
    import json

    value = training.describe(Objective(), training.Optimisation())
    assert json.loads(json.dumps(value))["optimisation"]["lr"] == training.Optimisation().lr


CHILD = """
    import importlib.util, pathlib, sys, warnings
    warnings.simplefilter("ignore")
    spec = importlib.util.spec_from_file_location("toy", {file!r})
    toy = importlib.util.module_from_spec(spec)
    sys.modules["toy"] = toy
    spec.loader.exec_module(toy)
    toy.train(pathlib.Path({folder!r}), 120.0, checkpoint_every=0.2)
"""


@pytest.mark.slow
def test_a_kill_leaves_a_loadable_checkpoint(tmp_path: Path, repository: Path) -> None:
    """Killed at three moments, each a little later in the writing of checkpoints."""
    last = tmp_path / "last.ckpt"
    script = textwrap.dedent(CHILD).format(file=__file__, folder=str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    for extra in (0.0, 0.07, 0.14):
        last.unlink(missing_ok=True)
        child = subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            end = time.monotonic() + 120
            while not last.exists() and time.monotonic() < end:
                assert child.poll() is None
                time.sleep(0.02)
            time.sleep(1 + extra)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        saved = content(last)
        assert saved["global_step"] > 0
        assert saved["callbacks"]["Budget"]["elapsed"] > 0
    resumed, _ = train(tmp_path, 0.2, resume=True)
    assert resumed.global_step > saved["global_step"]
