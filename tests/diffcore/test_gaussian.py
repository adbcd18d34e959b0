"""The Gaussian process against joint Gaussian conditioning, Monte Carlo and scipy, in float64."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from diffcore import random
from diffcore.domains import Grid, Nodes, Pairs, Points
from diffcore.processes import Gaussian
from diffcore.schedules import Cosine, EdmSigmas, FlowTime, Schedule

SCHEDULES: list[Schedule] = [Cosine(), Cosine(nu=2.5), FlowTime(), EdmSigmas()]
TIMES = [(0.9, 0.3), (0.5, 0.49), (1.0, 0.7), (0.2, 0.0)]


def levels(schedule: Schedule, t: float) -> tuple[float, float]:
    one = torch.tensor([t], dtype=torch.float64)
    return schedule.alpha(one).item(), schedule.sigma(one).item() ** 2


def conditioned(
    schedule: Schedule, t: float, s: float, x_t: float, x_0: float
) -> tuple[float, float]:
    """Mean and variance of x_s given x_t and x_0, from the joint covariance of the chain's noises.

    x_s = alpha_s x_0 + n_s and x_t = (alpha_t / alpha_s) x_s + n_{t|s} with independent noises.
    """
    alpha_s, var_s = levels(schedule, s)
    alpha_t, var_t = levels(schedule, t)
    ratio = alpha_t / alpha_s
    build = np.array([[1.0, 0.0], [ratio, 1.0]])  # (x_s, x_t) - means = build @ (n_s, n_{t|s})
    cov = build @ np.diag([var_s, var_t - ratio**2 * var_s]) @ build.T
    gain = cov[0, 1] / cov[1, 1]
    return alpha_s * x_0 + gain * (x_t - alpha_t * x_0), cov[0, 0] - gain * cov[1, 0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize(("t", "s"), TIMES)
def test_posterior_is_the_conditional_of_the_joint(schedule: Schedule, t: float, s: float) -> None:
    process = Gaussian(schedule, Grid((1,)))
    tt, ss = (torch.tensor([v], dtype=torch.float64) for v in (t, s))
    x, clean = (torch.tensor([[v]], dtype=torch.float64) for v in (0.7, -1.3))
    mean, var = process.posterior(x, clean, tt, ss)
    expected_mean, expected_var = conditioned(schedule, t, s, 0.7, -1.3)
    assert mean.item() == pytest.approx(expected_mean, rel=1e-9, abs=1e-12)
    assert var.item() == pytest.approx(expected_var, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("domain", [Nodes((2,)), Points(), Pairs((2,))], ids=repr)
def test_forward_marginals(schedule: Schedule, domain) -> None:
    n, atoms, t = 4_000, 3, 0.4
    mask = torch.ones(n, atoms, dtype=torch.bool)
    one = random.normal(
        random.generator(0), torch.zeros(domain.shape(mask[:1]), dtype=torch.float64)
    )
    clean = domain.project(one, mask[:1]).expand(domain.shape(mask))
    process = Gaussian(schedule, domain)
    times = torch.full((n,), t, dtype=torch.float64)
    x = process.forward(clean, times, mask, random.generator(1))
    torch.testing.assert_close(domain.project(x, mask), x, rtol=0, atol=1e-12)
    alpha, var = levels(schedule, t)
    # standard errors of a mean and of a variance over n draws; five of each
    assert (x.mean(0) - alpha * clean[0]).abs().max() < 5 * (var / n) ** 0.5
    weights = domain.weights(mask)
    weights = weights.reshape(*weights.shape, *([1] * (x.dim() - weights.dim())))
    squares = (weights * (x - alpha * clean) ** 2).flatten(1).sum(1) / var
    dof = float(domain.degrees(mask)[0])
    assert squares.mean().item() == pytest.approx(dof, abs=5 * (2 * dof / n) ** 0.5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_prior_is_the_forward_process_at_one(schedule: Schedule) -> None:
    mask = torch.ones(4_000, 3, dtype=torch.bool)
    process = Gaussian(schedule, Points())
    x = process.prior(mask, random.generator(0))
    assert x.sum(1).abs().max() < 1e-3  # float32, sigma up to 80
    assert x.std().item() == pytest.approx((levels(schedule, 1.0)[1] * 2 / 3) ** 0.5, rel=0.05)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_reverse_of_forward_has_the_earlier_marginal(schedule: Schedule) -> None:
    """With the true x_0, forward to t and back to s is forward to s: the chain is consistent."""
    n, t, s = 20_000, 0.8, 0.35
    process = Gaussian(schedule, Grid((1,)))
    clean = torch.full((n, 1), 0.6, dtype=torch.float64)
    mask = torch.ones(n, 1, dtype=torch.bool)
    rng = random.generator(2)
    tt, ss = (torch.full((n,), v, dtype=torch.float64) for v in (t, s))
    x = process.reverse(process.forward(clean, tt, mask, rng), clean, tt, ss, mask, rng)
    alpha, var = levels(schedule, s)
    assert x.mean().item() == pytest.approx(alpha * 0.6, abs=5 * (var / n) ** 0.5)
    assert x.var().item() == pytest.approx(var, rel=5 * (2 / n) ** 0.5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_forward_transitions_compose(schedule: Schedule) -> None:
    """q(x_s | x_0) followed by the transition s -> t implied by the posterior is q(x_t | x_0).

    Bayes' rule for scalars: posterior precision = 1 / var_s + ratio^2 / step gives back the step.
    """
    t, s = 0.8, 0.35
    process = Gaussian(schedule, Grid((1,)))
    tt, ss = (torch.tensor([v], dtype=torch.float64) for v in (t, s))
    _, var = process.posterior(torch.zeros(1, 1).double(), torch.zeros(1, 1).double(), tt, ss)
    (alpha_s, var_s), (alpha_t, var_t) = levels(schedule, s), levels(schedule, t)
    ratio = alpha_t / alpha_s
    step = ratio**2 / (1 / var.item() - 1 / var_s)
    assert ratio**2 * var_s + step == pytest.approx(var_t, rel=1e-9)


def test_reverse_to_zero_is_the_prediction() -> None:
    process = Gaussian(FlowTime(), Grid((2,)))
    clean = torch.tensor([[1.0, -2.0]])
    t, s, mask = torch.tensor([0.3]), torch.tensor([0.0]), torch.ones(1, 1, dtype=torch.bool)
    x = process.reverse(torch.zeros(1, 2), clean, t, s, mask, random.generator(0))
    torch.testing.assert_close(x, clean)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_log_prob_against_scipy_on_centred_points(schedule: Schedule) -> None:
    """On an orthonormal basis of the centred subspace the density is an ordinary normal one."""
    atoms, dim = 4, 3
    process, mask = Gaussian(schedule, Points(dim)), torch.ones(1, atoms, dtype=torch.bool)
    rng = random.generator(3)

    def draw() -> torch.Tensor:
        like = torch.zeros(1, atoms, dim, dtype=torch.float64)
        return process.domain.project(random.normal(rng, like), mask)

    x_s, x, clean = draw(), draw(), draw()
    t, s = (torch.tensor([v], dtype=torch.float64) for v in (0.7, 0.4))
    mean, var = process.posterior(x, clean, t, s)
    # an orthonormal basis of the vectors that sum to zero: right singular vectors of (1, ..., 1)
    basis = np.linalg.svd(np.ones((1, atoms)))[2][1:]
    inside = [np.einsum("ki,id->kd", basis, v[0].numpy()).ravel() for v in (x_s, mean)]
    assert inside[0].size == (atoms - 1) * dim
    expected = multivariate_normal(inside[1], var.item() * np.eye(inside[1].size)).logpdf(inside[0])
    found = process.log_prob(x_s, x, clean, t, s, mask)
    assert found.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("domain", [Nodes((2,)), Pairs((2,)), Points()], ids=repr)
def test_log_prob_and_loss_ignore_padding(domain) -> None:
    rng = random.generator(4)
    process = Gaussian(Cosine(), domain)
    t, s = (torch.tensor([v], dtype=torch.float64) for v in (0.7, 0.4))
    small = torch.ones(1, 3, dtype=torch.bool)
    wide = torch.tensor([[True, True, True, False, False]])
    values = []
    for _ in range(3):
        x = random.normal(rng, torch.zeros(domain.shape(small), dtype=torch.float64))
        x = domain.project(domain.tie(x), small)
        padded = torch.zeros(domain.shape(wide), dtype=torch.float64)
        padded[tuple(slice(0, k) for k in x.shape)] = x
        values.append((x, padded))
    (a, b, c), (a2, b2, c2) = zip(*values, strict=True)
    found = process.log_prob(a2, b2, c2, t, s, wide)
    torch.testing.assert_close(found, process.log_prob(a, b, c, t, s, small), rtol=1e-12, atol=0)
    torch.testing.assert_close(process.loss(a2, c2, wide), process.loss(a, c, small))
    assert process.loss(c, c, small).item() == 0
    assert process.loss(c + 1, c, small).item() == pytest.approx(1)
