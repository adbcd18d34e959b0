"""Guidance against closed forms: Gaussians, single tokens, and autograd of log-densities."""

import math

import pytest
import torch

from diffcore import random
from diffcore.composition import Range
from diffcore.denoisers import Counted, Denoiser, Oracle, x0_from_eps, x0_from_score
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.errors import ConfigError
from diffcore.guidance import classifier_free, conditioned, energy_guided
from diffcore.processes import Categorical, Gaussian, absorbing_kernel, uniform_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, power_grid
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), FlowTime(), EdmSigmas()]
DTYPES = [torch.float32, torch.float64]


def ones(rows: int, nodes: int = 1) -> torch.Tensor:
    return torch.ones(rows, nodes, dtype=torch.bool)


def gaussian(schedule: Schedule, mean: torch.Tensor, std: torch.Tensor) -> Denoiser:
    """The exact denoiser of data N(mean, std^2)."""

    def denoiser(state: State, times, context) -> State:
        x = state["x"]
        alpha, sigma = schedule.alpha(times["x"]), schedule.sigma(times["x"])
        alpha, sigma = expand(alpha, x), expand(sigma, x)
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return State({"x": mean + gain * (x - alpha * mean)}, state.mask)

    return denoiser


def log_gaussian(schedule: Schedule, x, t, mean, std) -> torch.Tensor:
    """log q_t(x) [B] of data N(mean, std^2)."""
    alpha, sigma = expand(schedule.alpha(t), x), expand(schedule.sigma(t), x)
    var = alpha**2 * std**2 + sigma**2
    return (-0.5 * (x - alpha * mean) ** 2 / var - 0.5 * var.log()).sum(1)


def noisy(schedule: Schedule, dtype=torch.float64, rows: int = 6) -> tuple[State, dict]:
    """States at times between 0.05 and 0.95."""
    rng = random.generator(0)
    t = torch.linspace(0.05, 0.95, rows, dtype=dtype)
    x = random.normal(rng, torch.zeros(rows, 2, dtype=dtype))
    return State({"x": x * (1 + expand(schedule.sigma(t), x))}, ones(rows)), {"x": t}


