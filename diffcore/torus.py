"""Diffusion of angles: a wrapped-normal process on the torus (Jing et al. 2022, section 3).

A noisy field holds angles in [-pi, pi). A predicted one holds, for every angle, the probabilities
[..., K] of the clean angle on an even grid of the circle: the convention of `Categorical`. A single
mean, as for a `Gaussian`, would lose what matters here: at high noise a torsion has several likely
values, and no average of them is likely. From these probabilities the score, the reverse step and
its log-probability follow without another approximation than the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffcore import random
from diffcore.domains import Domain
from diffcore.random import Rng
from diffcore.schedules import Schedule
from diffcore.state import expand

TURN = 2 * math.pi


def wrap(x: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(x + math.pi, TURN) - math.pi


@dataclass(frozen=True)
class GeometricSigmas:
    """sigma(t) = sigma_min^(1 - t) sigma_max^t, alpha = 1 (Jing et al. 2022); sigma(0) = 0."""

    sigma_min: float = 0.01 * math.pi
    sigma_max: float = math.pi

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation before wrapping, radians."""
        value = self.sigma_min ** (1 - t) * self.sigma_max**t
        return torch.where(t > 0, value, torch.zeros_like(t))

    def keep(self, t: Tensor) -> Tensor:
        """exp(-sigma^2 / 2): what is left of the first harmonic."""
        return torch.exp(-0.5 * self.sigma(t) ** 2)


