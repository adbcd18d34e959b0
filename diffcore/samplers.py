"""Samplers: functions of a denoiser, processes, a state, a time grid and explicit generators.

A solver is a rule for continuous fields and a rule for categorical ones. Rules are stateless; what
a multistep method remembers is the `Memory`, an explicit value that a search can copy or resample
with the particles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore import random
from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.random import Rng
from diffcore.schedules import FlowTime, half_log_snr
from diffcore.state import State, Times, expand


@dataclass(frozen=True)
class Memory:
    """The last prediction and its times: all that self-conditioning and multistep solvers need."""

    clean: State
    times: Times

    def take(self, index: Tensor) -> "Memory":
        """The rows ``index`` [M]: resample it together with the state."""
        return Memory(self.clean.take(index), {n: t[index] for n, t in self.times.items()})


@dataclass(frozen=True)
class Interval:
    """One field's view of a step from time ``t`` down to ``s`` ([B] each), 0 < s < t <= 1."""

    x: Tensor
    clean: Tensor
    t: Tensor
    s: Tensor
    mask: Tensor
    before: tuple[Tensor, Tensor] | None
    """Prediction and time [B] of the step before, or None."""


Rule = Callable[[Process, Interval, Rng], Tensor]


def ancestral(process: Process, at: Interval, rng: Rng) -> Tensor:
    """A draw from p(x_s | x_t, x0_hat): DDPM for continuous fields, D3PM for categorical ones."""
    return process.reverse(at.x, at.clean, at.t, at.s, at.mask, rng)


def ddim(process: Process, at: Interval, rng: Rng) -> Tensor:
    """Song et al. 2021 with eta = 0: keep the noise that the prediction implies."""
    alpha_t, alpha_s = process.schedule.alpha(at.t), process.schedule.alpha(at.s)
    ratio = process.schedule.sigma(at.s) / process.schedule.sigma(at.t)
    return expand(ratio, at.x) * at.x + expand(alpha_s - ratio * alpha_t, at.x) * at.clean


