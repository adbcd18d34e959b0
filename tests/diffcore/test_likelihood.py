"""Bounds against exact log-likelihoods, the diffusion classifier against Bayes' rule."""

import itertools
import math

import pytest
import torch

from diffcore import random
from diffcore.denoisers import PREVIOUS, Denoiser, Oracle
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.errors import ConfigError
from diffcore.evidence import log_snr_grid
from diffcore.likelihood import bound, classify
from diffcore.processes import (
    Categorical,
    Gaussian,
    Kernel,
    absorbing_kernel,
    mask_and_replace_kernel,
    uniform_kernel,
)
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule, log_snr, uniform_grid
from diffcore.state import State, expand

SCHEDULES: list[Schedule] = [Cosine(), Cosine(nu=2.5), FlowTime(), EdmSigmas()]


def ones(rows: int, nodes: int = 1) -> torch.Tensor:
    return torch.ones(rows, nodes, dtype=torch.bool)


def normal(schedule: Schedule, mean, std, name: str = "x") -> Denoiser:
    """The exact denoiser of N(mean, std^2); ``mean`` may be a function of the state."""

    def denoiser(state: State, times, context) -> State:
        x = state[name].double()
        alpha, sigma = (
            expand(f(times[name].double()), x) for f in (schedule.alpha, schedule.sigma)
        )
        centre = mean(state) if callable(mean) else mean
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return State({name: centre + gain * (x - alpha * centre)}, state.mask)

    return denoiser


