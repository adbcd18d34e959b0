"""Exactly as many good molecules as were asked for: reject, refill, repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rdkit import Chem

Source = Callable[[int, int, Callable[[float], object] | None], "Iterable[Chem.Mol]"]
"""``source(start, count, done)``: molecules ``start`` to ``start + count`` of an endless sequence;
``done`` is told the work done since its last call, in molecules."""


@dataclass(frozen=True)
class Demands:
    """What every molecule has to meet."""

    require: tuple[str, ...] = ()
    unique: bool = False
    novel: bool = False
    repair: Literal["mmff", "xtb"] | None = None
    reference: str | None = "qm9"


@dataclass(frozen=True)
class Delivery:
    """The molecules that meet the demands, and what became of the others."""

    mols: list[Chem.Mol] = field(repr=False)


def deliver(
    source: Source,
    n: int,
    demands: Demands,
    *,
    max_tries: int | None = None,
    progress: bool | None = None,
) -> Delivery:
    """Make molecules until ``n`` meet the demands."""
    raise NotImplementedError
