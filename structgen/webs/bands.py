"""Threads as a band: for every node, in the order of the web, its threads to nodes before it.

In the order of Cuthill and McKee (`order`) a thread joins nodes that are near: the adjacency matrix
is a band along the diagonal. A band of classes [N, R] is a web's graph, and grows with its nodes.

Shapes: B webs, N nodes, R places of the band: place d speaks for the node d + 1 before.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore.transformer import Size, TokenNetwork
from structgen.webs.task import CERTAIN, CLASSES
from structgen.webs.web import Web

WAVES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Periods of a web over which its nodes are told apart by their order."""


def band(web: Web, reach: int) -> Tensor:
    """Classes of the threads of a web whose nodes are in order [N, R]; 0 for none.

    Threads that reach further back are left out.
    """
    low, high = np.sort(web.edges, axis=1).T
    far = high - low
    kept = far <= reach
    out = torch.zeros(web.n_nodes, reach, dtype=torch.int64)
    at = torch.from_numpy(high[kept]), torch.from_numpy(far[kept] - 1)
    out[at] = torch.from_numpy(web.thread[kept].astype(np.int64)) + 1
    return out


def there(mask: Tensor, reach: int) -> Tensor:
    """Which places of the band speak for two nodes of the web [B, N, R]; webs fill up at the end.

    Args:
        mask: nodes [B, N].
        reach: R.
    """
    n = mask.shape[1]
    node = torch.arange(n, device=mask.device).unsqueeze(1)
    inside = node > torch.arange(reach, device=mask.device)
    return mask.unsqueeze(-1) & inside


def ahead(values: Tensor) -> Tensor:
    """What places [B, N, R, C] say of nodes after a node: place d of the node d + 1 after it."""
    n, reach = values.shape[1:3]
    wide = F.pad(values, (0, 0, 0, 0, 0, reach))
    return torch.stack([wide[:, d + 1 : d + 1 + n, d] for d in range(reach)], 2)


def before(values: Tensor) -> Tensor:
    """What nodes before a node say of it: of [B, N, R, C], place d of the node d + 1 before it."""
    n, reach = values.shape[1:3]
    wide = F.pad(values, (0, 0, 0, 0, reach, 0))
    return torch.stack([wide[:, reach - d - 1 : reach - d - 1 + n, d] for d in range(reach)], 2)


def ranked(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Where nodes are in the order of their web [B, N, 2 WAVES]."""
    count = mask.sum(1, keepdim=True).clamp_min(1).to(dtype)
    share = torch.arange(mask.shape[1], dtype=dtype, device=mask.device) / count
    phase = (
        2 * torch.pi * share.unsqueeze(-1) * torch.tensor(WAVES, dtype=dtype, device=mask.device)
    )
    return torch.cat([torch.sin(phase), torch.cos(phase)], -1)


class BandNetwork(nn.Module):
    """A transformer over nodes that reads and predicts their bands, for webs of any size.

    Args:
        size: of the transformer.
        reach: R.
        nodes: classes of a node.
        conditions: numbers that it is told.
    """

    KEY = 8
    """Features by which both nodes of a pair score its class."""

    def __init__(self, size: Size, reach: int, nodes: int, conditions: int) -> None:
        super().__init__()
        self.reach, self.nodes = reach, nodes
        wide = reach * CLASSES
        self.inner = TokenNetwork(
            size,
            2 * wide + nodes + 2 * len(WAVES),
            None,
            conditions,
            out=nodes + 2 * wide + 2 * CLASSES * self.KEY,
        )

    def forward(
        self, node: Tensor, edge: Tensor, time: Tensor, mask: Tensor, condition: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of the nodes [B, N, nodes] and of the band [B, N, R, CLASSES].

        Args:
            node: one-hot [B, N, nodes].
            edge: classes [B, N, R].
            time: [B].
            mask: [B, N]; webs fill up at the end.
            condition: [B, C], NaN where nothing is given.
        """
        b, n = mask.shape
        dtype = node.dtype
        exists = there(mask, self.reach).unsqueeze(-1)
        seen = F.one_hot(edge, CLASSES).to(dtype) * exists
        rows = torch.cat([seen.flatten(2), ahead(seen).flatten(2), node, ranked(mask, dtype)], -1)
        raw = self.inner(rows, condition, time.to(dtype), None, None if mask.all() else mask)
        wide, keys = self.reach * CLASSES, CLASSES * self.KEY
        held, mine, theirs, one, other = raw.split([self.nodes, wide, wide, keys, keys], -1)
        shape = (b, n, self.reach, CLASSES)
        logits = mine.reshape(shape) + before(theirs.reshape(shape))
        logits = logits + self._scores(one, other)
        sure = CERTAIN * F.one_hot(torch.zeros_like(edge), CLASSES).to(dtype)
        return held, torch.where(exists, logits, sure)

    def _scores(self, one: Tensor, other: Tensor) -> Tensor:
        """Products of the features of a node and of those before it [B, N, R, CLASSES]."""
        b, n, _ = one.shape
        one, other = (x.reshape(b, n, CLASSES, self.KEY) for x in (one, other))
        wide = F.pad(other, (0, 0, 0, 0, self.reach, 0))
        # windows [B, N, CLASSES, KEY, R]: place r is the node R - r before
        windows = wide.unfold(1, self.reach, 1)[:, :n]
        scores: Tensor = torch.einsum("bnck,bnckr->bnrc", one, windows).flip(2)
        return scores / math.sqrt(self.KEY)
