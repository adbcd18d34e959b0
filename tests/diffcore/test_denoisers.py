"""Converters into the x0 convention, wrappers, and the oracle against brute force."""

import math

import pytest
import torch

from diffcore import random
from diffcore.denoisers import (
    PREVIOUS,
    Counted,
    Oracle,
    as_clean,
    with_temperature,
    without_previous,
)
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.errors import ConfigError
from diffcore.processes import (
    Categorical,
    Gaussian,
    absorbing_kernel,
    marginal_kernel,
    uniform_kernel,
)
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), Cosine(nu=2.5), FlowTime(), EdmSigmas()]
MASK = torch.tensor([[True] * 4, [True] * 3 + [False]] * 2)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("domain", [Nodes((2,)), Points(), Pairs((3,))], ids=repr)
@pytest.mark.parametrize("predicts", ["x0", "eps", "v", "score", "velocity"])
def test_a_true_prediction_gives_back_the_clean_value(schedule, domain, predicts: str) -> None:
    process, rng = Gaussian(schedule, domain), random.generator(0)
    like = torch.zeros(domain.shape(MASK), dtype=torch.float64)
    clean, eps = (domain.project(domain.tie(random.normal(rng, like)), MASK) for _ in range(2))
    t = torch.tensor([0.05, 0.4, 0.8, 0.95], dtype=torch.float64)
    x = process.mix(clean, eps, t)
    alpha, sigma = expand(schedule.alpha(t), x), expand(schedule.sigma(t), x)
    raw = {
        "x0": clean,
        "eps": eps,
        "v": alpha * eps - sigma * clean,
        "score": -eps / sigma,  # gradient of log N(x; alpha x0, sigma^2)
        "velocity": eps - clean,  # d/dt of (1 - t) x0 + t eps
    }[predicts]
    if predicts == "velocity" and not isinstance(schedule, FlowTime):
        with pytest.raises(ConfigError, match="a velocity needs a FlowTime schedule"):
            as_clean(raw, x, t, process, MASK, predicts)
        return
    found = as_clean(raw, x, t, process, MASK, predicts)
    # divided by alpha, down to 0.02 here: a few digits of float64 are lost
    torch.testing.assert_close(found, clean, rtol=1e-9, atol=1e-9)


def test_predictions_are_put_on_the_domain() -> None:
    process = Gaussian(FlowTime(), Points())
    raw = random.normal(random.generator(0), torch.zeros(4, 4, 3)) + 5
    clean = as_clean(raw, torch.zeros_like(raw), torch.full((4,), 0.5), process, MASK, "x0")
    assert clean.sum(1).abs().max() < 1e-5
    assert (clean[~MASK] == 0).all()


def test_logits_become_probabilities_without_the_mask_class() -> None:
    raw = torch.tensor([[[1.0, 2.0, 50.0]]])
    t, mask, x = torch.tensor([0.5]), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1).long()
    plain = as_clean(raw, x, t, Categorical(FlowTime(), Nodes(), uniform_kernel(3)), mask, "x0")
    torch.testing.assert_close(plain, raw.softmax(-1))
    masked = as_clean(raw, x, t, Categorical(FlowTime(), Nodes(), absorbing_kernel(3)), mask, "x0")
    torch.testing.assert_close(masked[..., :2], raw[..., :2].softmax(-1))
    assert masked[..., 2].item() == 0


def test_half_precision_is_converted_before_the_arithmetic() -> None:
    process = Gaussian(Cosine(), Grid((1,)))
    t, mask = torch.tensor([0.999]), torch.ones(1, 1, dtype=torch.bool)
    raw = torch.ones(1, 1, dtype=torch.bfloat16)
    assert as_clean(raw, torch.ones(1, 1), t, process, mask, "eps").dtype == torch.float32


def test_unknown_prediction_is_a_one_line_error() -> None:
    process = Gaussian(Cosine(), Grid((1,)))
    t, mask, x = torch.tensor([0.5]), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1)
    with pytest.raises(ConfigError, match=r"^unknown prediction 'noise'; known: x0, velocity, eps"):
        as_clean(x, x, t, process, mask, "noise")


def fixed(probabilities: torch.Tensor):
    def denoiser(state: State, times, context) -> State:
        seen.append(context.get(PREVIOUS))
        return State({"tok": probabilities}, state.mask)

    seen: list = []
    denoiser.seen = seen  # type: ignore[attr-defined]
    return denoiser


STATE = State({"tok": torch.zeros(3, 1, dtype=torch.long)}, torch.ones(3, 1, dtype=torch.bool))


def test_counted() -> None:
    counted = Counted(fixed(torch.ones(3, 1, 2) / 2))
    for _ in range(4):
        counted(STATE, {}, {})
    assert (counted.calls, counted.evaluations) == (4, 12)


