"""One transformer for every model of tokens: it is told tokens, numbers and a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """Of the network.

    Attributes:
        width: features of a token.
        layers: blocks.
        heads: of the attention.
    """

    width: int = 160
    layers: int = 5
    heads: int = 5


PERIODS = (3.0, 3000.0)
"""Shortest and longest period of rotary phases, in tokens."""


def turned(x: Tensor, phase: Tensor) -> Tensor:
    """Pairs of channels [..., L, 2 C] turned by phases [..., L, C] (rotary; Su et al. 2021)."""
    one, other = x.chunk(2, -1)
    cos, sin = phase.cos(), phase.sin()
    return torch.cat([one * cos - other * sin, one * sin + other * cos], -1)


def frequencies(channels: int) -> Tensor:
    """Of rotary phases [channels / 2]: periods spread evenly in their logarithm."""
    low, high = PERIODS
    return 2 * torch.pi / (low * (high / low) ** torch.linspace(0, 1, channels // 2))


class Block(nn.Module):
    """Attention and a gated layer, both modulated by what the network is told (DiT, 2023)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        d = size.width
        self.heads = size.heads
        self.first = nn.LayerNorm(d, elementwise_affine=False)
        self.second = nn.LayerNorm(d, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.inner = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.told = nn.Linear(d, 6 * d)
        nn.init.zeros_(self.told.weight)
        nn.init.zeros_(self.told.bias)

    def forward(
        self,
        h: Tensor,
        told: Tensor,
        causal: bool,
        phase: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Tokens [B, L, D] told [B, D] -> [B, L, D].

        Args:
            h: tokens.
            told: what modulates them.
            causal: no token sees a later one.
            phase: of every token [L, D / heads / 2], for rotary attention.
            mask: tokens that are there [B, L]; all by default.
        """
        a, b, c, d, e, f = self.told(F.silu(told)).unsqueeze(1).chunk(6, -1)
        x = self.first(h) * (1 + a) + b
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        if phase is not None:
            q, k = turned(q, phase), turned(k, phase)
        seen = None if mask is None else mask[:, None, None, :]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal)
        h = h + (1 + c) * self.out(x.transpose(1, 2).flatten(-2))
        x = self.second(h) * (1 + d) + e
        out: Tensor = h + (1 + f) * self.inner(x)
        return out


class TokenNetwork(nn.Module):
    """Tokens, numbers and a time to logits of the tokens, or to the numbers.

    Args:
        size: of the network.
        classes: of a token.
        length: tokens of a row, at most; None if tokens are told apart by rotary phases, for rows
            of any length.
        numbers: that it is told, and that it predicts if ``reads``.
        out: features that are predicted of a token; its classes by default.
        causal: no token sees a later one.
        reads: the output are numbers, not logits.
        both: there is a second head, for the numbers: see `both`.
    """

    turns: Tensor | None

    def __init__(
        self,
        size: Size,
        classes: int,
        length: int | None,
        numbers: int,
        *,
        out: int | None = None,
        causal: bool = False,
        reads: bool = False,
        both: bool = False,
    ) -> None:
        super().__init__()
        d = size.width
        self.causal, self.reads = causal, reads
        self.token, self.previous = nn.Linear(classes, d), nn.Linear(classes, d, bias=False)
        if length is not None:
            self.place = nn.Parameter(0.02 * torch.randn(length, d))
        turns = None if length is not None else frequencies(d // size.heads)
        self.register_buffer("turns", turns, persistent=False)
        self.told = nn.Sequential(nn.Linear(2 * numbers + 17, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, numbers if reads else classes if out is None else out)
        if both:
            self.answer = nn.Sequential(nn.Linear(2 * d, d), nn.SiLU(), nn.Linear(d, numbers))

    def forward(
        self,
        features: Tensor,
        numbers: Tensor,
        time: Tensor,
        previous: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """See the class.

        Args:
            features: one-hot or noisy [B, L, K].
            numbers: [B, P], NaN where not told.
            time: [B].
            previous: the last prediction [B, L, K].
            mask: tokens that are there [B, L]; all by default.

        Returns:
            [B, L, K] (``out`` in place of K if given), or [B, P].
        """
        h, told = self._hidden(features, numbers, time, previous, mask)
        if self.reads:
            h = h.mean(1) + told
        out: Tensor = self.head(self.norm(h))
        return out

    def both(
        self, features: Tensor, numbers: Tensor, time: Tensor, last: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits [B, L, K] and numbers [B, P]: what a causal network makes of the whole row.

        Args:
            features: as for the network.
            numbers: as for the network.
            time: [B].
            last: first place [B] that sees every symbol.
        """
        h = self.norm(self._hidden(features, numbers, time, None)[0])
        seen = (torch.arange(h.shape[1], device=h.device) <= last.unsqueeze(1)).to(h.dtype)
        mean = (h * seen.unsqueeze(2)).sum(1) / seen.sum(1, keepdim=True)
        end = h[torch.arange(len(h), device=h.device), last]
        return self.head(h), self.answer(torch.cat([mean, end], 1))

    def _hidden(
        self,
        features: Tensor,
        numbers: Tensor,
        time: Tensor,
        previous: Tensor | None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features of the tokens [B, L, D] and of what was told [B, D]."""
        known = ~numbers.isnan()
        angles = time.unsqueeze(1) * torch.pi * 2.0 ** torch.arange(-1, 7, device=time.device)
        waves = torch.cat([time.unsqueeze(1), angles.sin(), angles.cos()], 1)
        told = self.told(torch.cat([numbers.nan_to_num(0.0), known.to(waves.dtype), waves], 1))
        h, phase = self.token(features), None
        if self.turns is None:
            h = h + self.place[: features.shape[1]]
        else:
            at = torch.arange(features.shape[1], dtype=h.dtype, device=h.device)
            phase = at.unsqueeze(1) * self.turns
        if previous is not None:
            h = h + self.previous(previous)
        for block in self.blocks:
            h = block(h, told, self.causal, phase, mask)
        return h, told
