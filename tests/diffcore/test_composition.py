"""AND, NOT, OR and experts against Gaussians, whose products and mixtures are known."""

import math

import pytest
import torch

from diffcore import random
from diffcore.composition import Range, conjunction, disjunction, negation
from diffcore.denoisers import PREVIOUS, Counted, Denoiser, Oracle
from diffcore.domains import Grid, Nodes
from diffcore.errors import ConfigError
from diffcore.experts import experts
from diffcore.guidance import energy_guided
from diffcore.processes import Categorical, Gaussian, uniform_kernel
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, log_snr, power_grid
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), FlowTime(), EdmSigmas()]
CENTRES = torch.tensor([[0.0, 0.0], [1.5, 0.2], [-0.3, 1.0]], dtype=torch.float64)
WIDTH = 0.7


def ones(rows: int) -> torch.Tensor:
    return torch.ones(rows, 1, dtype=torch.bool)


def gaussian(schedule: Schedule, mean: torch.Tensor, std: float = WIDTH) -> Denoiser:
    def denoiser(state: State, times, context) -> State:
        x = state["x"]
        alpha, sigma = (expand(f(times["x"]), x) for f in (schedule.alpha, schedule.sigma))
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return State({"x": mean.to(x) + gain * (x - alpha * mean.to(x))}, state.mask)

    return denoiser


def noisy(schedule: Schedule) -> tuple[State, dict]:
    t = torch.linspace(0.05, 0.95, 6, dtype=torch.float64)
    x = random.normal(random.generator(0), torch.zeros(6, 2, dtype=torch.float64))
    return State({"x": x * (1 + expand(schedule.sigma(t), x))}, ones(6)), {"x": t}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_and_of_gaussians(schedule: Schedule) -> None:
    """p (p_1 / p)^a (p_2 / p)^b of one width is N(m + a (m_1 - m) + b (m_2 - m), v)."""
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    base, one, two = (gaussian(schedule, m) for m in CENTRES)
    both = conjunction(base, [(one, 1.0), (two, 0.5)], processes)
    mean = CENTRES[0] + (CENTRES[1] - CENTRES[0]) + 0.5 * (CENTRES[2] - CENTRES[0])
    state, times = noisy(schedule)
    expected = gaussian(schedule, mean)(state, times, {})["x"]
    torch.testing.assert_close(both(state, times, {})["x"], expected)

    rows, rng = 2_000, random.generator(1)
    start = prior(processes, ones(rows), rng)
    grid = power_grid(60, 1.0 if isinstance(schedule, EdmSigmas) else 2.0)
    x = sample(both, processes, start, grid, rng, method=solver("ancestral"))["x"]
    assert x.dtype == torch.float32
    assert ((x.mean(0) - mean).abs() < 5 * WIDTH / math.sqrt(rows) + 0.03).all()
    assert ((x.std(0) / WIDTH - 1).abs() < 5 / math.sqrt(2 * rows) + 0.04).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_not_moves_away(schedule: Schedule) -> None:
    processes = {"x": Gaussian(schedule, Grid((2,)))}
    base, one, _ = (gaussian(schedule, m) for m in CENTRES)
    state, times = noisy(schedule)
    expected = gaussian(schedule, CENTRES[0] - 0.8 * (CENTRES[1] - CENTRES[0]))
    found = negation(base, one, processes, 0.8)(state, times, {})["x"]
    torch.testing.assert_close(found, expected(state, times, {})["x"])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_or_of_gaussians_is_the_mixture(schedule: Schedule) -> None:
    """Two data sets, one oracle each: the mixture is the oracle of both, for all fields."""
    processes = {
        "x": Gaussian(schedule, Grid((2,))),
        "tok": Categorical(FlowTime(), Nodes(), uniform_kernel(3)),
    }
    fields = {"x": CENTRES.repeat(2, 1) + 0.1, "tok": torch.arange(6).unsqueeze(1) % 3}
    data = State(
        {**fields, "x": fields["x"] * torch.tensor([1, 1, 1, 2, 2, 2]).unsqueeze(1)}, ones(6)
    )
    parts = [data.take(torch.tensor(rows)) for rows in ([0, 1], [2, 3, 4, 5])]
    oracles = [Oracle(processes, part) for part in parts]
    prior_log = torch.tensor([0.4, 0.6]).double().log()

    def log_density(k: int):
        def log_q(state: State, times) -> torch.Tensor:
            one = oracles[k]
            total = sum(
                one._log_likelihood(p, state[n], parts[k][n], times[n], state.mask)
                for n, p in processes.items()
            )
            return prior_log[k] + (total - math.log(parts[k].rows)).logsumexp(1)

        return log_q

    either = disjunction([(oracles[k], log_density(k)) for k in (0, 1)], processes)
    weights = torch.tensor([0.2, 0.2, 0.15, 0.15, 0.15, 0.15]).double()
    whole = Oracle(processes, data, weights.log())
    state, times = noisy(schedule)
    state = state.replace(tok=torch.tensor([[0], [1], [2], [0], [1], [2]]))
    times["tok"] = times["x"]
    for name in processes:
        found = either(state, times, {})[name]
        torch.testing.assert_close(found, whole(state, times, {})[name], rtol=1e-6, atol=1e-8)


