"""Enumeration of classes against Bayes' rule, descent on the prediction against posteriors."""

import math

import pytest
import torch

from diffcore import random
from diffcore.composition import Range
from diffcore.denoisers import Denoiser, Oracle
from diffcore.domains import Grid, Nodes, Pairs
from diffcore.errors import ConfigError
from diffcore.guidance import energy_guided
from diffcore.processes import Categorical, Gaussian, Process, absorbing_kernel, uniform_kernel
from diffcore.refinement import enumerated, refined, single_changes
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, power_grid
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), FlowTime(), EdmSigmas()]


def ones(rows: int, nodes: int = 1) -> torch.Tensor:
    return torch.ones(rows, nodes, dtype=torch.bool)


def tokens(nodes: int, kernel=None) -> tuple[dict[str, Process], State, torch.Tensor]:
    """All strings of three classes with independent elements, and their log-probabilities."""
    processes: dict[str, Process] = {
        "tok": Categorical(FlowTime(), Nodes(), kernel or uniform_kernel(3))
    }
    strings = torch.cartesian_prod(*[torch.arange(3)] * nodes).reshape(-1, nodes)
    p = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]).double()[:nodes]
    log_p = sum(p[i].log()[strings[:, i]] for i in range(nodes))
    assert isinstance(log_p, torch.Tensor)
    return processes, State({"tok": strings}, ones(len(strings), nodes)), log_p


def curved(state: State, times) -> torch.Tensor:
    """An energy that is a sum over elements and far from linear in the probabilities of each."""
    p = state["tok"]
    return (3 * (p[..., 0] - p[..., 1]).square() + (4 * p[..., 2]).sin()).sum(1)


def energies(data: State) -> torch.Tensor:
    one_hot = torch.nn.functional.one_hot(data["tok"], 3).double()
    return curved(State({"tok": one_hot}, data.mask), {})


@pytest.mark.parametrize("nodes", [1, 2])
def test_enumeration_is_bayes_rule(nodes: int) -> None:
    processes, data, log_p = tokens(nodes)
    plain, bayes = (
        Oracle(processes, data, log_p),
        Oracle(processes, data, log_p - 0.7 * energies(data)),
    )
    times = {"tok": torch.linspace(0.1, 1, data.rows)}
    exact = bayes(data, times, {})["tok"]
    for chunk in (1, 7, 1024):
        guided = enumerated(plain, processes, curved, 0.7, chunk=chunk)
        torch.testing.assert_close(guided(data, times, {})["tok"], exact)
    first = energy_guided(plain, processes, curved, 0.7)(data, times, {})["tok"]
    assert (first - exact).abs().max() > 0.05


@pytest.mark.parametrize(
    "kernel", [uniform_kernel(3), absorbing_kernel(4)], ids=["uniform", "mask"]
)
def test_samples_follow_bayes_rule(kernel) -> None:
    rows = 2_000
    processes, data, log_p = tokens(2, kernel)

    def energy(state: State, times) -> torch.Tensor:
        return curved(State({"tok": state["tok"][..., :3]}, state.mask), times)

    guided = enumerated(Oracle(processes, data, log_p), processes, energy)
    rng = random.generator(0)
    start = prior(processes, ones(rows, 2), rng)
    made = sample(guided, processes, start, power_grid(30), rng, method=solver("ancestral"))["tok"]
    shares = (3 * made[:, 0] + made[:, 1]).bincount(minlength=9).double() / rows
    assert (shares - (log_p - energies(data)).softmax(0)).abs().max() < 0.04


def test_forbidden_classes_never_come_unless_all_are() -> None:
    processes, data, log_p = tokens(2)
    oracle = Oracle(processes, data, log_p)
    times = {"tok": torch.full((9,), 0.6)}

    def without_first(state: State, times) -> torch.Tensor:
        some = (state["tok"][..., 0] == 1).any(1)
        return torch.where(some, torch.inf, 0.0)

    p = enumerated(oracle, processes, without_first)(data, times, {})["tok"]
    assert (p[..., 0] == 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(9, 2).double())
    expected = oracle(data, times, {})["tok"]
    torch.testing.assert_close(p[..., 1] / p[..., 2], expected[..., 1] / expected[..., 2])
    nothing = enumerated(oracle, processes, lambda s, t: torch.full((s.rows,), torch.nan))
    torch.testing.assert_close(nothing(data, times, {})["tok"], expected)
    off = enumerated(oracle, processes, without_first, 0.0)
    torch.testing.assert_close(off(data, times, {})["tok"], expected)


