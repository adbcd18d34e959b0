"""Places of a web whose threads are known: an equivariant network on neighbours.

Message passing in the manner of EGNN (Satorras, Hoogeboom and Welling 2021, eqs. 3-6) over K
neighbours, along threads and nearest in space, with what a node knows of the whole: the mean of all
nodes, its place in the second moments of the web, what it hears along the order of nodes (`along`),
the means of noisy places over walks along the threads, which noise leaves little of, and a first
sketch of the places. Axes enter as in `network`.

Shapes: B webs, N nodes, K neighbours, S channels of a node and P of a place in its list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from structgen.webs.along import OrderAttention
from structgen.webs.bands import WAVES, ranked
from structgen.webs.neighbours import gathered, joined, nearest
from structgen.webs.network import Frame, whole_web
from structgen.webs.task import CLASSES


@dataclass(frozen=True)
class SparseConfig:
    """Size of both networks.

    Attributes:
        width: features of a node in the transformer of the threads (`bands`).
        blocks: of that transformer.
        threads: neighbours of every node along threads.
        nearest: neighbours of every node in space.
        layers: message-passing layers.
        scalars: channels of a node.
        pairs: channels of a pair.
        heads: of the attention.
        radial: Gaussians of the distance.
        reach: up to where they are spread, in mean distances of neighbours in a sheet.
    """

    width: int = 128
    blocks: int = 5
    threads: int = 6
    nearest: int = 6
    layers: int = 4
    scalars: int = 64
    pairs: int = 24
    heads: int = 8
    radial: int = 12
    reach: float = 6.0


WALKS = (1, 4, 16, 64, 256)
"""Steps along threads over whose ends places are averaged."""

GUESSES = len(WALKS) + 1
"""The means over walks, and the sketch."""


def apart(near: Tensor, count: Tensor) -> Tensor:
    """How far neighbours [B, N, K] are in the order: in nodes, and in rows of the web [..., 2]."""
    here = torch.arange(near.shape[1], device=near.device).reshape(1, -1, 1)
    far = (near - here).to(count.dtype)
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
        sketch: first places [B, N, 3].
        guesses: places that walks along the threads leave, and the sketch, [B, N, 3] each.
    """

    mask: Tensor
    unit: Tensor
    frame: Frame
    level: Tensor
    near: Tensor
    real: Tensor
    sketch: Tensor
    guesses: tuple[Tensor, ...]

    def mean(self, x: Tensor) -> Tensor:
        """Over real nodes [B, 1, C] of [B, N, C]."""
        count = self.mask.sum(1).reshape(-1, 1, 1).clamp_min(1)
        return (x * self.mask.unsqueeze(-1)).sum(1, keepdim=True) / count


def seen(p: Tensor, whole: Whole, config: SparseConfig) -> tuple[Tensor, Tensor]:
    """Vectors to neighbours [B, N, K, 2, 3] and what is invariant of them [B, N, K, radial + 7].

    The second vector is that of the sketch.
    """
    away = gathered(p, whole.near) - p.unsqueeze(2)
    first = gathered(whole.sketch, whole.near) - whole.sketch.unsqueeze(2)
    length = torch.sqrt(away.pow(2).sum(-1) + 1e-8)
    relative = length / whole.unit
    width = config.reach / config.radial
    centres = width * torch.arange(config.radial, dtype=p.dtype, device=p.device)
    basis = torch.exp(-0.5 * ((relative.unsqueeze(-1) - centres) / width) ** 2)
    along = torch.einsum("bnkc,bac->bnka", away, whole.frame.axes)
    along = along.abs() * whole.frame.told.reshape(-1, 1, 1, 1) / whole.unit.unsqueeze(-1)
    rest = torch.stack([length.log1p(), relative.log()], -1)
    far = torch.sqrt(first.pow(2).sum(-1) + 1e-8)
    sketched = torch.stack([(far / whole.unit).log(), (away * first).sum(-1) / length / far], -1)
    told = torch.cat([rest, basis, along.clamp_max(config.reach), sketched], -1)
    return torch.stack([away, first], 3), told


def placed(p: Tensor, whole: Whole) -> tuple[Tensor, Tensor]:
    """A node's place in the whole: vectors [B, N, 3 + G, 3] and invariants [B, N, 6 + 2 G].

    The vectors are p, M p, M^2 p and those from p to the G guesses. M are the second moments over
    their trace: they know how flat the web is, and where its plane.
    """
    count = whole.mask.sum(1).reshape(-1, 1, 1).clamp_min(1)
    moments = torch.einsum("bni,bnj->bij", p * whole.mask.unsqueeze(-1), p) / count
    moments = moments / moments.diagonal(dim1=1, dim2=2).sum(-1).reshape(-1, 1, 1).clamp_min(1e-8)
    once = torch.einsum("bij,bnj->bni", moments, p)
    twice = torch.einsum("bij,bnj->bni", moments, once)
    products = torch.stack([(p * p).sum(-1), (p * once).sum(-1), (once * once).sum(-1)], -1)
    coordinates = torch.einsum("bnc,bac->bna", p, whole.frame.axes).abs()
    coordinates = coordinates * whole.frame.told.reshape(-1, 1, 1)
    away = [guess - p for guess in whole.guesses]
    far = [x.pow(2).sum(-1) for x in (*away, *whole.guesses)]
    told = torch.cat([products, coordinates, torch.stack(far, -1)], -1)
    return torch.stack([p, once, twice, *away], 2), told.log1p()