def test_temperature() -> None:
    p = torch.tensor([[[0.5, 0.3, 0.2]]]).expand(3, -1, -1)
    denoiser = fixed(p)

    def at(T: float) -> torch.Tensor:
        return with_temperature(denoiser, {"tok": T})(STATE, {}, {})["tok"]

    torch.testing.assert_close(at(1.0), p)
    torch.testing.assert_close(at(0.5), p**2 / (p**2).sum(-1, keepdim=True))
    torch.testing.assert_close(at(1e-3), torch.tensor([1.0, 0, 0]).expand(3, 1, 3))
    torch.testing.assert_close(at(1e6), torch.full((3, 1, 3), 1 / 3), rtol=0, atol=1e-5)
    certain = with_temperature(fixed(torch.eye(3).unsqueeze(1)), {"tok": 0.5})(STATE, {}, {})
    torch.testing.assert_close(certain["tok"], torch.eye(3).unsqueeze(1))


@pytest.mark.parametrize("T", [0.0, -1.0, math.nan])
def test_temperature_must_be_above_zero(T: float) -> None:
    with pytest.raises(ConfigError, match="expected a temperature above 0, got .* for 'tok'"):
        with_temperature(fixed(torch.ones(1)), {"tok": T})


def test_without_previous() -> None:
    denoiser = fixed(torch.ones(3, 1, 2) / 2)
    without_previous(denoiser)(STATE, {}, {PREVIOUS: STATE})
    assert denoiser.seen == [None]


def test_oracle_against_brute_force() -> None:
    """Positions, node classes, pair classes and pair features at four different times."""
    n, examples = 3, 4
    rng = random.generator(0)
    mask = torch.ones(examples, n, dtype=torch.bool)
    processes = {
        "pos": Gaussian(Cosine(), Points()),
        "atom": Categorical(FlowTime(), Nodes(), marginal_kernel(torch.tensor([0.6, 0.3, 0.1]))),
        "bond": Categorical(Cosine(nu=1.5), Pairs(), uniform_kernel(3)),
        "feature": Gaussian(FlowTime(), Pairs((2,))),
    }
    data = State(
        {
            "pos": Points().project(random.normal(rng, torch.zeros(examples, n, 3).double()), mask),
            "atom": torch.randint(0, 3, (examples, n), generator=rng),
            "bond": Pairs().project(torch.randint(0, 3, (examples, n, n), generator=rng), mask),
            "feature": Pairs((2,)).project(
                random.normal(rng, torch.zeros(examples, n, n, 2).double()), mask
            ),
        },
        mask,
    )
    log_weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).double().log()
    times = {"pos": 0.5, "atom": 0.6, "bond": 0.7, "feature": 0.8}
    rows = 2
    vectors = {k: torch.full((rows,), v, dtype=torch.float64) for k, v in times.items()}
    first = data.take(torch.tensor([0, 2]))
    noisy = State(
        {
            k: p.forward(first[k], vectors[k], first.mask, random.generator(7))
            for k, p in processes.items()
        },
        first.mask,
    )
    p = torch.zeros(rows, examples, dtype=torch.float64)
    for b in range(rows):
        for m in range(examples):
            total = log_weights[m].item()
            for name in ("pos", "feature"):
                schedule = processes[name].schedule
                alpha = schedule.alpha(vectors[name])[b].item()
                sigma = schedule.sigma(vectors[name])[b].item()
                residual = (noisy[name][b] - alpha * data[name][m]) ** 2
                if name == "feature":  # independent elements only: i < j
                    residual = torch.stack([residual[i, j] for i, j in [(0, 1), (0, 2), (1, 2)]])
                total += -0.5 * residual.sum().item() / sigma**2
            atoms = processes["atom"].cumulative(vectors["atom"])[b]
            for i in range(n):
                total += atoms[data["atom"][m, i], noisy["atom"][b, i]].log().item()
            bonds = processes["bond"].cumulative(vectors["bond"])[b]
            for i, j in [(0, 1), (0, 2), (1, 2)]:
                total += bonds[data["bond"][m, i, j], noisy["bond"][b, i, j]].log().item()
            p[b, m] = total
    p = p.softmax(-1)
    assert ((p > 0.01) & (p < 0.99)).any()  # the comparison would be empty if one example won
    oracle = Oracle(processes, data, log_weights)
    torch.testing.assert_close(oracle.responsibilities(noisy, vectors), p, rtol=1e-6, atol=1e-9)
    clean = oracle(noisy, vectors, {})
    for b in range(rows):
        pos = sum(p[b, m] * data["pos"][m] for m in range(examples))
        torch.testing.assert_close(clean["pos"][b], pos, rtol=1e-6, atol=1e-9)
        share = sum(p[b, m].item() for m in range(examples) if data["atom"][m, 1] == 0)
        assert clean["atom"][b, 1, 0].item() == pytest.approx(share, rel=1e-6, abs=1e-9)


def test_oracle_at_time_zero_knows_the_example() -> None:
    data = State({"x": torch.tensor([[0.0], [1.0]]).double()}, torch.ones(2, 1, dtype=torch.bool))
    oracle = Oracle({"x": Gaussian(FlowTime(), Grid((1,)))}, data)
    zero = {"x": torch.zeros(2, dtype=torch.float64)}
    torch.testing.assert_close(oracle(data, zero, {})["x"], data["x"])
