"""Rows of different lengths in flat columns, and padded batches of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def starts_of(counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """First entry of every row, by owner, [M + 1]."""
    return {n: torch.cat([c.new_zeros(1), c.cumsum(0)]) for n, c in counts.items()}


def padded(
    fields: Mapping[str, Tensor],
    owners: Mapping[str, str],
    counts: Mapping[str, Tensor],
    starts: Mapping[str, Tensor],
    indices: Tensor,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rows padded with zeros to the longest of them, at least one entry long.

    Args:
        fields: flat columns [E, ...].
        owners: what a field's entries are counted by.
        counts: entries of every row [M], by owner.
        starts: of `starts_of`.
        indices: rows [B].

    Returns:
        Fields [B, N, ...] as float or int64, and masks [B, N] by owner.
    """
    masks: dict[str, Tensor] = {}
    places: dict[str, Tensor] = {}
    for owner, count in counts.items():
        size = count[indices]
        slots = torch.arange(max(1, int(size.max())))
        masks[owner] = slots < size[:, None]
        places[owner] = torch.where(masks[owner], starts[owner][indices][:, None] + slots, 0)
    out: dict[str, Tensor] = {}
    for name, owner in owners.items():
        values = fields[name]
        if not len(values):  # no entry in the whole table
            values = values.new_zeros(1, *values.shape[1:])
        kept = masks[owner].reshape(*masks[owner].shape, *[1] * (values.dim() - 1))
        one = values[places[owner]] * kept
        out[name] = one.float() if one.is_floating_point() else one.long()
    return out, masks
