"""An equivariant network on dense batches of webs: positions, node classes and pair classes.

A message-passing network in the manner of EGNN (Satorras, Hoogeboom and Welling 2021, eqs. 3-6)
with states on all pairs and attention over neighbours. Axes enter only through |d . e_k| and steps
along e_k, and only in rows that are told a condition on an axis: without one the network commutes
with rotations, reflections and translations; with one it does so if the axes are turned along.

Shapes: B webs, N nodes, S scalar and P pair channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkConfig:
    """Size of the network.

    Attributes:
        layers: message-passing layers.
        scalars: channels of a node.
        pairs: channels of a pair.
        heads: of the attention.
        radial: Gaussians of the distance.
        reach: up to where they are spread, in units of the positions.
    """

    layers: int = 4
    scalars: int = 64
    pairs: int = 24
    heads: int = 8
    radial: int = 10
    reach: float = 6.0


@dataclass(frozen=True)
class Frame:
    """Axes that conditions speak of.

    Attributes:
        axes: unit vectors [B, 3, 3], one a row.
        told: 1 where the network may see them [B].
    """

    axes: Tensor
    told: Tensor

    def places(self, p: Tensor) -> Tensor:
        """Coordinates along the axes [B, N, 3], 0 where the axes may not be seen."""
        along = torch.einsum("bic,bkc->bik", p, self.axes)
        return along * self.told.reshape(-1, 1, 1)


def invariants_of(p: Tensor, frame: Frame, config: NetworkConfig) -> tuple[Tensor, Tensor]:
    """Distances [B, N, N] of points [B, N, 3], and invariants [B, N, N, radial + 4] of pairs."""
    square = (p.unsqueeze(2) - p.unsqueeze(1)).pow(2).sum(-1)
    distance = torch.sqrt(square + 1e-6)
    width = config.reach / config.radial
    centres = width * torch.arange(config.radial, dtype=p.dtype, device=p.device)
    basis = torch.exp(-0.5 * ((distance.unsqueeze(-1) - centres) / width) ** 2)
    along = frame.places(p)
    across = (along.unsqueeze(2) - along.unsqueeze(1)).abs()
    return distance, torch.cat([distance.unsqueeze(-1), basis, across], -1)


def moved(p: Tensor, weights: Tensor, frame: Frame) -> Tensor:
    """Sum over j of w_ij0 (p_i - p_j) and of w_ijk ((p_i - p_j) . e_k) e_k: [B, N, 3].

    ``weights`` is [B, N, N, 4].
    """
    first = weights[..., 0]
    step = p * first.sum(2, keepdim=True) - torch.matmul(first, p)
    along, others = frame.places(p), weights[..., 1:]
    by_axis = along * others.sum(2) - torch.einsum("bijk,bjk->bik", others, along)
    return step + torch.einsum("bik,bkc->bic", by_axis, frame.axes)


FIELDS = ("pos", "anchor", "edge")
"""Whose times the networks are told."""


def whole_web(
    times: Mapping[str, Tensor], condition: Tensor, axial: tuple[int, ...], size: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What is told of a whole web: times [B, 12], 1 where axes may be seen [B], and all [B, E].

    Args:
        times: [B] of `FIELDS`.
        condition: [B, C], NaN where nothing is given.
        axial: which of them speak of the axes.
        size: nodes over a usual number of them [B, 1].
    """
    t = torch.stack([times[k] for k in FIELDS], -1).to(size.dtype)
    t = torch.cat([t, torch.sin(torch.pi * t), torch.cos(torch.pi * t), (t + 1e-3).log()], -1)
    given = ~condition.isnan()
    told = given[:, list(axial)].any(-1).to(t.dtype) if axial else torch.zeros_like(t[:, 0])
    known = torch.cat([condition.nan_to_num(0.0), given.to(t.dtype)], -1)
    return t, told, torch.cat([known, t, size.log()], -1)


