"""The wrapped normal against closed forms, numerical derivatives and the shared samplers."""

import math

import pytest
import torch

from diffcore import random
from diffcore.objective import Objective, denoising_loss
from diffcore.samplers import prior, sample, solver
from diffcore.schedules import uniform_grid
from diffcore.state import State
from diffcore.torus import Angles, GeometricSigmas, WrappedNormal, wrap

PROCESS = WrappedNormal(GeometricSigmas(), bins=72)


def times(value, rows, dtype=torch.float64):
    return torch.full((rows,), value, dtype=dtype)


def test_wrap_is_the_same_angle():
    x = torch.linspace(-20, 20, 201, dtype=torch.float64)
    wrapped = wrap(x)
    assert bool(((wrapped >= -math.pi) & (wrapped < math.pi)).all())
    assert torch.allclose(torch.exp(1j * x), torch.exp(1j * wrapped))


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.5, math.pi])
def test_density_integrates_to_one_and_has_the_known_first_moment(sigma):
    x = torch.linspace(-math.pi, math.pi, 20_001, dtype=torch.float64)[None, :-1]
    density = PROCESS.log_density(x, torch.tensor([sigma], dtype=torch.float64)).exp()
    width = 2 * math.pi / 20_000
    assert float(density.sum() * width) == pytest.approx(1, abs=1e-6)
    # E cos x = exp(-sigma^2 / 2) for a wrapped normal
    assert float((density * x.cos()).sum() * width) == pytest.approx(
        math.exp(-(sigma**2) / 2), abs=1e-6
    )


@pytest.mark.parametrize("t", [0.2, 0.6, 1.0])
def test_forward_noise_has_the_schedules_first_moment(t):
    mask = torch.ones(1, 50_000, dtype=torch.bool)
    clean = torch.full(mask.shape, 1.0)
    noisy = PROCESS.forward(clean, times(t, 1, torch.float32), mask, random.generator(0))
    keep = float(PROCESS.schedule.keep(torch.tensor(t)))
    assert float((noisy - 1).cos().mean()) == pytest.approx(keep, abs=0.012)
    assert float((noisy - 1).sin().mean()) == pytest.approx(0, abs=0.012)


@pytest.mark.parametrize("t", [0.3, 0.6, 0.9])
def test_score_is_the_gradient_of_the_log_marginal(t):
    """For a prior on the grid the score of q(x_t) is known by differentiating log q(x_t)."""
    weights = torch.rand(72, dtype=torch.float64, generator=random.generator(1))
    log_prior = (weights / weights.sum()).log()
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)[None].requires_grad_()
    log_joint = log_prior + PROCESS.log_likelihood(x, times(t, 1))
    (gradient,) = torch.autograd.grad(log_joint.logsumexp(-1).sum(), x)
    score = PROCESS.score(x.detach(), log_joint.softmax(-1).detach(), times(t, 1))
    assert torch.allclose(score, gradient, atol=1e-8)


def test_reverse_step_follows_its_log_probability():
    mask = torch.ones(1, 30_000, dtype=torch.bool)
    grid = PROCESS.grid(torch.zeros(1))
    clean = torch.softmax(3 * torch.cos(grid - 2.5), -1)
    x = torch.full(mask.shape, -2.8)
    t, s = times(0.8, 1, torch.float32), times(0.6, 1, torch.float32)
    drawn = PROCESS.reverse(
        x, clean.expand(*mask.shape, 72), t, s, mask, random.generator(3)
    ).double()
    edges = torch.linspace(-math.pi, math.pi, 13, dtype=torch.float64)
    counts = torch.histogram(drawn[0], edges).hist / mask.shape[1]
    fine = torch.linspace(-math.pi, math.pi, 2401, dtype=torch.float64)[:-1] + math.pi / 2400
    one = torch.ones(len(fine), 1, dtype=torch.bool)
    logs = PROCESS.log_prob(
        fine[:, None],
        torch.full((len(fine), 1), -2.8, dtype=torch.float64),
        clean.double().expand(len(fine), 1, 72),
        times(0.8, len(fine)),
        times(0.6, len(fine)),
        one,
    )
    expected = (logs.exp() * 2 * math.pi / 2400).reshape(12, 200).sum(1)
    assert float(expected.sum()) == pytest.approx(1, abs=1e-6)
    assert float((counts - expected).abs().max()) < 0.01


