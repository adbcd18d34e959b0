"""Sums of denoisers: products of densities (AND, NOT), mixtures (OR), experts by noise range.

A product of densities is a sum of scores. In the x0 convention with weights that sum to one it is
the same sum of predictions, because the score is affine in x0: score = (alpha x0 - x_t) / sigma^2.
Noise commutes with such products only approximately: at every noise level the score is that of
q_t(x|a)^w q_t(x)^(1-w), which is the noisy version of p(x|a)^w p(x)^(1-w) for Gaussians of one
covariance and close to it elsewhere (Du et al. 2023, section 3).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore.denoisers import Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.processes import Categorical, Process
from diffcore.schedules import log_snr
from diffcore.state import State, Times, expand

Scale = float | Mapping[str, float]
"""One number for all fields, or one per field; fields that are not named have 1."""

LogDensity = Callable[[State, Times], Tensor]
"""log q_t(x_t) [B] of a noisy state, up to a constant that is the same for all members."""


@dataclass(frozen=True)
class Range:
    """A range of noise, both ends included.

    Attributes:
        low: smallest noise coordinate.
        high: largest noise coordinate.
        unit: ``time`` (0 clean, 1 prior) or ``log_snr`` (log alpha^2 / sigma^2, falls with time).
        field: the field whose clock counts; by default the noisiest one of each row.
    """

    low: float = -math.inf
    high: float = math.inf
    unit: str = "time"
    field: str | None = None

    def __post_init__(self) -> None:
        """Check the unit and the order."""
        if self.unit not in ("time", "log_snr"):
            raise ConfigError(f"range: expected the unit time or log_snr, got {self.unit!r}")
        if not self.low <= self.high:
            raise ConfigError(f"range: expected low <= high, got {self.low} and {self.high}")

    def holds(self, processes: Mapping[str, Process], times: Times) -> Tensor:
        """Whether each row is inside, bool [B]."""
        at = noise_level(processes, times, self.unit, self.field)
        return (at >= self.low) & (at <= self.high)


EVERYWHERE = Range()


def noise_level(
    processes: Mapping[str, Process], times: Times, unit: str, field: str | None
) -> Tensor:
    """The noise coordinate [B] of a field, or of the noisiest field: latest time, lowest log-SNR.

    Raises:
        ConfigError: there is no such field.
    """
    if field is not None and field not in processes:
        raise ConfigError(f"range: expected a field of {', '.join(processes)}, got {field!r}")
    names = list(processes) if field is None else [field]
    if unit == "time":
        return torch.stack([times[n] for n in names]).amax(0)
    return torch.stack([log_snr(processes[n].schedule, times[n]) for n in names]).amin(0)


def scale_of(scale: Scale, name: str) -> float:
    """The number that holds for a field."""
    return scale.get(name, 1.0) if isinstance(scale, Mapping) else scale


def check_scale(what: str, scale: Scale, processes: Mapping[str, Process]) -> None:
    """Refuse numbers that are not finite and fields that do not exist.

    Raises:
        ConfigError: so it is.
    """
    numbers = scale if isinstance(scale, Mapping) else {"": scale}
    for name, value in numbers.items():
        if isinstance(scale, Mapping) and name not in processes:
            raise ConfigError(f"{what}: expected fields of {', '.join(processes)}, got {name!r}")
        if not math.isfinite(value):
            raise ConfigError(f"{what}: expected a finite number, got {value}")


def on_domain(process: Process, clean: Tensor, mask: Tensor) -> Tensor:
    """A prediction put back on its domain: centred, symmetric, probabilities that sum to one."""
    if not isinstance(process, Categorical):
        return process.domain.project(clean, mask)
    projected = process.domain.project(clean, mask)
    total = projected.sum(-1, keepdim=True)
    safe = total.clamp_min(torch.finfo(clean.dtype).tiny)
    return torch.where(total > 0, projected / safe, clean)


def _geometric(parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Product of probabilities [..., K] to their powers, renormalised.

    A class that a part with a positive power rules out stays ruled out, unless no class is left.
    """
    tiny = torch.finfo(parts[0][0].dtype).tiny
    total = torch.stack([w * p.clamp_min(tiny).log() for p, w in parts if w]).sum(0)
    ruled_out = torch.stack([p <= 0 for p, w in parts if w > 0]).any(0)
    some_left = ~ruled_out.all(-1, keepdim=True)
    return total.masked_fill(ruled_out & some_left, -torch.inf).softmax(-1)


