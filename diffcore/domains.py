"""Where a field lives: its shape, its symmetry and the projection back onto it.

Every domain is a small final class with the same five methods. Weights count each independent
element once: a symmetric pair counts one half in each direction and its diagonal not at all.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffcore.state import expand


class Domain(Protocol):
    """The geometry of one field."""

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """Full shape of the field for a node mask [B, N]."""
        ...

    def weights(self, mask: Tensor) -> Tensor:
        """Float weights [B, ...] of the elements (without the feature axes)."""
        ...

    def degrees(self, mask: Tensor) -> Tensor:
        """Degrees of freedom [B] of a continuous field."""
        ...

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """The nearest point of the domain."""
        ...

    def tie(self, noise: Tensor) -> Tensor:
        """Make independent noise respect the symmetry of the field."""
        ...


def _masked(x: Tensor, keep: Tensor) -> Tensor:
    keep = keep.reshape(keep.shape + (1,) * (x.dim() - keep.dim()))
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype, device=x.device))


@dataclass(frozen=True)
class Grid:
    """A field of fixed shape without nodes: pixels, a latent vector."""

    event: tuple[int, ...]

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """[B, *event]."""
        return (mask.shape[0], *self.event)

    def weights(self, mask: Tensor) -> Tensor:
        """Ones [B, *event]."""
        return torch.ones(self.shape(mask), device=mask.device)

    def degrees(self, mask: Tensor) -> Tensor:
        """Number of elements of an event."""
        return self.weights(mask).flatten(1).sum(1)

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """The field itself."""
        return x

    def tie(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise


@dataclass(frozen=True)
class Nodes:
    """A field per node: classes [B, N] or features [B, N, *event]."""

    event: tuple[int, ...] = ()

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """[B, N, *event]."""
        return (*mask.shape, *self.event)

    def weights(self, mask: Tensor) -> Tensor:
        """The mask as floats [B, N]."""
        return mask.to(torch.get_default_dtype())

    def degrees(self, mask: Tensor) -> Tensor:
        """Real nodes times features."""
        return mask.sum(1) * torch.Size(self.event).numel()

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """Zero where there is no node."""
        return _masked(x, mask)

    def tie(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise


@dataclass(frozen=True)
class Points:
    """Positions [B, N, dim] with zero centre of mass (Hoogeboom et al. 2022, EDM, section 3.1)."""

    dim: int = 3

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """[B, N, dim]."""
        return (*mask.shape, self.dim)

    def weights(self, mask: Tensor) -> Tensor:
        """The mask as floats [B, N]."""
        return mask.to(torch.get_default_dtype())

    def degrees(self, mask: Tensor) -> Tensor:
        """(N - 1) * dim: the centre is fixed."""
        return (mask.sum(1) - 1) * self.dim

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """Remove the centre of mass of the real nodes."""
        x = _masked(x, mask)
        count = expand(mask.sum(1).clamp_min(1).to(x.dtype), x)
        return _masked(x - x.sum(1, keepdim=True) / count, mask)

    def tie(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise


@dataclass(frozen=True)
class Slots:
    """Classes for a fixed number of places at every node [B, N, width]: its nearest neighbours."""

    width: int

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """[B, N, width]."""
        return (*mask.shape, self.width)

    def weights(self, mask: Tensor) -> Tensor:
        """The mask as floats, the same for all places of a node [B, N, width]."""
        return mask.to(torch.get_default_dtype()).unsqueeze(-1).expand(self.shape(mask))

    def degrees(self, mask: Tensor) -> Tensor:
        """Real nodes times places."""
        return mask.sum(1) * self.width

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """Zero where there is no node."""
        return _masked(x, mask)

    def tie(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise


@dataclass(frozen=True)
class Pairs:
    """A symmetric field per pair: classes [B, N, N] or features [B, N, N, *event]; no diagonal."""

    event: tuple[int, ...] = ()

    def shape(self, mask: Tensor) -> tuple[int, ...]:
        """[B, N, N, *event]."""
        return (*mask.shape, mask.shape[1], *self.event)

    def _real(self, mask: Tensor) -> Tensor:
        eye = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        return mask.unsqueeze(1) & mask.unsqueeze(2) & ~eye

    def weights(self, mask: Tensor) -> Tensor:
        """One half for each direction of a real pair [B, N, N]."""
        return 0.5 * self._real(mask).to(torch.get_default_dtype())

    def degrees(self, mask: Tensor) -> Tensor:
        """N (N - 1) / 2 times features."""
        n = mask.sum(1)
        return n * (n - 1) // 2 * torch.Size(self.event).numel()

    def project(self, x: Tensor, mask: Tensor) -> Tensor:
        """Zero diagonal, symmetric: the mean of both directions, for classes the upper one."""
        x = 0.5 * (x + x.transpose(1, 2)) if x.is_floating_point() else self.tie(x)
        return _masked(x, self._real(mask))

    def tie(self, noise: Tensor) -> Tensor:
        """The upper triangle mirrored into the lower one."""
        n = noise.shape[1]
        upper = torch.ones(n, n, dtype=torch.bool, device=noise.device).triu(1)
        upper = upper.reshape(1, n, n, *([1] * (noise.dim() - 3)))
        return torch.where(upper, noise, noise.transpose(1, 2))
