"""The first stage: a variational autoencoder of weights, one chunk (hidden unit) at a time.

D2NWG (Soro et al. 2024) encodes chunks of the flattened weights; here a chunk is what
belongs to one hidden unit, so that permuting units permutes latents. Shapes: B networks, N chunks
(H units and the last biases), W numbers a chunk, Z latent ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffcore import random
from diffcore.random import Rng


class ChunkCoder(nn.Module):
    """Encoder and decoder of chunks.

    Args:
        width: W.
        latent: Z.
        hidden: units of the networks.
    """

    mean: Tensor
    spread: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, width: int, latent: int, hidden: int = 192) -> None:
        super().__init__()
        self.width, self.latent = width, latent
        self.into = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.into_tail = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * latent))
        self.into_line = nn.Linear(width, latent, bias=False)
        self.out = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, width),
        )
        self.out_line = nn.Linear(latent, width, bias=False)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("scale", torch.ones(latent))

    @torch.no_grad()
    def start(self, chunks: Tensor) -> None:
        """Take the chunks' scale, and their principal components as first linear maps.

        Args:
            chunks: a sample of the data [n, W].
        """
        self.mean.copy_(chunks.mean(0))
        self.spread.copy_(chunks.std(0).clamp_min(0.1 * float(chunks.std())))
        z = (chunks - self.mean) / self.spread
        _, vectors = torch.linalg.eigh(z.T @ z / len(z))
        main = vectors.flip(1)[:, : self.latent]
        self.into_line.weight.copy_(main.T)
        self.out_line.weight.copy_(main)
        for last in (self.into_tail[-1], self.out[-1]):
            assert isinstance(last, nn.Linear)
            last.weight.mul_(0.1)
        tail = self.into_tail[-1]
        assert isinstance(tail, nn.Linear)
        tail.bias[self.latent :] = -6.0

    def encode(self, chunks: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [..., Z] of chunks [..., W], in the coder's own units."""
        x = (chunks - self.mean) / self.spread
        shift, log_var = self.into_tail(self.into(x)).split(self.latent, -1)
        return self.into_line(x) + shift, log_var.clamp(-12, 4)

    def decode(self, latent: Tensor) -> Tensor:
        """Chunks [..., W] of latents [..., Z] in the coder's own units."""
        made: Tensor = self.out_line(latent) + self.out(latent)
        return made * self.spread + self.mean

    def loss(self, chunks: Tensor, rng: Rng, weight: float = 1e-4) -> Tensor:
        """Squared error plus ``weight`` times the KL divergence (Kingma and Welling 2014).

        The error is in units of each number's spread; the prior is the standard normal.
        """
        mean, log_var = self.encode(chunks)
        latent = mean + (0.5 * log_var).exp() * random.normal(rng, mean)
        error = ((self.decode(latent) - chunks) / self.spread).square().mean()
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1).mean()
        return error + weight * kl

    @torch.no_grad()
    def standardise(self, chunks: Tensor) -> None:
        """Set what makes the latents of these chunks [n, W] have zero mean and unit variance."""
        latent = self.encode(chunks)[0]
        self.centre.copy_(latent.mean(0))
        self.scale.copy_(latent.std(0).clamp_min(1e-3))

    def to_latent(self, chunks: Tensor) -> Tensor:
        """Standardised latents [..., Z]."""
        return (self.encode(chunks)[0] - self.centre) / self.scale

    def end(self, probed: Tensor) -> Tensor:
        """Latents [B, N, Z] of where a probe's steps end, the last of what it says [..., W]."""
        return self.to_latent(probed[..., -self.width :])

    def from_latent(self, latent: Tensor) -> Tensor:
        """Chunks [..., W] of standardised latents."""
        return self.decode(latent * self.scale + self.centre)