def log_normal(x: torch.Tensor, mean, std) -> torch.Tensor:
    z = (x.double() - mean) / std
    return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi) - torch.as_tensor(std).double().log()).sum(1)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_bound_of_gaussian_data_is_below_and_near_the_exact_value(schedule: Schedule) -> None:
    processes = {"x": Gaussian(schedule, Grid((3,)))}
    mean, std = torch.tensor([1.0, 0.0, -0.5]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    x = mean + std * random.normal(random.generator(0), torch.zeros(40, 3, dtype=torch.float64))
    clean = State({"x": x}, ones(40))
    found = bound(
        normal(schedule, mean, std), processes, clean, random.generator(1), draws=64, repeats=4
    )
    exact = log_normal(x, mean, std)
    gap = exact - found.nats
    spread = float((found.error**2).sum().sqrt()) / len(x)
    assert abs(float(gap.mean())) < 4 * spread + 0.03  # tight in continuous time
    assert found.bits_per_dim.shape == (40,)
    torch.testing.assert_close(found.bits_per_dim, -found.nats / (3 * math.log(2)))
    torch.testing.assert_close(sum(found.parts.values()), found.nats)
    torch.testing.assert_close(found.fields["x"], found.nats)
    inside = ((found.nats - exact).abs() < 3 * found.error + 0.03).double().mean()
    assert inside > 0.8  # the standard errors mean something


def test_a_coarse_chain_has_a_looser_bound() -> None:
    """The full sums of 20, 80 and 320 intervals rise towards the exact value, as theory says.

    KL of an interval: (SNR(s) - SNR(t)) / 2 times the error 1 / (1 + SNR(t)) of normal data.
    """
    processes = {"x": Gaussian(Cosine(), Grid((2,)))}
    rng = random.generator(0)
    x = random.normal(rng, torch.zeros(300, 2, dtype=torch.float64))
    clean = State({"x": x}, ones(300))
    found = []
    for k in (20, 80, 320):
        one = bound(
            normal(Cosine(), 0.0, 1.0), processes, clean, random.generator(2), draws=k,
            repeats=2, grid=log_snr_grid(processes, k),
        )  # fmt: skip
        found.append(float(one.nats.mean()))
        snr = log_snr(Cosine(), log_snr_grid(processes, k)).exp()
        expected = float((snr.diff() / (1 + snr[:-1])).sum())
        assert -float(one.parts["diffusion"].mean()) == pytest.approx(expected, rel=0.03)
    exact = float(log_normal(x, 0.0, 1.0).mean())
    assert found[0] < found[1] < found[2] < exact < found[2] + 0.6


def test_a_wrong_denoiser_has_a_lower_bound() -> None:
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    x = random.normal(random.generator(0), torch.zeros(64, 2, dtype=torch.float64))
    clean = State({"x": x}, ones(64))
    right, shifted, narrow = (
        float(bound(d, processes, clean, random.generator(1), draws=32).nats.mean())
        for d in (
            normal(FlowTime(), 0.0, 1.0), normal(FlowTime(), 0.7, 1.0), normal(FlowTime(), 0.0, 0.5)
        )
    )  # fmt: skip
    assert right > shifted + 0.2 and right > narrow + 0.2


def test_bins_turn_densities_into_probabilities() -> None:
    """Two levels of grey, +-1, equally likely: one bit a pixel."""
    processes = {"x": Gaussian(Cosine(), Grid((1,)))}
    oracle = Oracle(processes, State({"x": torch.tensor([[-1.0], [1.0]])}, ones(2)))
    clean = State({"x": torch.tensor([[-1.0], [1.0]]).repeat(20, 1)}, ones(40))
    found = bound(
        oracle, processes, clean, random.generator(0), draws=64, bins={"x": 2.0},
        grid=log_snr_grid(processes, smallest=0.01),
    )  # fmt: skip
    mean, error = float(found.bits_per_dim.mean()), float(found.bits_error.mean()) / math.sqrt(40)
    assert 1 - 4 * error < mean < 1.03 + 4 * error
    density = bound(oracle, processes, clean, random.generator(0), draws=8)
    assert float(density.nats.mean()) > 3  # a density of points grows without bound


def string_data() -> tuple[torch.Tensor, torch.Tensor]:
    """All strings of three tokens of three classes, with unequal probabilities."""
    tok = torch.tensor(list(itertools.product(range(3), repeat=3)))
    weights = torch.exp(
        2 * random.normal(random.generator(4), torch.zeros(27, dtype=torch.float64))
    )
    return tok, weights / weights.sum()


KERNELS = {
    "uniform": uniform_kernel(3),
    "absorbing": absorbing_kernel(4),
    "mask and replace": mask_and_replace_kernel(4, 0.5),
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
@pytest.mark.parametrize("schedule", [FlowTime(), Cosine()], ids=repr)
def test_the_bound_of_a_finite_set_is_below_and_near_the_exact_value(
    schedule: Schedule, kernel: Kernel
) -> None:
    processes = {"tok": Categorical(schedule, Nodes(), kernel)}
    tok, p = string_data()
    clean = State({"tok": tok}, ones(27, 3))
    oracle = Oracle(processes, clean, p.log())
    found = bound(oracle, processes, clean, random.generator(0), draws=48, repeats=4)
    gap = float((p * (p.log() - found.nats)).sum())  # KL of the data from the model, at most
    error = float((p**2 * found.error**2).sum().sqrt())
    assert -4 * error < gap < 0.04 + 4 * error
    coarse = bound(
        oracle, processes, clean, random.generator(0), draws=1, repeats=60, grid=uniform_grid(2)[:2]
    )
    assert float((p * coarse.nats).sum()) < float((p * found.nats).sum()) - 0.05
    assert found.dimensions.tolist() == [3.0] * 27


def test_a_bound_over_fields_is_the_sum_of_independent_ones() -> None:
    """Positions (centred), a class per atom and bonds, all independent: a product of densities."""
    n = 3
    processes = {
        "pos": Gaussian(FlowTime(), Points()),
        "atom": Categorical(FlowTime(), Nodes(), uniform_kernel(2)),
        "bond": Categorical(Cosine(), Pairs(), absorbing_kernel(3)),
    }
    p_atom, p_bond = torch.tensor([0.8, 0.2]).double(), torch.tensor([0.3, 0.7, 0.0]).double()

    def one_class(name: str, state: State, times, p: torch.Tensor) -> torch.Tensor:
        table = processes[name].cumulative(times[name].double())
        joint = p.reshape(1, -1, 1) * table  # [B, from, to]
        x = state[name]
        batch = expand(torch.arange(len(x)), x)
        post = joint.transpose(1, 2)[batch, x]
        return post / post.sum(-1, keepdim=True)

    def denoiser(state: State, times, context) -> State:
        pos = normal(FlowTime(), 0.0, 1.0, "pos")(state, times, context)["pos"]
        fields = {
            "pos": processes["pos"].domain.project(pos, state.mask),
            "atom": one_class("atom", state, times, p_atom),
            "bond": one_class("bond", state, times, p_bond),
        }
        return State(fields, state.mask)

    rows = 24
    mask = ones(rows, n + 1)
    mask[:, n] = False  # padding
    rng = random.generator(0)
    pos = processes["pos"].domain.project(
        random.normal(rng, torch.zeros(rows, n + 1, 3, dtype=torch.float64)), mask
    )
    atom = torch.randint(2, (rows, n + 1), generator=rng) * mask
    bond = Pairs().project(torch.randint(2, (rows, n + 1, n + 1), generator=rng), mask)
    clean = State({"pos": pos, "atom": atom, "bond": bond}, mask)
    exact = {
        "pos": -0.5 * (pos**2).flatten(1).sum(1) - 0.5 * (n - 1) * 3 * math.log(2 * math.pi),
        "atom": p_atom.log()[atom[:, :n]].sum(1),
        "bond": torch.stack([p_bond.log()[bond[:, i, j]] for i, j in ((0, 1), (0, 2), (1, 2))]).sum(
            0
        ),
    }
    found = bound(denoiser, processes, clean, random.generator(1), draws=64, repeats=4)
    assert found.dimensions.tolist() == [6.0 + 3 + 3] * rows
    for name, value in exact.items():
        assert abs(float((found.fields[name] - value).mean())) < 0.15, name
    given = bound(denoiser, processes, clean, random.generator(1), draws=32, given=("pos", "atom"))
    assert list(given.fields) == ["bond"]
    assert abs(float((given.nats - exact["bond"]).mean())) < 0.15


def test_the_default_grid_is_even_in_log_snr() -> None:
    processes = {"x": Gaussian(Cosine(), Grid((1,)))}
    grid = log_snr_grid(processes, 50)
    assert grid[0] == 1 and grid[-1] == pytest.approx(1e-3) and bool((grid.diff() < 0).all())
    steps = log_snr(Cosine(), grid).diff()
    assert float(steps.std()) < 0.1 * float(steps.mean())


def test_the_denoiser_is_told_conditions_and_no_previous_prediction() -> None:
    seen = []

    def denoiser(state: State, times, context) -> State:
        seen.append((context[PREVIOUS], context["extra"], state["label"].shape[0] == state.rows))
        return normal(FlowTime(), 0.0, 1.0)(state, times, context)

    clean = State({"x": torch.zeros(3, 2), "label": torch.arange(3)}, ones(3))
    processes = {"x": Gaussian(FlowTime(), Grid((2,)))}
    bound(denoiser, processes, clean, random.generator(0), context={"extra": 5}, batch=7)
    assert seen and set(seen) == {(None, 5, True)}


# ----------------------------------------------------------------------------------- classifier


def labelled(processes, clean: State, labels: torch.Tensor) -> Denoiser:
    """Told a label, the exact denoiser of the examples that carry it."""

    def denoiser(state: State, times, context) -> State:
        guess: State | None = None
        for k in labels.unique():
            member = labels == k
            oracle = Oracle(processes, clean.take(member.nonzero()[:, 0]))
            one = oracle(state, times, context)
            here = state["label"] == k
            guess = one if guess is None else State(
                {n: torch.where(expand(here, x), x, guess[n]) for n, x in one.items()}, one.mask
            )  # fmt: skip
        assert guess is not None
        return guess

    return denoiser


HYPOTHESES = [{"label": torch.tensor([k])} for k in range(3)]


def test_the_classifier_is_bayes_rule_for_gaussians() -> None:
    processes = {"x": Gaussian(Cosine(), Grid((2,)))}
    centres = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 2.0]]).double()
    denoiser = normal(Cosine(), lambda s: centres[s["label"]], torch.ones(2).double())
    rng = random.generator(0)
    x = 1.5 * random.normal(rng, torch.zeros(30, 2, dtype=torch.float64)) + 0.5
    prior = torch.tensor([0.5, 0.3, 0.2]).double().log()
    found = classify(
        denoiser, processes, State({"x": x}, ones(30)), HYPOTHESES, random.generator(1),
        draws=400, log_prior=prior,
    )  # fmt: skip
    exact = torch.stack([log_normal(x, c, 1.0) for c in centres], 1) + prior
    exact = exact.log_softmax(1)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(30, dtype=torch.float64))
    assert (found.exp() - exact.exp()).abs().mean() < 0.05
    assert (found.argmax(1) == exact.argmax(1)).double().mean() > 0.9


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
def test_the_classifier_is_bayes_rule_for_strings(kernel: Kernel) -> None:
    """Six strings; some belong to two classes, some to one."""
    processes = {"tok": Categorical(FlowTime(), Nodes(), kernel)}
    tok = torch.tensor([[0, 0], [0, 1], [1, 1], [0, 0], [2, 2], [1, 1], [2, 0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2])
    data = State({"tok": tok}, ones(7, 2))
    asked = State({"tok": torch.tensor([[0, 0], [0, 1], [1, 1], [2, 2], [2, 0]])}, ones(5, 2))
    found = classify(
        labelled(processes, data, labels), processes, asked, HYPOTHESES, random.generator(0),
        draws=600,
    )  # fmt: skip
    exact = torch.tensor([[0.5, 0.5, 0], [1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1.0]]).double()
    assert (found.exp() - exact).abs().max() < 0.1


def test_fields_can_be_hypotheses() -> None:
    """The label as a clean field of a joint model, at time 0."""
    processes = {
        "x": Gaussian(FlowTime(), Grid((2,))),
        "label": Categorical(FlowTime(), Nodes(), uniform_kernel(3)),
    }
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]])
    data = State({"x": centres, "label": torch.arange(3).unsqueeze(1)}, ones(3))
    options = [{"label": torch.tensor([[k]])} for k in range(3)]
    found = classify(
        Oracle(processes, data), processes, data, options, random.generator(0), draws=4
    )
    assert found.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("weighting", ["bound", "uniform"])
