"""What a bound on the likelihood is made of: Kullback-Leibler terms of noisy copies of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.domains import Domain
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.schedules import half_log_snr, log_snr
from diffcore.state import State, Times, expand

INTERVALS = 20_000
"""Intervals of the default grid: within 0.01 nats a dimension of continuous time."""

PARTS = ("prior", "diffusion", "decoder")
"""The three kinds of terms, in the order of `Reading.once`."""


def log_snr_grid(
    processes: Mapping[str, Process], intervals: int = INTERVALS, smallest: float = 1e-3
) -> Tensor:
    """Times from 1 to ``smallest`` [intervals + 1] at which bounds of several fields vary least.

    Even steps in log-SNR (averaged over the fields' schedules), where a Gaussian
    field's bound changes slowly.

    Args:
        processes: one per field.
        intervals: K.
        smallest: the last time, above 0: continuous data have no density at time 0 itself.
    """
    t = torch.linspace(1, smallest, 100_001, dtype=torch.float64)
    levels = [half_log_snr(p.schedule, t).clamp(-12, 16) for p in processes.values()]
    level = torch.stack(levels).mean(0)
    level = (level - level[0]) / (level[-1] - level[0])
    place = torch.linspace(0, 1, intervals + 1, dtype=torch.float64)
    right = torch.searchsorted(level, place).clamp(1, len(t) - 1)
    share = (place - level[right - 1]) / (level[right] - level[right - 1]).clamp_min(1e-12)
    times = t[right - 1] + share.clamp(0, 1) * (t[right] - t[right - 1])
    times[0], times[-1] = 1.0, smallest
    return times


@dataclass(frozen=True)
class Reading:
    """What is read, at which times, and how."""

    denoiser: Denoiser
    processes: Mapping[str, Process]
    free: Mapping[str, Process]
    grid: Tensor
    bins: Mapping[str, float]
    context: Context

    @property
    def intervals(self) -> int:
        """Number of intervals K."""
        return len(self.grid) - 1

    def times(self, t: Tensor) -> Times:
        """Times [B] of every field: 0 for those that are given."""
        return {n: t if n in self.free else torch.zeros_like(t) for n in self.processes}

    def noisy(self, clean: State, t: Tensor, rng: torch.Generator) -> State:
        """A draw of every free field at times t [B]."""
        drawn = {
            n: p.forward(clean[n], t.to(_dtype(clean[n])), clean.mask, rng)
            for n, p in self.free.items()
        }
        return clean.replace(**drawn)

    @torch.no_grad()
    def predict(self, noisy: State, t: Tensor) -> State:
        """The clean state, in double precision."""
        floating = [x.dtype for n, x in noisy.items() if n in self.free and x.is_floating_point()]
        dtype = floating[0] if floating else torch.get_default_dtype()
        seen = self.denoiser(noisy, self.times(t.to(dtype)), {**self.context, PREVIOUS: None})
        return State({n: seen[n].double() for n in self.free}, noisy.mask)

    def strata(self, rows: int, draws: int, rng: torch.Generator) -> Tensor:
        """Indices of intervals [rows, draws], stratified, with one offset a row."""
        u = torch.rand((rows, 1), generator=rng, dtype=torch.float64, device=rng.device)
        spread = torch.arange(draws, dtype=torch.float64, device=rng.device)
        place = (u + spread) / draws
        return (place * self.intervals).long().clamp_max(self.intervals - 1)

    def step(self, clean: State, noisy: State, told: State, k: Tensor) -> Tensor:
        """KL of the intervals k [B], field by field [B, F], in nats."""
        seen = self.predict(told, self.grid.to(k.device)[k])
        t, s = self.grid.to(k.device)[k], self.grid.to(k.device)[k + 1]
        terms = []
        for name, process in self.free.items():
            x0, x, guess = clean[name], noisy[name], seen[name]
            if isinstance(process, Gaussian):
                snr_t, snr_s = (log_snr(process.schedule, at).exp() for at in (t, s))
                squares = _sum(process.domain, (x0.double() - guess) ** 2, clean.mask)
                chance = _chance(process, x0, x, t, clean.mask)
                terms.append(0.5 * (snr_s - snr_t) * (squares - chance / snr_t))
            else:
                assert isinstance(process, Categorical)
                terms.append(_class_kl(process, x0, x, guess, t, s, clean.mask))
        return torch.stack(terms, 1)

    def once(self, clean: State, rng: torch.Generator, draws: int, batch: int) -> Tensor:
        """One repeat: contributions to the bound [B, 3 parts, F]."""
        index = self.strata(clean.rows, draws, rng).to(clean.mask.device)
        steps = torch.zeros(clean.rows, len(self.free), dtype=torch.float64, device=index.device)
        for rows, k in _chunks(index, batch):
            some = clean.take(rows)
            noisy = self.noisy(some, self.grid.to(k.device)[k], rng)
            steps.index_add_(0, rows, self.step(some, noisy, noisy, k))
        ends = [
            self.end(clean.take(rows), rng)
            for rows in torch.arange(clean.rows, device=index.device).split(batch)
        ]
        prior = [_prior(p, clean[n], clean.mask) for n, p in self.free.items()]
        diffusion = -steps * self.intervals / draws
        return torch.stack([-torch.stack(prior, 1), diffusion, torch.cat(ends)], 1)

    def end(self, clean: State, rng: torch.Generator) -> Tensor:
        """Log-density or log-probability of the clean fields at the grid's last time [B, F]."""
        t = self.grid[-1].to(clean.mask.device).expand(clean.rows)
        noisy = self.noisy(clean, t, rng)
        seen = self.predict(noisy, t)
        terms = []
        for name, process in self.free.items():
            x0, guess = clean[name], seen[name]
            if isinstance(process, Gaussian):
                width = self.bins.get(name)
                term = _decoder(process, x0, guess, t, clean.mask, width)
                chance = _chance(process, x0, noisy[name], t, clean.mask)
                terms.append(term + 0.5 * chance if width is None else term)
            else:
                zero = torch.zeros_like(t)
                terms.append(process.log_prob(x0, noisy[name], guess, t, zero, clean.mask))
        return torch.stack(terms, 1)

    def compare(
        self, told: Sequence[State], rng: torch.Generator, draws: int, batch: int, uniform: bool
    ) -> Tensor:
        """Evidence of every hypothesis up to a constant [B, C], from shared noise."""
        clean = told[0]
        index = self.strata(clean.rows, draws, rng).to(clean.mask.device)
        evidence = torch.zeros(clean.rows, len(told), dtype=torch.float64, device=index.device)
        for rows, k in _chunks(index, batch):
            some = clean.take(rows)
            t = self.grid.to(k.device)[k]
            noise = self.noisy(some, t, rng)
            drawn = {n: noise[n] for n in self.free}
            for c, state in enumerate(told):
                asked = state.take(rows).replace(**drawn)
                if uniform:
                    terms = self.losses(some, asked, t)
                else:
                    terms = self.step(some, noise, asked, k) * self.intervals
                evidence[:, c].index_add_(0, rows, -terms.sum(1) / draws)
        return evidence

    def losses(self, clean: State, asked: State, t: Tensor) -> Tensor:
        """|eps - eps_hat|^2 of continuous fields, cross-entropy of classes, summed; [B, F]."""
        seen = self.predict(asked, t)
        terms = []
        for name, process in self.free.items():
            if isinstance(process, Gaussian):
                snr = log_snr(process.schedule, t).exp()
                squares = (clean[name].double() - seen[name]) ** 2
                terms.append(snr * _sum(process.domain, squares, clean.mask))
            else:
                p = seen[name].gather(-1, clean[name].unsqueeze(-1)).squeeze(-1)
                terms.append(_sum(process.domain, -p.clamp_min(1e-30).log(), clean.mask))
        return torch.stack(terms, 1)


def _chunks(index: Tensor, batch: int) -> Sequence[tuple[Tensor, Tensor]]:
    """(rows, intervals) of all draws [B, D], at most ``batch`` at a time."""
    rows = torch.arange(len(index), device=index.device).repeat_interleave(index.shape[1])
    return list(zip(rows.split(batch), index.flatten().split(batch), strict=True))


def _dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.is_floating_point() else torch.get_default_dtype()


def _sum(domain: Domain, values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the independent elements of a row [B]; feature axes are summed first."""
    weights = domain.weights(mask).to(values.dtype)
    if values.dim() > weights.dim():
        values = values.flatten(weights.dim()).sum(-1)
    return (values * weights).flatten(1).sum(1)


def dimensions_of(process: Process, mask: Tensor) -> Tensor:
    """Independent numbers or classes in a row [B]."""
    if isinstance(process, Categorical):
        return process.domain.weights(mask).double().flatten(1).sum(1)
    return process.domain.degrees(mask).double()


def _chance(process: Gaussian, x0: Tensor, x: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    """A control variate of SNR |x_0 - x0_hat|^2: c^2 (|eps|^2 - degrees of freedom), of mean 0.

    With c = alpha^2 / (alpha^2 + sigma^2) it is the share of the noise in the error for unit normal
    data; whatever the data, it takes out most of the variance where the noise is small.
    """
    alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
    noise = (x.double() - expand(alpha, x0) * x0.double()) / expand(sigma, x0)
    excess = _sum(process.domain, noise**2, mask) - process.domain.degrees(mask).double()
    return (alpha**2 / (alpha**2 + sigma**2)) ** 2 * excess


def _kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) over the last axis; infinite where p rules out what q allows."""
    return torch.where(q > 0, q * (q.clamp_min(1e-300).log() - p.clamp_min(1e-300).log()), 0).sum(
        -1
    )


def _class_kl(
    process: Categorical, x0: Tensor, x: Tensor, guess: Tensor, t: Tensor, s: Tensor, mask: Tensor
) -> Tensor:
    true = F.one_hot(x0, process.kernel.classes).double()
    q, p = process.posterior(x, true, t, s), process.posterior(x, guess, t, s)
    return _sum(process.domain, _kl(q, p), mask)


def _prior(process: Process, x0: Tensor, mask: Tensor) -> Tensor:
    """KL(q(x_1 | x_0) || prior) [B] in nats."""
    one = torch.ones(x0.shape[0], dtype=torch.float64, device=x0.device)
    if isinstance(process, Gaussian):
        ratio = (process.schedule.alpha(one) / process.schedule.sigma(one)) ** 2
        return 0.5 * ratio * _sum(process.domain, x0.double() ** 2, mask)
    assert isinstance(process, Categorical)
    table = process.cumulative(one[:1])[0]
    stationary = process.kernel.replace.to(table) @ table
    return _sum(process.domain, _kl(table, stationary)[x0], mask)


def _decoder(
    process: Gaussian, x0: Tensor, guess: Tensor, t: Tensor, mask: Tensor, width: float | None
) -> Tensor:
    """Log N(x_0; x0_hat, (sigma / alpha)^2), or log of a bin's probability under it; [B]."""
    std = process.schedule.sigma(t) / process.schedule.alpha(t)
    away = x0.double() - guess
    if width is None:
        dof = process.domain.degrees(mask).double()
        squares = _sum(process.domain, away**2, mask)
        return -0.5 * (squares / std**2 + dof * torch.log(2 * torch.pi * std**2))
    scale = expand(std, away)
    low, high = (away.abs() - width / 2) / scale, (away.abs() + width / 2) / scale
    # Phi(high) - Phi(low) for 0 <= |low| < high, without cancelling in the tail
    log_sf_low, log_sf_high = (torch.special.log_ndtr(-edge) for edge in (low, high))
    inside = log_sf_low + torch.log1p(-torch.exp(log_sf_high - log_sf_low))
    return _sum(process.domain, inside, mask)
