"""Nearest neighbours of padded batches of points, and pairs that own a place in their lists.

Shapes: B webs, N nodes, K neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(pos: Tensor, mask: Tensor, k: int) -> Tensor:
    """The k nearest other nodes of every node [B, N, k]; nodes of a smaller web repeat themselves.

    Args:
        pos: [B, N, 3].
        mask: [B, N].
        k: at most N - 1.
    """
    far = torch.cdist(pos, pos)
    n = far.shape[1]
    eye = torch.eye(n, dtype=torch.bool, device=pos.device)
    far = far.masked_fill(~mask.unsqueeze(1) | eye, torch.inf)
    found = far.topk(k, dim=-1, largest=False)
    itself = torch.arange(n, device=pos.device).reshape(1, n, 1)
    near = torch.where(found.values.isinf(), itself, found.indices)
    return torch.where(mask.unsqueeze(-1), near, itself)


def with_chain(pos: Tensor, mask: Tensor, rank: Tensor, k: int) -> Tensor:
    """Half nearest neighbours, half those 1, 4, 16, ... before and behind in an order [B, N, k].

    Args:
        pos: [B, N, 3].
        mask: [B, N].
        rank: place of every node in the order [B, N], from 0; padding comes last.
        k: length of the lists.
    """
    near = nearest(pos, mask, k - k // 2)
    b, n, _ = near.shape
    at = rank.argsort(1)  # the node at every place
    far = torch.tensor([4 ** (m // 2) * (-1) ** m for m in range(k // 2)], device=pos.device)
    asked = rank.unsqueeze(-1) + far
    there = (asked >= 0) & (asked < mask.sum(1).reshape(-1, 1, 1)) & mask.unsqueeze(-1)
    found = at.gather(1, asked.clamp(0, n - 1).flatten(1)).reshape(b, n, -1)
    itself = torch.arange(n, device=pos.device).reshape(1, n, 1)
    return torch.cat([near, torch.where(there, found, itself)], -1)


def paired(near: Tensor) -> tuple[Tensor, Tensor]:
    """Which place of the lists [B, N, K] speaks for a pair, so that every pair has one.

    Returns:
        ``owner`` [B, N, K], true for the places that speak; ``twin`` [B, N, K], the flat index
        into [N * K] of the place that speaks for the same pair. A node beside itself is no pair.
    """
    b, n, k = near.shape
    own = torch.arange(n, device=near.device).reshape(1, n, 1)
    flat = near.reshape(b, n * k, 1).expand(-1, -1, k)
    theirs = near.gather(1, flat).reshape(b, n, k, k)
    back = theirs == own.unsqueeze(-1)
    mutual, place = back.any(-1), back.int().argmax(-1)
    real = near != own
    owner = real & (~mutual | (own < near))
    here = torch.arange(n * k, device=near.device).reshape(1, n, k)
    return owner, torch.where(owner | ~real, here, near * k + place)


def gathered(values: Tensor, index: Tensor) -> Tensor:
    """Rows of [B, M, C] at [B, N, K] -> [B, N, K, C]."""
    b, n, k = index.shape
    flat = index.reshape(b, n * k, 1).expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).reshape(b, n, k, -1)