def test_noise_is_shared_between_hypotheses(weighting: str) -> None:
    """Two hypotheses that the denoiser does not tell apart are exactly equally likely."""
    processes = {"x": Gaussian(Cosine(), Grid((4,)))}
    centres = torch.stack([torch.zeros(4), torch.zeros(4), torch.ones(4)]).double()
    denoiser = normal(Cosine(), lambda s: centres[s["label"]], torch.ones(4).double())
    clean = State({"x": random.normal(random.generator(0), torch.zeros(5, 4))}, ones(5))
    found = classify(
        denoiser, processes, clean, HYPOTHESES, random.generator(0), draws=3, weighting=weighting
    )
    assert torch.equal(found[:, 0], found[:, 1])
    assert not torch.equal(found[:, 0], found[:, 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "at least 1, got 0"),
        ({"grid": torch.tensor([1.0, 0.5, 0.0])}, "falls from 1 to a last time above 0"),
        ({"grid": torch.tensor([0.9, 0.5])}, "falls from 1"),
        ({"given": ("x",)}, "expected some of x, not all"),
        ({"given": ("y",)}, r"got \['y'\]"),
    ],
)
def test_bad_bounds_are_refused(options, message: str) -> None:
    processes = {"x": Gaussian(Cosine(), Grid((2,)))}
    clean = State({"x": torch.zeros(1, 2)}, ones(1))
    with pytest.raises(ConfigError, match=message) as caught:
        bound(normal(Cosine(), 0.0, 1.0), processes, clean, random.generator(0), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hypotheses", "options", "message"),
    [
        ([], {}, "one hypothesis or more"),
        (HYPOTHESES, {"weighting": "snr"}, "weighting bound or uniform, got 3 and 'snr'"),
        (HYPOTHESES, {"log_prior": torch.zeros(2)}, r"log_prior: expected 3 numbers, got \(2,\)"),
        ([HYPOTHESES[0], {"other": torch.zeros(1)}], {}, r"expected fields \['label'\]"),
        ([{"label": torch.zeros(2)}], {}, r"expected \[1, ...\], got \(2,\)"),
    ],
)
def test_bad_hypotheses_are_refused(hypotheses, options, message: str) -> None:
    processes = {"x": Gaussian(Cosine(), Grid((2,)))}
    clean = State({"x": torch.zeros(1, 2)}, ones(1))
    with pytest.raises(ConfigError, match=message):
        classify(
            normal(Cosine(), 0.0, 1.0), processes, clean, hypotheses, random.generator(0), **options
        )
