"""Categorical processes against brute-force enumeration in numpy, in float64."""

import numpy as np
import pytest
import torch

from diffcore import random
from diffcore.domains import Nodes, Pairs
from diffcore.processes import (
    Categorical,
    Kernel,
    absorbing_kernel,
    marginal_kernel,
    mask_and_replace_kernel,
    uniform_kernel,
)
from diffcore.schedules import Cosine, FlowTime

MARGINALS = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
KERNELS: dict[str, Kernel] = {
    "uniform": uniform_kernel(4),
    "marginal": marginal_kernel(MARGINALS),
    "absorbing": absorbing_kernel(4),
    "absorbing in class 1": absorbing_kernel(4, 1),
    "mask and replace": mask_and_replace_kernel(4, 0.6),
    "mostly replace": mask_and_replace_kernel(4, 0.1),
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))


def dense(kernel: Kernel, keep: float) -> np.ndarray:
    """The kernel written out: a class survives replacement, then survives masking."""
    k, replace = kernel.classes, kernel.replace.double().numpy()
    stay, unmasked = keep ** (1 - kernel.masking), keep**kernel.masking
    q = np.zeros((k, k))
    for i in range(k):
        for j in range(k):
            q[i, j] = stay * (i == j) + (1 - stay) * replace[j]
    if kernel.mask_class is not None:
        q = unmasked * q
        q[:, kernel.mask_class] += 1 - unmasked
        q[kernel.mask_class] = np.eye(k)[kernel.mask_class]
    return q


def time(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([v], dtype=torch.float64) for v in values]


def probabilities(*shape: int, seed: int = 0) -> torch.Tensor:
    values = random.normal(random.generator(seed), torch.zeros(shape, dtype=torch.float64))
    return values.softmax(-1)


@each_kernel
def test_kernel_matrices(kernel: Kernel) -> None:
    keep = torch.tensor([1.0, 0.9, 0.4, 1e-8, 0.0], dtype=torch.float64)
    q = kernel.between(keep)
    assert (q >= 0).all()
    # the probabilities of a kernel are float32: a third is exact to 1e-8
    torch.testing.assert_close(q.sum(-1), torch.ones_like(q[..., 0]), rtol=0, atol=5e-8)
    torch.testing.assert_close(q[0], torch.eye(4, dtype=torch.float64))
    for k, value in enumerate(keep.tolist()):
        np.testing.assert_allclose(q[k].numpy(), dense(kernel, value), atol=1e-7)


@each_kernel
def test_kernels_compose(kernel: Kernel) -> None:
    """Q(a) Q(b) = Q(a b): without it the chain has no marginals."""
    a, b = time(0.7, 0.2)
    product = kernel.between(a) @ kernel.between(b)
    torch.testing.assert_close(product, kernel.between(a * b), rtol=0, atol=1e-7)


@each_kernel
def test_transition_after_cumulative_is_cumulative(kernel: Kernel) -> None:
    process = Categorical(Cosine(), Nodes(), kernel)
    s, t = time(0.3, 0.8)
    both = process.cumulative(s) @ process.transition(s, t)
    torch.testing.assert_close(both, process.cumulative(t), rtol=0, atol=1e-7)


@each_kernel
def test_prior_is_stationary_and_is_the_end_of_the_forward_process(kernel: Kernel) -> None:
    process, n = Categorical(FlowTime(), Nodes(), kernel), 40_000
    mask = torch.ones(1, n, dtype=torch.bool)
    drawn = process.prior(mask, random.generator(0))
    shares = torch.bincount(drawn.flatten(), minlength=4).double() / n
    error = 5 * (shares * (1 - shares) / n).sqrt() + 1e-4
    for clean in range(4):
        last = process.cumulative(*time(1.0))[0, clean]
        if clean == kernel.mask_class:
            continue  # data are never masked
        assert ((last - shares).abs() <= error).all()
    if kernel.mask_class is None:
        replace = kernel.replace.double()
        torch.testing.assert_close(replace @ kernel.between(*time(0.37))[0], replace)
    if kernel.masking == 1:
        assert (drawn == kernel.mask_class).all()


