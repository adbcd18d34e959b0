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
    import sys

    from tqdm import tqdm

    notebook = "ipykernel" in sys.modules  # there the error stream is no terminal, but is shown
    visible = notebook or sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc="generate",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} [{elapsed}<{remaining}]",
        file=sys.stdout if notebook else None,
        disable=not (visible if show is None else show),
        delay=0.5,
    )
