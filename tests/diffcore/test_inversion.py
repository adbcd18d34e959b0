"""Codes: round trips, their distribution where it is known, and translation between Gaussians."""

import math

import pytest
import torch
from scipy.stats import gumbel_r, kstest, norm
from torch.nn.functional import one_hot

from diffcore import random
from diffcore.denoisers import PREVIOUS, Counted, Denoiser, Oracle
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.errors import ConfigError
from diffcore.guidance import conditioned
from diffcore.inversion import ddim_invert, dpm_decode, dpm_encode
from diffcore.processes import (
    Categorical,
    Gaussian,
    Process,
    absorbing_kernel,
    marginal_kernel,
    uniform_kernel,
)
from diffcore.samplers import sample, solver
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, power_grid, uniform_grid
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), FlowTime(), EdmSigmas()]
DTYPES = [torch.float32, torch.float64]


def ones(rows: int, nodes: int = 1) -> torch.Tensor:
    return torch.ones(rows, nodes, dtype=torch.bool)


def gaussian(schedule: Schedule, mean: torch.Tensor, std: float) -> Denoiser:
    def denoiser(state: State, times, context) -> State:
        x = state["x"]
        alpha, sigma = (expand(f(times["x"]), x) for f in (schedule.alpha, schedule.sigma))
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return State({"x": mean.to(x) + gain * (x - alpha * mean.to(x))}, state.mask)

    return denoiser


MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)


def drawn(mean: torch.Tensor, std: float, rows: int, dtype=torch.float64) -> State:
    x = random.normal(random.generator(0), torch.zeros(rows, 2, dtype=dtype))
    return State({"x": mean.to(dtype) + std * x}, ones(rows))


def round_trip(schedule: Schedule, steps: int, rounds: int) -> tuple[float, float]:
    """Error of the noise against the exact flow map, and of the way back."""
    std, processes = 0.6, {"x": Gaussian(schedule, Grid((2,)))}
    denoiser, clean = gaussian(schedule, MEAN, std), drawn(MEAN, std, 50)
    grid = uniform_grid(steps)
    noise = ddim_invert(denoiser, processes, clean, grid, rounds=rounds)
    one = torch.ones(1, dtype=torch.float64)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    exact = alpha * MEAN + (alpha**2 * std**2 + sigma**2).sqrt() * (clean["x"] - MEAN) / std
    back = sample(denoiser, processes, noise, grid, random.generator(1), method=solver("ddim"))
    code_error = ((noise["x"] - exact).abs().amax() / sigma).item()
    return code_error, (back["x"] - clean["x"]).abs().amax().item()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_ddim_inversion_comes_back_the_better_the_finer(schedule: Schedule) -> None:
    codes, backs = zip(*(round_trip(schedule, steps, 3) for steps in (10, 40, 160)), strict=True)
    assert codes[0] > 2 * codes[1] > 4 * codes[2]
    assert backs[0] > 2 * backs[1] > 4 * backs[2]
    assert backs[2] < 0.03
    assert round_trip(schedule, 40, 1)[1] < 0.25


def test_ddim_inversion_of_some_fields_around_given_ones() -> None:
    """Only the continuous fields climb; the classes are shown clean."""
    processes: dict[str, Process] = {
        "pos": Gaussian(FlowTime(), Points()),
        "atom": Categorical(FlowTime(), Nodes(), uniform_kernel(2)),
    }
    mask = ones(4, 5)
    points = random.normal(random.generator(2), torch.zeros(4, 5, 3, dtype=torch.float64))
    clean = State(
        {"pos": Points().project(points, mask), "atom": torch.arange(20).reshape(4, 5) % 2}, mask
    )

    def denoiser(state: State, times, context) -> State:
        seen.append((state["atom"], times["atom"]))
        level = expand(times["pos"], state["pos"])
        pos = (1 - level) / ((1 - level) ** 2 + level**2) * state["pos"]
        return State({"pos": pos, "atom": torch.ones(4, 5, 2) / 2}, state.mask)

    seen: list = []
    counted, grid = Counted(denoiser), power_grid(50, 1.2)
    noise = ddim_invert(counted, processes, clean, grid, rounds=2, given=("atom",))
    assert counted.calls == 50 * 3 - 1
    assert all(torch.equal(a, clean["atom"]) and (t == 0).all() for a, t in seen)
    assert noise["pos"].sum(1).abs().max() < 1e-9
    back = sample(denoiser, processes, noise, grid, random.generator(3), method=solver("ddim"),
                  given=("atom",))  # fmt: skip
    torch.testing.assert_close(back["pos"], clean["pos"], rtol=0, atol=0.03)
    with pytest.raises(
        ConfigError, match=r"categorical fields have to be given, \['atom'\] are not"
    ):
        ddim_invert(denoiser, processes, clean, grid)
    with pytest.raises(ConfigError, match="ddim_invert: expected at least 1 round, got 0"):
        ddim_invert(denoiser, processes, clean, grid, rounds=0, given=("atom",))


