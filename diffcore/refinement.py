"""Steering by values of an energy: every class tried in its place, or descent on the prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.composition import EVERYWHERE, Range, Scale, choose, on_domain, scale_of
from diffcore.denoisers import Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.guidance import Energy, gain, gradients, on_metric, steered_fields, tilt
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.state import State, Times, expand


def enumerated(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    energy: Energy,
    scale: Scale = 1.0,
    *,
    fields: Sequence[str] | None = None,
    others: str = "mean",
    within: Range = EVERYWHERE,
    chunk: int = 1024,
) -> Denoiser:
    """Tilt classes by the energy of every single change: p_i(k) exp(-s E(x0 with x0_i = k)).

    The energy need not be differentiable. Bayes' rule, exactly, for one element, and for several
    that are independent given x_t if the energy is a sum over them. It costs elements times
    classes evaluations of the energy for every row and step.

    Args:
        denoiser: to be guided.
        processes: one per field.
        energy: ``(state, times) -> [B]`` of clean states; categorical fields are probabilities
            [B, ..., K], one-hot in the element that is tried. +inf or NaN forbids a class, unless
            all are forbidden.
        scale: s, for all fields or per field.
        fields: categorical fields to be steered; all of them by default.
        others: the other elements as predicted (``mean``) or as their most likely class (``mode``).
        within: the noise range in which the energy is evaluated.
        chunk: largest number of rows of one call of the energy.

    Raises:
        ConfigError: an option outside what is allowed, or an energy that is no number per row.
    """
    discrete = [n for n, p in processes.items() if isinstance(p, Categorical)]
    names = steered_fields("enumerated", processes, discrete if fields is None else fields, scale)
    if set(names) - set(discrete):
        raise ConfigError(f"enumerated: expected categorical fields, got {names}")
    if others not in ("mean", "mode") or chunk < 1:
        raise ConfigError(f"enumerated: expected others = mean or mode, and chunk >= 1, got "
                          f"{others!r} and {chunk}")  # fmt: skip

    def wrapped(state: State, times: Times, context: Context) -> State:
        clean = denoiser(state, times, context)
        inside = within.holds(processes, times)
        if not bool(inside.any()):
            return clean
        base = clean
        if others == "mode":
            modes = {n: F.one_hot(clean[n].argmax(-1), clean[n].shape[-1]) for n in discrete}
            base = clean.replace(**{n: x.to(clean[n].dtype) for n, x in modes.items()})
        moved = {}
        for name in (n for n in names if scale_of(scale, n)):
            table = single_changes(energy, base, times, name, processes[name], chunk)
            tilted = tilt(clean[name], scale_of(scale, name) * table)
            moved[name] = on_domain(processes[name], tilted, state.mask)
        return choose(inside, clean.replace(**moved), clean)

    return wrapped


def single_changes(
    energy: Energy, base: State, times: Times, name: str, process: Process, chunk: int
) -> Tensor:
    """Energies [B, ..., K] of ``base`` with one element of a field set to one class.

    Symmetric pairs change together. Elements that do not exist have 0; NaN becomes +inf.
    """
    p = base[name]
    rows, shape, classes = p.shape[0], p.shape[1:-1], p.shape[-1]
    index = torch.arange(shape.numel(), device=p.device).reshape(1, *shape)
    real = process.domain.weights(base.mask).expand(p.shape[:-1]) > 0
    single = (process.domain.tie(index) == index) & real.any(0, keepdim=True)
    candidates = torch.cartesian_prod(
        single.flatten().nonzero()[:, 0], torch.arange(classes).to(p.device)
    )
    table = torch.zeros(rows, shape.numel(), classes, dtype=p.dtype, device=p.device)
    for block in candidates.split(max(1, chunk // rows)):
        copies = torch.arange(rows, device=p.device).repeat_interleave(len(block))
        site, to = block.repeat(rows, 1).unbind(1)
        many = base.take(copies)
        changed = many[name].reshape(len(copies), -1, classes).clone()
        changed[torch.arange(len(copies), device=p.device), site] = F.one_hot(to, classes).to(
            p.dtype
        )
        changed = process.domain.tie(changed.reshape(len(copies), *shape, classes))
        with torch.no_grad():
            value = energy(
                many.replace(**{name: changed}), {n: t[copies] for n, t in times.items()}
            )
        if value.shape != (len(copies),):
            found = tuple(value.shape)
            raise ConfigError(f"energy: expected {len(copies)} values, got shape {found}")
        table[copies, site, to] = value.to(p.dtype).nan_to_num(torch.inf, torch.inf, -torch.inf)
    table = process.domain.tie(table.reshape(p.shape))
    return torch.where(real.unsqueeze(-1), table, torch.zeros_like(table))


@dataclass(frozen=True)
class _Descent:
    """The problem that `refined` solves at one step: s E(x) + distance(x, prediction)."""

    energy: Energy
    scale: float
    processes: Mapping[str, Process]
    anchor: State
    times: Times
    variance: Mapping[str, Tensor]

    def value(self, x: Mapping[str, Tensor]) -> Tensor:
        """The objective [B]."""
        with torch.no_grad():
            energy = self.scale * self.energy(self.anchor.replace(**x), self.times)
        return energy + self.distance(x, {n: self.anchor[n] for n in x})

    def distance(self, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Tensor:
        """|x - y|^2 / (2 r^2) + KL(p | q) over independent elements, [B]."""
        parts = []
        for name, x in one.items():
            process, y = self.processes[name], other[name]
            weights = process.domain.weights(self.anchor.mask).to(x.dtype)
            weights = weights.reshape(*weights.shape, *([1] * (x.dim() - weights.dim())))
            if isinstance(process, Gaussian):
                var = self.variance[name].clamp_min(torch.finfo(x.dtype).tiny)
                part = (x - y) ** 2 * expand(0.5 / var, x).to(x.dtype)
            else:
                part = torch.xlogy(x, x) - torch.xlogy(x, y)
            parts.append((weights * torch.where(weights > 0, part, 0)).flatten(1).sum(1))
        return torch.stack(parts).sum(0)

    def move(self, x: Mapping[str, Tensor], rate: Tensor) -> dict[str, Tensor]:
        """One step of gradient descent; in the logarithm for probabilities."""
        found = gradients(self.energy, self.anchor.replace(**x), self.times, list(x))
        moved = {}
        for name, now in x.items():
            process, was = self.processes[name], self.anchor[name]
            g = self.scale * on_metric(process, found[name], self.anchor.mask)
            r = expand(rate, now).to(now.dtype)
            if isinstance(process, Gaussian):
                pull = expand(self.variance[name], now).to(now.dtype) * g
                new = now - r * (pull + now - was)
            else:
                new = tilt(_power(now, 1 - r) * _power(was, r), r * g)
            moved[name] = on_domain(process, new, self.anchor.mask)
        return moved


def _power(p: Tensor, exponent: Tensor) -> Tensor:
    tiny = torch.finfo(p.dtype).tiny
    return torch.where(p > 0, p.clamp_min(tiny) ** exponent, torch.zeros_like(p))


def refined(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    loss: Energy,
    scale: float = 1.0,
    *,
    steps: int = 10,
    fields: Sequence[str] | None = None,
    within: Range = EVERYWHERE,
    spread: Scale = 1.0,
) -> Denoiser:
    """Refine every prediction against a loss on x0 (Steered Diffusion, Nair et al. 2023).

    Minimises s L(x) + |x - x0_hat|^2 / (2 r^2) + KL(p | p_hat) by gradient descent from the
    prediction, with r^2 as in `energy_guided`: the most likely clean state if x0 given x_t were
    Gaussian around the prediction with variance r^2. For a quadratic loss that is its mean, so that
    the sampled density is the exact posterior for Gaussian data of standard deviation ``spread``.
    Every row halves its rate where a step would raise the objective, so that it never rises.

    Args:
        denoiser: to be steered.
        processes: one per field.
        loss: differentiable in the fields, ``(state, times) -> [B]``.
        scale: s.
        steps: gradient steps on every prediction; each costs two evaluations of the loss.
        fields: which are steered; all of them by default.
        within: the noise range in which the loss is evaluated.
        spread: standard deviation of clean data, for all fields or per field.

    Raises:
        ConfigError: an option outside what is allowed, or a loss that is no number per row.
    """
    names = steered_fields("refined", processes, fields, scale)
    if steps < 1:
        raise ConfigError(f"refined: expected at least 1 step, got {steps}")

    def wrapped(state: State, times: Times, context: Context) -> State:
        clean = denoiser(state, times, context)
        inside = within.holds(processes, times)
        if not bool(inside.any()):
            return clean
        variance = {
            n: gain(processes[n], times[n], scale_of(spread, n), "x0")
            for n in names
            if isinstance(processes[n], Gaussian)
        }
        problem = _Descent(loss, scale, processes, clean, times, variance)
        return choose(inside, clean.replace(**_descend(problem, names, steps)), clean)

    return wrapped


def _descend(problem: _Descent, names: Sequence[str], steps: int) -> dict[str, Tensor]:
    """The fields after some steps, none of which raised the objective of its row.

    The rate is halved unless the objective falls by distance(x, x') / rate, as it does for rates
    below the inverse curvature (mirror descent under relative smoothness; Lu et al. 2018).
    """
    x = {n: problem.anchor[n] for n in names}
    best = problem.value(x)
    rate = torch.ones_like(best)
    for _ in range(steps):
        moved = problem.move(x, rate)
        value = problem.value(moved)
        enough = value <= best - problem.distance(x, moved) / rate
        better = value <= best
        x = {n: torch.where(expand(better, now), moved[n], now) for n, now in x.items()}
        best = torch.where(better, value, best)
        rate = torch.where(enough, rate, 0.5 * rate)
    return x
