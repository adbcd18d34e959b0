"""Codes of clean states: what a sampler would have to start from, and draw, to make them.

A code made with one denoiser and read with another translates between two models, or between two
conditions of one model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore import random
from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.noising import noised
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.random import Rng
from diffcore.samplers import time_grids
from diffcore.state import State, Times, expand

_SMALLEST = 1e-30  # probability below which a class has no Gumbel noise of its own


def _levels(
    processes: Mapping[str, Process], grids: Mapping[str, Tensor], state: State
) -> list[Times]:
    """Times [B] of every field at every point of the grid; fields without a grid are clean."""
    dtype = next((state[n].dtype for n in processes if state[n].is_floating_point()), None)
    ones = torch.ones(state.rows, dtype=dtype, device=state.mask.device)
    steps = len(next(iter(grids.values())))
    return [
        {n: ones * (float(grids[n][k]) if n in grids else 0.0) for n in processes}
        for k in range(steps)
    ]


def ddim_invert(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    clean: State,
    grid: Tensor | Mapping[str, Tensor],
    *,
    rounds: int = 1,
    context: Context | None = None,
    given: tuple[str, ...] = (),
) -> State:
    """Run DDIM backwards, from clean states to their noise (Song et al. 2021, section 4.3).

    One step up solves x_s = alpha_s x0_hat(x_t, t) + sigma_s eps_hat(x_t, t) for x_t. The first
    guess takes prediction and noise at x_s; each round takes the noise at the last guess (a fixed
    point, Pan et al. 2023, AIDI): x_t = alpha_t (x_s - sigma_s eps) / alpha_s + sigma_t eps. The
    last step of a sampler returns its prediction, which cannot be undone: a round trip becomes
    exact only as the grid becomes fine.

    Args:
        denoiser: ``(state, times, context) -> clean state``; self-conditioning is off.
        processes: one per field.
        clean: clean values of all fields.
        grid: decreasing times that end at 0, the same as for sampling with ``ddim``.
        rounds: evaluations per step beside the first guess, which costs one above time 0.
        context: conditions handed to the denoiser.
        given: fields that stay as they are; categorical fields must be among them.

    Returns:
        The state at the grid's first time: `sample` with ``ddim`` leads back.

    Raises:
        ConfigError: a categorical field that is not given, rounds below 1, or a bad grid.
    """
    grids = time_grids(processes, grid, given)
    free = {n: p for n, p in processes.items() if isinstance(p, Gaussian) and n not in given}
    left = [n for n in processes if n not in free and n not in given]
    if left:
        raise ConfigError(f"ddim_invert: categorical fields have to be given, {left} are not")
    if rounds < 1:
        raise ConfigError(f"ddim_invert: expected at least 1 round, got {rounds}")
    told = {**(context or {}), PREVIOUS: None}
    levels = _levels(processes, grids, clean)[::-1]
    state = clean.replace(**{n: p.domain.project(clean[n], clean.mask) for n, p in free.items()})
    for k, (s, t) in enumerate(zip(levels, levels[1:], strict=False)):
        below, guess = state, None
        if k:
            guess = denoiser(below, s, told)
        state = _climbed(free, below, guess, None, s, t)
        for _ in range(rounds):
            state = _climbed(free, below, denoiser(state, t, told), state, s, t)
    return state


def _climbed(
    free: Mapping[str, Gaussian],
    below: State,
    clean: State | None,
    guess: State | None,
    s: Times,
    t: Times,
) -> State:
    """x_t with the noise that ``clean`` implies at the guess of x_t, or at x_s if there is none.

    Without a prediction (at time 0 there is no noise to see) it is alpha_t x_0.
    """
    fields = {}
    for name, process in free.items():
        x, plan = below[name], process.schedule
        alpha_s, sigma_s = expand(plan.alpha(s[name]), x), expand(plan.sigma(s[name]), x)
        alpha_t, sigma_t = expand(plan.alpha(t[name]), x), expand(plan.sigma(t[name]), x)
        if clean is None:
            moved = alpha_t / alpha_s * x
        elif guess is None:
            ratio = sigma_t / sigma_s
            moved = ratio * x + (alpha_t - ratio * alpha_s) * clean[name]
        else:
            noise = (guess[name] - alpha_t * clean[name]) / sigma_t
            moved = alpha_t / alpha_s * (x - sigma_s * noise) + sigma_t * noise
        fields[name] = process.domain.project(moved, below.mask)
    return below.replace(**fields)


@dataclass(frozen=True)
class Codes:
    """A clean state as the noise that a stochastic sampler turns into it.

    Attributes:
        start: the state at the grid's first time; given fields and conditions are in it.
        noises: of every step and field: unit normal [B, ...] for continuous fields (what is left of
            the clean value after the last prediction in the last step), Gumbel [B, ..., K] for
            categorical ones.
        grids: times of every field that is not given.
        eta: share of the ancestral noise in continuous steps.
    """

    start: State
    noises: tuple[Mapping[str, Tensor], ...]
    grids: Mapping[str, Tensor]
    eta: float

    def take(self, index: Tensor) -> "Codes":
        """The rows ``index`` [M]."""
        noises = tuple({n: z[index] for n, z in one.items()} for one in self.noises)
        return Codes(self.start.take(index), noises, self.grids, self.eta)


@dataclass(frozen=True)
class _Span:
    """One field's step from t down to s ([B] each)."""

    process: Process
    t: Tensor
    s: Tensor
    mask: Tensor
    eta: float

    def normal(self, x: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Mean [B, ...] and standard deviation of x_s (Song et al. 2021, eq. 12 and 16).

        With v = eta^2 times the posterior variance: alpha_s x_0 + sqrt(sigma_s^2 - v) eps_hat.
        Where v is 0 (at s = 0) the code is the difference itself: the deviation is 1.
        """
        process = self.process
        assert isinstance(process, Gaussian)
        alpha_s, alpha_t = process.schedule.alpha(self.s), process.schedule.alpha(self.t)
        sigma_s, sigma_t = process.schedule.sigma(self.s), process.schedule.sigma(self.t)
        var = self.eta**2 * process.posterior(x, clean, self.t, self.s)[1]
        noise = (x - expand(alpha_t, x) * clean) / expand(sigma_t, x)
        keep = (sigma_s**2 - var).clamp_min(0).sqrt()
        mean = expand(alpha_s, x) * clean + expand(keep, x) * noise
        std = torch.where(var > 0, var.sqrt(), torch.ones_like(var))
        return process.domain.project(mean, self.mask), expand(std, x)

    def logits(self, x: Tensor, clean: Tensor) -> Tensor:
        """Log p(x_s | x_t, x0_hat) in float64 [B, ..., K]."""
        assert isinstance(self.process, Categorical)
        p = self.process.posterior(x, clean.double(), self.t.double(), self.s.double())
        return p.clamp_min(_SMALLEST).log()

    def replay(self, x: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
        """x_s from its code."""
        if isinstance(self.process, Categorical):
            chosen = (self.logits(x, clean) + noise).argmax(-1)
            return self.process.domain.project(chosen, self.mask)
        mean, std = self.normal(x, clean)
        return (mean.double() + std.double() * noise).to(x.dtype)

    def target(self, x: Tensor, truth: Tensor, rng: Rng) -> Tensor:
        """A draw of x_s on the way from x_t to the true clean value."""
        if bool((self.s == 0).all()):
            return truth
        if isinstance(self.process, Categorical):
            one_hot = torch.nn.functional.one_hot(truth, self.process.kernel.classes)
            p = self.process.posterior(x, one_hot.to(self.t.dtype), self.t, self.s)
            u = self.process.domain.tie(random.uniform(rng, p[..., 0]))
            return self.process.domain.project(random.categorical(p, u), self.mask)
        mean, std = self.normal(x, truth)
        noise = self.process.domain.tie(random.normal(rng, x))
        return mean + std * self.process.domain.project(noise, self.mask)

    def code(self, x: Tensor, clean: Tensor, target: Tensor, rng: Rng) -> Tensor:
        """The noise that `replay` turns into ``target``."""
        if isinstance(self.process, Categorical):
            logits = self.logits(x, clean)
            free = _gumbel(rng, logits)
            return self.process.domain.tie(_gumbel_given(logits, target, free))
        mean, std = self.normal(x, clean)
        return (target.double() - mean.double()) / std.double()


def _gumbel(rng: Rng, like: Tensor) -> Tensor:
    u = random.uniform(rng, like).clamp(1e-300, 1 - 1e-16)
    return -torch.log(-torch.log(u))


def _gumbel_given(logits: Tensor, chosen: Tensor, free: Tensor) -> Tensor:
    """Gumbel noise [..., K] of which argmax(logits + noise) is ``chosen`` [...].

    Maddison et al. 2014 (A* sampling, section 3): the maximum is a Gumbel variable at
    logsumexp(logits), the others are truncated at it. ``free`` is independent Gumbel noise; its
    entry at the chosen class serves for the maximum.
    """
    index = chosen.unsqueeze(-1)
    top = logits.logsumexp(-1, keepdim=True) + free.gather(-1, index)
    below = -torch.logaddexp(-top, -(logits + free))
    return below.scatter(-1, index, top) - logits


def dpm_encode(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    clean: State,
    grid: Tensor | Mapping[str, Tensor],
    rng: Rng,
    *,
    eta: float = 1.0,
    align: bool = False,
    context: Context | None = None,
    given: tuple[str, ...] = (),
) -> Codes:
    """Codes from which `dpm_decode` makes the same state again (Wu and De la Torre 2023, alg. 1).

    A path from the clean state to its noise is drawn from the true process; what the denoiser's
    mean does not explain of a step is its code. For categorical fields the codes are Gumbel
    noise, drawn given that log p(x_s | x_t) plus noise is largest at the class of the path.

    Args:
        denoiser: ``(state, times, context) -> clean state``.
        processes: one per field.
        clean: clean values of all fields.
        grid: decreasing times that end at 0, shared or one per field. A first time below 1 keeps
            more of the state in ``start``.
        rng: one generator, or one per row.
        eta: share of the ancestral noise, above 0; 1 is DDPM.
        align: see `diffcore.noising.noised`.
        context: conditions handed to the denoiser.
        given: fields that stay as they are; the denoiser sees time 0 for them.

    Raises:
        ConfigError: an eta that is not in (0, 1], or a bad grid.
    """
    if not 0 < eta <= 1:
        raise ConfigError(f"dpm_encode: expected eta in (0, 1], got {eta}")
    grids = time_grids(processes, grid, given)
    free = {n: p for n, p in processes.items() if n not in given}
    levels = _levels(processes, grids, clean)
    truth = clean.replace(**{n: p.domain.project(clean[n], clean.mask) for n, p in free.items()})
    start = noised(free, truth, levels[0], rng, align=align)
    state, previous, noises = start, None, []
    for t, s in zip(levels, levels[1:], strict=False):
        predicted = denoiser(state, t, {**(context or {}), PREVIOUS: previous})
        code, moved = {}, {}
        for name, process in free.items():
            span = _Span(process, t[name], s[name], clean.mask, eta)
            x, x0_hat = state[name], predicted[name]
            target = span.target(x, truth[name], rng)
            code[name] = span.code(x, x0_hat, target, rng)
            # go on from what the decoder will see, to the last bit
            moved[name] = span.replay(x, x0_hat, code[name])
        state, previous = state.replace(**moved), predicted
        noises.append(code)
    return Codes(start, tuple(noises), grids, eta)


def dpm_decode(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    codes: Codes,
    *,
    context: Context | None = None,
) -> State:
    """Make a clean state from codes, with the denoiser that made them or with another.

    With the same one it is the state that was encoded: bit for bit for classes and for float32,
    but for the last bit for float64. With another model, or another condition, it is the
    translation of the state (CycleDiffusion, Wu and De la Torre 2023, alg. 2).
    """
    levels = _levels(processes, codes.grids, codes.start)
    state, previous = codes.start, None
    for t, s, code in zip(levels, levels[1:], codes.noises, strict=False):
        predicted = denoiser(state, t, {**(context or {}), PREVIOUS: previous})
        moved = {}
        for name, noise in code.items():
            span = _Span(processes[name], t[name], s[name], state.mask, codes.eta)
            moved[name] = span.replay(state[name], predicted[name], noise)
        state, previous = state.replace(**moved), predicted
    return state
