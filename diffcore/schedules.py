"""Noise schedules: x_t = alpha(t) x_0 + sigma(t) eps, with t = 0 clean and t = 1 the prior.

For a categorical field ``keep(t)`` is the probability that a class has not been resampled yet.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SMALLEST_SIGNAL = 1e-8  # alpha_bar at t = 1: finite log-SNR, far below anything a network can see


class Schedule(Protocol):
    """Signal and noise level as functions of time; all tensors have the shape of ``t``."""

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the clean value."""
        ...

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise."""
        ...

    def keep(self, t: Tensor) -> Tensor:
        """Probability that a class is still the clean one."""
        ...


def log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """log(alpha^2 / sigma^2), infinite at t = 0."""
    return 2 * (schedule.alpha(t).log() - schedule.sigma(t).log())


def half_log_snr(schedule: Schedule, t: Tensor) -> Tensor:
    """Lambda = log(alpha / sigma), the time of DPM-Solver."""
    return 0.5 * log_snr(schedule, t)


@dataclass(frozen=True)
class Cosine:
    """Variance-preserving cosine schedule with an exponent.

    alpha_bar(t) = cos^2(pi/2 (t^nu + s)/(1 + s)), divided by its value at 0 so that t = 0 is clean:
    Nichol and Dhariwal 2021 (nu = 1); the adaptive form with nu per field is MiDi's (Vignac et al.
    2023, eq. 4), used by EQGAT-diff with nu = 2.5 for positions, 1 for atoms and charges, 1.5 for
    bonds.
    """

    nu: float = 1.0
    s: float = 0.008

    def _angles(self, t: Tensor) -> tuple[float, Tensor]:
        """The phase at 0, and how far t is from it, in radians."""
        start = 0.5 * math.pi * self.s / (1 + self.s)
        return start, 0.5 * math.pi / (1 + self.s) * t.clamp(0, 1) ** self.nu

    def alpha_bar(self, t: Tensor) -> Tensor:
        """alpha^2."""
        start, angle = self._angles(t)
        value = (torch.cos(start + angle) / math.cos(start)) ** 2
        return value.clamp(SMALLEST_SIGNAL, 1.0)

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the clean value."""
        return self.alpha_bar(t).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha_bar), by a product of sines: the difference loses all digits near 0."""
        start, angle = self._angles(t)
        value = torch.sin(angle) * torch.sin(2 * start + angle) / math.cos(start) ** 2
        return value.clamp(0, 1 - SMALLEST_SIGNAL).sqrt()

    def keep(self, t: Tensor) -> Tensor:
        """alpha_bar."""
        return self.alpha_bar(t)


@dataclass(frozen=True)
class FlowTime:
    """Linear interpolation of flow matching (Lipman et al. 2023): alpha = 1 - t, sigma = t."""

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t, with the floor of the other schedules at t = 1."""
        return (1 - t).clamp_min(math.sqrt(SMALLEST_SIGNAL))

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t

    def keep(self, t: Tensor) -> Tensor:
        """1 - t."""
        return (1 - t).clamp_min(SMALLEST_SIGNAL)


@dataclass(frozen=True)
class EdmSigmas:
    """Variance-exploding schedule of Karras et al. 2022: from ``sigma_min`` to ``sigma_max``.

    sigma(0) is 0 by definition, so that t = 0 is clean; the curve starts at ``sigma_min`` just
    above it.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Karras et al. 2022, eq. 5."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return torch.where(t > 0, (low + t * (high - low)) ** self.rho, torch.zeros_like(t))

    def keep(self, t: Tensor) -> Tensor:
        """1 / (1 + sigma^2): the share of signal in the variance of unit data."""
        return 1 / (1 + self.sigma(t) ** 2)


def uniform_grid(steps: int) -> Tensor:
    """Times [steps + 1] from 1 to 0, evenly spaced."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def power_grid(steps: int, power: float = 1.5) -> Tensor:
    """Times [steps + 1] from 1 to 0, denser near 0 for ``power`` > 1: (1 - k/steps)^power."""
    return uniform_grid(steps) ** power
