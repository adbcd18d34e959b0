"""`Metric`: what one row of `METRICS` says about a measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from molgen.evaluate.prepared import Prepared

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference

Family = Literal["strict", "legacy", "description"]

Kind = Literal["number", "flag", "text"]

Cost = Literal["cheap", "posebusters", "xtb", "strain", "pocket", "docking"]
"""Sets of metrics: milliseconds a molecule, about a second, tenths of a second, then seconds each;
docking up to minutes. `pocket` and `docking` need a protein."""

Counted = tuple[float, int]
"""(value, number of items it was taken over)."""


@dataclass(frozen=True)
class Metric:
    """One row of `METRICS`.

    Attributes:
        definition: What is measured, in one sentence.
        unit: Unit of the summary's value; fractions are shown in per cent there. Empty for texts,
            and for numbers that are declared dimensionless.
        family: `strict` (to be trusted), `legacy` (a paper's own definition, for comparison) or
            `description` (a plain fact).
        row: Function of one prepared molecule that gives the column of the same name, or None.
        whole: Function of the row table that gives (value, items counted), or None to leave the
            metric out of the summary.
        failed: The column's value where there is no molecule to measure.
        source: Where the definition comes from.
        cost: The set it belongs to: `cheap` is always measured, the others when asked for.
        against: In place of `whole`, for a comparison: function of the row table and the reference.
        kind: What the column holds: a number, yes or no, or a text.
        dimensionless: A number without a unit, on purpose.
        needs: Package beyond the core that it needs, if any.
        extra: The extra of designloom that brings that package.
    """

    definition: str
    unit: str = ""
    family: Family = "strict"
    row: Callable[[Prepared], Any] | None = None
    whole: Callable[[pd.DataFrame], Counted] | None = None
    failed: Any = None
    source: str = ""
    cost: Cost = "cheap"
    against: Callable[[pd.DataFrame, Reference], Counted] | None = None
    kind: Kind = "number"
    dimensionless: bool = False
    needs: str = ""
    extra: str = ""

    @property
    def summarised(self) -> bool:
        """Whether the summary has a row for it."""
        return self.whole is not None or self.against is not None

    @property
    def missing(self) -> str:
        """What to install before it can be measured; empty if nothing."""
        from importlib.util import find_spec

        if not self.needs or find_spec(self.needs) is not None:
            return ""
        return f'needs the package {self.needs}: pip install "designloom[{self.extra}]"'

    def summarise(self, table: pd.DataFrame, reference: Reference | None) -> Counted:
        """(value, items counted) of a set; NaN where nothing can be counted.

        Args:
            table: The row table; for a set that was measured on a sample, the sampled rows.
            reference: What to compare with, or None.
        """
        if self.whole is not None:
            return self.whole(table)
        if self.against is None or reference is None or self.missing:
            return math.nan, 0
        return self.against(table, reference)