class SparseLayer(nn.Module):
    """One update of nodes, pairs and positions."""

    def __init__(self, config: SparseConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.norm, self.pair_norm = nn.LayerNorm(c.scalars), nn.LayerNorm(c.pairs)
        self.place = nn.Linear(6 + 2 * GUESSES, c.scalars)
        self.target = nn.Linear(c.scalars, c.pairs)
        self.source = nn.Linear(c.scalars, c.pairs + c.scalars, bias=False)
        self.pair = nn.Linear(c.pairs + c.radial + 7, c.pairs, bias=False)
        self.heads = nn.Linear(c.pairs, c.heads + 5 + c.pairs)
        self.update = nn.Sequential(
            nn.Linear(3 * c.scalars + c.pairs, 2 * c.scalars),
            nn.SiLU(),
            nn.Linear(2 * c.scalars, c.scalars),
        )
        self.steps = nn.Linear(c.scalars, 3 + GUESSES)
        self.along = OrderAttention(c.scalars, c.heads)

    def forward(
        self, s: Tensor, e: Tensor, p: Tensor, whole: Whole
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes [B, N, S], places of the lists [B, N, K, P] and positions [B, N, 3], updated."""
        c, real = self.config, whole.real
        rank = torch.arange(p.shape[1], device=p.device).expand(p.shape[:2])
        told, shift = self.along(s, p, rank, whole.mask > 0)
        s, p = s + told, p + whole.level * shift * whole.mask.unsqueeze(-1)
        away, invariants = seen(p, whole, c)
        vectors, place = placed(p, whole)
        h = self.norm(s) + self.place(place)
        theirs = gathered(self.source(h), whole.near)
        hidden = self.pair(torch.cat([self.pair_norm(e), invariants], -1))
        hidden = F.silu(hidden + self.target(h).unsqueeze(2) + theirs[..., : c.pairs])
        logits, gates, edge = self.heads(hidden).split([c.heads, 5, c.pairs], -1)
        weights = torch.softmax(logits.masked_fill(real.unsqueeze(-1) == 0, -1e9), 2)
        values = theirs[..., c.pairs :].unflatten(-1, (c.heads, -1))
        heard = (weights.unsqueeze(-1) * values).sum(2).flatten(-2)
        count = real.sum(2, keepdim=True).clamp_min(1)
        mean = (hidden * real.unsqueeze(-1)).sum(2) / count
        s = s + self.update(torch.cat([h, heard, mean, whole.mean(h).expand_as(h)], -1))
        axes, gates = whole.frame.axes, gates.tanh() * real.unsqueeze(-1)
        along = torch.einsum("bnkc,bac->bnka", away[..., 0, :], axes)
        along = along * whole.frame.told.reshape(-1, 1, 1, 1)
        by_axis = torch.einsum("bnka,bac->bnkc", along * gates[..., 2:], axes)
        move = ((gates[..., :2].unsqueeze(-1) * away).sum(3) + by_axis).sum(2) / count
        move = move + (self.steps(h).tanh().unsqueeze(-1) * vectors).sum(2)
        return s, e + edge, p + whole.level * move * whole.mask.unsqueeze(-1)


class SparseNetwork(nn.Module):
    """Embeddings and layers.

    Args:
        config: the size.
        nodes: classes of a node.
        conditions: numbers given for a whole web; NaN for one that is not given.
        axial: which of them speak of the axes x, y, z.
    """

    def __init__(
        self, config: SparseConfig, nodes: int, conditions: int, axial: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        c = config
        self.config, self.axial = c, tuple(axial)
        self.embed = nn.Linear(nodes + 2 * conditions + 13 + 2 * len(WAVES), c.scalars)
        self.embed_pair = nn.Linear(CLASSES + 2, c.pairs)
        self.layers = nn.ModuleList(SparseLayer(c) for _ in range(c.layers))

    def forward(
        self,
        pos: Tensor,
        sketch: Tensor,
        node: Tensor,
        edge: Tensor,
        times: Mapping[str, Tensor],
        mask: Tensor,
        condition: Tensor,
    ) -> Tensor:
        """The clean places [B, N, 3].

        Args:
            pos: noisy differences from the sketch [B, N, 3], centred.
            sketch: first places [B, N, 3], centred.
            node: one-hot [B, N, nodes].
            edge: classes of the band [B, N, R].
            times: [B] of the fields ``pos``, ``anchor``, ``edge``.
            mask: [B, N].
            condition: [B, C], NaN where nothing is given.
        """
        b, n = mask.shape
        count = mask.sum(1, keepdim=True).to(pos.dtype)
        t, told, everything = whole_web(times, condition, self.axial, count / 300)
        threads = joined(edge)
        along, kind = threads.lists(self.config.threads)
        near = torch.cat([along, nearest(sketch, mask, self.config.nearest)], -1)
        kind = F.pad(kind, (0, self.config.nearest))
        itself = torch.arange(n, device=near.device).reshape(1, n, 1)
        axes = torch.eye(3, dtype=pos.dtype, device=pos.device).expand(b, 3, 3)
        level = t[:, 0].reshape(-1, 1, 1)
        whole = Whole(
            mask.to(pos.dtype),
            count.clamp_min(1).rsqrt().reshape(-1, 1, 1),
            Frame(axes, told),
            level,
            near,
            (near != itself).to(pos.dtype),
            sketch,
            (*threads.walked(sketch + pos / (1 - level).clamp_min(0.1), WALKS), sketch),
        )
        everywhere = everything.unsqueeze(1).expand(b, n, -1)
        s = self.embed(torch.cat([node, everywhere, ranked(mask, pos.dtype)], -1))
        kinds = F.one_hot(kind, CLASSES).to(pos.dtype)
        e, p = self.embed_pair(torch.cat([kinds, apart(near, count)], -1)), sketch + pos
        for layer in self.layers:
            s, e, p = layer(s, e, p, whole)
        return p
