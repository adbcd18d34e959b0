"""The progress bar of everything that makes molecules: it moves by fractions of a molecule."""

from __future__ import annotations

from typing import Any


def molecule_bar(total: int, *, initial: int = 0, show: bool | None = None) -> Any:
    """A bar over ``total`` molecules, shown after half a second of work.

    Args:
        total: molecules in all.
        initial: how many exist already.
        show: False for none; by default shown in a terminal or a notebook.
    """
    from tqdm.auto import tqdm

    return tqdm(
        total=total,
        initial=initial,
        desc="generate",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} [{elapsed}<{remaining}]",
        disable=None if show is None else not show,
        delay=0.5,
    )
