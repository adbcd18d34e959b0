"""An equivariant network on the nearest neighbours of every node, for webs of up to 2,000 nodes.

Message passing in the manner of EGNN (Satorras, Hoogeboom and Welling 2021, eqs. 3-6) over K
neighbours, with what a node knows of the whole: the mean of all nodes, its place in the second
moments of the web, and what it hears along the order of nodes (`along`). Axes enter as in
`network`.

Shapes: B webs, N nodes, K neighbours, S channels of a node and P of a place in its list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from structgen.webs.along import OrderAttention
from structgen.webs.neighbours import gathered, paired, with_chain
from structgen.webs.network import Frame, whole_web


@dataclass(frozen=True)
class SparseConfig:
    """Size of the network.

    Attributes:
        neighbours: of every node.
        layers: message-passing layers.
        scalars: channels of a node.
        pairs: channels of a pair.
        heads: of the attention.
        radial: Gaussians of the distance.
        reach: up to where they are spread, in mean distances of neighbours in a sheet.
    """

    neighbours: int = 16
    layers: int = 5
    scalars: int = 64
    pairs: int = 32
    heads: int = 8
    radial: int = 12
    reach: float = 6.0


WAVES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Periods of a web over which its nodes are told apart by their order."""


def ranked(rank: Tensor, count: Tensor) -> Tensor:
    """Where nodes are in the order [B, N, 2 WAVES] of ranks [B, N] and numbers of nodes [B, 1]."""
    share = (rank.to(count.dtype) / count.clamp_min(1)).unsqueeze(-1)
    phase = 2 * torch.pi * share * torch.tensor(WAVES, dtype=count.dtype, device=count.device)
    return torch.cat([torch.sin(phase), torch.cos(phase)], -1)


def apart(rank: Tensor, near: Tensor, count: Tensor) -> Tensor:
    """How far neighbours [B, N, K] are in the order: in nodes, and in rows of the web [..., 2]."""
    theirs = rank.gather(1, near.flatten(1)).reshape(near.shape)
    far = (theirs - rank.unsqueeze(-1)).to(count.dtype)
    return torch.stack([torch.asinh(far), far / count.clamp_min(1).sqrt().unsqueeze(-1)], -1)


@dataclass(frozen=True)
class Whole:
    """What layers share.

    Attributes:
        mask: [B, N] as floats.
        unit: expected distance of neighbours [B, 1, 1]: 1 / sqrt(N) for points of unit spread.
        frame: axes that conditions speak of.
        level: noise of the positions [B, 1, 1].
        near: neighbours [B, N, K].
        real: 1 for those that are another node [B, N, K].
        rank: place of every node in the order [B, N].
    """

    mask: Tensor
    unit: Tensor
    frame: Frame
    level: Tensor
    near: Tensor
    real: Tensor
    rank: Tensor

    def mean(self, x: Tensor) -> Tensor:
        """Over real nodes [B, 1, C] of [B, N, C]."""
        count = self.mask.sum(1).reshape(-1, 1, 1).clamp_min(1)
        return (x * self.mask.unsqueeze(-1)).sum(1, keepdim=True) / count


def seen(p: Tensor, whole: Whole, config: SparseConfig) -> tuple[Tensor, Tensor]:
    """Vectors to neighbours [B, N, K, 3] and what is invariant of them [B, N, K, radial + 5]."""
    away = gathered(p, whole.near) - p.unsqueeze(2)
    length = torch.sqrt(away.pow(2).sum(-1) + 1e-8)
    relative = length / whole.unit
    width = config.reach / config.radial
    centres = width * torch.arange(config.radial, dtype=p.dtype, device=p.device)
    basis = torch.exp(-0.5 * ((relative.unsqueeze(-1) - centres) / width) ** 2)
    along = torch.einsum("bnkc,bac->bnka", away, whole.frame.axes)
    along = along.abs() * whole.frame.told.reshape(-1, 1, 1, 1) / whole.unit.unsqueeze(-1)
    rest = torch.stack([length.log1p(), relative.log()], -1)
    return away, torch.cat([rest, basis, along.clamp_max(config.reach)], -1)


