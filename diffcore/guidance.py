"""Guidance: wrappers that turn a denoiser into one of a tilted or conditional density.

Energies are functions ``(state, times) -> [B]``; the guided density is p(x) exp(-scale E(x)). A
clean state handed to an energy holds means and class probabilities, a noisy one means and indices.
Gradients work under `torch.inference_mode`: what enters autograd is copied out of it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from diffcore.composition import (
    EVERYWHERE,
    Range,
    Scale,
    check_scale,
    choose,
    on_domain,
    scale_of,
    weighted,
)
from diffcore.denoisers import Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.state import State, Times, expand

Energy = Callable[[State, Times], Tensor]
"""Energy [B] of a state; lower is more likely, +inf is forbidden."""


def conditioned(denoiser: Denoiser, **fields: Tensor) -> Denoiser:
    """Tell a denoiser fields that are no part of the process: labels, properties.

    Args:
        denoiser: reads the fields from its state.
        fields: values [B, ...], or [1, ...] for all rows; NaN is what a network knows as "not
            given".
    """

    def wrapped(state: State, times: Times, context: Context) -> State:
        given = {n: _for_rows(n, v, state) for n, v in fields.items()}
        return denoiser(state.replace(**given), times, context)

    return wrapped


def _for_rows(name: str, value: Tensor, state: State) -> Tensor:
    if value.dim() < 1 or value.shape[0] not in (1, state.rows):
        found = tuple(value.shape)
        raise ConfigError(f"condition {name!r}: expected 1 or {state.rows} rows, got {found}")
    return value.to(state.mask.device).expand(state.rows, *value.shape[1:])


def classifier_free(
    conditional: Denoiser,
    unconditional: Denoiser,
    processes: Mapping[str, Process],
    scale: Scale = 1.0,
    interval: Range | tuple[float, float] = (0.0, 1.0),
) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2021): the density p(x|c)^s p(x)^(1-s).

    x0 = u + s (c - u), which is the same combination of noises (eq. 6, with s = 1 + w): s = 0 is
    unconditional, 1 conditional, above 1 exaggerates. Class probabilities are combined as
    logarithms and renormalised.

    Args:
        conditional: told the condition.
        unconditional: not told it.
        processes: one per field.
        scale: s, for all fields or per field.
        interval: times, or a `Range`, in which it acts; elsewhere the conditional denoiser alone is
            evaluated (Kynkaanniemi et al. 2024). One denoiser is evaluated where s is 0 or 1.

    Raises:
        ConfigError: a scale that is not a finite number or of no field.
    """
    check_scale("classifier_free", scale, processes)
    within = interval if isinstance(interval, Range) else Range(*interval)
    rest = {n: 1.0 - scale_of(scale, n) for n in processes}
    off = all(r == 1.0 for r in rest.values())

    def wrapped(state: State, times: Times, context: Context) -> State:
        inside = within.holds(processes, times)
        if off and bool(inside.all()):
            return unconditional(state, times, context)
        told = conditional(state, times, context)
        if not any(rest.values()) or not bool(inside.any()):
            return told
        untold = unconditional(state, times, context)
        return choose(inside, weighted([(told, scale), (untold, rest)], processes), told)

    return wrapped