def dpmpp_2m(process: Process, at: Interval, rng: Rng) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, alg. 2): DDIM, the prediction extrapolated in log-SNR."""
    if at.before is None:
        return ddim(process, at, rng)
    clean_before, t_before = at.before
    now = half_log_snr(process.schedule, at.t)
    step = half_log_snr(process.schedule, at.s) - now
    step_before = now - half_log_snr(process.schedule, t_before)
    weight = expand(
        torch.where(step_before > 0, 0.5 * step / step_before, torch.zeros_like(step)), at.x
    )
    clean = at.clean + weight * (at.clean - clean_before)
    return ddim(process, Interval(at.x, clean, at.t, at.s, at.mask, None), rng)


def flow_euler(process: Process, at: Interval, rng: Rng) -> Tensor:
    """Euler step of the flow ODE dx/dt = (x_t - x0_hat) / t (Lipman et al. 2023)."""
    if not isinstance(process.schedule, FlowTime):
        raise ConfigError(
            f"flow_euler needs a FlowTime schedule, got {type(process.schedule).__name__}"
        )
    velocity = (at.x - at.clean) / expand(at.t, at.x)
    return at.x + expand(at.s - at.t, at.x) * velocity


def renoise(process: Process, at: Interval, rng: Rng) -> Tensor:
    """A draw of x0 from the prediction, corrupted anew to s: p(x_s) = sum_k x0_hat(k) Q_s(k, x_s).

    Forgets which classes x_t had, where `ancestral` tends to keep them: a wrong class does not lock
    in. Exact for a single element; several are drawn independently of each other.
    """
    assert isinstance(process, Categorical)
    flat = at.clean.reshape(at.clean.shape[0], -1, at.clean.shape[-1])
    p = torch.einsum("bmk,bkj->bmj", flat, process.cumulative(at.s).to(flat.dtype))
    p = p.reshape(at.clean.shape)
    u = process.domain.tie(random.uniform(rng, p[..., 0]))
    return process.domain.project(random.categorical(p, u), at.mask)


def tau_leaping(process: Process, at: Interval, rng: Rng) -> Tensor:
    """Jumps of the reverse-time Markov chain (Campbell et al. 2022), at most one an element."""
    assert isinstance(process, Categorical)
    rates = process.jump_rates(at.x, at.clean, at.t, at.s)
    total = rates.sum(-1, keepdim=True)
    moved = -torch.expm1(-total)
    stay = F.one_hot(at.x, rates.shape[-1]).to(rates.dtype) * (1 - moved)
    p = stay + moved * rates / total.clamp_min(torch.finfo(rates.dtype).tiny)
    u = process.domain.tie(random.uniform(rng, p[..., 0]))
    return process.domain.project(random.categorical(p, u), at.mask)


def masked_decoding(process: Process, at: Interval, rng: Rng) -> Tensor:
    """Unmask the most confident elements first (Chang et al. 2022, MaskGIT).

    The number of elements still masked after the step is what the kernel expects at ``s``, rounded
    down. Elements that carry a class keep it: made for absorbing kernels.

    Raises:
        ConfigError: the kernel has no mask class.
    """
    assert isinstance(process, Categorical)
    kernel, domain = process.kernel, process.domain
    if kernel.mask_class is None:
        raise ConfigError("masked_decoding needs a kernel with a mask class")
    shown = torch.arange(kernel.classes, device=at.x.device) != kernel.mask_class
    clean = at.clean * shown
    drawn = random.categorical(clean, domain.tie(random.uniform(rng, clean[..., 0])))
    confidence = clean.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    weights = domain.weights(at.mask).expand(at.x.shape)
    index = torch.arange(at.x[0].numel(), device=at.x.device).reshape(1, *at.x.shape[1:])
    one_of_tied = domain.tie(index) == index
    masked = (at.x == kernel.mask_class) & (weights > 0) & one_of_tied
    expected = (1 - process.schedule.keep(at.s) ** kernel.masking) * weights.flatten(1).sum(1)
    remain = (expected + 1e-4).floor().unsqueeze(1)
    ranked = torch.where(masked, confidence, torch.inf).flatten(1)
    rank = ranked.argsort(dim=1, stable=True).argsort(dim=1)
    reveal = masked & (rank >= remain).reshape(at.x.shape)
    return domain.project(torch.where(reveal, drawn, at.x), at.mask)


def left_to_right(process: Process, at: Interval, rng: Rng) -> Tensor:
    """Draw the masked elements in order: a causal network as a denoiser, one element a step.

    After the step the first (1 - s) (N + 1) of N elements carry a class; those that carry one keep
    it. A grid of N + 1 even steps draws one at a time and none with the last prediction: exact for
    a network that sees what comes before.

    Raises:
        ConfigError: the kernel has no mask class.
    """
    assert isinstance(process, Categorical)
    kernel, domain = process.kernel, process.domain
    if kernel.mask_class is None:
        raise ConfigError("left_to_right needs a kernel with a mask class")
    shown = torch.arange(kernel.classes, device=at.x.device) != kernel.mask_class
    drawn = random.categorical(at.clean * shown, domain.tie(random.uniform(rng, at.clean[..., 0])))
    elements = at.x[0].numel()
    index = torch.arange(elements, device=at.x.device).reshape(1, *at.x.shape[1:])
    reach = expand(1 - at.s, at.x) * (elements + 1) + 1e-3
    reveal = (at.x == kernel.mask_class) & (domain.tie(index) + 1 <= reach)
    return domain.project(torch.where(reveal, drawn, at.x), at.mask)


@dataclass(frozen=True)
class Solver:
    """A rule for each kind of field; ``corrector`` evaluates twice a step and averages (Heun)."""

    continuous: Rule
    categorical: Rule = ancestral
    corrector: bool = False

    def rule(self, process: Process) -> Rule:
        """The rule for a field of this process."""
        return self.continuous if isinstance(process, Gaussian) else self.categorical


SOLVERS: Mapping[str, Solver] = {
    "ancestral": Solver(ancestral),
    "ddim": Solver(ddim),
    "dpmpp_2m": Solver(dpmpp_2m),
    "heun": Solver(ddim, corrector=True),
    "flow_euler": Solver(flow_euler),
    "renoise": Solver(ddim, renoise),
    "tau_leaping": Solver(ddim, tau_leaping),
    "masked": Solver(ddim, masked_decoding),
    "left_to_right": Solver(ddim, left_to_right),
}
"""Every solver by name. ``heun`` averages the predictions of both ends, in exponential form."""


def solver(name: str) -> Solver:
    """Look a solver up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in SOLVERS:
        raise ConfigError(f"unknown sampler {name!r}; known: {', '.join(SOLVERS)}")
    return SOLVERS[name]


def prior(processes: Mapping[str, Process], mask: Tensor, rng: Rng) -> State:
    """A state drawn from the priors of all fields, for a node mask [B, N]."""
    return State({name: process.prior(mask, rng) for name, process in processes.items()}, mask)


