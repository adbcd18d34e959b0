"""The reverse process as a chain of particles that a search can stop, copy and branch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from diffcore import random
from diffcore.denoisers import PREVIOUS, Context, Counted, Denoiser
from diffcore.errors import ConfigError
from diffcore.noising import noised
from diffcore.processes import Process
from diffcore.random import Rng
from diffcore.samplers import Memory, Rule, Solver, ddim, dpmpp_2m, flow_euler, step, time_grids
from diffcore.state import State, Times

_DETERMINISTIC: frozenset[Rule] = frozenset({ddim, dpmpp_2m, flow_euler})


@dataclass(frozen=True)
class Particles:
    """Rows on their way from the prior to clean, and all that a branch needs to go on.

    Attributes:
        state: noisy fields at the chain's time ``level``; fields without a process are conditions.
        memory: of self-conditioning and multistep solvers; None before the first step.
        context: what else the denoiser is told; see `take_context`.
        level: steps made so far.
    """

    state: State
    memory: Memory | None
    context: Context
    level: int

    def take(self, index: Tensor) -> "Particles":
        """The rows ``index`` [M], repeats allowed, with everything that belongs to them."""
        return Particles(
            self.state.take(index),
            self.memory.take(index) if self.memory else None,
            take_context(self.context, index, self.state.rows),
            self.level,
        )


def take_context(context: Context, index: Tensor, rows: int) -> Context:
    """The context of the rows ``index`` [M] out of ``rows``.

    Tensors of one dimension or more and values with a method ``take`` (states, memories, caches)
    hold one entry a row and go with it; everything else is shared by all rows.

    Raises:
        ConfigError: a tensor does not have one entry a row.
    """
    taken: dict[str, Any] = {}
    for name, value in context.items():
        if isinstance(value, Tensor):
            if value.dim() and value.shape[0] != rows:
                raise ConfigError(
                    f"context {name!r}: expected one entry for each of {rows} rows, "
                    f"got {tuple(value.shape)}"
                )
            taken[name] = value[index] if value.dim() else value
        else:
            taken[name] = value.take(index) if hasattr(value, "take") else value
    return taken


def join(parts: Sequence[Particles]) -> Particles:
    """Put particles of one level into one batch.

    Raises:
        ConfigError: the context of several parts holds values a row that cannot be joined.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    memory = None
    if first.memory is not None:
        memories = [p.memory for p in parts if p.memory is not None]
        times = {n: torch.cat([m.times[n] for m in memories]) for n in first.memory.times}
        memory = Memory(join_states([m.clean for m in memories]), times)
    context = _join_contexts([p.context for p in parts])
    return Particles(join_states([p.state for p in parts]), memory, context, first.level)


def join_states(states: Sequence[State]) -> State:
    """The rows of several states of one padded size, in order."""
    if len(states) == 1:
        return states[0]
    fields = {name: torch.cat([s[name] for s in states]) for name in states[0]}
    return State(fields, torch.cat([s.mask for s in states]))


def _join_contexts(contexts: Sequence[Context]) -> Context:
    joined: dict[str, Any] = dict(contexts[0])
    for name, value in contexts[0].items():
        values = [c[name] for c in contexts]
        if isinstance(value, Tensor) and value.dim():
            joined[name] = torch.cat(values)
        elif isinstance(value, State):
            joined[name] = join_states(values)
        elif hasattr(value, "take") and any(v is not value for v in values):
            raise ConfigError(f"context {name!r}: a tree cannot join {type(value).__name__} values")
    return joined