def energy_guided(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    energy: Energy,
    scale: Scale = 1.0,
    *,
    on: str = "x0",
    fields: Sequence[str] | None = None,
    within: Range = EVERYWHERE,
    spread: Scale = 1.0,
    limit: float | None = None,
) -> Denoiser:
    """Follow the gradient of an energy; the density becomes p(x) exp(-scale E(x)).

    A continuous prediction is shifted by Tweedie's formula, x0 -= s (sigma^2 / alpha) dE/dx_t:

    - ``on="xt"``: E is the energy of the noisy state at its time, as a classifier trained on noise
      gives it (Dhariwal and Nichol 2021). Exact if E_t(x_t) = -log E[exp(-E(x0)) | x_t] is.
    - ``on="denoiser"``: E is taken at the prediction and its gradient through the network (Chung et
      al. 2023, DPS). Costs a backward pass.
    - ``on="x0"``: the gradient at the prediction itself; in place of the network's Jacobian stands
      that of Gaussian data with standard deviation ``spread``, so that the shift is
      s r^2 dE/dx0 with r^2 = spread^2 sigma^2 / (spread^2 alpha^2 + sigma^2) (Song et al. 2023,
      PiGDM). Exact for such data and linear energies; the cheapest.

    A categorical prediction is tilted to first order, log p(k) -= s dE/dp(k), at the prediction
    (``x0`` and ``denoiser``); see `enumerated` for the exact tilt.

    Args:
        denoiser: to be guided.
        processes: one per field.
        energy: differentiable in the fields, ``(state, times) -> [B]``.
        scale: s, for all fields or per field.
        on: ``x0``, ``denoiser`` or ``xt``.
        fields: which are steered; all of them by default (with ``xt`` all continuous ones).
        within: the noise range in which the energy is evaluated.
        spread: standard deviation of clean data, for all fields or per field; for ``x0``.
        limit: largest root-mean-square shift of a continuous field, in its own units.

    Rows whose gradient is not finite are left as they are. Near the prior sigma^2 / alpha is large
    (10^4 at time 1): with ``denoiser`` and ``xt`` leave the first steps out (``within``), or set a
    ``limit``, unless the gradient falls with alpha as an exact one does.

    Raises:
        ConfigError: an option outside what is allowed, or an energy that is no number per row.
    """
    names = steered_fields("energy_guided", processes, fields, scale, on)

    def wrapped(state: State, times: Times, context: Context) -> State:
        inside = within.holds(processes, times)
        if not bool(inside.any()):
            return denoiser(state, times, context)
        if on == "denoiser":
            clean, found = _through(denoiser, processes, energy, state, times, context, names)
        else:
            clean = denoiser(state, times, context)
            found = gradients(energy, state if on == "xt" else clean, times, names)
        moved = {}
        for name in names:
            process, s = processes[name], scale_of(scale, name)
            g = s * on_metric(process, found[name], state.mask)
            if isinstance(process, Categorical):
                moved[name] = tilt(clean[name], g)
                continue
            shift = (
                expand(gain(process, times[name], scale_of(spread, name), on), g).to(g.dtype) * g
            )
            moved[name] = clean[name] - _limited(process, shift, state.mask, limit)
        moved = {n: on_domain(processes[n], x, state.mask) for n, x in moved.items()}
        return choose(inside, clean.replace(**moved), clean)

    return wrapped


def steered_fields(
    what: str,
    processes: Mapping[str, Process],
    fields: Sequence[str] | None,
    scale: Scale,
    on: str = "x0",
) -> list[str]:
    """The checked names of the fields to be steered."""
    check_scale(what, scale, processes)
    if on not in ("x0", "denoiser", "xt"):
        raise ConfigError(f"{what}: expected on = x0, denoiser or xt, got {on!r}")
    allowed = [n for n, p in processes.items() if on != "xt" or isinstance(p, Gaussian)]
    names = allowed if fields is None else list(fields)
    if not names or set(names) - set(allowed):
        raise ConfigError(f"{what}: expected fields of {', '.join(allowed)}, got {names}")
    return names


def gain(process: Process, t: Tensor, spread: float, on: str) -> Tensor:
    """What a gradient [B, ...] of the energy is multiplied with, [B]; see `energy_guided`."""
    alpha, var = process.schedule.alpha(t), process.schedule.sigma(t) ** 2
    if on == "x0":
        return spread**2 * var / (spread**2 * alpha**2 + var)
    return var / alpha


def _limited(process: Process, shift: Tensor, mask: Tensor, limit: float | None) -> Tensor:
    """The shift, shortened to a root mean square of ``limit`` per degree of freedom."""
    if limit is None:
        return shift
    dof = process.domain.degrees(mask).clamp_min(1).to(shift.dtype)
    size = shift.flatten(1).norm(dim=1) / dof.sqrt()
    return shift * expand((limit / size.clamp_min(1e-30)).clamp_max(1), shift)