def network(processes: dict[str, Process], seed: int) -> Denoiser:
    """A prediction that depends on everything and means nothing; classes may have probability 0."""

    def denoiser(state: State, times, context) -> State:
        rng, fields = random.generator(seed), {}
        pull = state["pos"].sin().sum((1, 2)) + times["pos"].to(state["pos"])
        if context.get(PREVIOUS) is not None:
            pull = pull + context[PREVIOUS]["pos"].abs().mean((1, 2))
        for name, process in processes.items():
            shape = (1, *process.domain.shape(state.mask)[1:])  # rows differ by what they see only
            if isinstance(process, Gaussian):
                raw = random.normal(rng, torch.zeros(shape, dtype=state["pos"].dtype))
                raw = expand(pull, raw).cos() * (raw + state["pos"])
                fields[name] = process.domain.project(raw, state.mask)
                continue
            k = process.kernel.classes
            logits = random.normal(rng, torch.zeros(*shape, k))
            logits = logits * expand(pull.float(), logits) + one_hot(state[name], k)
            p = process.domain.tie(logits).softmax(-1)
            p = torch.where(p > 0.05, p, 0.0)
            fields[name] = p / p.sum(-1, keepdim=True)
        return State(fields, state.mask)

    return denoiser


@pytest.mark.parametrize("eta", [1.0, 0.3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "kernel",
    [marginal_kernel(torch.tensor([0.5, 0.3, 0.2])), absorbing_kernel(4)],
    ids=["marginal", "mask"],
)
def test_codes_reproduce_what_was_encoded(kernel, dtype, eta: float) -> None:
    """Whatever the denoiser says: float32 and classes bit for bit, float64 to the last bit."""
    mask = torch.tensor([[True] * 5, [True] * 5, [True] * 4 + [False]])
    rng = random.generator(4)
    processes: dict[str, Process] = {
        "pos": Gaussian(FlowTime(), Points()),
        "atom": Categorical(Cosine(), Nodes(), kernel),
        "bond": Categorical(Cosine(), Pairs(), uniform_kernel(3)),
    }
    clean = State(
        {
            "pos": Points().project(random.normal(rng, torch.zeros(3, 5, 3, dtype=dtype)), mask),
            "atom": Nodes().project(torch.randint(0, 3, (3, 5), generator=rng), mask),
            "bond": Pairs().project(torch.randint(0, 3, (3, 5, 5), generator=rng), mask),
            "property": torch.arange(3.0).unsqueeze(1),
        },
        mask,
    )
    denoiser = network(processes, 5)
    with torch.inference_mode():
        codes = dpm_encode(denoiser, processes, clean, power_grid(12), rng, eta=eta, align=True)
        made = dpm_decode(denoiser, processes, codes)
        other = dpm_decode(network(processes, 6), processes, codes)
        some = dpm_decode(denoiser, processes, codes.take(torch.tensor([2])))
    assert torch.equal(made["atom"], clean["atom"]) and torch.equal(made["bond"], clean["bond"])
    assert torch.equal(made["property"], clean["property"])
    assert made["pos"].dtype == dtype
    if dtype == torch.float32:
        # centring the data once more may move their last bit
        torch.testing.assert_close(made["pos"], clean["pos"], rtol=0, atol=1e-6)
        assert torch.equal(made["pos"], processes["pos"].domain.project(clean["pos"], mask))
    else:
        torch.testing.assert_close(made["pos"], clean["pos"], rtol=0, atol=1e-14)
    assert not torch.equal(other["atom"], clean["atom"])
    assert torch.equal(other["bond"], other["bond"].transpose(1, 2))
    assert torch.equal(some["atom"][0], clean["atom"][2])


def test_codes_of_data_are_noise_of_known_width() -> None:
    """Encoded with the exact denoiser of the data: independent normal and Gumbel variables.

    Classes: standard, as a sampler draws them. Points: a step of the true reverse process is wider
    than the posterior given x_0, by what x_0 varies: b^2 Var(x_0 | x_t), b = d mean / d x_0.
    """
    rows = 1_500
    points_process = Gaussian(Cosine(), Grid((2,)))
    processes: dict[str, Process] = {
        "x": points_process,
        "tok": Categorical(FlowTime(), Nodes(), uniform_kernel(3)),
    }
    rng = random.generator(7)
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    tokens = Oracle(
        {"tok": processes["tok"]}, State({"tok": torch.arange(3).unsqueeze(1)}, ones(3)), p.log()
    )
    points = gaussian(Cosine(), MEAN, 0.6)

    def denoiser(state: State, times, context) -> State:
        tok = tokens(State({"tok": state["tok"]}, state.mask), times, context)["tok"]
        return State({"x": points(state, times, context)["x"], "tok": tok}, state.mask)

    u = random.uniform(rng, torch.zeros(rows, 1))
    clean = drawn(MEAN, 0.6, rows).replace(tok=random.categorical(p.expand(rows, 1, 3), u))
    codes = dpm_encode(denoiser, processes, clean, uniform_grid(4), rng)
    grid = uniform_grid(4).unsqueeze(1)
    for t, s, one in zip(grid, grid[1:-1], codes.noises, strict=False):
        alpha, var_t = Cosine().alpha(t), Cosine().sigma(t) ** 2
        left = 0.36 * var_t / (0.36 * alpha**2 + var_t)
        zero = torch.zeros(1, 1, dtype=torch.float64)
        slope, var = points_process.posterior(zero, zero + 1, t, s)
        width = (1 + slope**2 * left / var).sqrt().item()
        assert kstest(one["x"].flatten().numpy() / width, norm.cdf).pvalue > 1e-3
    for one in codes.noises:
        assert kstest(one["tok"].flatten().numpy(), gumbel_r.cdf).pvalue > 1e-3
        likeness = torch.corrcoef(one["tok"][:, 0].T)
        assert (likeness - torch.eye(3)).abs().max() < 0.12
    steps = torch.stack([one["x"][:, 0] for one in codes.noises[:-1]])
    assert (torch.corrcoef(steps) - torch.eye(3)).abs().max() < 0.12


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_translation_between_gaussians_is_the_shift_of_their_means(schedule: Schedule) -> None:
    """Two densities of one width: common noise moves every point by the difference of the means."""
    std, other = 0.6, torch.tensor([-2.0, 3.0], dtype=torch.float64)
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    clean = drawn(MEAN, std, 40)
    grid = uniform_grid(20)
    codes = dpm_encode(gaussian(schedule, MEAN, std), processes, clean, grid, random.generator(8))
    made = dpm_decode(gaussian(schedule, other, std), processes, codes)
    torch.testing.assert_close(made["x"], clean["x"] + other - MEAN, rtol=0, atol=1e-3)


def test_translation_between_conditions_keeps_what_they_share() -> None:
    """Two tokens: the condition sets the first, the second is free and stays as it was."""
    processes: dict[str, Process] = {"tok": Categorical(FlowTime(), Nodes(), uniform_kernel(4))}
    strings = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    data = State({"tok": strings}, ones(16, 2))

    def told(state: State, times, context) -> State:
        found = [
            Oracle(processes, data, torch.where(strings[:, 0] == k, 0.0, -50.0).double())
            for k in (0, 1)
        ]
        p = [oracle(state, times, context)["tok"] for oracle in found]
        return State({"tok": torch.where(state["label"].reshape(-1, 1, 1) == 0, *p)}, state.mask)

    rows = 60
    tok = torch.stack([torch.zeros(rows).long(), torch.arange(rows) % 4], 1)
    clean = State({"tok": tok}, ones(rows, 2))
    one, two = (conditioned(told, label=torch.tensor([[k]])) for k in (0, 1))
    codes = dpm_encode(one, processes, clean, uniform_grid(15), random.generator(9))
    assert torch.equal(dpm_decode(one, processes, codes)["tok"], tok)
    made = dpm_decode(two, processes, codes)["tok"]
    assert (made[:, 0] == 1).all()
    assert torch.equal(made[:, 1], tok[:, 1])


def test_codes_that_start_late_keep_more() -> None:
    """From a first time near 0 another model can change little: partial noising with codes."""
    std, other = 0.6, torch.tensor([-2.0, 3.0], dtype=torch.float64)
    schedule = FlowTime()
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    clean = drawn(MEAN, std, 40)
    moved = []
    for first in (0.1, 0.5, 1.0):
        grid = first * uniform_grid(20)
        plain = gaussian(schedule, MEAN, std)
        codes = dpm_encode(plain, processes, clean, grid, random.generator(10))
        made = dpm_decode(gaussian(schedule, other, std), processes, codes)
        moved.append(((made["x"] - clean["x"]) / (other - MEAN)).mean().item())
    assert 0 < moved[0] < 0.2 < moved[1] < 0.9 < moved[2] < 1.001


@pytest.mark.parametrize("eta", [0.0, -1.0, 1.5, math.nan])
def test_codes_need_noise(eta: float) -> None:
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    with pytest.raises(ConfigError, match=r"dpm_encode: expected eta in \(0, 1\], got"):
        dpm_encode(gaussian(FlowTime(), MEAN, 1.0), processes, drawn(MEAN, 1.0, 2), uniform_grid(3),
                   random.generator(0), eta=eta)  # fmt: skip
