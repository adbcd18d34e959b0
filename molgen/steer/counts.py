"""Steering of class counts: how many atoms of every element, which total charge.

A prediction's class probabilities are tilted so that their expected sums are what is asked for. The
tilt is the smallest one in the Kullback-Leibler sense. It steers and guarantees nothing: what is
drawn in the end has to be checked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffcore.denoisers import Context, Denoiser
from diffcore.state import State, Times

ROUNDS = 20
TINY = 1e-12


def balanced(p: Tensor, counts: Tensor) -> Tensor:
    """Probabilities [B, N, K] whose sums over N are ``counts`` [B, K] (Sinkhorn and Knopp 1967).

    p_nk is multiplied by a factor of the node and a factor of the class; counts sum to N.
    """
    q, target = p.double().clamp_min(TINY), counts.double().clamp_min(TINY)
    for _ in range(ROUNDS):
        q = q * (target / q.sum(1)).unsqueeze(1)
        q = q / q.sum(-1, keepdim=True)
    return q.to(p.dtype)


def with_counts(
    denoiser: Denoiser,
    field: str,
    counts: Tensor,
    free: Tensor,
    push: float = 1.0,
    until: float = 0.25,
) -> Denoiser:
    """Steer a categorical field towards given numbers of nodes of every class.

    Args:
        denoiser: what is steered.
        field: name of the field, [B, N, K] in predictions.
        counts: [K], of the free nodes.
        free: nodes that are counted, [N] bool.
        push: how far the tilt aims beyond the counts, in multiples of what the prediction lacks.
            By 0 the prediction is right on average and the positions, which follow classes with a
            delay, are not.
        until: time below which it aims at the counts themselves.
    """
    target = counts.double()

    def wrapped(state: State, times: Times, context: Context) -> State:
        clean = denoiser(state, times, context)
        p = clean[field][:, free]
        aim = target.expand(len(p), -1)
        if push:
            lack = torch.where((times[field] > until).unsqueeze(-1), aim - p.double().sum(1), 0.0)
            aim = (aim + push * lack).clamp_min(0.0) * (target > 0)
            aim = aim * (target.sum() / aim.sum(-1, keepdim=True).clamp_min(TINY))
        q = clean[field].clone()
        q[:, free] = balanced(p, aim)
        return clean.replace(**{field: q})

    return wrapped


def with_sum(
    denoiser: Denoiser, field: str, values: Tensor, total: float, free: Tensor
) -> Denoiser:
    """Steer a categorical field so that the expected sum of its classes' values is ``total``.

    Args:
        denoiser: what is steered.
        field: name of the field, [B, N, K] in predictions.
        values: of the classes, [K].
        total: sum over the free nodes.
        free: nodes that are counted, [N] bool.
    """
    worth = values.double()

    def wrapped(state: State, times: Times, context: Context) -> State:
        clean = denoiser(state, times, context)
        q = clean[field].clone()
        q[:, free] = tilted(q[:, free], worth, total, state.mask[:, free])
        return clean.replace(**{field: q})

    return wrapped


def tilted(p: Tensor, values: Tensor, total: float, real: Tensor) -> Tensor:
    """Probabilities p_nk exp(l v_k), renormalised, with l such that sum_nk p_nk v_k = total.

    Args:
        p: [B, N, K].
        values: [K].
        total: what the expected sum shall be; the nearest possible one is taken.
        real: nodes that count, [B, N] bool.
    """
    log_p = p.double().clamp_min(TINY).log()
    low = torch.full((len(p),), -50.0, dtype=torch.float64, device=p.device)
    high, weight = -low, real.unsqueeze(-1) * values.to(p.device)
    for _ in range(50):
        middle = 0.5 * (low + high)
        found = ((log_p + middle.reshape(-1, 1, 1) * values).softmax(-1) * weight).sum((1, 2))
        low, high = (
            torch.where(found < total, middle, low),
            torch.where(found < total, high, middle),
        )
    middle = 0.5 * (low + high)
    return (log_p + middle.reshape(-1, 1, 1) * values).softmax(-1).to(p.dtype)