def placed(p: Tensor, whole: Whole) -> tuple[Tensor, Tensor]:
    """A node's place in the whole: vectors [B, N, 3, 3] (p, M p, M^2 p) and invariants [B, N, 6].

    M are the second moments over their trace: they know how flat the web is, and where its plane.
    """
    count = whole.mask.sum(1).reshape(-1, 1, 1).clamp_min(1)
    moments = torch.einsum("bni,bnj->bij", p * whole.mask.unsqueeze(-1), p) / count
    moments = moments / moments.diagonal(dim1=1, dim2=2).sum(-1).reshape(-1, 1, 1).clamp_min(1e-8)
    once = torch.einsum("bij,bnj->bni", moments, p)
    twice = torch.einsum("bij,bnj->bni", moments, once)
    products = torch.stack([(p * p).sum(-1), (p * once).sum(-1), (once * once).sum(-1)], -1)
    coordinates = torch.einsum("bnc,bac->bna", p, whole.frame.axes).abs()
    coordinates = coordinates * whole.frame.told.reshape(-1, 1, 1)
    return torch.stack([p, once, twice], 2), torch.cat([products, coordinates], -1).log1p()


class SparseLayer(nn.Module):
    """One update of nodes, pairs and positions."""

    def __init__(self, config: SparseConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.norm, self.pair_norm = nn.LayerNorm(c.scalars), nn.LayerNorm(c.pairs)
        self.place = nn.Linear(6, c.scalars)
        self.target = nn.Linear(c.scalars, c.pairs)
        self.source = nn.Linear(c.scalars, c.pairs + c.scalars, bias=False)
        self.pair = nn.Linear(c.pairs + c.radial + 5, c.pairs, bias=False)
        self.heads = nn.Linear(c.pairs, c.heads + 4 + c.pairs)
        self.update = nn.Sequential(
            nn.Linear(3 * c.scalars + c.pairs, 2 * c.scalars),
            nn.SiLU(),
            nn.Linear(2 * c.scalars, c.scalars),
        )
        self.steps = nn.Linear(c.scalars, 3)
        self.along = OrderAttention(c.scalars, c.heads)

    def forward(
        self, s: Tensor, e: Tensor, p: Tensor, whole: Whole
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes [B, N, S], places of the lists [B, N, K, P] and positions [B, N, 3], updated."""
        c, real = self.config, whole.real
        told, shift = self.along(s, p, whole.rank, whole.mask > 0)
        s, p = s + told, p + whole.level * shift * whole.mask.unsqueeze(-1)
        away, invariants = seen(p, whole, c)
        vectors, place = placed(p, whole)
        h = self.norm(s) + self.place(place)
        theirs = gathered(self.source(h), whole.near)
        hidden = self.pair(torch.cat([self.pair_norm(e), invariants], -1))
        hidden = F.silu(hidden + self.target(h).unsqueeze(2) + theirs[..., : c.pairs])
        logits, gates, edge = self.heads(hidden).split([c.heads, 4, c.pairs], -1)
        weights = torch.softmax(logits.masked_fill(real.unsqueeze(-1) == 0, -1e9), 2)
        values = theirs[..., c.pairs :].unflatten(-1, (c.heads, -1))
        heard = (weights.unsqueeze(-1) * values).sum(2).flatten(-2)
        count = real.sum(2, keepdim=True).clamp_min(1)
        mean = (hidden * real.unsqueeze(-1)).sum(2) / count
        s = s + self.update(torch.cat([h, heard, mean, whole.mean(h).expand_as(h)], -1))
        axes, gates = whole.frame.axes, gates.tanh() * real.unsqueeze(-1)
        along = torch.einsum("bnkc,bac->bnka", away, axes) * whole.frame.told.reshape(-1, 1, 1, 1)
        by_axis = torch.einsum("bnka,bac->bnkc", along * gates[..., 1:], axes)
        move = (gates[..., :1] * away + by_axis).sum(2) / count
        move = move + (self.steps(h).tanh().unsqueeze(-1) * vectors).sum(2)
        return s, e + edge, p + whole.level * move * whole.mask.unsqueeze(-1)


class SparseNetwork(nn.Module):
    """Embeddings, layers and heads.

    Args:
        config: the size.
        nodes: classes of a node.
        pairs: classes of a pair.
        conditions: numbers given for a whole web; NaN for one that is not given.
        axial: which of them speak of the axes x, y, z.
    """

    def __init__(
        self,
        config: SparseConfig,
        nodes: int,
        pairs: int,
        conditions: int,
        axial: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        c = config
        self.config, self.axial = c, tuple(axial)
        self.embed = nn.Linear(nodes + 2 * conditions + 13 + 2 * len(WAVES), c.scalars)
        self.embed_pair = nn.Linear(pairs + 3, c.pairs)
        self.layers = nn.ModuleList(SparseLayer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.scalars)
        self.head_node = nn.Linear(c.scalars, nodes)
        self.head_sum = nn.Linear(c.scalars, c.pairs)
        self.head_pair = nn.Sequential(
            nn.Linear(2 * c.pairs + c.radial + 5, c.pairs), nn.SiLU(), nn.Linear(c.pairs, pairs)
        )

    def forward(
        self,
        pos: Tensor,
        node: Tensor,
        pair: Tensor,
        times: Mapping[str, Tensor],
        mask: Tensor,
        condition: Tensor,
        near: Tensor | None = None,
        rank: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict every field.

        Pairs are seen and predicted in the lists of ``near``. While positions are noisy, pairs are
        not looked at, and lists hold half the nearest nodes, as far as these can be told, and half
        those before and behind in the order of nodes, which noise does not hide.

        Args:
            pos: [B, N, 3], centred.
            node: one-hot [B, N, nodes].
            pair: one-hot [B, N, K, pairs], of the places that speak for their pair.
            times: [B] of the fields ``pos``, ``anchor``, ``edge``.
            mask: [B, N].
            condition: [B, C], NaN where nothing is given.
            near: neighbours [B, N, K].
            rank: place of every node in the order of the web (`order`) [B, N]; as they come by
                default.

        Returns:
            ``pos`` [B, N, 3] and logits of ``anchor`` [B, N, nodes] and ``edge`` [B, N, K, pairs],
            where a place that does not speak for a pair is sure of class 0.
        """
        b, n = mask.shape
        count = mask.sum(1, keepdim=True).to(pos.dtype)
        t, told, everything = whole_web(times, condition, self.axial, count / 300)
        still = (t[:, 0] == 0).reshape(-1, 1, 1)
        if rank is None:
            rank = torch.arange(n, device=mask.device).expand(b, n)
        now = with_chain(pos, mask, rank, self.config.neighbours)
        near = now if near is None else torch.where(still, near, now)
        owner, twin = paired(near)
        real = (near != torch.arange(n, device=near.device).reshape(1, n, 1)).to(pos.dtype)
        axes = torch.eye(3, dtype=pos.dtype, device=pos.device).expand(b, 3, 3)
        whole = Whole(
            mask.to(pos.dtype),
            count.clamp_min(1).rsqrt().reshape(-1, 1, 1),
            Frame(axes, told),
            t[:, 0].reshape(-1, 1, 1),
            near,
            real,
            rank,
        )
        everywhere = everything.unsqueeze(1).expand(b, n, -1)
        s = self.embed(torch.cat([node, everywhere, ranked(rank, count)], -1))
        looked = pair * still.unsqueeze(-1)
        looked = gathered(looked.flatten(1, 2), twin)
        at = still.to(pos.dtype).unsqueeze(-1).expand(*near.shape, 1)
        e = self.embed_pair(torch.cat([looked, at, apart(rank, near, count)], -1))
        p = pos
        for layer in self.layers:
            s, e, p = layer(s, e, p, whole)
        s = self.norm(s)
        shared = self.head_sum(s)
        _, invariants = seen(p, whole, self.config)
        other = gathered(e.flatten(1, 2), twin)
        both = F.silu(shared.unsqueeze(2) + gathered(shared, near))
        logits = self.head_pair(torch.cat([0.5 * (e + other), both, invariants], -1))
        sure = 30.0 * F.one_hot(torch.zeros_like(near), logits.shape[-1]).to(logits.dtype)
        logits = torch.where(owner.unsqueeze(-1), logits, sure)
        return {"pos": p, "anchor": self.head_node(s), "edge": logits}
