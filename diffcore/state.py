"""A state: named fields, batch first, with one mask for padding."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Times = Mapping[str, Tensor]
"""One time in [0, 1] per field and row, ``times[name]`` [B]; 0 is clean, 1 is the prior."""


@dataclass(frozen=True)
class State(Mapping[str, Tensor]):
    """Named fields over the same rows.

    Attributes:
        fields: name -> tensor [B, ...]. Continuous fields are floating point; categorical fields
            are class indices (int64) when noisy and class probabilities [..., K] when predicted.
        mask: [B, N] bool, true where a node (atom, token) is real; [B, 1] for fields without nodes.
    """

    fields: Mapping[str, Tensor]
    mask: Tensor

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    @property
    def rows(self) -> int:
        """Number of samples in the batch."""
        return self.mask.shape[0]

    def replace(self, **fields: Tensor) -> "State":
        """A copy in which the named fields are replaced or added."""
        return State({**self.fields, **fields}, self.mask)

    def take(self, index: Tensor) -> "State":
        """The rows ``index`` [M] (repeats allowed): what a search resamples."""
        return State({k: v[index] for k, v in self.fields.items()}, self.mask[index])

    def to(self, device: torch.device | str) -> "State":
        """The same state on another device."""
        return State({k: v.to(device) for k, v in self.fields.items()}, self.mask.to(device))


def expand(t: Tensor, like: Tensor) -> Tensor:
    """Reshape [B] so that it broadcasts over ``like`` [B, ...]."""
    return t.reshape(-1, *([1] * (like.dim() - 1)))
