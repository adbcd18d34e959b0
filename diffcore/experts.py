"""Experts by noise range: one denoiser for every part of the way from the prior to the data."""

import math
from collections.abc import Mapping, Sequence

import torch

from diffcore.chain import take_context
from diffcore.composition import noise_level
from diffcore.denoisers import Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.processes import Process
from diffcore.state import State, Times

Member = tuple[tuple[float, float], Denoiser]


def experts(
    processes: Mapping[str, Process], members: Sequence[Member], field: str | None = None
) -> Denoiser:
    """Hand every row to the expert of its noise (Go et al. 2023, PPAP).

    An expert is any denoiser: a network trained on a range, or one guidance model for each range
    around the same network (``energy_guided(denoiser, processes, energy_of_the_range)``). Ranges
    are in log-SNR, log(alpha^2 / sigma^2), so that they survive a change of schedule: minus
    infinity is the prior, plus infinity the data.

    Args:
        processes: one per field.
        members: (low, high), low included, and the denoiser. Together they cover the line.
        field: the field whose log-SNR counts; by default the noisiest one of each row.

    Raises:
        ConfigError: the ranges leave a gap or overlap.
    """
    ordered = sorted(members, key=lambda member: member[0])
    _check(ordered)
    edges = [low for (low, _), _ in ordered[1:]]

    def wrapped(state: State, times: Times, context: Context) -> State:
        level = noise_level(processes, times, "log_snr", field)
        which = torch.bucketize(level, torch.tensor(edges).to(level), right=True)
        present = which.unique().tolist()
        if len(present) == 1:
            return ordered[int(present[0])][1](state, times, context)
        fields: dict[str, torch.Tensor] = {}
        for k in present:
            rows = (which == k).nonzero()[:, 0]
            own = take_context(context, rows, state.rows)
            part = ordered[k][1](state.take(rows), {n: t[rows] for n, t in times.items()}, own)
            for name, value in part.items():
                if name not in fields:
                    fields[name] = value.new_zeros(state.rows, *value.shape[1:])
                fields[name][rows] = value
        return State(fields, state.mask)

    return wrapped


def _check(ordered: Sequence[Member]) -> None:
    ends = [-math.inf]
    for (low, high), _ in ordered:
        if low != ends[-1] or not high > low:
            fault = "overlap or are empty" if low < ends[-1] or high <= low else "leave a gap"
            shown = ", ".join(f"[{a}, {b})" for (a, b), _ in ordered)
            raise ConfigError(f"experts: ranges of log-SNR {fault} at {low}: {shown}")
        ends.append(high)
    if ends[-1] != math.inf:
        raise ConfigError(f"experts: expected ranges of log-SNR up to inf, got up to {ends[-1]}")
