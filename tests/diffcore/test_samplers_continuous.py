"""Continuous solvers on Gaussian data, where the denoiser and the probability-flow map are exact.

For data N(m, c^2) per axis the marginals are N(alpha m, alpha^2 c^2 + sigma^2), the posterior mean
is linear, and the probability-flow ODE keeps the standardised value
z = (x_t - alpha m) / sqrt(alpha^2 c^2 + sigma^2) constant.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from diffcore import random
from diffcore.denoisers import PREVIOUS
from diffcore.domains import Grid
from diffcore.errors import ConfigError
from diffcore.processes import Gaussian
from diffcore.samplers import sample, solver, step
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, power_grid, uniform_grid
from diffcore.state import State

MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
STD = torch.tensor([0.5, 1.5], dtype=torch.float64)
SCHEDULES: list[Schedule] = [Cosine(), Cosine(nu=2.5), FlowTime(), EdmSigmas()]
COMBINATIONS = [
    (name, schedule)
    for name in ("ancestral", "ddim", "dpmpp_2m", "heun", "flow_euler", "tau_leaping", "masked")
    for schedule in SCHEDULES
    if name != "flow_euler" or isinstance(schedule, FlowTime)
]


def moments(schedule: Schedule, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation [B, 2] of x_t."""
    alpha, sigma = schedule.alpha(t).unsqueeze(1), schedule.sigma(t).unsqueeze(1)
    return alpha * MEAN, (alpha**2 * STD**2 + sigma**2).sqrt()


def exact_denoiser(schedule: Schedule):
    def denoiser(state: State, times, context) -> State:
        mean, std = moments(schedule, times["x"])
        gain = schedule.alpha(times["x"]).unsqueeze(1) * STD**2 / std**2
        return State({"x": MEAN + gain * (state["x"] - mean)}, state.mask)

    return denoiser


def start(schedule: Schedule, t: float, rows: int) -> tuple[State, torch.Tensor]:
    """Draws of x_t and their standardised values."""
    z = random.normal(random.generator(0), torch.zeros(rows, 2, dtype=torch.float64))
    mean, std = moments(schedule, torch.full((rows,), t, dtype=torch.float64))
    return State({"x": mean + std * z}, torch.ones(rows, 1, dtype=torch.bool)), z


@pytest.mark.parametrize(("name", "schedule"), COMBINATIONS, ids=repr)
def test_samples_reach_the_data(name: str, schedule: Schedule) -> None:
    n = 2_000
    state, _ = start(schedule, 1.0, n)
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    x = sample(
        exact_denoiser(schedule), processes, state, power_grid(60, 2.0), random.generator(1),
        method=solver(name),
    )["x"]  # fmt: skip
    # five standard errors, and 4 % for 60 steps of a first-order method
    assert ((x.mean(0) - MEAN).abs() < 5 * STD / math.sqrt(n) + 0.04 * STD).all()
    assert ((x.std(0) / STD - 1).abs() < 5 / math.sqrt(2 * n) + 0.04).all()


def flow_map_error(name: str, schedule: Schedule, steps: int, high: float, low: float) -> float:
    """Largest distance from the exact probability-flow map between two times."""
    state, z = start(schedule, high, 20)
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    grid = torch.linspace(high, low, steps + 1, dtype=torch.float64)
    memory = None
    for t, s in pairwise(grid):
        times = {"x": t.expand(20)}, {"x": s.expand(20)}
        state, memory = step(
            exact_denoiser(schedule), processes, solver(name), state, times, memory,
            random.generator(0), {},
        )  # fmt: skip
    mean, std = moments(schedule, grid[-1:])
    return (state["x"] - (mean + std * z)).abs().max().item()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize(
    ("name", "order"), [("ddim", 1), ("flow_euler", 1), ("heun", 2), ("dpmpp_2m", 2)]
)
def test_order_of_convergence(name: str, order: int, schedule: Schedule) -> None:
    if name == "flow_euler" and not isinstance(schedule, FlowTime):
        with pytest.raises(ConfigError, match="flow_euler needs a FlowTime schedule, got"):
            flow_map_error(name, schedule, 2, 0.9, 0.1)
        return
    coarse, fine = (flow_map_error(name, schedule, n, 0.9, 0.1) for n in (64, 128))
    assert fine < 0.1
    # halving the step divides the error by 2^order; at these sizes to within a third of an order
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.33)