def test_single_changes_of_pairs_against_a_loop() -> None:
    """Both directions of a pair change together; padding and the diagonal are left out."""
    mask = torch.tensor([[True] * 3, [True, True, False]])
    process = Categorical(Cosine(), Pairs(), uniform_kernel(2))
    logits = process.domain.tie(random.normal(random.generator(1), torch.zeros(2, 3, 3, 2)))
    p = logits.softmax(-1)

    def energy(state: State, times) -> torch.Tensor:
        weights = torch.arange(9.0).reshape(3, 3)
        return (state["bond"][..., 1] * weights).sum((1, 2)).square() + times["bond"]

    times = {"bond": torch.tensor([0.0, 5.0])}
    table = single_changes(energy, State({"bond": p}, mask), times, "bond", process, 5)
    assert torch.equal(table, table.transpose(1, 2))
    for row, i, j, k in [(0, 0, 1, 0), (0, 1, 2, 1), (0, 0, 2, 1), (1, 0, 1, 0), (1, 1, 0, 1)]:
        changed = p.clone()
        changed[row, i, j] = changed[row, j, i] = torch.nn.functional.one_hot(torch.tensor(k), 2)
        expected = energy(State({"bond": changed}, mask), times)[row]
        torch.testing.assert_close(table[row, i, j, k], expected)
    assert (table[1, 2] == 0).all() and (table[:, 1, 1] == 0).all()


def test_the_others_are_means_or_modes() -> None:
    processes, data, log_p = tokens(2)
    seen = []

    def energy(state: State, times) -> torch.Tensor:
        seen.append(state["tok"])
        return torch.zeros(state.rows)

    for others, certain in (("mean", False), ("mode", True)):
        seen.clear()
        enumerated(Oracle(processes, data, log_p), processes, energy, others=others)(
            data, {"tok": torch.full((9,), 0.6)}, {}
        )
        assert bool(((seen[0] == 0) | (seen[0] == 1)).all()) == certain


def gaussian(schedule: Schedule, mean: torch.Tensor, std: float) -> Denoiser:
    def denoiser(state: State, times, context) -> State:
        x = state["x"]
        alpha, sigma = (expand(f(times["x"]), x) for f in (schedule.alpha, schedule.sigma))
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return State({"x": mean.to(x) + gain * (x - alpha * mean.to(x))}, state.mask)

    return denoiser


MEAN, Y = torch.tensor([1.0, -0.5]).double(), torch.tensor([0.2, 2.0]).double()


