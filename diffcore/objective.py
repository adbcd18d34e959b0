"""The training loss: one function for every domain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from diffcore import random
from diffcore.coupling import align_noise
from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.domains import Points
from diffcore.errors import ConfigError
from diffcore.processes import Gaussian, Process
from diffcore.schedules import log_snr
from diffcore.state import State, Times

SMALLEST_TIME = 1e-3

Term = Callable[[State, State, Times], Tensor]
"""Loss [B] of predicted clean states beside the true ones: what they mean, not a single field."""


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
        weights: factor of each field's loss, and of each further term's.
        weighting: ``uniform``; ``clipped_snr`` (SNR clipped to ``bounds``; EQGAT-diff); ``min_snr``
            (min(SNR, upper bound); Hang et al. 2023). Weights multiply the loss of x0.
        bounds: lower and upper bound of the weight.
        field_bounds: bounds of single fields, in place of ``bounds``.
        noise_loss: take continuous losses in the noise, |eps - eps_hat|^2 = SNR |x0 - x0_hat|^2;
            goes with ``uniform``.
        self_condition: share of batches trained with the network's own last prediction as input.
        independent: share of rows in which every field has its own time (a third of them clean):
            clamped fields.
        align: pair the noise of `Points` fields with the data by permutation and rotation.
        distort: standard deviation of extra noise put on half of the continuous inputs at times
            below ``distort_below``: inputs as imperfect as the sampler's own (FlowMol3).
        distort_below: see ``distort``.
        stages: groups of fields that are generated one after another: every row is at one stage,
            at which the fields before are clean, those after are noise, and neither counts.
        shares: of the rows at each stage; all the same by default.
        condition_drop: share of rows that see no condition (classifier-free guidance; Ho and
            Salimans 2021); the others see a random number of the condition's columns.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    weighting: str = "clipped_snr"
    bounds: tuple[float, float] = (0.05, 1.5)
    field_bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    noise_loss: bool = False
    self_condition: float = 0.5
    independent: float = 0.1
    align: bool = True
    distort: float = 0.0
    distort_below: float = 0.5
    stages: tuple[tuple[str, ...], ...] = ()
    shares: tuple[float, ...] = ()
    condition_drop: float = 0.0


def time_weight(objective: Objective, name: str, process: Process, t: Tensor) -> Tensor:
    """Weight [B] of a field's loss at times t [B].

    Raises:
        ConfigError: an unknown weighting.
    """
    low, high = objective.field_bounds.get(name, objective.bounds)
    snr = log_snr(process.schedule, t.clamp_min(SMALLEST_TIME)).exp()
    if objective.weighting == "uniform":
        weight = torch.ones_like(t)
    elif objective.weighting == "clipped_snr":
        weight = snr.clamp(low, high)
    elif objective.weighting == "min_snr":
        weight = snr.clamp_max(high)
    else:
        known = "uniform, clipped_snr, min_snr"
        raise ConfigError(f"unknown weighting {objective.weighting!r}; known: {known}")
    if objective.noise_loss and isinstance(process, Gaussian):
        weight = weight * snr
    return weight


def draw_times(
    names: list[str], rows: int, objective: Objective, rng: torch.Generator
) -> dict[str, Tensor]:
    """Times [rows] per field: stratified over the batch and shared, or independent in some rows."""
    device = rng.device
    u = torch.rand((rows, 2 + 2 * len(names)), generator=rng, device=device)
    spread = (torch.arange(rows, device=device) + u[:, 0]) / rows
    shared = spread[torch.randperm(rows, generator=rng, device=device)]
    own = u[:, 1] < objective.independent
    times = {}
    for k, name in enumerate(names):
        single = torch.where(u[:, 3 + 2 * k] < 1 / 3, torch.zeros_like(shared), u[:, 2 + 2 * k])
        times[name] = torch.where(own, single, shared.clamp_min(SMALLEST_TIME))
    return times


def staged(
    times: dict[str, Tensor], objective: Objective, rng: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Times of rows that are at one of the stages each, and which fields [B] count there.

    Raises:
        ConfigError: the stages are not the fields, each once, or have other shares than stages.
    """
    if not objective.stages:
        return times, {n: torch.ones_like(t) for n, t in times.items()}
    place = {n: k for k, stage in enumerate(objective.stages) for n in stage}
    if sorted(place) != sorted(times) or sum(map(len, objective.stages)) != len(place):
        raise ConfigError(f"stages: expected {', '.join(times)}, each once, got {objective.stages}")
    shares = objective.shares or (1.0,) * len(objective.stages)
    if len(shares) != len(objective.stages) or min(shares) < 0 or sum(shares) <= 0:
        raise ConfigError(f"shares: expected one of every stage, above 0, got {objective.shares}")
    rows = len(next(iter(times.values())))
    odds = torch.tensor(shares, dtype=torch.float32, device=rng.device)
    at = torch.multinomial(odds, rows, replacement=True, generator=rng)
    late = {n: (at < k).to(times[n].dtype) for n, k in place.items()}
    counts = {n: (at == k).to(times[n].dtype) for n, k in place.items()}
    return {n: torch.where(counts[n] > 0, t, late[n]) for n, t in times.items()}, counts