def tilt(p: Tensor, energy: Tensor) -> Tensor:
    """Probabilities [..., K] times exp(-energy), renormalised; zeros stay zero.

    Where no class is left the probabilities stay as they are.
    """
    lowest = energy.masked_fill(p <= 0, torch.inf).amin(-1, keepdim=True)
    change = torch.where(energy == torch.inf, torch.inf, energy - lowest)
    tilted = p * torch.exp(-change.clamp_min(0)).to(p.dtype)
    total = tilted.sum(-1, keepdim=True)
    return torch.where(total > 0, tilted / total.clamp_min(torch.finfo(p.dtype).tiny), p)


def on_metric(process: Process, gradient: Tensor, mask: Tensor) -> Tensor:
    """The gradient along the domain's independent elements: both directions of a pair add up.

    Rows that are not finite become zero.
    """
    finite = gradient.flatten(1).isfinite().all(1)
    gradient = torch.where(expand(finite, gradient), gradient, torch.zeros_like(gradient))
    weights = process.domain.weights(mask).to(gradient.dtype)
    weights = weights.reshape(*weights.shape, *([1] * (gradient.dim() - weights.dim())))
    projected = process.domain.project(gradient, mask)
    return torch.where(weights > 0, projected / weights.clamp_min(0.5), torch.zeros_like(projected))


def _ordinary(value: Any) -> Any:
    """The same value with every inference tensor copied: those cannot enter autograd."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, State):
        return State({n: _ordinary(x) for n, x in value.items()}, _ordinary(value.mask))
    if isinstance(value, Mapping):
        return {n: _ordinary(x) for n, x in value.items()}
    return value


def _derivatives(value: Tensor, wrt: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    if value.shape != (rows,):
        found = tuple(value.shape)
        raise ConfigError(f"energy: expected one value for each of {rows} rows, got shape {found}")
    if not value.requires_grad:
        raise ConfigError("energy: expected a function that can be differentiated, got a constant")
    slopes = torch.autograd.grad(value.sum(), list(wrt.values()), allow_unused=True)
    return {
        n: torch.zeros_like(x) if g is None else g
        for (n, x), g in zip(wrt.items(), slopes, strict=True)
    }


def gradients(
    energy: Energy, state: State, times: Times, names: Sequence[str]
) -> dict[str, Tensor]:
    """Gradient of every row's energy with respect to the named fields, in any autograd mode.

    Raises:
        ConfigError: the energy is no number per row, or a constant.
    """
    with torch.inference_mode(False), torch.enable_grad():
        state, times = _ordinary(state), _ordinary(times)
        leaves = {n: state[n].detach().requires_grad_() for n in names}
        return _derivatives(energy(state.replace(**leaves), times), leaves, state.rows)


def _through(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    energy: Energy,
    state: State,
    times: Times,
    context: Context,
    names: Sequence[str],
) -> tuple[State, dict[str, Tensor]]:
    """The prediction, and dE/dx_t of continuous fields, dE/dp of categorical ones."""
    with torch.inference_mode(False), torch.enable_grad():
        state, times, context = _ordinary(state), _ordinary(times), _ordinary(context)
        moving = [n for n in names if isinstance(processes[n], Gaussian)]
        leaves = {n: state[n].detach().requires_grad_() for n in moving}
        clean = denoiser(state.replace(**leaves), times, context)
        fixed = [n for n in names if n not in leaves and not clean[n].requires_grad]
        clean = clean.replace(**{n: clean[n].detach().requires_grad_() for n in fixed})
        wrt = {n: leaves.get(n, clean[n]) for n in names}
        found = _derivatives(energy(clean, times), wrt, state.rows)
        return State({n: x.detach() for n, x in clean.items()}, clean.mask), found
