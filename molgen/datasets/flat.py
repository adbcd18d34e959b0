"""Rows of different lengths in flat columns, and padded batches of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from diffcore.columns import load_columns


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


def columns_of(fields: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fields and counts as the columns of one file."""
    return {**fields, **{f"n_{owner}": count for owner, count in counts.items()}}


def load_flat(
    path: str | os.PathLike[str],
    what: str,
    fields: Iterable[str],
    owners: Iterable[str],
    more: tuple[str, ...] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """Fields, counts, further columns and the card of a table written from `columns_of`.

    Raises:
        DataError: the file is missing or broken, or lacks one of them.
    """
    names = {owner: f"n_{owner}" for owner in owners}
    fields = tuple(fields)
    columns, card = load_columns(path, what, (*fields, *names.values(), *more))
    return (
        {name: columns[name] for name in fields},
        {owner: columns[name] for owner, name in names.items()},
        {name: columns[name] for name in more},
        card,
    )
