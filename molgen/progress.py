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
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} "
        "[{elapsed}<{remaining}{postfix}]",
        file=sys.stdout if notebook else None,
        disable=not (visible if show is None else show),
        delay=0.5,
        mininterval=0.25,
    )


class YieldBar:
    """A bar that counts good molecules while others are rejected.

    Between molecules it moves by the work done times the share of good ones so far, so that its
    time left is that of all the molecules that will have to be made.

    Args:
        total: good molecules asked for.
        good: how many there are already.
        show: see `molecule_bar`.
    """

    def __init__(self, total: int, *, good: int = 0, show: bool | None = None) -> None:
        """See the class."""
        self.total, self.good = total, good
        self.tried = 0
        self._work = 0.0
        self._hits = 0
        self._bar = molecule_bar(total, initial=good, show=show)

    def __enter__(self) -> YieldBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def share(self) -> float:
        """Good ones of those judged, drawn towards nine in ten while there are few."""
        return (self._hits + 9) / (self.tried + 10)

    def worked(self, molecules: float) -> None:
        """Some work was done, measured in molecules."""
        self._work += molecules
        self._move()

    def judged(self, good: bool) -> None:
        """A molecule was judged."""
        self.tried += 1
        self._hits += good
        self.good += good
        if not good:
            self._bar.set_postfix_str(f"{self.tried - self._hits} rejected", refresh=False)
        self._move()

    def _move(self) -> None:
        waiting = max(0.0, self._work - self.tried)
        place = min(float(self.total), self.good + self.share * waiting)
        self._bar.update(place - self._bar.n)
