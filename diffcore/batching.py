"""Rows of several sizes in one state, each evaluated at its own size: no work on padding."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from diffcore.chain import take_context
from diffcore.denoisers import PREVIOUS, Context, Denoiser
from diffcore.domains import Grid, Pairs
from diffcore.processes import Process
from diffcore.state import State, Times


def by_size(processes: Mapping[str, Process], make: Callable[[int], Denoiser]) -> Denoiser:
    """A denoiser that calls another one for each number of nodes in the batch.

    A search can then hold particles of several sizes, copy one size in place of another, and give
    every size a denoiser of its own.

    Args:
        processes: one per field; says which axes of a field are nodes.
        make: number of nodes -> the denoiser of unpadded states of that size; asked once a size.
            The real nodes of a row come first.
    """
    known: dict[int, Denoiser] = {}

    def wrapped(state: State, times: Times, context: Context) -> State:
        sizes, padded = state.mask.sum(1), state.mask.shape[1]
        fields: dict[str, Tensor] = {}
        for size in sizes.unique().tolist():
            rows = (sizes == size).nonzero()[:, 0]
            if size not in known:
                known[size] = make(size)
            part = _resized(state.take(rows), processes, size)
            told = dict(take_context(context, rows, state.rows))
            if told.get(PREVIOUS) is not None:
                told[PREVIOUS] = _resized(told[PREVIOUS], processes, size)
            clean = known[size](part, {n: t[rows] for n, t in times.items()}, told)
            for name, x in _resized(clean, processes, padded).items():
                if name in processes:
                    if name not in fields:
                        fields[name] = x.new_zeros(state.rows, *x.shape[1:])
                    fields[name][rows] = x
        return State(fields, state.mask)

    return wrapped


def _resized(state: State, processes: Mapping[str, Process], n: int) -> State:
    """The first ``n`` nodes of every row, filled up with zeros where there are fewer."""
    fields = {k: _cut(x, processes, k, n) for k, x in state.items()}
    return State(fields, _axis(state.mask, 1, n))


def _cut(x: Tensor, processes: Mapping[str, Process], name: str, n: int) -> Tensor:
    if name not in processes or isinstance(processes[name].domain, Grid):
        return x
    x = _axis(x, 1, n)
    return _axis(x, 2, n) if isinstance(processes[name].domain, Pairs) else x


def _axis(x: Tensor, axis: int, n: int) -> Tensor:
    have = x.shape[axis]
    if have >= n:
        return x.narrow(axis, 0, n)
    shape = list(x.shape)
    shape[axis] = n - have
    return torch.cat([x, x.new_zeros(shape)], axis)
