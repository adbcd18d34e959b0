"""The second stage: a set transformer that reads a labelled data set.

Lee et al. 2019 (Set Transformer): induced attention among the rows, then pooling by attention,
here within each class, as D2NWG does for images. Permuting rows changes nothing, but for the choice
of the 64 that the attention looks at; all rows enter the classes' moments. Shapes: B data sets,
S rows, D features, C classes, T tokens, E channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOOKED_AT = 64
"""Rows that the attention sees, the first ones; the classes' moments are those of all rows."""


class Attention(nn.Module):
    """Pre-normalised attention of queries [B, Q, E] to values [B, K, F], with a residual."""

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_source = nn.LayerNorm(width), nn.LayerNorm(source)
        self.query = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(source, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """``mask`` [B, Q or 1, K] is true where a query may look."""
        b, q, e = x.shape
        heard = self.norm_source(source)
        query = self.query(self.norm(x)).view(b, q, self.heads, -1).transpose(1, 2)
        key, value = (
            part.reshape(b, source.shape[1], self.heads, -1).transpose(1, 2)
            for part in self.pair(heard).chunk(2, -1)
        )
        seen = None if mask is None else mask.unsqueeze(1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        made: Tensor = x + self.out(out.transpose(1, 2).reshape(b, q, e))
        return made


class Feed(nn.Module):
    """Pre-normalised two-layer network with a residual."""

    def __init__(self, width: int, factor: int = 2) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, factor * width),
            nn.SiLU(),
            nn.Linear(factor * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, E] -> [B, N, E]."""
        out: Tensor = x + self.inner(x)
        return out


class SetEncoder(nn.Module):
    """Labelled rows -> tokens: ``seeds`` for each class and ``seeds`` for all rows.

    Args:
        inputs: D.
        classes: C.
        width: E of the tokens.
        inner: channels of a row.
        seeds: tokens a class.
        inducing: inducing points.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        width: int = 128,
        inner: int = 64,
        seeds: int = 2,
        inducing: int = 16,
    ) -> None:
        super().__init__()
        self.inputs, self.classes, self.seeds = inputs, classes, seeds
        self.embed = nn.Sequential(
            nn.Linear(inputs + classes, inner), nn.SiLU(), nn.Linear(inner, inner)
        )
        self.points = nn.Parameter(torch.randn(1, inducing, inner) * inner**-0.5)
        self.gather = Attention(inner, inner, 4)
        self.gather_feed = Feed(inner)
        self.spread = Attention(inner, inner, 4)
        self.spread_feed = Feed(inner)
        self.seed = nn.Parameter(torch.randn(1, classes * seeds + seeds, width) * width**-0.5)
        self.moments = nn.Linear(2 * inputs + 1, seeds * width)
        self.pool = Attention(width, inner, 4)
        self.pool_feed = Feed(width)
        self.mix = Attention(width, width, 4)
        self.mix_feed = Feed(width)
        self.summary = nn.Linear(width, 64)

    @property
    def tokens(self) -> int:
        """T."""
        return (self.classes + 1) * self.seeds

    def token_mask(self, present: Tensor) -> Tensor:
        """True where a token means something [B, T], for classes that are there [B, C]."""
        always = torch.ones(len(present), self.seeds, dtype=torch.bool, device=present.device)
        return torch.cat([present.repeat_interleave(self.seeds, 1), always], 1)

    def forward(self, x: Tensor, y: Tensor, present: Tensor) -> Tensor:
        """Tokens [B, T, E] of rows x [B, S, D] with classes y [B, S]; absent classes' are zero."""
        b = len(x)
        one = F.one_hot(y, self.classes).to(x.dtype)
        told = self.moments(class_moments(x, one)).reshape(b, self.classes * self.seeds, -1)
        x, one = x[:, :LOOKED_AT], one[:, :LOOKED_AT]
        rows = self.embed(torch.cat([x, one], -1))
        points = self.gather_feed(self.gather(self.points.expand(b, -1, -1), rows))
        rows = self.spread_feed(self.spread(rows, points))
        tokens = self.seed + torch.cat([told, told.new_zeros(b, self.seeds, told.shape[-1])], 1)
        same = one.transpose(1, 2).bool().repeat_interleave(self.seeds, 1)
        every = torch.ones(b, self.seeds, x.shape[1], dtype=torch.bool, device=x.device)
        look = torch.cat([same, every], 1)
        # a class without rows looks everywhere, lest its softmax be empty
        look = look | ~look.any(-1, keepdim=True)
        tokens = self.pool_feed(self.pool(tokens, rows, look))
        mask = self.token_mask(present)
        tokens = self.mix_feed(self.mix(tokens, tokens, mask.unsqueeze(1)))
        made: Tensor = tokens * mask.unsqueeze(-1)
        return made

    def describe(self, tokens: Tensor, present: Tensor) -> Tensor:
        """One unit vector [B, 64] for a data set: what the contrastive loss compares."""
        mask = self.token_mask(present).unsqueeze(-1).to(tokens.dtype)
        mean = (tokens * mask).sum(1) / mask.sum(1)
        return F.normalize(self.summary(mean), dim=-1)


def class_moments(x: Tensor, one: Tensor) -> Tensor:
    """Mean, log-variance and share of each class [B, C, 2 D + 1]; zero for absent ones."""
    count = one.sum(1).unsqueeze(-1)
    safe = count.clamp_min(1)
    mean = torch.einsum("bsc,bsd->bcd", one, x) / safe
    square = torch.einsum("bsc,bsd->bcd", one, x * x) / safe
    log_var = (square - mean.square()).clamp_min(1e-2).log()
    share = count / x.shape[1]
    return torch.cat([mean, log_var, share], -1) * (count > 0)