@pytest.mark.parametrize("noise", [0.5, 0.02], ids=["soft", "steep"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_quadratic_loss_gives_the_posterior(schedule: Schedule, dtype, noise: float) -> None:
    """Prior N(m, v), loss |x - y|^2 / (2 w): N(m + k (y - m), v (1 - k)) with k = v / (v + w).

    The posterior mean of x0 given x_t and y is that of a Gaussian with variance r^2: the minimum.
    """
    std = 0.8
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    plain = gaussian(schedule, MEAN, std)

    def loss(s: State, t) -> torch.Tensor:
        return ((s["x"] - Y.to(s["x"])).square() / (2 * noise)).sum(1)

    k = std**2 / (std**2 + noise)
    posterior = gaussian(schedule, MEAN + k * (Y - MEAN), std * math.sqrt(1 - k))
    t = torch.linspace(0.05, 0.95, 6, dtype=dtype)
    x = random.normal(random.generator(0), torch.zeros(6, 2, dtype=dtype))
    state = State({"x": x * (1 + expand(schedule.sigma(t), x))}, ones(6))
    guided = refined(plain, processes, loss, steps=60, spread=std)
    found, expected = (d(state, {"x": t}, {})["x"] for d in (guided, posterior))
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_samples_of_the_posterior() -> None:
    std, noise, rows = 0.8, 0.5, 1_000
    schedule = FlowTime()
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    guided = refined(
        gaussian(schedule, MEAN, std), processes,
        lambda s, t: ((s["x"] - Y).square() / (2 * noise)).sum(1), steps=8, spread=std,
    )  # fmt: skip
    k = std**2 / (std**2 + noise)
    rng = random.generator(2)
    with torch.inference_mode():
        start = prior(processes, ones(rows), rng)
        x = sample(guided, processes, start, power_grid(25, 2.0), rng, method=solver("ancestral"))[
            "x"
        ]
    width = std * math.sqrt(1 - k)
    assert ((x.mean(0) - MEAN - k * (Y - MEAN)).abs() < 5 * width / math.sqrt(rows) + 0.02).all()
    assert ((x.std(0) / width - 1).abs() < 0.12).all()


def test_one_step_is_guidance_by_the_gradient() -> None:
    schedule = FlowTime()
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    plain = gaussian(schedule, MEAN, 1.0)
    state = State({"x": torch.randn(4, 2, generator=random.generator(3))}, ones(4))
    times = {"x": torch.linspace(0.1, 0.9, 4)}

    def loss(s: State, t) -> torch.Tensor:
        return 0.2 * s["x"].square().sum(1)

    one = refined(plain, processes, loss, steps=1)(state, times, {})["x"]
    torch.testing.assert_close(one, energy_guided(plain, processes, loss)(state, times, {})["x"])


def test_the_objective_never_rises_and_a_bad_row_stays() -> None:
    """A steep, crooked loss: every row keeps the best it saw; NaN anywhere is no progress."""
    schedule = FlowTime()
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    plain = gaussian(schedule, MEAN, 1.0)
    state = State({"x": 2 * torch.randn(50, 2, generator=random.generator(4))}, ones(50))
    times = {"x": torch.full((50,), 0.5)}
    bad = torch.arange(50) == 7

    def loss(s: State, t) -> torch.Tensor:
        value = (30 * s["x"].sin().square() + s["x"].abs()).sum(1)
        return torch.where(bad, torch.nan, 1.0) * value

    r2 = 0.5**2 / (0.5**2 + 0.5**2)
    clean = plain(state, times, {})
    before = loss(clean, times)
    last = before
    for steps in (1, 2, 5, 20):
        now = refined(plain, processes, loss, steps=steps)(state, times, {})
        value = loss(now, times) + (now["x"] - clean["x"]).square().sum(1) / (2 * r2)
        assert (value[~bad] <= last[~bad] + 1e-4).all()
        last = value
    assert (last[~bad] < before[~bad]).double().mean() > 0.9
    assert torch.equal(now["x"][bad], clean["x"][bad])


def test_refined_classes_are_the_fixed_point_of_the_tilt() -> None:
    """At the minimum of s L(p) + KL(p | p_hat): p ~ p_hat exp(-s dL/dp)."""
    processes, data, log_p = tokens(2)
    oracle = Oracle(processes, data, log_p)
    times = {"tok": torch.full((9,), 0.6)}

    def loss(s: State, t) -> torch.Tensor:
        return 2 * (s["tok"][..., 0].sum(1) - 1).square()

    p = refined(oracle, processes, loss, steps=80)(data, times, {})["tok"]
    slope = torch.zeros_like(p)
    slope[..., 0] = 4 * (p[..., 0].sum(1, keepdim=True) - 1)
    expected = (oracle(data, times, {})["tok"].log() - slope).softmax(-1)
    torch.testing.assert_close(p, expected, rtol=1e-4, atol=1e-5)
    outside = refined(oracle, processes, loss, within=Range(0.7, 1.0))
    assert torch.equal(outside(data, times, {})["tok"], oracle(data, times, {})["tok"])


def test_what_cannot_be_steered_is_refused_in_a_line() -> None:
    processes, data, log_p = tokens(2)
    oracle, times = Oracle(processes, data, log_p), {"tok": torch.full((9,), 0.6)}
    with pytest.raises(
        ConfigError, match="expected others = mean or mode, and chunk >= 1, got 'best'"
    ):
        enumerated(oracle, processes, curved, others="best")
    with pytest.raises(ConfigError, match=r"energy: expected 54 values, got shape \(\)"):
        enumerated(oracle, processes, lambda s, t: s["tok"].sum())(data, times, {})
    pixels: dict[str, Process] = {"x": Gaussian(FlowTime(), Grid((2,)))}
    with pytest.raises(ConfigError, match=r"enumerated: expected fields of x, got \[\]"):
        enumerated(oracle, pixels, curved)
    with pytest.raises(ConfigError, match=r"enumerated: expected categorical fields, got \['x'\]"):
        enumerated(oracle, pixels, curved, fields=["x"])
    with pytest.raises(ConfigError, match="refined: expected at least 1 step, got 0"):
        refined(oracle, processes, curved, steps=0)