def corrupt(
    clean: State,
    times: Times,
    processes: Mapping[str, Process],
    objective: Objective,
    rng: torch.Generator,
) -> State:
    """The noisy state: every field at its own time; fields without a process as they are."""
    noisy = {name: x for name, x in clean.items() if name not in processes}
    for name, process in processes.items():
        x0, t = clean[name], times[name].to(clean.mask.device)
        if objective.align and isinstance(process, Gaussian) and isinstance(process.domain, Points):
            noise = process.domain.project(random.normal(rng, x0), clean.mask)
            paired = align_noise(noise, x0, clean.mask)
            x = process.mix(x0, paired, t)
        else:
            x = process.forward(x0, t, clean.mask, rng)
        if objective.distort and isinstance(process, Gaussian):
            late = (t < objective.distort_below) & (
                torch.rand(t.shape, generator=rng, device=t.device) < 0.5
            )
            extra = objective.distort * (late & (t > 0)).to(x.dtype).reshape(
                -1, *([1] * (x.dim() - 1))
            )
            x = process.domain.project(
                x + extra * process.domain.tie(random.normal(rng, x)), clean.mask
            )
        noisy[name] = x
    return State(noisy, clean.mask)


def drop_conditions(clean: State, names: list[str], share: float, rng: torch.Generator) -> State:
    """Hide conditions by NaN: all columns in a ``share`` of rows, a random number in the others.

    Args:
        clean: holds the conditions, floats [B, P] each.
        names: the conditions.
        share: of rows that keep nothing; the others keep 1 to P columns, each number as often.
        rng: one generator on the batch's device.
    """
    hidden = {}
    for name in names:
        x = clean[name]
        rows, columns = x.shape
        u = torch.rand((rows, columns + 2), generator=rng, device=x.device)
        rank = u[:, 2:].argsort(-1).argsort(-1)
        kept = (u[:, :1] >= share) & (rank < 1 + (u[:, 1:2] * columns).floor())
        hidden[name] = x.masked_fill(~kept, torch.nan)
    return clean.replace(**hidden)


def denoising_loss(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    clean: State,
    objective: Objective,
    rng: torch.Generator,
    context: Context | None = None,
    terms: Mapping[str, Term] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted loss of a clean batch, and each field's unweighted mean loss.

    Args:
        denoiser: ``(state, times, context) -> clean state``.
        processes: one per field; fields of ``clean`` without a process are conditions: the
            denoiser sees them as they are, or, if they are floats [B, P], hidden by NaN
            (``condition_drop``).
        clean: the data.
        objective: weights and switches.
        rng: one generator on the batch's device.
        context: what else the denoiser is told.
        terms: further losses by name; the same at all times.

    Returns:
        Scalar loss, and scalars by name of field and term.
    """
    device = clean.mask.device
    context = dict(context or {})
    conditions = [
        n for n, x in clean.items() if n not in processes and x.is_floating_point() and x.dim() == 2
    ]
    if objective.condition_drop and conditions:
        clean = drop_conditions(clean, conditions, objective.condition_drop, rng)
    times, counts = staged(draw_times(list(processes), clean.rows, objective, rng), objective, rng)
    times = {n: t.to(device) for n, t in times.items()}
    with torch.autocast(device.type, enabled=False):
        noisy = corrupt(clean, times, processes, objective, rng)
    previous = None
    if torch.rand((), generator=rng, device=device) < objective.self_condition:
        with torch.no_grad():
            previous = denoiser(noisy, times, {**context, PREVIOUS: None})
    predicted = denoiser(noisy, times, {**context, PREVIOUS: previous})
    total = torch.zeros((), device=device)
    parts = {}
    with torch.autocast(device.type, enabled=False):
        for name, process in processes.items():
            loss = process.loss(predicted[name], clean[name], clean.mask)
            weight = objective.weights.get(name, 1.0) * time_weight(
                objective, name, process, times[name]
            )
            active = counts[name].to(loss)
            total = total + (weight * loss * active).mean()
            parts[name] = (loss * active).detach().sum() / active.sum().clamp_min(1)
        for name, term in (terms or {}).items():
            loss = term(predicted, clean, times).mean()
            total = total + objective.weights.get(name, 1.0) * loss
            parts[name] = loss.detach()
    return total, parts