@each_kernel
def test_forward_marginals(kernel: Kernel) -> None:
    process, n = Categorical(Cosine(), Nodes(), kernel), 40_000
    (t,) = time(0.45)
    for clean in range(4):
        x0 = torch.full((1, n), clean)
        x = process.forward(x0, t, torch.ones(1, n, dtype=torch.bool), random.generator(clean))
        shares = torch.bincount(x.flatten(), minlength=4).double().numpy() / n
        expected = dense(kernel, process.schedule.keep(t).item())[clean]
        error = 5 * np.sqrt(expected * (1 - expected) / n) + 1e-7
        assert (np.abs(shares - expected) <= error).all()


@each_kernel
@pytest.mark.parametrize(("t", "s"), [(0.8, 0.5), (1.0, 0.9), (0.3, 0.0)])
def test_posterior_is_bayes_rule(kernel: Kernel, t: float, s: float) -> None:
    process = Categorical(Cosine(), Nodes(), kernel)
    clean = probabilities(1, 4, 4)
    if kernel.mask_class is not None:
        clean[..., kernel.mask_class] = 0
        clean = clean / clean.sum(-1, keepdim=True)
    x = torch.arange(4).unsqueeze(0)
    keep_t, keep_s = (process.schedule.keep(v).item() for v in time(t, s))
    q_t, q_s, step = (dense(kernel, k) for k in (keep_t, keep_s, keep_t / keep_s))
    expected = np.zeros((4, 4))
    for i in range(4):  # x_t
        for k in range(4):  # x_0, drawn from the prediction
            for j in range(4):  # x_s
                if q_t[k, i] > 0:
                    expected[i, j] += clean[0, i, k].item() * q_s[k, j] * step[j, i] / q_t[k, i]
        expected[i] /= expected[i].sum()
    found = process.posterior(x, clean, *time(t, s))
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-6)
    x_s = torch.tensor([[0, 1, 0, 2]])
    mask = torch.tensor([[True, True, False, True]])
    with np.errstate(divide="ignore"):
        logs = np.log(expected[[0, 1, 3], [0, 1, 2]])
    log_prob = process.log_prob(x_s, x, clean, *time(t, s), mask).item()
    if np.isfinite(logs).all():
        assert log_prob == pytest.approx(logs.sum(), rel=1e-5, abs=1e-6)
    else:
        assert log_prob < -600


@each_kernel
def test_reverse_draws_from_the_posterior(kernel: Kernel) -> None:
    process, n = Categorical(FlowTime(), Nodes(), kernel), 40_000
    clean = torch.tensor([0.6, 0.0, 0.3, 0.1], dtype=torch.float64).expand(1, n, 4)
    start = 0 if kernel.mask_class is None else kernel.mask_class
    x, mask = torch.full((1, n), start), torch.ones(1, n, dtype=torch.bool)
    drawn = process.reverse(x, clean, *time(0.7, 0.4), mask, random.generator(0))
    shares = torch.bincount(drawn.flatten(), minlength=4).double() / n
    expected = process.posterior(x[:, :1], clean[:, :1], *time(0.7, 0.4))[0, 0]
    error = 5 * (expected * (1 - expected) / n).sqrt() + 1e-7
    assert ((shares - expected).abs() <= error).all()


def test_an_impossible_prediction_does_not_remask() -> None:
    """x_t = 0 shows its class, but the prediction gives it no chance at all: it stays."""
    process = Categorical(FlowTime(), Nodes(), absorbing_kernel(3))
    clean = torch.tensor([[[0.0, 1.0, 0.0]]])
    p = process.posterior(torch.tensor([[0]]), clean, torch.tensor([0.6]), torch.tensor([0.5]))
    assert p.tolist() == [[[1, 0, 0]]]