def weighted(parts: Sequence[tuple[State, Scale]], processes: Mapping[str, Process]) -> State:
    """The x0 prediction of the product of densities to the powers ``parts``, which sum to one.

    Continuous fields [B, ...]: sum of w x0. Categorical ones [B, ..., K]: softmax of the sum of
    w log p. Other fields are those of the first part.
    """
    first = parts[0][0]
    fields = {}
    for name, process in processes.items():
        terms = [(clean[name], scale_of(w, name)) for clean, w in parts]
        if isinstance(process, Categorical):
            mixed = _geometric(terms)
        else:
            mixed = torch.stack([w * x for x, w in terms if w]).sum(0)
        fields[name] = on_domain(process, mixed, first.mask)
    return first.replace(**fields)


def choose(inside: Tensor, one: State, other: State) -> State:
    """Row by row the first state where ``inside`` [B], the second elsewhere."""
    fields = {n: torch.where(expand(inside, x), x, other[n]) for n, x in one.items()}
    return State(fields, one.mask)


def conjunction(
    base: Denoiser,
    conditions: Sequence[tuple[Denoiser, Scale]],
    processes: Mapping[str, Process],
    *,
    within: Range = EVERYWHERE,
) -> Denoiser:
    """All conditions at once (Liu et al. 2022, Composable Diffusion, eq. 11 and 12).

    The density is p(x) prod_i (p(x|c_i) / p(x))^w_i, so that x0 = u + sum_i w_i (c_i - u); a
    negative weight moves away from a condition (`negation`). Outside ``within`` it is the base.

    Args:
        base: unconditional.
        conditions: conditional denoisers (see `conditioned`) and their weights.
        processes: one per field.
        within: the noise range in which conditions act; no condition is evaluated elsewhere.

    Raises:
        ConfigError: no condition, or a weight that is not a finite number or of no field.
    """
    if not conditions:
        raise ConfigError("conjunction: expected at least one condition, got none")
    for _, weight in conditions:
        check_scale("conjunction", weight, processes)
    rest = {n: 1.0 - sum(scale_of(w, n) for _, w in conditions) for n in processes}

    def wrapped(state: State, times: Times, context: Context) -> State:
        inside = within.holds(processes, times)
        plain = base(state, times, context)
        if not bool(inside.any()):
            return plain
        parts: list[tuple[State, Scale]] = [(plain, rest)]
        parts += [(denoiser(state, times, context), weight) for denoiser, weight in conditions]
        return choose(inside, weighted(parts, processes), plain)

    return wrapped


def negation(
    base: Denoiser,
    condition: Denoiser,
    processes: Mapping[str, Process],
    weight: float = 1.0,
    *,
    within: Range = EVERYWHERE,
) -> Denoiser:
    """Away from a condition: p(x) (p(x) / p(x|c))^w (Liu et al. 2022, eq. 13).

    Raises:
        ConfigError: a weight that is not above zero.
    """
    if not weight > 0:
        raise ConfigError(f"negation: expected a weight above 0, got {weight}")
    return conjunction(base, [(condition, -weight)], processes, within=within)


def disjunction(
    members: Sequence[tuple[Denoiser, LogDensity]], processes: Mapping[str, Process]
) -> Denoiser:
    """Any of the members (OR): the mixture sum_i pi_i p_i, exact where the densities are.

    The posterior mean of a mixture is sum_i r_i x0_i with r_i ~ pi_i q_i(x_t) (Du et al. 2023,
    section 3.1). A denoiser does not know its density, so that each comes with
    log(pi_i q_i(x_t)) [B] up to a common constant.

    Raises:
        ConfigError: no members.
    """
    if not members:
        raise ConfigError("disjunction: expected at least one member, got none")

    def wrapped(state: State, times: Times, context: Context) -> State:
        shares = torch.stack([log_q(state, times) for _, log_q in members]).softmax(0)
        cleans = [denoiser(state, times, context) for denoiser, _ in members]
        fields = {}
        for name, process in processes.items():
            terms = [
                expand(r, c[name]).to(c[name].dtype) * c[name]
                for r, c in zip(shares, cleans, strict=True)
            ]
            fields[name] = on_domain(process, torch.stack(terms).sum(0), state.mask)
        return cleans[0].replace(**fields)

    return wrapped
