"""Partial noising: part of the way from the data to the prior, and back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from diffcore import random
from diffcore.coupling import align_noise
from diffcore.denoisers import Context, Denoiser
from diffcore.domains import Points
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.random import Rng
from diffcore.samplers import Solver, sample, time_grids
from diffcore.state import State, Times, expand


def unit_noise(process: Process, like: Tensor, mask: Tensor, rng: Rng) -> Tensor:
    """Standard noise on the domain of a continuous field [B, ...]."""
    return process.domain.project(process.domain.tie(random.normal(rng, like)), mask)


def noised(
    processes: Mapping[str, Process], clean: State, times: Times, rng: Rng, *, align: bool = False
) -> State:
    """Corrupt a clean state to the given times: where an edit starts (SDEdit; Meng et al. 2022).

    Args:
        processes: one per field; other fields stay.
        clean: the state to be varied.
        times: [B] per field; 0 leaves a field as it is.
        rng: one generator, or one per row.
        align: permute and rotate the noise of `Points` onto them, for models trained so.
    """
    moved = {}
    for name, process in processes.items():
        x, t = clean[name], times[name]
        if align and isinstance(process, Gaussian) and isinstance(process.domain, Points):
            x = process.domain.project(x, clean.mask)
            noise = align_noise(unit_noise(process, x, clean.mask, rng), x, clean.mask)
            moved[name] = process.mix(x, noise, t)
        else:
            moved[name] = process.forward(x, t, clean.mask, rng)
    return clean.replace(**moved)


def renoised(process: Process, x: Tensor, s: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
    """A draw from q(x_t | x_s) for t >= s ([B] each): one jump up.

    Gaussian: r x_s plus noise of variance sigma_t^2 - (r sigma_s)^2, with r = alpha_t / alpha_s.
    """
    if isinstance(process, Categorical):
        u = process.domain.tie(random.uniform(rng, torch.zeros(x.shape, device=x.device)))
        return drawn(process, x, process.transition(s, t), u, mask)
    schedule = process.schedule
    ratio = schedule.alpha(t) / schedule.alpha(s)
    var = (schedule.sigma(t) ** 2 - (ratio * schedule.sigma(s)) ** 2).clamp_min(0)
    noise = unit_noise(process, x, mask, rng)
    return expand(ratio, x).to(x.dtype) * x + expand(var.sqrt(), x).to(x.dtype) * noise


def drawn(process: Process, x: Tensor, matrix: Tensor, u: Tensor, mask: Tensor) -> Tensor:
    """Classes drawn from the rows of ``matrix`` [B, K, K] that belong to the classes x [B, ...]."""
    batch = expand(torch.arange(x.shape[0], device=x.device), x)
    return process.domain.project(random.categorical(matrix[batch, x], u.to(matrix.dtype)), mask)


def vary(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    clean: State,
    grid: Tensor | Mapping[str, Tensor],
    rng: Rng,
    *,
    method: Solver,
    align: bool = False,
    context: Context | None = None,
    given: tuple[str, ...] = (),
) -> State:
    """Partial noising: corrupt to the grid's first time t < 1 and sample from there (SDEdit).

    The later t, the less is left. A grid that starts at t is ``t * power_grid(steps)``.

    Args:
        denoiser: ``(state, times, context) -> clean state``.
        processes: one per field.
        clean: the states to be varied.
        grid: decreasing times that end at 0, shared or one per field.
        rng: one generator, or one per row.
        method: a `Solver`.
        align: see `noised`.
        context: conditions handed to the denoiser.
        given: fields that stay as they are.

    Raises:
        ConfigError: the grid does not fall from at most 1 to 0, or a given field does not exist.
    """
    grids = time_grids(processes, grid, given)
    free = {n: p for n, p in processes.items() if n not in given}
    first = {
        n: torch.full((clean.rows,), float(grids[n][0]), device=clean.mask.device) for n in free
    }
    state = noised(free, clean, first, rng, align=align)
    return sample(
        denoiser, processes, state, grid, rng, method=method, context=context, given=given
    )