def test_conditions_act_within_their_range_only() -> None:
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    base, one = gaussian(FlowTime(), CENTRES[0]), Counted(gaussian(FlowTime(), CENTRES[1]))
    some = conjunction(base, [(one, 2.0)], processes, within=Range(0.0, 0.2))
    state, times = noisy(FlowTime())
    inside = times["x"] <= 0.2
    same = (some(state, times, {})["x"] == base(state, times, {})["x"]).all(1)
    assert torch.equal(same, ~inside)
    some(state, {"x": torch.full((6,), 0.5).double()}, {})
    assert one.calls == 1


def named(k: int, seen: list | None = None) -> Denoiser:
    """A denoiser whose prediction is its number."""

    def denoiser(state: State, times, context) -> State:
        if seen is not None:
            seen.append((state, times, context))
        return State({"x": torch.full_like(state["x"], float(k))}, state.mask)

    return denoiser


def test_experts_survive_a_change_of_schedule() -> None:
    """A row goes to the expert of its log-SNR, whatever time the schedule gives that noise."""
    edges = [-2.0, 1.0]
    members = [((1.0, math.inf), named(2)), ((-math.inf, -2.0), named(0)), ((-2.0, 1.0), named(1))]
    for schedule in SCHEDULES:
        processes = {"x": Gaussian(schedule, Grid((2,)))}
        t = torch.linspace(0, 1, 101, dtype=torch.float64)
        state = State({"x": torch.zeros(101, 2)}, ones(101))
        which = experts(processes, members)(state, {"x": t}, {})["x"][:, 0]
        expected = sum((log_snr(schedule, t) >= edge).float() for edge in edges)
        assert torch.equal(which, expected)
        assert which.unique().tolist() == [0.0, 1.0, 2.0]


def test_every_row_reaches_its_expert_with_all_that_belongs_to_it() -> None:
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    seen: list = []
    both = experts(
        processes, [((-math.inf, 0.0), named(0, seen)), ((0.0, math.inf), named(1, seen))]
    )
    state = State({"x": torch.zeros(4, 2), "c": torch.arange(4.0).unsqueeze(1)}, ones(4))
    times = {"x": torch.tensor([0.9, 0.1, 0.8, 0.2])}
    context = {PREVIOUS: state, "shared": 3, "own": torch.arange(4)}
    made = both(state, times, context)["x"][:, 0]
    assert made.tolist() == [0.0, 1.0, 0.0, 1.0]
    for (part, at, told), rows in zip(seen, ([0, 2], [1, 3]), strict=True):
        assert part["c"][:, 0].tolist() == told[PREVIOUS]["c"][:, 0].tolist() == rows
        assert told["own"].tolist() == rows and told["shared"] == 3
        assert torch.equal(at["x"], times["x"][rows])


def test_experts_with_an_energy_for_each_range() -> None:
    """One energy for low noise and one for high noise around the same denoiser (PPAP)."""
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    plain = gaussian(FlowTime(), CENTRES[0])

    def pull(sign: float):
        return lambda s, t: sign * s["x"].sum(1)

    members = [
        ((-math.inf, 0.0), energy_guided(plain, processes, pull(1.0))),
        ((0.0, math.inf), energy_guided(plain, processes, pull(-1.0))),
    ]
    state, times = noisy(FlowTime())
    change = experts(processes, members)(state, times, {})["x"] - plain(state, times, {})["x"]
    assert torch.equal(change > 0, (times["x"] < 0.5).unsqueeze(1).expand(6, 2))
    assert (change != 0).all()


INF = math.inf


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(-INF, 0.0), (1.0, INF)], "leave a gap at 1.0"),
        ([(-INF, 1.0), (0.0, INF)], "overlap or are empty at 0.0"),
        ([(0.0, INF)], "leave a gap at 0.0"),
        ([(-INF, 0.0)], "expected ranges of log-SNR up to inf, got up to 0.0"),
        ([(-INF, INF), (3.0, 3.0)], "overlap or are empty at 3.0"),
        ([], "expected ranges of log-SNR up to inf, got up to -inf"),
    ],
)
def test_ranges_must_cover_the_line_once(ranges, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experts({}, [(one, named(0)) for one in ranges])


def test_compositions_without_members_are_refused() -> None:
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    with pytest.raises(ConfigError, match="conjunction: expected at least one condition"):
        conjunction(named(0), [], processes)
    with pytest.raises(ConfigError, match="conjunction: expected a finite number, got inf"):
        conjunction(named(0), [(named(1), INF)], processes)
    with pytest.raises(ConfigError, match="negation: expected a weight above 0, got -1"):
        negation(named(0), named(1), processes, -1.0)
    with pytest.raises(ConfigError, match="disjunction: expected at least one member"):
        disjunction([], processes)
