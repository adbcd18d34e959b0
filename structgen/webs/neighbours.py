"""Lists of neighbours in padded batches of webs: along threads, and nearest in space.

Shapes: B webs, N nodes, K neighbours, R places of a band (`bands`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Joined:
    """Threads of a batch of webs, each in both directions, sorted by the node that they leave.

    Attributes:
        source: the node that a thread leaves [2 E], counted through all webs: b * N + i.
        target: the node that it reaches [2 E], counted likewise.
        kind: its class [2 E].
        rows: B.
        nodes: N.
    """

    source: Tensor
    target: Tensor
    kind: Tensor
    rows: int
    nodes: int

    def lists(self, k: int) -> tuple[Tensor, Tensor]:
        """Neighbours along threads [B, N, k], and the classes of the threads [B, N, k].

        A node with fewer has itself in the places that are left, with class 0; of one with more
        (a hub) as many are taken as there are places.
        """
        total = self.rows * self.nodes
        count = torch.bincount(self.source, minlength=total)
        first = count.cumsum(0) - count
        place = torch.arange(len(self.source), device=self.source.device) - first[self.source]
        kept = place < k
        near = torch.arange(total, device=self.source.device).unsqueeze(1).repeat(1, k)
        kind = torch.zeros_like(near)
        near[self.source[kept], place[kept]] = self.target[kept]
        kind[self.source[kept], place[kept]] = self.kind[kept]
        shape = (self.rows, self.nodes, k)
        return near.reshape(shape) % self.nodes, kind.reshape(shape)

    def walked(self, p: Tensor, steps: tuple[int, ...]) -> list[Tensor]:
        """Means of places [B, N, 3] over the ends of lazy random walks of so many steps."""
        flat = p.flatten(0, 1)
        count = torch.bincount(self.source, minlength=len(flat)).clamp_min(1).to(p.dtype)
        out = []
        for step in range(1, max(steps) + 1):
            total = torch.zeros_like(flat).index_add_(0, self.source, flat[self.target])
            flat = 0.5 * (flat + total / count.unsqueeze(1))
            if step in steps:
                out.append(flat.reshape(p.shape))
        return out


def joined(edge: Tensor) -> Joined:
    """The threads of bands [B, N, R] of classes."""
    b, n, _ = edge.shape
    row, node, place = edge.nonzero().T
    other = node - place - 1
    row, node, other, place = (x[other >= 0] for x in (row, node, other, place))
    kind = edge[row, node, place]
    source = torch.cat([row * n + node, row * n + other])
    target = torch.cat([row * n + other, row * n + node])
    by_source = source.argsort(stable=True)
    return Joined(source[by_source], target[by_source], kind.repeat(2)[by_source], b, n)


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


def gathered(values: Tensor, index: Tensor) -> Tensor:
    """Rows of [B, M, C] at [B, N, K] -> [B, N, K, C]."""
    b, n, k = index.shape
    flat = index.reshape(b, n * k, 1).expand(-1, -1, values.shape[-1])
    return values.gather(1, flat).reshape(b, n, k, -1)
