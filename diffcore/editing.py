"""Inpainting: a part of a state is kept exactly, the rest is sampled around it.

For models trained on aligned noise (ADR 7) the noise of points has to be aligned here too:
``noise="kept"``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore import random
from diffcore.coupling import align_noise
from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.domains import Pairs, Points
from diffcore.errors import ConfigError
from diffcore.noising import drawn, renoised, unit_noise
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.random import Rng
from diffcore.samplers import Memory, Solver, step, time_grids
from diffcore.state import State, Times

NOISES = ("fresh", "kept", "clean")


@dataclass(frozen=True)
class Jumps:
    """Resampling of RePaint (Lugmayr et al. 2022, section 4.2): go back up and come down again.

    Attributes:
        length: steps of one jump.
        repeats: how often each stretch of ``length`` steps is walked in all; 1 is no jump. The
            cost grows by about this factor.
    """

    length: int = 1
    repeats: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.length < 1 or self.repeats < 1:
            raise ConfigError(
                f"jumps: expected length and repeats of 1 or more, got {self.length} and "
                f"{self.repeats}"
            )

    def path(self, steps: int) -> list[int]:
        """The indices into a time grid in the order in which they are visited, from 0 to ``steps``.

        A step down is +1, a jump up is -length; there is no jump from the end.
        """
        left = {k: self.repeats - 1 for k in range(self.length, steps, self.length)}
        path = [0]
        while path[-1] < steps:
            path.append(path[-1] + 1)
            if left.get(path[-1], 0) > 0:
                left[path[-1]] -= 1
                path.append(path[-1] - self.length)
        return path


@dataclass(frozen=True)
class Known:
    """A part of a clean state that an edit keeps.

    Attributes:
        state: clean values of all fields; what is not known may be any finite value or class.
        where: true where a field is known: [B, N] for nodes and points, [B, N, N] symmetric for
            pairs, [B, *event] for grids. Fields that are not named are free altogether.
    """

    state: State
    where: Mapping[str, Tensor]

    def check(self, processes: Mapping[str, Process]) -> None:
        """Refuse masks that do not fit.

        Raises:
            ConfigError: an unknown field, a wrong shape or type, a pair known in one direction.
        """
        missing = [n for n in processes if n not in self.state]
        if missing:
            raise ConfigError(f"inpaint: expected values of every field, none of {missing}")
        for name, where in self.where.items():
            if name not in processes:
                known = ", ".join(processes)
                raise ConfigError(f"inpaint: expected known fields among {known}, got {name!r}")
            x, domain = self.state[name], processes[name].domain
            fits = where.dtype == torch.bool and where.shape == x.shape[: where.dim()]
            if not fits or where.dim() < domain.weights(self.state.mask).dim():
                raise ConfigError(
                    f"inpaint: expected a bool mask of the shape of {name!r} {tuple(x.shape)}, "
                    f"got {where.dtype} {tuple(where.shape)}"
                )
            if isinstance(domain, Pairs) and not torch.equal(where, where.transpose(1, 2)):
                raise ConfigError(f"inpaint: expected a symmetric mask of {name!r}")

    def take(self, index: Tensor) -> "Known":
        """The rows ``index`` [M]."""
        return Known(self.state.take(index), {n: w[index] for n, w in self.where.items()})

    def at(self, name: str, process: Process) -> Tensor:
        """Real known elements of a field, bool, of the shape of the field."""
        x = self.state[name]
        if name not in self.where:
            return torch.zeros(x.shape, dtype=torch.bool, device=x.device)
        real = process.domain.weights(self.state.mask) > 0
        where = self.where[name] & _over(real, self.where[name])
        return _over(where, x).expand(x.shape)


def _over(values: Tensor, like: Tensor) -> Tensor:
    """Append axes so that ``values`` broadcasts over the leading axes of ``like``."""
    return values.reshape(*values.shape, *([1] * (like.dim() - values.dim())))


def offset(process: Process, clean: Tensor, known: Tensor, at: Tensor) -> Tensor:
    """How far a prediction's frame is from that of the known part: [B, 1, dim], 0 if no points.

    Positions have their centre at zero, and where the known part lies relative to the centre is
    part of what is sampled: it is put where the prediction has its centre. Its orientation stays.
    """
    if not isinstance(process.domain, Points):
        return torch.zeros((), dtype=clean.dtype, device=clean.device)
    count = at.sum(1, keepdim=True).clamp_min(1)
    return torch.where(at, clean - known, torch.zeros_like(clean)).sum(1, keepdim=True) / count


def clamped(denoiser: Denoiser, processes: Mapping[str, Process], known: Known) -> Denoiser:
    """A denoiser whose prediction has the known part in it.

    Deterministic rules (``ddim``, ``flow_euler``) then keep the known part on the line from its own
    noise; ancestral ones draw it from q(x_s | x_t, x_0).
    """

    def wrapped(state: State, times: Times, context: Context) -> State:
        clean = denoiser(state, times, context)
        fields = {}
        for name in known.where:
            process, value, at = processes[name], known.state[name], known.at(name, processes[name])
            if isinstance(process, Categorical):
                p = clean[name]
                certain = F.one_hot(value, p.shape[-1]).to(p.dtype)
                fields[name] = torch.where(at.unsqueeze(-1), certain, p)
            else:
                value = value.to(clean[name].dtype)
                value = value + offset(process, clean[name], value, at)
                fields[name] = torch.where(at, value, clean[name])
        return clean.replace(**fields)

    return wrapped


@dataclass(frozen=True)
class _Pins:
    """What puts the known part back after a step: one noise policy and one noise per field."""

    processes: Mapping[str, Process]
    known: Known
    policy: Mapping[str, str]
    noise: Mapping[str, Tensor]
    rng: Rng

    def put(self, state: State, clean: State, times: Times) -> State:
        """The state with its known part at ``times``; ``clean`` says where its points lie."""
        fields = {}
        for name, process in self.processes.items():
            if name in self.known.where:
                at = self.known.at(name, process)
                value = self._value(name, process, clean, times[name])
                x = torch.where(at, value.to(state[name].dtype), state[name])
                fields[name] = process.domain.project(x, state.mask)
        return state.replace(**fields)

    def _value(self, name: str, process: Process, clean: State, t: Tensor) -> Tensor:
        policy, mask = self.policy[name], self.known.state.mask
        x0 = self.known.state[name] if isinstance(process, Categorical) else clean[name]
        if policy == "clean":
            return x0
        if policy == "fresh":
            return process.forward(x0, t, mask, self.rng)
        if isinstance(process, Categorical):
            return drawn(process, x0, process.cumulative(t), self.noise[name], mask)
        assert isinstance(process, Gaussian)
        return process.mix(x0, self.noise[name].to(x0.dtype), t)

    def draw(self, clean: State) -> "_Pins":
        """The same with new noise for what is kept, points aligned with ``clean``."""
        noise, mask = {}, clean.mask
        for name in (n for n in self.processes if self.policy[n] == "kept"):
            process, x = self.processes[name], clean[name]
            if isinstance(process, Categorical):
                like = torch.zeros(self.known.state[name].shape, device=mask.device)
                noise[name] = process.domain.tie(random.uniform(self.rng, like))
                continue
            noise[name] = unit_noise(process, x, mask, self.rng)
            if isinstance(process.domain, Points):
                noise[name] = align_noise(noise[name], x, mask)
        return replace(self, noise=noise)

    def start(self, times: Times, guessed: bool) -> tuple[State, "_Pins"]:
        """The state at the first times, and the pins with their first noise.

        Free elements are forgotten where the time is 1, unless they are a guess; below, they start
        from their own values.
        """
        guess = {}
        for name, process in self.processes.items():
            x, known = self.known.state[name], self.known.at(name, self.processes[name])
            if isinstance(process, Gaussian) and bool((times[name] == 1).all()) and not guessed:
                x = x - offset(process, x, torch.zeros_like(x), known)
                x = torch.where(known, x, torch.zeros_like(x))
            guess[name] = process.domain.project(x, self.known.state.mask)
        clean = self.known.state.replace(**guess)
        pins = self.draw(clean)
        state = pins.corrupt(clean, times)
        return pins.put(state, clean, times), pins

    def corrupt(self, clean: State, times: Times) -> State:
        """A whole clean state at ``times``, with the kept noise where there is one."""
        fields = {}
        for name, process in self.processes.items():
            if isinstance(process, Gaussian) and name in self.noise:
                fields[name] = process.mix(clean[name], self.noise[name], times[name])
            else:
                fields[name] = process.forward(clean[name], times[name], clean.mask, self.rng)
        return clean.replace(**fields)

    def jump(self, state: State, clean: State, times: tuple[Times, Times]) -> tuple[State, "_Pins"]:
        """From times s up to t. Points with kept noise are corrupted anew, with aligned noise."""
        s, t = times
        pins, fields = self.draw(clean), {}
        for name, process in self.processes.items():
            x = state[name]
            if (
                name in pins.noise
                and isinstance(process, Gaussian)
                and isinstance(process.domain, Points)
            ):
                fields[name] = process.mix(clean[name], pins.noise[name], t[name])
            else:
                fields[name] = renoised(process, x, s[name], t[name], state.mask, self.rng)
        return pins.put(state.replace(**fields), clean, t), pins


def inpaint(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    known: Known,
    grid: Tensor | Mapping[str, Tensor],
    rng: Rng,
    *,
    method: Solver,
    noise: str | Mapping[str, str] = "fresh",
    jumps: Jumps = Jumps(),  # noqa: B008 - frozen
    guess: bool = False,
    context: Context | None = None,
    given: tuple[str, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> State:
    """Sample what is not known around what is (RePaint, Lugmayr et al. 2022, alg. 1).

    After every step the known part is put back at the noise of that step. The free part then
    approximates p(free | known), the better the more ``jumps`` let it find its way to the known
    part; the known part of the result is what was given, bit for bit. Points keep their own frame:
    the result is not centred, it lies where the known points are.

    Args:
        denoiser: ``(state, times, context) -> clean state``.
        processes: one per field.
        known: clean values and where they hold. Rows of one batch may know different parts.
        grid: as for `sample`. From a first time below 1 the free part starts from the values in
            ``known.state``: an edit of them.
        rng: one generator, or one per row.
        method: a `Solver`.
        noise: how the known part is shown, for all fields or per field: ``fresh``, newly corrupted
            at every step; ``kept``, with one noise for the whole stretch between jumps, for points
            aligned with them, for models trained on aligned noise; ``clean``, not corrupted at all:
            exact without jumps for absorbing kernels, which see clean classes at every time.
        jumps: resampling.
        guess: the free values in ``known.state`` are roughly what may come: noise that is kept is
            aligned with the free points too. Aligned paths are short: a free point ends near the
            noise it starts from, so that a guess on the right side of the known part helps.
        context: conditions handed to the denoiser.
        given: fields that are known altogether: they are clamped and the denoiser sees time 0.
        progress: called with (step, steps) after every evaluation.

    Returns:
        State with means and class indices.

    Raises:
        ConfigError: a mask, a grid or an option that does not fit.
    """
    known.check(processes)
    grids = time_grids(processes, grid, given)
    free = {n: p for n, p in processes.items() if n not in given}
    policy = {n: noise if isinstance(noise, str) else noise.get(n, "fresh") for n in free}
    wrong = sorted(set(policy.values()) - set(NOISES))
    if wrong or set(known.where) & set(given):
        raise ConfigError(
            f"inpaint: expected noise of {', '.join(NOISES)} and known fields that are not given, "
            f"got {wrong or sorted(set(known.where) & set(given))}"
        )
    steps, context = len(next(iter(grids.values()))) - 1, context or {}
    dtype = next((x.dtype for x in known.state.values() if x.is_floating_point()), None)
    ones = torch.ones(known.state.rows, device=known.state.mask.device, dtype=dtype)

    def at(k: int) -> Times:
        return {n: ones * (float(grids[n][k]) if n in free else 0.0) for n in processes}

    whole, path = clamped(denoiser, free, known), jumps.path(steps)
    state, pins = _Pins(free, known, policy, {}, rng).start(at(0), guess)
    memory: Memory | None = None
    clean, made, calls = state, 0, sum(b > a for a, b in pairwise(path))
    for a, b in pairwise(path[:-1]):
        if b < a:
            state, pins = pins.jump(state, clean, (at(a), at(b)))
            memory = None  # what was predicted further down is to be forgotten
            continue
        state, memory = step(whole, free, method, state, (at(a), at(b)), memory, rng, context)
        clean = memory.clean
        state, made = pins.put(state, clean, at(b)), made + 1
        if progress:
            progress(made, calls)
    previous = memory.clean if memory else None
    clean = whole(state, at(steps - 1), {**context, PREVIOUS: previous})
    if progress:
        progress(calls, calls)
    return state.replace(**{n: _finished(p, clean[n], known, n) for n, p in free.items()})


def _finished(process: Process, clean: Tensor, known: Known, name: str) -> Tensor:
    """The decoded field in the frame of the known part, which is as it was given."""
    mask, value, at = known.state.mask, known.state[name], known.at(name, process)
    decoded = process.decode(clean, mask)
    if isinstance(process.domain, Points):
        moved = decoded - offset(process, decoded, value.to(decoded.dtype), at)
        decoded = torch.where(_over(mask, moved), moved, decoded)
    return torch.where(at, value.to(decoded.dtype), decoded)