@each_kernel
def test_jump_rates_are_the_derivative_of_the_posterior(kernel: Kernel) -> None:
    """Off-diagonal posterior / (t - s) -> rate as s -> t."""
    process = Categorical(Cosine(), Nodes(), kernel)
    clean, x = probabilities(1, 4, 4, seed=1), torch.arange(4).unsqueeze(0)
    if kernel.mask_class is not None:
        clean[..., kernel.mask_class] = 0
        clean = clean / clean.sum(-1, keepdim=True)
    off = 1 - torch.eye(4, dtype=torch.float64)

    def pair(h: float) -> tuple[torch.Tensor, torch.Tensor]:
        t, s = time(0.5, 0.5 - h)
        jumps = process.jump_rates(x, clean, t, s)[0] / h
        return jumps, process.posterior(x, clean, t, s)[0] * off / h

    h = 1e-5
    jumps, derivative = pair(h)
    assert (jumps.diagonal() == 0).all()
    assert jumps.sum() > 0.1
    torch.testing.assert_close(jumps, derivative, rtol=1e-3, atol=1e-6)
    # the limit is a rate: it no longer depends on the step
    torch.testing.assert_close(jumps, pair(h / 2)[0], rtol=1e-3, atol=1e-6)


def test_absorbing_jumps_do_not_vanish_at_one() -> None:
    """In flow time a masked element is revealed at rate 1 / t: 0.1 is expected in [0.9, 1]."""
    process = Categorical(FlowTime(), Nodes(), absorbing_kernel(3))
    clean = torch.tensor([[[0.5, 0.5, 0.0]]], dtype=torch.float64)
    jumps = process.jump_rates(torch.tensor([[2]]), clean, *time(1.0, 0.9))
    assert jumps.sum().item() == pytest.approx(0.1, rel=1e-4)


@each_kernel
def test_pairs_stay_symmetric(kernel: Kernel) -> None:
    process = Categorical(FlowTime(), Pairs(), kernel)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    rng = random.generator(0)
    x0 = process.domain.project(torch.randint(0, 3, (2, 5, 5), generator=rng), mask)
    t, s = (torch.full((2,), v, dtype=torch.float64) for v in (0.7, 0.4))
    clean = probabilities(2, 5, 5, 4)
    clean = 0.5 * (clean + clean.transpose(1, 2))
    noisy = process.forward(x0, t, mask, rng)
    moved = process.reverse(noisy, clean, t, s, mask, rng)
    for x in (noisy, moved, process.prior(mask, rng), process.decode(clean, mask)):
        assert torch.equal(x, x.transpose(1, 2))
        assert (x.diagonal(dim1=1, dim2=2) == 0).all()
        assert (x[1, 3:] == 0).all()


def test_pair_log_prob_and_loss_count_every_pair_once() -> None:
    process = Categorical(FlowTime(), Pairs(), uniform_kernel(4))
    mask = torch.tensor([[True, True, True, False]])
    clean = probabilities(1, 4, 4, 4)
    clean = 0.5 * (clean + clean.transpose(1, 2))
    x = process.domain.project(torch.full((1, 4, 4), 2), mask)
    t, s = time(0.7, 0.4)
    p = process.posterior(x, clean, t, s)[0]
    expected = sum(p[i, j, 2].log().item() for i, j in [(0, 1), (0, 2), (1, 2)])
    assert process.log_prob(x, x, clean, t, s, mask).item() == pytest.approx(expected)
    losses = [-clean[0, i, j, 2].log().item() for i, j in [(0, 1), (0, 2), (1, 2)]]
    found = process.loss(clean, x, mask).item()
    assert found == pytest.approx(np.mean(losses), rel=1e-6)
    sure = torch.nn.functional.one_hot(x, 4).double()
    assert process.loss(sure, x, mask).item() == pytest.approx(0, abs=1e-8)