def _advance(
    processes: Mapping[str, Process],
    method: Solver,
    state: State,
    clean: State,
    times: tuple[Times, Times],
    memory: Memory | None,
    rng: Rng,
) -> State:
    t, s = times
    moved = {}
    for name, process in processes.items():
        before = None if memory is None else (memory.clean[name], memory.times[name])
        at = Interval(state[name], clean[name], t[name], s[name], state.mask, before)
        moved[name] = process.domain.project(method.rule(process)(process, at, rng), state.mask)
    return state.replace(**moved)


def step(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    method: Solver,
    state: State,
    times: tuple[Times, Times],
    memory: Memory | None,
    rng: Rng,
    context: Context,
) -> tuple[State, Memory]:
    """One stateless step from times t to s; all fields that have a process are advanced.

    Returns:
        The state at s and the memory to hand to the next step.
    """
    t, s = times
    clean = denoiser(state, t, {**context, PREVIOUS: memory.clean if memory else None})
    moved = _advance(processes, method, state, clean, times, memory, rng)
    if method.corrector:
        again = denoiser(moved, s, {**context, PREVIOUS: clean})
        continuous = {n: p for n, p in processes.items() if isinstance(p, Gaussian)}
        both = clean.replace(**{n: 0.5 * (clean[n] + again[n]) for n in continuous})
        corrected = _advance(continuous, method, state, both, times, None, rng)
        moved = moved.replace(**{n: corrected[n] for n in continuous})
    return moved, Memory(clean, t)


def sample(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    state: State,
    grid: Tensor | Mapping[str, Tensor],
    rng: Rng,
    *,
    method: Solver,
    context: Context | None = None,
    given: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> State:
    """Run the reverse process over a time grid and return the last prediction as a clean state.

    Args:
        denoiser: ``(state, times, context) -> clean state``.
        processes: one per field.
        state: the state at the grid's first time, usually from `prior`.
        grid: decreasing times [steps + 1] that end at 0, shared or one per field. ``steps``
            evaluations are made (twice as many, less one, with a corrector).
        rng: one generator, or one per row.
        method: a `Solver`.
        context: conditions handed to the denoiser.
        given: fields that are clean already: they are clamped, and the denoiser sees time 0 for
            them.
        progress: called with (step, steps) after every step.

    Returns:
        State with means and class indices.

    Raises:
        ConfigError: the grid does not fall from at most 1 to 0, or a given field does not exist.
    """
    grids = time_grids(processes, grid, given)
    names = tuple(processes)
    steps = len(next(iter(grids.values()))) - 1
    free = {n: p for n, p in processes.items() if n not in given}
    memory: Memory | None = None
    context = context or {}

    def at(k: int) -> Times:
        ones = torch.ones(state.rows, device=state.mask.device, dtype=_float(state))
        return {n: ones * (0.0 if n in given else float(grids[n][k])) for n in names}

    for k in range(steps - 1):
        state, memory = step(
            denoiser, free, method, state, (at(k), at(k + 1)), memory, rng, context
        )
        if progress:
            progress(k + 1, steps)
    clean = denoiser(state, at(steps - 1), {**context, PREVIOUS: memory.clean if memory else None})
    if progress:
        progress(steps, steps)
    return state.replace(**{n: p.decode(clean[n], state.mask) for n, p in free.items()})


def time_grids(
    processes: Mapping[str, Process], grid: Tensor | Mapping[str, Tensor], given: tuple[str, ...]
) -> dict[str, Tensor]:
    """A checked grid for every field that is not given.

    Raises:
        ConfigError: a grid does not fall from at most 1 to 0, or a given field does not exist.
    """
    unknown = set(given) - set(processes)
    if unknown or not set(processes) - set(given):
        known = ", ".join(processes)
        raise ConfigError(f"given fields: expected some of {known}, not all, got {list(given)}")
    names = [n for n in processes if n not in given]
    missing = [] if isinstance(grid, Tensor) else [n for n in names if n not in grid]
    if missing:
        raise ConfigError(f"expected a time grid for every field, none for {', '.join(missing)}")
    grids = {n: grid if isinstance(grid, Tensor) else grid[n] for n in names}
    if len({tuple(g.shape) for g in grids.values()}) > 1:
        raise ConfigError("expected time grids of one length for all fields")
    for one in grids.values():
        falling = one.dim() == 1 and len(one) > 1 and bool((one.diff() <= 0).all())
        if not falling or float(one[0]) > 1 or float(one[-1]) != 0 or bool((one[:-1] <= 0).any()):
            raise ConfigError(
                f"expected a time grid that falls from 1 or less to 0, got {one.tolist()}"
            )
    return grids


def _float(state: State) -> torch.dtype:
    for value in state.values():
        if value.is_floating_point():
            return value.dtype
    return torch.get_default_dtype()
