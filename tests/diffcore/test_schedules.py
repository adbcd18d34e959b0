"""Schedules against their published formulas, in float64 and in the float32 of training."""

import math

import numpy as np
import pytest
import torch

from diffcore.schedules import (
    SMALLEST_SIGNAL,
    Cosine,
    EdmSigmas,
    FlowTime,
    Schedule,
    half_log_snr,
    log_snr,
    power_grid,
    uniform_grid,
)

TIMES = torch.linspace(0, 1, 1001, dtype=torch.float64)
ALL = [Cosine(), Cosine(nu=1.5), Cosine(nu=2.5), FlowTime(), EdmSigmas()]


@pytest.mark.parametrize("nu", [1.0, 1.5, 2.5])
def test_cosine_is_variance_preserving(nu: float) -> None:
    schedule = Cosine(nu=nu)
    total = schedule.alpha(TIMES) ** 2 + schedule.sigma(TIMES) ** 2
    # the floor of the signal at t = 1 is the one place where the two formulas are clamped apart
    assert (total - 1).abs().max() < 2 * SMALLEST_SIGNAL
    assert (total[:-1] - 1).abs().max() < 1e-14
    assert torch.equal(schedule.keep(TIMES), schedule.alpha_bar(TIMES))


@pytest.mark.parametrize("nu", [1.0, 1.5, 2.5])
def test_cosine_against_numpy(nu: float) -> None:
    t, s = TIMES.numpy(), 0.008
    f = np.cos(np.pi / 2 * (t**nu + s) / (1 + s)) ** 2
    expected = np.clip(f / f[0], 1e-8, 1)
    np.testing.assert_allclose(Cosine(nu=nu).alpha_bar(TIMES).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        Cosine(nu=nu).sigma(TIMES[1:]).numpy() ** 2, 1 - expected[1:], rtol=1e-8, atol=2e-8
    )


def test_cosine_keeps_its_digits_near_zero_in_float32() -> None:
    """1 - alpha_bar by subtraction is exactly 0 here, and the SNR infinite."""
    t = torch.tensor([1e-3, 3e-3, 1e-2])
    narrow, wide = Cosine(nu=2.5).sigma(t), Cosine(nu=2.5).sigma(t.double())
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=0)
    assert log_snr(Cosine(nu=2.5), t).isfinite().all()


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_starts_clean_and_loses_signal(schedule: Schedule) -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    assert schedule.alpha(zero).item() == 1
    assert schedule.sigma(zero).item() == 0
    assert schedule.keep(zero).item() == 1
    snr = log_snr(schedule, TIMES[1:])
    assert snr.isfinite().all()
    assert (snr.diff() < 0).all()
    assert (schedule.keep(TIMES).diff() < 0).all()
    torch.testing.assert_close(half_log_snr(schedule, TIMES[1:]), snr / 2)


def test_edm_sigmas_equation_5() -> None:
    """Karras et al. 2022, eq. 5, with their i counted from the noisy end."""
    n, rho = 18, 7.0
    i = np.arange(n)
    expected = (80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    t = torch.from_numpy(1 - i / (n - 1))
    t[-1] = 1e-15  # time 0 itself is clean by definition
    np.testing.assert_allclose(EdmSigmas().sigma(t).numpy(), expected, rtol=1e-9)
    assert EdmSigmas().sigma(t)[0].item() == pytest.approx(80)
    assert (EdmSigmas().alpha(t) == 1).all()


def test_flow_time_is_linear() -> None:
    flow = FlowTime()
    assert torch.equal(flow.sigma(TIMES), TIMES)
    torch.testing.assert_close(flow.alpha(TIMES[:-1]), 1 - TIMES[:-1])
    assert flow.alpha(TIMES[-1:]).item() == pytest.approx(math.sqrt(SMALLEST_SIGNAL))


def test_grids() -> None:
    assert uniform_grid(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    grid = power_grid(10, 2.0)
    assert grid[0] == 1 and grid[-1] == 0
    assert (grid.diff() < 0).all()
    assert grid[9].item() == pytest.approx(0.01)
