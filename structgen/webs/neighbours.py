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


def landmarks(pos: Tensor, mask: Tensor, count: int) -> Tensor:
    """Nodes far from each other [B, count], the first the one furthest from the centre.

    Farthest point sampling (Gonzalez 1985): whatever the order of the nodes, the same ones.
    """
    rows = torch.arange(len(pos), device=pos.device)
    chosen = [pos.norm(dim=-1).masked_fill(~mask, -1.0).argmax(1)]
    far = torch.full_like(pos[..., 0], torch.inf)
    for _ in range(count - 1):
        last = pos[rows, chosen[-1]].unsqueeze(1)
        far = torch.minimum(far, (pos - last).pow(2).sum(-1))
        chosen.append(far.masked_fill(~mask, -1.0).argmax(1))
    return torch.stack(chosen, 1)


def with_landmarks(pos: Tensor, mask: Tensor, k: int) -> Tensor:
    """Half nearest neighbours, half landmarks that all nodes share [B, N, k]."""
    near = nearest(pos, mask, k - k // 2)
    b, n, _ = near.shape
    shared = landmarks(pos, mask, k // 2).unsqueeze(1).expand(b, n, -1)
    itself = torch.arange(n, device=pos.device).reshape(1, n, 1)
    shared = torch.where(mask.unsqueeze(-1), shared, itself)
    return torch.cat([near, shared], -1)


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
