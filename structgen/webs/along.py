"""Attention of all nodes of a web along their order, equivariant, for `sparse`.

Message passing on near neighbours cannot place what is still noise. Here every node hears every
other one: by where both are in the order (rotary phases; Su et al. 2021) and by how far apart they
are, the points of invariant point attention (Jumper et al. 2021, algorithm 22) without frames. What
is heard are scalars and mean positions, so that rotations and reflections commute.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore.transformer import frequencies, turned

CHANNELS = 16
"""Of a head."""


class OrderAttention(nn.Module):
    """One round in which every node hears every other.

    Args:
        scalars: channels S of a node.
        heads: H of the attention.
    """

    frequencies: Tensor

    def __init__(self, scalars: int, heads: int) -> None:
        super().__init__()
        self.heads, self.width = heads, CHANNELS
        self.norm = nn.LayerNorm(scalars)
        self.into = nn.Linear(scalars, 3 * heads * self.width, bias=False)
        self.nearness = nn.Linear(scalars, heads)
        self.heard = nn.Linear(heads * (self.width + 2), scalars)
        self.steps = nn.Linear(scalars, heads)
        self.register_buffer("frequencies", frequencies(self.width))
        nn.init.zeros_(self.steps.weight)
        nn.init.zeros_(self.steps.bias)

    def forward(self, s: Tensor, p: Tensor, rank: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Updates of nodes [B, N, S] and of positions [B, N, 3].

        Args:
            s: [B, N, S].
            p: [B, N, 3], centred, of unit spread.
            rank: [B, N].
            mask: [B, N] bool.
        """
        b, n, _ = s.shape
        h = self.norm(s)
        q, k, v = self.into(h).view(b, n, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        phase = (rank.to(s.dtype).unsqueeze(-1) * self.frequencies).unsqueeze(1)
        scale = self.width**-0.5
        q, k = scale * turned(q, phase), turned(k, phase)
        # -a |p_i - p_j|^2, but for what is the same for every j, as a product of features
        near = F.softplus(self.nearness(h)).transpose(1, 2).unsqueeze(-1)  # [B, H, N, 1]
        places = p.unsqueeze(1).expand(b, self.heads, n, 3)
        q = torch.cat([q, 2 * near * places, near], -1)
        k = torch.cat([k, places, -places.square().sum(-1, keepdim=True)], -1)
        # one channel more, so that all three have one width: five times as fast on a CPU
        v = F.pad(torch.cat([v, places], -1), (0, 1))
        made = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :], scale=1.0)
        values, means, _ = made.split([self.width, 3, 1], -1)
        away = (means - places).transpose(1, 2)  # [B, N, H, 3]
        far = away.square().sum(-1)
        inner = (away * p.unsqueeze(2)).sum(-1)
        said = torch.cat([values.transpose(1, 2).flatten(2), far.log1p(), inner], -1)
        move = (self.steps(h).unsqueeze(-1) * away).sum(2)
        out: Tensor = self.heard(said)
        return out, move
