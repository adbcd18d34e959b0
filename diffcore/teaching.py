"""Processes as a trainer needs them, where that is not what a sampler needs.

A causal network sees the clean row and hides from itself what comes later; a head that regresses
sees nothing of its numbers, one that ranks nothing of how good its candidates are. All are taught
by the shared objective under these wrappers.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore.domains import Domain
from diffcore.processes import Process
from diffcore.random import Rng
from diffcore.schedules import Schedule


@dataclass(frozen=True)
class Taught(ABC):
    """A process as a trainer needs it; samplers use the inner one, and so does all but the loss.

    Attributes:
        inner: what the sampler uses.
    """

    inner: Process

    @abstractmethod
    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """What the network is shown."""

    @abstractmethod
    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean loss of the prediction per element, [B]."""

    @property
    def schedule(self) -> Schedule:
        """Of the inner process."""
        return self.inner.schedule

    @property
    def domain(self) -> Domain:
        """Of the inner process."""
        return self.inner.domain

    def prior(self, mask: Tensor, rng: Rng) -> Tensor:
        """Of the inner process."""
        return self.inner.prior(mask, rng)

    def reverse(
        self, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor, rng: Rng
    ) -> Tensor:
        """Of the inner process."""
        return self.inner.reverse(x, clean, t, s, mask, rng)

    def log_prob(
        self, x_s: Tensor, x: Tensor, clean: Tensor, t: Tensor, s: Tensor, mask: Tensor
    ) -> Tensor:
        """Of the inner process."""
        return self.inner.log_prob(x_s, x, clean, t, s, mask)

    def decode(self, clean: Tensor, mask: Tensor) -> Tensor:
        """Of the inner process."""
        return self.inner.decode(clean, mask)


class TeacherForced(Taught):
    """Corrupts nothing: the network itself hides what comes later."""

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """The clean tokens."""
        return clean

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean cross-entropy per token that counts, [B]."""
        return self.inner.loss(clean, target, mask)


class Regressed(Taught):
    """Numbers of which nothing is shown: their mean is predicted at once; NaN where not known."""

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Zeros."""
        return torch.zeros_like(clean)

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over the numbers that are known, [B]; 0 where none is."""
        known = ~target.isnan()
        off = torch.where(known, clean - target.nan_to_num(0.0), torch.zeros_like(clean))
        return off.square().sum(-1) / known.sum(-1).clamp_min(1)


class Ranked(Taught):
    """Shares of the candidates of a row, of which nothing is shown; predicted as scores.

    A field [B, N, 1] whose nodes are candidates: targets are shares that sum to 1, predictions
    their logarithms but for a constant.
    """

    def forward(self, clean: Tensor, t: Tensor, mask: Tensor, rng: Rng) -> Tensor:
        """Zeros."""
        return torch.zeros_like(clean)

    def loss(self, clean: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the softmax of the scores from the shares, [B]."""
        logits = clean.squeeze(-1).masked_fill(~mask, -torch.inf).log_softmax(-1)
        share = target.squeeze(-1) * mask
        off = torch.xlogy(share, share) - share * logits.masked_fill(~mask, 0.0)
        return off.sum(-1)