@dataclass(frozen=True)
class Angles:
    """Angles [B, N] in [-pi, pi), one for each real slot of the mask."""

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """[B, N]."""
        return tuple(mask.shape)

    def weights(self, mask: Tensor) -> Tensor:
        """The mask as floats [B, N]."""
        return mask.to(torch.get_default_dtype())

    def degrees(self, mask: Tensor) -> Tensor:
        """Real angles of each row."""
        return mask.sum(1)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """Wrap; zero where the mask is false."""
        return torch.where(mask, wrap(x), torch.zeros((), dtype=x.dtype, device=x.device))

    def tie(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise


def beside(angles: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Grid points of the circle below and above angles [..., 2], and how far to the second [...].

    The grid begins at -pi.
    """
    place = (wrap(angles) + math.pi) * (bins / TURN)
    low = place.floor()
    index = low.long() % bins
    return torch.stack([index, (index + 1) % bins], -1), place - low


def between(values: Tensor, angles: Tensor) -> Tensor:
    """Values on a grid of the circle from -pi on [..., K], at angles [...], linear in between."""
    pair, above = beside(angles, values.shape[-1])
    low, high = values.gather(-1, pair).unbind(-1)
    return torch.lerp(low, high, above)


@dataclass(frozen=True)
class WrappedNormal:
    """x_t = x_0 + sigma(t) eps, wrapped onto the circle; independent for every angle.

    Attributes:
        schedule: with alpha = 1, and sigma(1) large enough that the prior is uniform.
        domain: `Angles`.
        bins: points K of the grid on which predictions are probabilities.
        turns: the sum over whole turns is cut off at this many in either direction; at sigma = pi
            three leave out less than 1e-8.
    """

    schedule: Schedule = field(default_factory=GeometricSigmas)
    domain: Domain = field(default_factory=Angles)
    bins: int = 72
    turns: int = 3

    def grid(self, like: Tensor) -> Tensor:
        """The K angles of the grid [K], from -pi on."""
        k = torch.arange(self.bins, device=like.device, dtype=like.dtype)
        return k * (TURN / self.bins) - math.pi

    def at(self, values: Tensor, angles: Tensor) -> Tensor:
        """Values on the grid [..., K], at angles [...], linear between grid points."""
        return between(values, angles)

    def _wound(self, difference: Tensor) -> Tensor:
        """All angles [..., 2 turns + 1] that wrap to the difference [...]."""
        w = torch.arange(-self.turns, self.turns + 1, device=difference.device)
        return wrap(difference).unsqueeze(-1) + TURN * w.to(difference.dtype)

    def log_density(self, difference: Tensor, sigma: Tensor) -> Tensor:
        """Log-density of a wrapped normal at an angle [B, ...] from its centre; sigma [B]."""
        wound = self._wound(difference)
        sigma = expand(sigma, wound)
        logs = -0.5 * (wound / sigma) ** 2 - sigma.log() - 0.5 * math.log(TURN)
        return logs.logsumexp(-1)

    def log_likelihood(self, x: Tensor, t: Tensor) -> Tensor:
        """Log q(x_t | x_0) for every x_0 of the grid: [B, N] -> [B, N, K].

        Added to the log-probabilities of x_0 given everything but x_t, it gives, by Bayes, those
        given x_t too: a network has to learn nothing about an angle's own noise.
        """
        return self.log_density(x.unsqueeze(-1) - self.grid(x), self.schedule.sigma(t))

    def prior(self, mask: Tensor, rng: Rng) -> Tensor:
        """Uniform angles."""
        u = random.uniform(rng, torch.zeros(self.domain.shape(mask), device=mask.device))
        return self.domain.project(TURN * u - math.pi, mask)

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """x_0 + sigma eps, wrapped."""
        noise = random.normal(rng, clean)
        return self.domain.project(clean + expand(self.schedule.sigma(t), clean) * noise, mask)

    def score(self, x: Tensor, clean: Tensor, t: Tensor) -> Tensor:
        """Gradient of log q(x_t) [B, N] that the prediction [B, N, K] implies.

        The mean over x_0 of the gradient of log q(x_t | x_0), each a sum over whole turns.
        """
        wound = self._wound(x.unsqueeze(-1) - self.grid(x))
        var = expand(self.schedule.sigma(t) ** 2, wound)
        weight = (-0.5 * wound**2 / var).softmax(-1)
        return ((weight * -wound / var).sum(-1) * clean).sum(-1)

    def _bridge(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Share of x_t in the mean of q(x_s | x_t, x_0), and the variance, each [B]."""
        var_t, var_s = self.schedule.sigma(t) ** 2, self.schedule.sigma(s) ** 2
        share = var_s / var_t
        return share, (var_s * (1 - share)).clamp_min(0)

    def reverse(
        self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: Rng
    ) -> Tensor:
        """Draw x_0 from the prediction, the turns between it and x_t, then the Gaussian bridge."""
        width = TURN / self.bins
        index = random.categorical(clean, random.uniform(rng, x))
        start = self.grid(x)[index] + width * (random.uniform(rng, x) - 0.5)
        wound = self._wound(x - start)
        sigma = expand(self.schedule.sigma(t), wound)
        turns = (-0.5 * (wound / sigma) ** 2).softmax(-1)
        which = random.categorical(turns, random.uniform(rng, x))
        distance = wound.gather(-1, which.unsqueeze(-1)).squeeze(-1)
        share, var = self._bridge(t, s)
        mean = start + expand(share, x) * distance
        return self.domain.project(mean + expand(var.sqrt(), x) * random.normal(rng, x), mask)

    def log_prob(
        self, x_s: Tensor, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Log-density of the reverse step with x_0 on the grid, [B]; s must be above 0."""
        start = self.grid(x)
        wound = self._wound(x.unsqueeze(-1) - start)
        turns = (-0.5 * (wound / expand(self.schedule.sigma(t), wound)) ** 2).log_softmax(-1)
        share, var = self._bridge(t, s)
        mean = start.unsqueeze(-1) + expand(share, wound) * wound
        step = self.log_density(x_s.reshape(*x_s.shape, 1, 1) - mean, var.sqrt())
        tiny = torch.finfo(clean.dtype).tiny
        total = (clean.clamp_min(tiny).log() + (turns + step).logsumexp(-1)).logsumexp(-1)
        return (total * self.domain.weights(mask).to(total.dtype)).sum(1)

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy per angle [B], the target shared between its two grid points."""
        pair, above = beside(target, self.bins)
        logs = clean.gather(-1, pair).clamp_min(1e-9).log()
        loss = -((1 - above) * logs[..., 0] + above * logs[..., 1])
        weights = self.domain.weights(mask).to(loss.dtype)
        return (loss * weights).sum(1) / weights.sum(1).clamp_min(1)

    def decode(self, clean: Tensor, mask: Tensor) -> Tensor:
        """The most likely angle: the top of the parabola through the highest log-probabilities."""
        top = clean.argmax(-1, keepdim=True)
        k = torch.arange(-1, 2, device=clean.device)
        tiny = torch.finfo(clean.dtype).tiny
        low, mid, high = clean.gather(-1, (top + k) % self.bins).clamp_min(tiny).log().unbind(-1)
        bend = (2 * mid - low - high).clamp_min(1e-9)
        shift = (0.5 * (high - low) / bend).clamp(-0.5, 0.5)
        width = TURN / self.bins
        return self.domain.project(self.grid(clean)[top.squeeze(-1)] + width * shift, mask)
