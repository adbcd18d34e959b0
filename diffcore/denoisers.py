"""Denoisers in the x0 convention, the converters into it, and the first wrappers.

A denoiser maps ``(state, times, context)`` to the clean state: the mean for a continuous field,
class probabilities for a categorical one. The context carries conditions and, under ``"previous"``,
the last prediction (self-conditioning) or None.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffcore.errors import ConfigError
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.schedules import FlowTime
from diffcore.state import State, Times, expand

Context = Mapping[str, Any]
Denoiser = Callable[[State, Times, Context], State]
PREVIOUS = "previous"


def x0_from_eps(x: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Ho et al. 2020: x0 = (x_t - sigma eps) / alpha; alpha and sigma are [B]."""
    return (x - expand(sigma, x) * eps) / expand(alpha, x)


def x0_from_v(x: Tensor, v: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Salimans and Ho 2022, for any schedule: v = alpha eps - sigma x0.

    So x0 = (alpha x_t - sigma v) / (alpha^2 + sigma^2).
    """
    scale = alpha**2 + sigma**2
    return expand(alpha / scale, x) * x - expand(sigma / scale, x) * v


def x0_from_score(x: Tensor, score: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Tweedie's formula: x0 = (x_t + sigma^2 grad log q(x_t)) / alpha."""
    return (x + expand(sigma**2, x) * score) / expand(alpha, x)


def x0_from_velocity(x: Tensor, velocity: Tensor, t: Tensor) -> Tensor:
    """Flow matching with alpha = 1 - t, sigma = t: dx/dt = eps - x0, so x0 = x_t - t dx/dt."""
    return x - expand(t, x) * velocity


_CONTINUOUS = {"eps": x0_from_eps, "v": x0_from_v, "score": x0_from_score}


def as_clean(
    raw: Tensor, x: Tensor, t: Tensor, process: Process, mask: Tensor, predicts: str
) -> Tensor:
    """Convert a network's raw output for one field into its clean value, once, at the edge.

    Args:
        raw: network output; for a categorical field logits [..., K], symmetrised for pairs. The
            logit of a mask class is ignored: clean data are never masked (Sahoo et al. 2024, MDLM).
        x: the noisy field.
        t: times [B].
        process: the field's process.
        mask: node mask [B, N].
        predicts: ``x0``, ``eps``, ``v``, ``score`` or ``velocity`` for continuous fields,
            ``logits`` else.

    Raises:
        ConfigError: an unknown kind of prediction, or a velocity without a `FlowTime` schedule.
    """
    if raw.dtype in (torch.bfloat16, torch.float16):
        raw = raw.float()
    if isinstance(process, Categorical):
        if process.kernel.mask_class is not None:
            hidden = torch.arange(raw.shape[-1], device=raw.device) == process.kernel.mask_class
            raw = raw.masked_fill(hidden, -torch.inf)
        return raw.softmax(-1)
    if predicts == "velocity":
        if not isinstance(process.schedule, FlowTime):
            found = type(process.schedule).__name__
            raise ConfigError(f"a velocity needs a FlowTime schedule, got {found}")
        raw = x0_from_velocity(x, raw, t)
    elif predicts != "x0":
        if predicts not in _CONTINUOUS:
            known = ", ".join(["x0", "velocity", *_CONTINUOUS])
            raise ConfigError(f"unknown prediction {predicts!r}; known: {known}")
        raw = _CONTINUOUS[predicts](x, raw, process.schedule.alpha(t), process.schedule.sigma(t))
    return process.domain.project(raw, mask)


@dataclass
class Counted:
    """A denoiser that counts: ``calls`` of the network and ``evaluations`` (calls times rows)."""

    denoiser: Denoiser
    calls: int = 0
    evaluations: int = 0

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Call the denoiser and count."""
        self.calls += 1
        self.evaluations += state.rows
        return self.denoiser(state, times, context)


def with_temperature(denoiser: Denoiser, temperature: Mapping[str, float]) -> Denoiser:
    """Sharpen (T < 1) or flatten (T > 1) the named fields' probabilities: p^(1/T), renormalised.

    Raises:
        ConfigError: a temperature that is not above zero.
    """
    for name, T in temperature.items():
        if not T > 0:
            raise ConfigError(f"expected a temperature above 0, got {T} for {name!r}")

    def wrapped(state: State, times: Times, context: Context) -> State:
        clean = denoiser(state, times, context)
        sharp = {
            n: torch.log_softmax(clean[n].clamp_min(1e-30).log() / T, -1).exp()
            for n, T in temperature.items()
        }
        return clean.replace(**sharp)

    return wrapped


def without_previous(denoiser: Denoiser) -> Denoiser:
    """Switch self-conditioning off: the network never sees its last prediction."""

    def wrapped(state: State, times: Times, context: Context) -> State:
        return denoiser(state, times, {**context, PREVIOUS: None})

    return wrapped


@dataclass(frozen=True)
class Oracle:
    """The exact denoiser of a finite data set: posterior means and class probabilities.

    Every sampler can be tested against it: with fine grids it must return the data in its
    proportions.

    Attributes:
        processes: one per field.
        data: M clean examples, all of one size, as a state with M rows.
        log_weights: log-probabilities [M] of the examples, uniform by default.
    """

    processes: Mapping[str, Process]
    data: State
    log_weights: Tensor | None = None

    def responsibilities(self, state: State, times: Times) -> Tensor:
        """p(example | noisy state) as [B, M]."""
        total: Tensor | float = 0.0 if self.log_weights is None else self.log_weights
        for name, process in self.processes.items():
            total = total + self._log_likelihood(
                process, state[name], self.data[name], times[name], state.mask
            )
        assert isinstance(total, Tensor)
        return total.softmax(-1)

    def _log_likelihood(
        self, process: Process, x: Tensor, data: Tensor, t: Tensor, mask: Tensor
    ) -> Tensor:
        weights = process.domain.weights(mask).to(torch.float64).unsqueeze(1)
        if isinstance(process, Categorical):
            matrix = process.cumulative(t.double())
            rows = torch.stack([_lookup(matrix, one, x) for one in data], 1)
            return (rows.clamp_min(1e-300).log() * weights).flatten(2).sum(-1)
        assert isinstance(process, Gaussian)
        alpha, sigma = (
            process.schedule.alpha(t.double()),
            process.schedule.sigma(t.double()).clamp_min(1e-12),
        )
        difference = (
            x.double().unsqueeze(1) - alpha.reshape(-1, 1, *([1] * (x.dim() - 1))) * data.double()
        )
        weights = weights.reshape(*weights.shape, *([1] * (difference.dim() - weights.dim())))
        squares = (weights * difference**2).flatten(2).sum(-1)
        return -0.5 * squares / sigma.unsqueeze(1) ** 2

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """The posterior mean of every field."""
        p = self.responsibilities(state, times)
        fields = {}
        for name, process in self.processes.items():
            data = self.data[name]
            if isinstance(process, Categorical):
                data = torch.nn.functional.one_hot(data, process.kernel.classes)
            mean = torch.einsum("bm,m...->b...", p, data.double())
            fields[name] = mean.to(
                state[name].dtype if state[name].is_floating_point() else torch.float64
            )
        return State(fields, state.mask)


def _lookup(matrix: Tensor, clean: Tensor, x: Tensor) -> Tensor:
    """q(x_t | x_0 = clean) per element: matrix [B, K, K], clean [...], x [B, ...] -> [B, ...]."""
    rows = matrix[:, clean]
    return rows.gather(-1, x.unsqueeze(-1)).squeeze(-1)