@dataclass(frozen=True)
class Chain:
    """The reverse process with everything but its randomness: what a search is made over.

    Attributes:
        denoiser: ``(state, times, context) -> clean state``, wrappers included.
        processes: one per field.
        grid: decreasing times that end at 0, shared or one per field, as for `sample`.
        method: a `Solver` with some randomness.
        templates: M states to start from: the mask, the fields of ``given`` and the conditions are
            taken from one of them at random (of a single one always); other fields are ignored.
        given: fields that are clean already.
        context: what else the denoiser is told, M rows.
        network: the network that counts, where a wrapper in ``denoiser`` calls it more than once a
            step (guidance): the same `Counted` that the wrapper calls. By default every call of
            ``denoiser`` is one evaluation a row.
        price: network evaluations of one row in one call of ``denoiser``, at most: 2 under
            classifier-free guidance. Budgets are planned with it.
        align: points were trained on noise aligned with them (ADR 7): see `noised`.
        begin: what is done to the first states, ``(state, rng) -> state``; nothing by default.
    """

    denoiser: Denoiser
    processes: Mapping[str, Process]
    grid: Tensor | Mapping[str, Tensor]
    method: Solver
    templates: State
    given: tuple[str, ...] = ()
    context: Context = field(default_factory=dict)
    network: Counted | None = None
    price: float = 1.0
    align: bool = False
    begin: Callable[[State, Rng], State] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before anything is sampled."""
        missing = [n for n in self.given if n not in self.templates and n in self.processes]
        if self.steps < 1 or missing or self.templates.rows < 1:
            raise ConfigError(f"expected templates that hold the given fields, none for {missing}")
        if not self.price > 0:
            raise ConfigError(f"price: expected a number above 0, got {self.price}")

    @cached_property
    def grids(self) -> Mapping[str, Tensor]:
        """The time grid of every field that is not given."""
        return time_grids(self.processes, self.grid, self.given)

    @cached_property
    def free(self) -> Mapping[str, Process]:
        """The processes of the fields that are sampled."""
        return {n: p for n, p in self.processes.items() if n not in self.given}

    @property
    def steps(self) -> int:
        """Steps from the prior to clean: with the last one, a whole trajectory."""
        return len(next(iter(self.grids.values()))) - 1

    @property
    def branches(self) -> bool:
        """Whether two continuations of one particle differ."""
        rules = {self.method.rule(process) for process in self.free.values()}
        return not rules <= _DETERMINISTIC

    def cost(self, level: int) -> float:
        """Network evaluations from ``level`` to the end, one row."""
        left = self.steps - level
        return self.price * (2 * left - 1 if self.method.corrector else left)

    def times(self, level: int, state: State) -> Times:
        """Times of every field after ``level`` steps, [B] each."""
        floating = [
            x.dtype for n, x in state.items() if n in self.processes and x.is_floating_point()
        ]
        dtype = floating[0] if floating else torch.get_default_dtype()
        ones = torch.ones(state.rows, device=state.mask.device, dtype=dtype)
        return {
            n: ones * (float(self.grids[n][level]) if n in self.grids else 0.0)
            for n in self.processes
        }

    def start(self, rows: int, rng: Rng) -> Particles:
        """Draw ``rows`` particles from the prior; one generator, or one a row."""
        total = self.templates.rows
        u = random.uniform(rng, torch.empty(rows))
        index = (u * total).long().clamp_max(total - 1).to(self.templates.mask.device)
        state = self.templates.take(index)
        noise = {n: p.prior(state.mask, rng) for n, p in self.free.items()}
        context, state = take_context(self.context, index, total), state.replace(**noise)
        return Particles(self.begin(state, rng) if self.begin else state, None, context, 0)

    def back(self, at: Particles, level: int, rng: Rng) -> Particles:
        """Finished particles, whose states are clean, noised to where they were at ``level``."""
        times = self.times(level, at.state)
        state = noised(self.free, at.state, times, rng, align=self.align)
        return Particles(state, None, at.context, level)

    def predict(self, at: Particles) -> State:
        """One evaluation: the clean state that the denoiser sees from here."""
        previous = at.memory.clean if at.memory else None
        times = self.times(at.level, at.state)
        return self.denoiser(at.state, times, {**at.context, PREVIOUS: previous})

    def advance(self, at: Particles, clean: State, rng: Rng) -> Particles:
        """One step down with a prediction that was made already."""
        first = [clean]

        def foreseen(state: State, times: Times, context: Context) -> State:
            return first.pop() if first else self.denoiser(state, times, context)

        span = (self.times(at.level, at.state), self.times(at.level + 1, at.state))
        state, memory = step(
            foreseen, self.free, self.method, at.state, span, at.memory, rng, at.context
        )
        return Particles(state, memory, at.context, at.level + 1)

    def decode(self, at: Particles, clean: State) -> State:
        """The prediction as a clean state: means, and the most likely classes."""
        fields = {n: p.decode(clean[n], at.state.mask) for n, p in self.free.items()}
        return at.state.replace(**fields)
