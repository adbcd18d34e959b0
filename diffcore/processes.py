"""One process per field: prior, forward corruption, reverse step, log-probability and loss.

Two final classes cover the methods of the field. `Gaussian` with a `Cosine` schedule is DDPM, with
`EdmSigmas` it is EDM, with `FlowTime` it is flow matching: they differ in alpha and sigma only.
`Categorical` is D3PM (Austin et al. 2021) in continuous time, with a `Kernel` that says where a
class goes: uniform, marginal, absorbing, or mask-and-replace.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore import random
from diffcore.domains import Domain
from diffcore.random import Rng
from diffcore.schedules import Schedule
from diffcore.state import expand


class Process(Protocol):
    """What a field must be able to do. Shapes: x [B, ...], t and s [B], mask [B, N]."""

    @property
    def schedule(self) -> Schedule:
        """Noise level over time."""
        ...

    @property
    def domain(self) -> Domain:
        """Shape and symmetry of the field."""
        ...

    def prior(self, mask: Tensor, rng: Rng) -> Tensor:
        """A draw from q(x_1)."""
        ...

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """A draw from q(x_t | x_0)."""
        ...

    def reverse(
        self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: Rng
    ) -> Tensor:
        """A draw from p(x_s | x_t, x0_hat) for s < t."""
        ...

    def log_prob(
        self, x_s: Tensor, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Log p(x_s | x_t, x0_hat) of the reverse step, [B]."""
        ...

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean loss of the prediction per independent element, [B]."""
        ...

    def decode(self, clean: Tensor, mask: Tensor) -> Tensor:
        """The prediction as a clean value of the field: the mean, or the most likely class."""
        ...


def _row_sum(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights.to(values.dtype)).flatten(1).sum(1)


@dataclass(frozen=True)
class Gaussian:
    """x_t = alpha x_0 + sigma eps for a continuous field (DDPM, EDM, flow matching by schedule).

    The reverse step is the exact posterior of the linear Gaussian chain (Kingma et al. 2021, VDM,
    eq. 32-35), valid for any alpha and sigma.
    """

    schedule: Schedule
    domain: Domain

    def _noise(self, like: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        return self.domain.project(self.domain.tie(random.normal(rng, like)), mask)

    def prior(self, mask: Tensor, rng: Rng) -> Tensor:
        """sigma(1) times standard noise on the domain."""
        like = torch.zeros(self.domain.shape(mask), device=mask.device)
        one = torch.ones(mask.shape[0], device=mask.device)
        return expand(self.schedule.sigma(one), like) * self._noise(like, mask, rng)

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Alpha x_0 + sigma eps."""
        return self.mix(clean, self._noise(clean, mask, rng), t)

    def mix(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The forward corruption with given unit noise."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return expand(alpha, clean) * clean + expand(sigma, clean) * noise

    def posterior(self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, ...] and variance [B] of q(x_s | x_t, x_0)."""
        alpha_t, alpha_s = self.schedule.alpha(t), self.schedule.alpha(s)
        var_t, var_s = self.schedule.sigma(t) ** 2, self.schedule.sigma(s) ** 2
        ratio = alpha_t / alpha_s
        step = (var_t - ratio**2 * var_s).clamp_min(0)
        safe = var_t.clamp_min(torch.finfo(var_t.dtype).tiny)
        mean = expand(ratio * var_s / safe, x) * x + expand(alpha_s * step / safe, x) * clean
        return mean, step * var_s / safe

    def reverse(
        self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: Rng
    ) -> Tensor:
        """The ancestral step."""
        mean, var = self.posterior(x, clean, t, s)
        return mean + expand(var.sqrt(), x) * self._noise(x, mask, rng)

    def log_prob(
        self, x_s: Tensor, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Normal log-density on the domain's degrees of freedom; s must be above 0."""
        mean, var = self.posterior(x, clean, t, s)
        squares = self._per_element((x_s - mean) ** 2, mask)
        dof = self.domain.degrees(mask).to(var.dtype)
        return -0.5 * (squares / var + dof * torch.log(2 * torch.pi * var))

    def _per_element(self, values: Tensor, mask: Tensor) -> Tensor:
        weights = self.domain.weights(mask)
        extra = values.dim() - weights.dim()
        return _row_sum(values.flatten(weights.dim()).sum(-1) if extra else values, weights)

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error per element [B]."""
        size = self._per_element(torch.ones_like(target), mask).clamp_min(1)
        return self._per_element((clean - target) ** 2, mask) / size

    def decode(self, clean: Tensor, mask: Tensor) -> Tensor:
        """The mean, on the domain."""
        return self.domain.project(clean, mask)


@dataclass(frozen=True)
class Kernel:
    """Where a class goes: probabilities of the resampled class, and how much of it is masking.

    Attributes:
        replace: [K] probabilities of the class that replaces another one (sums to 1).
        mask_class: index of the absorbing class, or None.
        masking: share in [0, 1] of the log-survival that is masking; the rest is replacement.
    """

    replace: Tensor = field(compare=False)
    mask_class: int | None = None
    masking: float = 0.0

    @property
    def classes(self) -> int:
        """Number of classes K, a mask class included."""
        return self.replace.shape[0]

    def between(self, keep: Tensor) -> Tensor:
        """Transition matrix [B, K, K] (row: from) over an interval with survival ``keep`` [B].

        Replacement and masking commute, so that the interval matrices compose: Q(a) Q(b) = Q(a b).
        """
        replace = self.replace.to(keep.device, keep.dtype)
        stay = keep ** (1 - self.masking)
        unmasked = keep**self.masking
        eye = torch.eye(self.classes, dtype=keep.dtype, device=keep.device)
        matrix = expand(stay, eye[None]) * eye + expand(1 - stay, eye[None]) * replace
        if self.mask_class is None:
            return matrix
        to_mask = eye[self.mask_class].expand(self.classes, -1)
        matrix = expand(unmasked, matrix) * matrix + expand(1 - unmasked, matrix) * to_mask
        absorbed = eye[self.mask_class].expand(matrix.shape[0], -1)
        rows = list(matrix.unbind(1))
        rows[self.mask_class] = absorbed
        return torch.stack(rows, 1)


def uniform_kernel(classes: int) -> Kernel:
    """Every class is replaced by a uniform one (Hoogeboom et al. 2021, multinomial diffusion)."""
    return Kernel(torch.full((classes,), 1.0 / classes))


def marginal_kernel(probabilities: Tensor) -> Kernel:
    """A class is replaced by a draw from the data's marginals [K] (Vignac et al. 2023, DiGress)."""
    return Kernel(probabilities / probabilities.sum())


def absorbing_kernel(classes: int, mask_class: int | None = None) -> Kernel:
    """A class becomes the mask class, by default the last one (Austin et al. 2021, D3PM)."""
    mask_class = classes - 1 if mask_class is None else mask_class
    return Kernel(F.one_hot(torch.tensor(mask_class), classes).float(), mask_class, 1.0)


def mask_and_replace_kernel(classes: int, masking: float = 0.9) -> Kernel:
    """The last class is the mask; others also replace each other (Gu et al. 2022, VQ-Diffusion)."""
    replace = torch.full((classes,), 1.0 / (classes - 1))
    replace[-1] = 0
    return Kernel(replace, classes - 1, masking)


@dataclass(frozen=True)
class Categorical:
    """A Markov chain on K classes; states are int64 indices, predictions probabilities [..., K].

    The reverse step marginalises the exact posterior over the predicted clean class (Austin et al.
    2021, eq. 4): p(x_s = j | x_t = i) = sum_k x0_hat(k) Q_s(k, j) Q_{t|s}(j, i) / Q_t(k, i).
    """

    schedule: Schedule
    domain: Domain
    kernel: Kernel

    def _indices(self, probabilities: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        u = random.uniform(rng, probabilities[..., 0])
        x = random.categorical(probabilities, self.domain.tie(u))
        return self.domain.project(x, mask)

    def cumulative(self, t: Tensor) -> Tensor:
        """q(x_t | x_0) as matrices [B, K, K]."""
        return self.kernel.between(self.schedule.keep(t))

    def transition(self, s: Tensor, t: Tensor) -> Tensor:
        """q(x_t | x_s) for s <= t as matrices [B, K, K]."""
        return self.kernel.between((self.schedule.keep(t) / self.schedule.keep(s)).clamp(0, 1))

    def prior(self, mask: Tensor, rng: Rng) -> Tensor:
        """Draws of the forward process at t = 1, where no more than this is left of the data."""
        replace = self.kernel.replace.to(mask.device)
        stationary = replace @ self.cumulative(torch.ones(1, device=mask.device))[0].to(
            replace.dtype
        )
        return self._indices(stationary.expand(*self.domain.shape(mask), -1), mask, rng)

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Indices drawn from the row of the clean class."""
        return self._indices(self._rows(self.cumulative(t), clean), mask, rng)

    def _rows(self, matrix: Tensor, index: Tensor) -> Tensor:
        """Matrix [B, K, ...] at index [B, *] -> [B, *, ...]."""
        batch = expand(torch.arange(index.shape[0], device=index.device), index)
        return matrix[batch, index]

    def _expect(self, x: Tensor, clean: Tensor, start: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Sum over k of x0_hat(k) start(k, j) Q_{t|s}(j, x_t) / Q_t(k, x_t), as [..., K] over j.

        ``start`` is [B, K, K].
        """
        table = torch.einsum("bkj,bji->bikj", start, self.transition(s, t))
        seen = self.cumulative(t).transpose(1, 2).unsqueeze(-1)
        table = torch.where(seen > 0, table / seen, torch.zeros_like(table)).to(clean.dtype)
        flat = clean.reshape(clean.shape[0], -1, clean.shape[-1])
        by_class = torch.einsum("bmk,bikj->bmij", flat, table)
        index = x.reshape(x.shape[0], -1, 1, 1).expand(-1, -1, 1, table.shape[-1])
        return by_class.gather(2, index).reshape(clean.shape)

    def posterior(self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """p(x_s | x_t, x0_hat) [..., K]; x_t stays where the prediction rules it out altogether."""
        p = self._expect(x, clean, self.cumulative(s), t, s)
        total = p.sum(-1, keepdim=True)
        stay = F.one_hot(x, p.shape[-1]).to(p.dtype)
        return torch.where(total > 0, p / total.clamp_min(torch.finfo(p.dtype).tiny), stay)

    def reverse(
        self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: Rng
    ) -> Tensor:
        """The ancestral step."""
        return self._indices(self.posterior(x, clean, t, s), mask, rng)

    def jump_rates(self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Expected jumps [..., K] to every other class in [s, t].

        To first order in t - s the rates of Campbell et al. 2022 (eq. 7) times the step. Rates at t
        itself diverge at t = 1, where a kernel forgets at once; this mean over the step does not.
        """
        rates = self._expect(x, clean, self.cumulative(s), t, s)
        return rates * (1 - F.one_hot(x, clean.shape[-1]).to(rates.dtype))

    def log_prob(
        self, x_s: Tensor, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Sum of the log-probabilities of independent elements [B]."""
        p = self.posterior(x, clean, t, s).gather(-1, x_s.unsqueeze(-1)).squeeze(-1)
        return _row_sum(p.clamp_min(torch.finfo(p.dtype).tiny).log(), self.domain.weights(mask))

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy per independent element [B]."""
        p = clean.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        weights = self.domain.weights(mask)
        size = weights.flatten(1).sum(1).clamp_min(0.5)
        return _row_sum(-(p + 1e-9).log(), weights) / size

    def decode(self, clean: Tensor, mask: Tensor) -> Tensor:
        """The most likely class."""
        return self.domain.project(clean.argmax(-1), mask)