def in_numpy(name: str, schedule: Schedule, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """DDIM (Song et al. 2021, eq. 12, eta = 0) and DPM-Solver++(2M) (Lu et al. 2022, alg. 2)."""

    def level(t: float) -> tuple[float, float]:
        one = torch.tensor([t], dtype=torch.float64)
        return schedule.alpha(one).item(), schedule.sigma(one).item()

    def predict(x: np.ndarray, t: float) -> np.ndarray:
        a, s = level(t)
        c, m = STD.numpy() ** 2, MEAN.numpy()
        return m + a * c / (a**2 * c + s**2) * (x - a * m)

    last, h_last = None, None
    for t, s in pairwise(grid[:-1]):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = level(t), level(s)
        x0 = predict(x, t)
        h = math.log(alpha_s / sigma_s) - math.log(alpha_t / sigma_t)
        if name == "ddim":
            eps = (x - alpha_t * x0) / sigma_t
            x = alpha_s * x0 + sigma_s * eps
        else:
            d = x0
            if last is not None:
                r = h_last / h
                d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * last
            x = sigma_s / sigma_t * x - alpha_s * math.expm1(-h) * d
        last, h_last = x0, h
    return predict(x, grid[-2])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_against_an_independent_implementation(name: str, schedule: Schedule) -> None:
    state, _ = start(schedule, 1.0, 5)
    grid = power_grid(12)
    found = sample(
        exact_denoiser(schedule), {"x": Gaussian(schedule, Grid((2,)))}, state, grid,
        random.generator(0), method=solver(name),
    )["x"]  # fmt: skip
    expected = in_numpy(name, schedule, state["x"].numpy(), grid.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_ddim_and_flow_euler_agree_in_flow_time() -> None:
    state, _ = start(FlowTime(), 1.0, 5)
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    a, b = (
        sample(
            exact_denoiser(FlowTime()), processes, state, uniform_grid(10), random.generator(0),
            method=solver(name),
        )["x"]
        for name in ("ddim", "flow_euler")
    )  # fmt: skip
    # they differ by the floor of alpha at t = 1 alone, 1e-4 of the prediction
    torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


def test_self_conditioning_hands_on_the_last_prediction() -> None:
    inner, seen, made = exact_denoiser(Cosine()), [], []

    def denoiser(state: State, times, context) -> State:
        seen.append(context[PREVIOUS])
        made.append(inner(state, times, context))
        return made[-1]

    state, _ = start(Cosine(), 1.0, 3)
    processes = {"x": Gaussian(Cosine(), Grid((2,)))}
    sample(denoiser, processes, state, uniform_grid(4), random.generator(0), method=solver("ddim"))
    assert seen[0] is None
    assert all(a is b for a, b in zip(seen[1:], made, strict=False))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_against_diffusers(name: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    options = {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}
    scheduler = (
        diffusers.DDIMScheduler(**options, clip_sample=False, timestep_spacing="trailing")
        if name == "ddim"
        else diffusers.DPMSolverMultistepScheduler(**options, timestep_spacing="trailing")
    )
    scheduler.set_timesteps(10)
    table = scheduler.alphas_cumprod.double()

    class Table(Cosine):
        """Their discrete schedule: time t is index 1000 t - 1."""

        def alpha_bar(self, t: torch.Tensor) -> torch.Tensor:
            return table[(1000 * t - 1).round().long()]

        def sigma(self, t: torch.Tensor) -> torch.Tensor:
            return (1 - self.alpha_bar(t)).sqrt()

    denoiser, (state, _) = exact_denoiser(Table()), start(Table(), 1.0, 4)
    times = (scheduler.timesteps.double() + 1) / 1000
    x = state["x"]
    for k, t in enumerate(times):
        at = {"x": t.expand(4)}
        clean = denoiser(State({"x": x}, state.mask), at, {})["x"]
        x = scheduler.step(clean, scheduler.timesteps[k], x, return_dict=False)[0]
        if k == len(times) - 2:
            theirs = denoiser(State({"x": x}, state.mask), {"x": times[-1].expand(4)}, {})["x"]
    grid = torch.cat([times, torch.zeros(1)])
    processes = {"x": Gaussian(Table(), Grid((2,)))}
    ours = sample(denoiser, processes, state, grid, random.generator(0), method=solver(name))["x"]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