class WebLayer(nn.Module):
    """One update of scalars, pairs and positions."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.norm, self.pair_norm = nn.LayerNorm(c.scalars), nn.LayerNorm(c.pairs)
        self.target = nn.Linear(c.scalars, c.pairs)
        self.source = nn.Linear(c.scalars, c.pairs, bias=False)
        self.pair = nn.Linear(c.pairs + c.radial + 4, c.pairs, bias=False)
        self.heads = nn.Linear(c.pairs, c.heads + 4 + c.pairs)
        self.value = nn.Linear(c.scalars, c.scalars)
        self.update = nn.Sequential(
            nn.Linear(2 * c.scalars + c.pairs, 2 * c.scalars),
            nn.SiLU(),
            nn.Linear(2 * c.scalars, c.scalars),
        )

    def forward(
        self,
        s: Tensor,
        e: Tensor,
        p: Tensor,
        pair: Tensor,
        level: Tensor,
        frame: Frame,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``pair`` [B, N, N] is 1 for real pairs; ``level`` [B, 1, 1] the noise of positions."""
        b, n, size = s.shape
        distance, invariants = invariants_of(p, frame, self.config)
        h = self.norm(s)
        hidden = self.pair(torch.cat([self.pair_norm(e), invariants], -1))
        hidden = F.silu(hidden + self.target(h).unsqueeze(2) + self.source(h).unsqueeze(1))
        c = self.config
        logits, gates, edge = self.heads(hidden).split([c.heads, 4, c.pairs], -1)
        count = pair.sum(2, keepdim=True).clamp_min(1)
        off = (pair.unsqueeze(1) - 1) * 1e9
        weights = torch.softmax(logits.permute(0, 3, 1, 2) + off, -1)
        value = self.value(h).reshape(b, n, c.heads, -1).permute(0, 2, 1, 3)
        heard = torch.matmul(weights, value).permute(0, 2, 1, 3).reshape(b, n, size)
        mean = (hidden * pair.unsqueeze(-1)).sum(2) / count
        s = s + self.update(torch.cat([h, heard, mean], -1))
        move = moved(p, gates * (pair / (1 + distance)).unsqueeze(-1), frame) / count
        return s, e + edge + edge.transpose(1, 2), p + level * move


class WebNetwork(nn.Module):
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
        config: NetworkConfig,
        nodes: int,
        pairs: int,
        conditions: int,
        axial: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        c = config
        self.config, self.nodes, self.pairs, self.axial = c, nodes, pairs, tuple(axial)
        self.embed = nn.Linear(nodes + 2 * conditions + 13, c.scalars)
        self.embed_pair = nn.Linear(pairs + 12, c.pairs)
        self.layers = nn.ModuleList(WebLayer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.scalars)
        self.head_node = nn.Linear(c.scalars, nodes)
        self.head_sum = nn.Linear(c.scalars, c.pairs)
        self.head_pair = nn.Sequential(
            nn.Linear(c.pairs + c.radial + 4, c.pairs), nn.SiLU(), nn.Linear(c.pairs, pairs)
        )

    def forward(
        self,
        pos: Tensor,
        node: Tensor,
        pair: Tensor,
        times: Mapping[str, Tensor],
        mask: Tensor,
        condition: Tensor,
        axes: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict every field.

        Args:
            pos: [B, N, 3], centred.
            node: one-hot [B, N, nodes].
            pair: one-hot [B, N, N, pairs], symmetric.
            times: [B] of the fields ``pos``, ``anchor``, ``edge``.
            mask: [B, N].
            condition: [B, C], NaN where nothing is given.
            axes: unit vectors that the axial conditions speak of [B, 3, 3]; x, y, z by default.

        Returns:
            ``pos`` [B, N, 3] and logits of ``anchor`` [B, N, nodes] and ``edge`` [B, N, N, pairs].
        """
        b, n = mask.shape
        real = mask.to(pos.dtype)
        eye = torch.eye(n, dtype=pos.dtype, device=pos.device)
        pairs = real.unsqueeze(1) * real.unsqueeze(2) * (1 - eye)
        size = real.sum(1, keepdim=True) / 30
        t, told, whole = whole_web(times, condition, self.axial, size)
        whole = whole.unsqueeze(1).expand(b, n, -1)
        s = self.embed(torch.cat([node, whole], -1))
        e = self.embed_pair(torch.cat([pair, t[:, None, None].expand(b, n, n, -1)], -1))
        level = times["pos"].to(pos.dtype).reshape(-1, 1, 1)
        axes = eye.new_tensor(torch.eye(3).tolist()).expand(b, 3, 3) if axes is None else axes
        p, frame = pos, Frame(axes, told)
        for layer in self.layers:
            s, e, p = layer(s, e, p, pairs, level, frame)
        s = self.norm(s)
        shared = self.head_sum(s)
        _, invariants = invariants_of(p, frame, self.config)
        both = F.silu(e + shared.unsqueeze(1) + shared.unsqueeze(2))
        logits = self.head_pair(torch.cat([both, invariants], -1))
        return {"pos": p, "anchor": self.head_node(s), "edge": logits}
