"""Progress of a campaign: a bar with rate, time left and best so far, and a page that renews."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.design.campaign import Campaign
    from pipelines.design.engine import Finished, Progress

EVERY = 2.0
"""Seconds between two versions of the page."""


class Live:
    """Context manager that is told of progress.

    Args:
        campaign: which one.
        page: .html file to keep up to date; None for the bar alone.
        show: show the bar; by default where the error stream is a terminal.
    """

    def __init__(
        self, campaign: Campaign, page: Path | None = None, show: bool | None = None
    ) -> None:
        """See the class."""
        self.campaign, self.page, self.show = campaign, page, show
        self._bar: Any = None
        self._written = float("-inf")

    def __enter__(self) -> Live:
        """Itself."""
        return self

    def __call__(self, progress: Progress) -> None:
        """Takes in what was done."""
        if self._bar is None:
            self._bar = self._open(progress)
        self._bar.update(progress.done - self._bar.n)
        self._bar.set_postfix_str(best(progress), refresh=False)
        now = time.monotonic()
        if self.page is not None and now - self._written > EVERY:
            from pipelines.design.page import write_page

            write_page(self.page, progress)
            self._written = now

    def _open(self, progress: Progress) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=progress.total,
            initial=progress.done,
            desc=self.campaign.name,
            unit="cand",
            delay=2.0,
            mininterval=0.5,
            smoothing=0.05,
            disable=None if self.show is None else not self.show,
            leave=False,
        )

    def finish(self, result: Finished) -> None:
        """Writes the report in place of the page."""
        if self.page is not None:
            from pipelines.design.page import write_report

            write_report(self.page, result)

    def __exit__(self, *_: object) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()


def best(progress: Progress) -> str:
    """The best value of each goal so far, and the hypervolume."""
    history, parts = progress.history, []
    for column, objective in enumerate(progress.campaign.aims.goals):
        if history.best:
            row = min(history.best, key=lambda row: (row.losses or ())[column])
            parts.append(f"{objective.evaluator} {row.values[objective.evaluator]:.3g}")
    volume = history.hypervolume()
    if volume is not None:
        parts.append(f"hv {volume:.4g}")
    return ", ".join(parts)