MEAN = torch.tensor([1.0, -0.5], dtype=torch.float64)
STD = torch.tensor([0.5, 1.5], dtype=torch.float64)
OTHER = torch.tensor([-1.0, 0.3], dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_combining_x0_is_combining_noises(schedule: Schedule, dtype) -> None:
    state, times = noisy(schedule, dtype)
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    rng = random.generator(1)
    eps = [random.normal(rng, state["x"]) for _ in range(2)]
    alpha, sigma = schedule.alpha(times["x"]), schedule.sigma(times["x"])

    def with_noise(noise: torch.Tensor) -> Denoiser:
        return lambda s, t, c: State({"x": x0_from_eps(s["x"], noise, alpha, sigma)}, s.mask)

    guided = classifier_free(with_noise(eps[0]), with_noise(eps[1]), processes, 3.0)
    mixed = with_noise(eps[1] + 3.0 * (eps[0] - eps[1]))
    found, expected = (d(state, times, {})["x"] for d in (guided, mixed))
    torch.testing.assert_close(
        found, expected, rtol=1e-4, atol=1e-3 if dtype.itemsize < 8 else 1e-9
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5])
def test_guided_score_is_that_of_the_powers(schedule: Schedule, scale: float) -> None:
    """p(x) is a mixture of two Gaussians of different widths, p(x|c) one of them."""
    state, times = noisy(schedule)
    x, t = state["x"].requires_grad_(), times["x"]
    inside = log_gaussian(schedule, x, t, MEAN, STD)
    outside = torch.logaddexp(inside, log_gaussian(schedule, x, t, OTHER, torch.ones(2).double()))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    powers = scale * inside + (1 - scale) * outside
    score = {
        n: torch.autograd.grad(q.sum(), x, retain_graph=True)[0]
        for n, q in (("c", inside), ("u", outside), ("s", powers))
    }
    clean = {n: x0_from_score(x.detach(), s, alpha, sigma) for n, s in score.items()}
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    told, untold = ((lambda v: lambda s, t, c: State({"x": v}, s.mask))(clean[n]) for n in "cu")
    guided = classifier_free(told, untold, processes, scale)(state, times, {})["x"]
    torch.testing.assert_close(guided, clean["s"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("scale", "calls"), [(0.0, (0, 1)), (1.0, (1, 0)), (2.0, (1, 1))])
def test_a_denoiser_without_weight_is_not_asked(scale: float, calls: tuple[int, int]) -> None:
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    told, untold = (
        Counted(gaussian(FlowTime(), MEAN, STD)),
        Counted(gaussian(FlowTime(), OTHER, STD)),
    )
    state, times = noisy(FlowTime())
    classifier_free(told, untold, processes, scale)(state, times, {})
    assert (told.calls, untold.calls) == calls
    part = classifier_free(told, untold, processes, scale, (2.0, 3.0))  # never inside
    part(state, times, {})
    assert (told.calls, untold.calls) == (calls[0] + 1, calls[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_guided_samples_of_gaussians_of_one_width(schedule: Schedule, dtype) -> None:
    """N(m, v)^s N(o, v)^(1-s) is N(s m + (1-s) o, v), and so at every noise level."""
    rows, scale = 2_000, 2.0
    mean, other, std = MEAN.to(dtype), OTHER.to(dtype), torch.tensor(0.7, dtype=dtype)
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    guided = classifier_free(
        gaussian(schedule, mean, std), gaussian(schedule, other, std), processes, scale
    )
    rng = random.generator(2)
    start = prior(processes, ones(rows), rng)
    start = start.replace(x=start["x"].to(dtype))
    x = sample(guided, processes, start, power_grid(60, 2.0), rng, method=solver("ancestral"))["x"]
    assert x.dtype == dtype
    expected = scale * mean + (1 - scale) * other
    assert ((x.mean(0) - expected).abs() < 5 * std / math.sqrt(rows) + 0.03).all()
    assert ((x.std(0) / std - 1).abs() < 5 / math.sqrt(2 * rows) + 0.04).all()


@pytest.mark.parametrize(
    "kernel", [uniform_kernel(4), absorbing_kernel(5)], ids=["uniform", "mask"]
)
def test_guided_samples_of_one_token(kernel) -> None:
    """q(x_t | x_0) cancels in the powers: one token is guided exactly, p(k|c)^s p(k)^(1-s) / Z."""
    rows, scale = 2_000, 2.0
    processes = {"tok": Categorical(FlowTime(), Nodes(), kernel)}
    data = State({"tok": torch.arange(4).unsqueeze(1)}, ones(4))
    told = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    untold = torch.tensor([0.4, 0.2, 0.2, 0.2]).double()
    guided = classifier_free(
        Oracle(processes, data, told.log()), Oracle(processes, data, untold.log()), processes, scale
    )
    rng = random.generator(3)
    start = prior(processes, ones(rows), rng)
    tok = sample(guided, processes, start, power_grid(30), rng, method=solver("ancestral"))["tok"]
    # the last step takes the most likely class, so that a fine grid is needed near 0
    expected = told**scale * untold ** (1 - scale)
    shares = tok.flatten().bincount(minlength=4).double() / rows
    assert (shares - expected / expected.sum()).abs().max() < 0.04


def test_outside_the_interval_the_conditional_is_alone() -> None:
    schedule = FlowTime()
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    state, times = noisy(schedule)
    told = gaussian(schedule, MEAN, STD)
    untold = Counted(gaussian(schedule, OTHER, STD))
    plain = told(state, times, {})["x"]
    everywhere = classifier_free(told, untold, processes, 3.0)(state, times, {})["x"]
    guided = classifier_free(told, untold, processes, 3.0, interval=(0.3, 0.7))
    inside = (times["x"] >= 0.3) & (times["x"] <= 0.7)
    assert inside.any() and not inside.all()
    expected = torch.where(inside.unsqueeze(1), everywhere, plain)
    assert torch.equal(guided(state, times, {})["x"], expected)

    untold.calls = 0
    late = {"x": torch.full((6,), 0.9).double()}
    assert torch.equal(guided(state, late, {})["x"], told(state, late, {})["x"])
    classifier_free(told, untold, processes, 1.0)(state, times, {})
    assert untold.calls == 0


def test_an_interval_in_log_snr_survives_a_change_of_schedule() -> None:
    """The same signal-to-noise ratio is inside, whatever time a schedule gives it."""
    within = Range(-1.0, 1.0, "log_snr", "x")
    for schedule in SCHEDULES:
        t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
        ratio = (schedule.alpha(t) / schedule.sigma(t)).square()
        inside = within.holds({"x": Gaussian(schedule, Grid((1,)))}, {"x": t})
        assert torch.equal(inside, (ratio >= math.exp(-1)) & (ratio <= math.exp(1)))
        assert inside.any() and not inside.all()


MASK = torch.tensor([[True] * 4, [True] * 3 + [False]])
MANY = {
    "pos": Gaussian(FlowTime(), Points()),
    "atom": Categorical(Cosine(), Nodes(), uniform_kernel(3)),
    "bond": Categorical(Cosine(), Pairs(), uniform_kernel(3)),
    "feature": Gaussian(Cosine(), Pairs((2,))),
}


def anything(seed: int) -> Denoiser:
    """A prediction on the domain, without meaning."""

    def denoiser(state: State, times, context) -> State:
        rng, fields = random.generator(seed), {}
        for name, process in MANY.items():
            shape = process.domain.shape(state.mask)
            if isinstance(process, Gaussian):
                x = random.normal(rng, torch.zeros(shape))
                fields[name] = process.domain.project(process.domain.tie(x), state.mask)
            else:
                logits = random.normal(rng, torch.zeros(*shape, 3))
                fields[name] = process.domain.tie(logits).softmax(-1)
        return State(fields, state.mask)

    return denoiser


def on_domain(clean: State) -> None:
    assert clean["pos"].sum(1).abs().max() < 1e-5
    assert (clean["pos"][~MASK] == 0).all()
    for name in ("atom", "bond"):
        torch.testing.assert_close(clean[name].sum(-1), torch.ones(clean[name].shape[:-1]))
        assert (clean[name] >= 0).all()
    for name in ("bond", "feature"):
        assert torch.equal(clean[name], clean[name].transpose(1, 2))


def test_what_is_guided_is_on_its_domain_and_each_field_has_its_scale() -> None:
    state = prior(MANY, MASK, random.generator(4))
    times = {n: torch.tensor([0.5, 0.7]) for n in MANY}
    told, untold = anything(0), anything(1)
    scale = {"pos": 2.0, "atom": 3.0, "bond": 1.5}
    clean = classifier_free(told, untold, MANY, scale)(state, times, {})
    on_domain(clean)
    c, u = told(state, times, {}), untold(state, times, {})
    torch.testing.assert_close(clean["pos"], 2 * c["pos"] - u["pos"])
    expected = (3 * c["atom"].log() - 2 * u["atom"].log()).softmax(-1)
    torch.testing.assert_close(clean["atom"], expected)
    torch.testing.assert_close(clean["feature"], c["feature"])  # not named: 1


def test_a_class_that_is_ruled_out_stays_ruled_out() -> None:
    processes = {"tok": Categorical(Cosine(), Nodes(), uniform_kernel(3))}
    state = State({"tok": torch.zeros(1, 1).long()}, ones(1))

    def fixed(*p: float) -> Denoiser:
        return lambda s, t, c: State({"tok": torch.tensor([[p]])}, s.mask)

    times = {"tok": torch.tensor([0.5])}
    some = classifier_free(fixed(0.5, 0.5, 0.0), fixed(0.4, 0.4, 0.2), processes, 2.0)
    assert torch.allclose(some(state, times, {})["tok"], torch.tensor([0.5, 0.5, 0.0]))
    none = classifier_free(fixed(1.0, 0.0, 0.0), fixed(0.0, 1.0, 0.0), processes, 0.5)
    left = none(state, times, {})["tok"]
    assert left.isfinite().all() and torch.allclose(left.sum(-1), torch.ones(1, 1))


def test_conditions_are_carried_and_broadcast() -> None:
    seen = []

    def denoiser(state: State, times, context) -> State:
        seen.append(state["property"])
        return State({"x": state["x"]}, state.mask)

    state = State({"x": torch.zeros(3, 2), "property": torch.ones(3, 1)}, ones(3))
    conditioned(denoiser, property=torch.tensor([[2.0]]))(state, {}, {})
    conditioned(denoiser, property=torch.arange(3.0).unsqueeze(1))(state, {}, {})
    assert torch.equal(seen[0], torch.full((3, 1), 2.0))
    assert torch.equal(seen[1][:, 0], torch.arange(3.0))
    assert torch.equal(state["property"], torch.ones(3, 1))
    with pytest.raises(ConfigError, match=r"condition 'property': expected 1 or 3 rows, got \(2,"):
        conditioned(denoiser, property=torch.zeros(2, 1))(state, {}, {})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("on", ["x0", "denoiser"])
def test_a_linear_energy_moves_a_gaussian(on: str, schedule: Schedule, dtype) -> None:
    """N(m, v) exp(-s b.x) is N(m - s v b, v): the guided denoiser is that of the moved density."""
    state, times = noisy(schedule, dtype)
    b, std, scale = torch.tensor([0.7, -2.0], dtype=dtype), 0.6, 1.5
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    mean, width = MEAN.to(dtype), torch.tensor(std, dtype=dtype)
    guided = energy_guided(
        gaussian(schedule, mean, width), processes, lambda s, t: (s["x"] * b).sum(1), scale, on=on,
        spread=std,
    )  # fmt: skip
    moved = gaussian(schedule, mean - scale * std**2 * b, width)
    found, expected = (d(state, times, {})["x"] for d in (guided, moved))
    assert found.dtype == dtype and not found.requires_grad
    torch.testing.assert_close(
        found, expected, rtol=1e-5, atol=1e-4 if dtype.itemsize < 8 else 1e-9
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_exact_noisy_energy_gives_the_posterior(schedule: Schedule) -> None:
    """Prior N(m, v), E = (x - y)^2 / (2 w): posterior N(m + k (y - m), v (1 - k)), k = v / (v + w).

    The noisy energy is -log E[exp(-E(x0)) | x_t]: quadratic in the posterior mean of x0.
    """
    state, times = noisy(schedule)
    y, w = torch.tensor([0.2, 2.0], dtype=torch.float64), 0.3
    plain = gaussian(schedule, MEAN, STD)

    def energy(s: State, t) -> torch.Tensor:
        alpha, sigma = (
            expand(schedule.alpha(t["x"]), s["x"]),
            expand(schedule.sigma(t["x"]), s["x"]),
        )
        left = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)  # variance of x0 given x_t
        return (0.5 * (plain(s, t, {})["x"] - y) ** 2 / (left + w)).sum(1)

    processes = {"x": Gaussian(schedule, Grid((2,)))}
    k = STD**2 / (STD**2 + w)
    posterior = gaussian(schedule, MEAN + k * (y - MEAN), (STD**2 * (1 - k)).sqrt())
    guided = energy_guided(plain, processes, energy, on="xt")
    found, expected = (d(state, times, {})["x"] for d in (guided, posterior))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)

    rng = random.generator(5)
    start = prior(processes, ones(2_000), rng)
    x = sample(guided, processes, start, power_grid(60, 2.0), rng, method=solver("ancestral"))["x"]
    width = (STD**2 * (1 - k)).sqrt()
    assert ((x.mean(0) - MEAN - k * (y - MEAN)).abs() < 0.15 * width + 0.02).all()
    assert ((x.std(0) / width - 1).abs() < 0.12).all()


@pytest.mark.parametrize("halves", [False, True], ids=["upper", "both"])
@pytest.mark.parametrize("on", ["x0", "denoiser", "xt"])
def test_a_pair_counts_once_however_the_energy_counts_it(on: str, halves: bool) -> None:
    """Unit Gaussian pairs: x0 = alpha x / (alpha^2 + sigma^2); E = b x moves it by r^2 b."""
    schedule, mask = Cosine(), ones(2, 3)
    process = Gaussian(schedule, Pairs())
    x = process.domain.project(random.normal(random.generator(6), torch.zeros(2, 3, 3)), mask)
    t = {"pair": torch.tensor([0.3, 0.6])}
    b = process.domain.project(
        torch.tensor([[0.0, 1, 2], [1, 0, 3], [2, 3, 0]]).expand(2, 3, 3), mask
    )

    def denoiser(s: State, times, context) -> State:
        return State({"pair": expand(schedule.alpha(times["pair"]), x) * s["pair"]}, s.mask)

    def energy(s: State, times) -> torch.Tensor:
        factor = expand(schedule.alpha(times["pair"]), x) if on == "xt" else 1
        values = factor * b * s["pair"]
        return 0.5 * values.sum((1, 2)) if halves else values.triu(1).sum((1, 2))

    guided = energy_guided(denoiser, {"pair": process}, energy, on=on)
    state = State({"pair": x}, mask)
    change = guided(state, t, {})["pair"] - denoiser(state, t, {})["pair"]
    expected = -expand(schedule.sigma(t["pair"]) ** 2, x) * b
    torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("on", ["x0", "denoiser"])
def test_the_first_order_tilt_is_exact_for_a_linear_energy(on: str) -> None:
    """Bayes' rule for one token: p(k | x_t) exp(-s e_k) / Z is the oracle of the tilted data."""
    processes = {"tok": Categorical(FlowTime(), Nodes(), uniform_kernel(4))}
    data = State({"tok": torch.arange(4).unsqueeze(1)}, ones(4))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).double()
    e = torch.tensor([0.5, -1.0, 0.0, 2.0]).double()
    plain = Oracle(processes, data, weights.log())
    tilted = Oracle(processes, data, weights.log() - 1.5 * e)
    guided = energy_guided(plain, processes, lambda s, t: (s["tok"] * e).sum((1, 2)), 1.5, on=on)
    state = State({"tok": torch.arange(4).unsqueeze(1)}, ones(4))
    times = {"tok": torch.tensor([0.2, 0.5, 0.8, 1.0])}
    torch.testing.assert_close(guided(state, times, {})["tok"], tilted(state, times, {})["tok"])


class Net(torch.nn.Module):
    """Positions and classes that depend on each other, the mask, the times and the last guess."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 6)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(random.normal(random.generator(7), value))

    def forward(self, state: State, times, context) -> State:
        one_hot = torch.nn.functional.one_hot(state["atom"], 3).to(state["pos"])
        t = (
            torch.stack([times["pos"], times["atom"]], -1)
            .unsqueeze(1)
            .expand(-1, one_hot.shape[1], -1)
        )
        x = torch.cat([state["pos"], one_hot, t], -1) * state.mask.unsqueeze(-1)
        if context.get("previous") is not None:
            x = x * (1 + context["previous"]["pos"].mean(-1, keepdim=True))
        pos, atom = self.linear(x).tanh().split([3, 3], -1)
        return State(
            {"pos": Points().project(pos, state.mask), "atom": atom.softmax(-1)}, state.mask
        )


@pytest.mark.parametrize("on", ["x0", "denoiser", "xt"])
def test_gradients_work_in_inference_mode(on: str) -> None:
    processes = {n: MANY[n] for n in ("pos", "atom")}
    network = Net().requires_grad_(False)

    def energy(s: State, t) -> torch.Tensor:
        e = s["pos"].square().sum((1, 2)) * (1 + t["pos"])
        return e if on == "xt" else e + (s["atom"][..., 0] * s.mask).sum(1).square()

    # sigma^2 / alpha is 10^4 at time 1, and this network is not the posterior mean that cancels it
    guided = energy_guided(network, processes, energy, 0.5, on=on, within=Range(0, 0.8))
    made = []
    for mode in (True, False):
        with torch.inference_mode(mode):
            rng = random.generator(8)
            start = prior(processes, MASK, rng)
            made.append(sample(guided, processes, start, power_grid(6), rng, method=solver("ddim")))
    assert torch.equal(made[0]["pos"], made[1]["pos"])
    assert torch.equal(made[0]["atom"], made[1]["atom"])
    with torch.inference_mode():
        rng = random.generator(8)
        start = prior(processes, MASK, rng)
        plain = sample(network, processes, start, power_grid(6), rng, method=solver("ddim"))
    assert made[0]["pos"].square().sum() < plain["pos"].square().sum()


def test_guided_by_energy_is_on_its_domain_and_only_the_named_fields_move() -> None:
    state = prior(MANY, MASK, random.generator(4))
    times = {n: torch.tensor([0.5, 0.7]) for n in MANY}
    plain = anything(0)(state, times, {})

    def energy(s: State, t) -> torch.Tensor:
        return sum((s[n] ** 2 * (1 + s[n])).flatten(1).sum(1) for n in MANY)  # type: ignore[return-value]

    clean = energy_guided(anything(0), MANY, energy, 0.1)(state, times, {})
    on_domain(clean)
    assert all(not torch.equal(clean[n], plain[n]) for n in MANY)
    some = energy_guided(anything(0), MANY, energy, 0.1, fields=["pos"])(state, times, {})
    assert not torch.equal(some["pos"], plain["pos"])
    assert torch.equal(some["bond"], plain["bond"])


def test_a_row_without_a_gradient_is_left_alone_and_a_limit_holds() -> None:
    schedule = FlowTime()
    state, times = noisy(schedule)
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    plain = gaussian(schedule, MEAN, STD)
    bad = torch.arange(6) == 2

    def energy(s: State, t) -> torch.Tensor:
        return torch.where(bad, torch.nan, 1e6) * s["x"].square().sum(1)

    guided = energy_guided(plain, processes, energy, limit=0.1)
    change = guided(state, times, {})["x"] - plain(state, times, {})["x"]
    assert (change[bad] == 0).all()
    size = change[~bad].square().mean(1).sqrt()
    torch.testing.assert_close(size, torch.full_like(size, 0.1))
    outside = energy_guided(plain, processes, energy, within=Range(2.0, 3.0))
    assert torch.equal(outside(state, times, {})["x"], plain(state, times, {})["x"])


def test_what_cannot_be_guided_is_refused_in_a_line() -> None:
    def energy(s: State, t) -> torch.Tensor:
        return s["pos"].sum()

    state, times = prior(MANY, MASK, random.generator(4)), {n: torch.full((2,), 0.5) for n in MANY}
    with pytest.raises(ConfigError, match=r"one value for each of 2 rows, got shape \(\)"):
        energy_guided(anything(0), MANY, energy)(state, times, {})
    with pytest.raises(ConfigError, match="can be differentiated, got a constant"):
        energy_guided(anything(0), MANY, lambda s, t: torch.zeros(2))(state, times, {})
    with pytest.raises(ConfigError, match=r"expected fields of pos, feature, got \['atom'\]"):
        energy_guided(anything(0), MANY, energy, on="xt", fields=["atom"])
    with pytest.raises(ConfigError, match="expected on = x0, denoiser or xt, got 'x1'"):
        energy_guided(anything(0), MANY, energy, on="x1")
    with pytest.raises(ConfigError, match="classifier_free: expected a finite number, got nan"):
        classifier_free(anything(0), anything(1), MANY, math.nan)
    with pytest.raises(ConfigError, match="expected fields of pos, .*, got 'positions'"):
        classifier_free(anything(0), anything(1), MANY, {"positions": 2.0})
    with pytest.raises(ConfigError, match="range: expected low <= high, got 0.7 and 0.3"):
        classifier_free(anything(0), anything(1), MANY, interval=(0.7, 0.3))
    with pytest.raises(ConfigError, match="unit time or log_snr, got 'snr'"):
        Range(0, 1, "snr")
    with pytest.raises(ConfigError, match="range: expected a field of pos, .*, got 'atoms'"):
        within = Range(0, 1, field="atoms")
        energy_guided(anything(0), MANY, energy, within=within)(state, times, {})