def exact(log_prior):
    """The exact denoiser of independent angles with the given log-probabilities on the grid."""

    def denoiser(state, at, context):
        t = at["angle"].clamp_min(1e-3).to(state["angle"].dtype)
        logs = log_prior.to(state["angle"].dtype) + PROCESS.log_likelihood(state["angle"], t)
        return State({"angle": logs.softmax(-1)}, state.mask)

    return denoiser


@pytest.mark.parametrize("steps", [2, 10])
def test_sampling_with_the_exact_denoiser_gives_the_distribution(steps):
    """Ancestral steps are exact for independent angles, however few they are."""
    grid = PROCESS.grid(torch.zeros(1))
    log_prior = torch.log_softmax(4 * torch.cos(3 * grid) + torch.cos(grid), -1)
    processes = {"angle": PROCESS}
    rng = random.generator(5)
    start = prior(processes, torch.ones(100, 60, dtype=torch.bool), rng)
    made = sample(
        exact(log_prior), processes, start, uniform_grid(steps), rng, method=solver("ancestral")
    )
    p = log_prior.exp()
    for k in (1, 3):
        expected = float((p * (k * grid).cos()).sum())
        # the last prediction is shown at its mode, not drawn: a narrower peak where steps are few
        tolerance = 0.04 if steps == 10 else 0.3
        assert float((k * made["angle"]).cos().mean()) == pytest.approx(expected, abs=tolerance)


def test_angles_outside_the_mask_stay_zero():
    mask = torch.tensor([[True, False], [True, True]])
    rng = random.generator(0)
    noisy = PROCESS.forward(torch.ones(2, 2), times(0.9, 2, torch.float32), mask, rng)
    assert float(noisy[0, 1]) == 0
    assert float(PROCESS.prior(mask, rng)[0, 1]) == 0
    assert Angles().degrees(mask).tolist() == [1, 2]


def test_loss_is_least_for_the_true_density_and_ignores_the_mask():
    grid = PROCESS.grid(torch.zeros(1))
    target = torch.tensor([[0.7, 0.7]])
    mask = torch.tensor([[True, False]])
    near = torch.softmax(-50 * (1 - torch.cos(grid - 0.7)), -1)
    far = torch.softmax(-50 * (1 - torch.cos(grid + 2)), -1)
    uniform = torch.full((72,), 1 / 72)

    def loss(first, second):
        return float(PROCESS.loss(torch.stack([first, second])[None], target, mask))

    assert loss(near, far) == loss(near, near)
    assert loss(near, far) < loss(uniform, far) < loss(far, far)
    assert loss(uniform, far) == pytest.approx(math.log(72))


def test_decode_is_the_peak():
    grid = PROCESS.grid(torch.zeros(1))
    for peak in (-3.13, 0.02, 1.234):
        density = torch.softmax(30 * torch.cos(grid - peak), -1)
        found = PROCESS.decode(density[None, None], torch.ones(1, 1, dtype=torch.bool))
        assert abs(float(wrap(found - peak))) < 0.003


def test_the_shared_training_loss_runs_and_teaches():
    """Fitting free logits by the shared loss finds the data's distribution."""
    clean = State({"angle": torch.full((16, 3), 2.0)}, torch.ones(16, 3, dtype=torch.bool))
    logits = torch.zeros(72, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    objective = Objective(weighting="uniform", self_condition=0, independent=0, align=False)
    losses = []
    for step in range(20):
        loss, parts = denoising_loss(
            exact(logits), {"angle": PROCESS}, clean, objective, random.generator(step)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(parts["angle"]))
    assert losses[-1] < 0.6 * losses[0]
    peak = float(PROCESS.grid(logits.detach())[logits.detach().argmax()])
    assert abs(peak - 2.0) < 0.1
