"""Explicit randomness: one generator for a batch, or one generator per row.

With one generator per row a sample depends only on its own generator, so that the same seed gives
the same sample whatever the batch it is drawn in.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from diffcore.errors import ConfigError

Rng = torch.Generator | Sequence[torch.Generator]


def generator(seed: int, *path: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that is a pure function of the seed and a path of integers below it.

    Torch's CPU generator takes 32 bits of a seed only: of 100,000 hashed seeds one pair would meet.
    So the last integer of the path goes through a bijection of 32 bits, and siblings never share a
    stream.

    Raises:
        ConfigError: a negative seed or path.
    """
    if min((seed, *path)) < 0:
        raise ConfigError(f"expected a seed of 0 or more, got {min((seed, *path))}")
    parent, last = (path[:-1], path[-1]) if path else ((), 0)
    # the length keeps () and (0,) apart, the spawn key a path from a longer seed
    sequence = np.random.SeedSequence(seed, spawn_key=(len(path), *parent, last >> 32))
    high, low = (int(word) for word in sequence.generate_state(2, np.uint32))
    state = (high >> 1) << 32 | _mix32(low ^ (last & 0xFFFFFFFF))
    return torch.Generator(device=device).manual_seed(state)


def _mix32(word: int) -> int:
    """The finaliser of MurmurHash3 (Appleby 2011): a bijection that scatters neighbours."""
    word = (word ^ (word >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ (word >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ (word >> 16)


def row_generators(seed: int, rows: Iterable[int]) -> list[torch.Generator]:
    """One generator per row of a batch; row ``i`` of seed ``s`` is the same in every batch."""
    return [generator(seed, row) for row in rows]


def _draw(rng: Rng, like: Tensor, method: str) -> Tensor:
    if isinstance(rng, torch.Generator):
        out = torch.empty(like.shape, dtype=like.dtype, device=rng.device)
        getattr(out, method)(generator=rng)
        return out.to(like.device)
    if len(rng) != like.shape[0]:
        raise ValueError(f"expected one generator per row ({like.shape[0]}), got {len(rng)}")
    out = torch.empty(like.shape, dtype=like.dtype, device=rng[0].device if rng else like.device)
    for row, one in zip(out, rng, strict=True):
        getattr(row, method)(generator=one)
    return out.to(like.device)


def normal(rng: Rng, like: Tensor) -> Tensor:
    """Standard normal values with the shape, dtype and device of ``like``."""
    return _draw(rng, like, "normal_")


def uniform(rng: Rng, like: Tensor) -> Tensor:
    """Uniform values in [0, 1) with the shape, dtype and device of ``like``."""
    return _draw(rng, like, "uniform_")


def categorical(probabilities: Tensor, u: Tensor) -> Tensor:
    """Inverse-transform sampling of ``probabilities`` [..., K] with ``u`` [...] -> [...] int64."""
    cdf = probabilities.cumsum(-1)
    cdf = cdf / cdf[..., -1:].clamp_min(torch.finfo(cdf.dtype).tiny)
    return (u.unsqueeze(-1) >= cdf[..., :-1]).sum(-1)
