"""The elements, charges and bond orders a model knows, and their class indices. No RDKit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffcore.errors import DataError

if TYPE_CHECKING:
    from molgen.datasets.table import MoleculeTable

SYMBOLS = (
    "? H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe"
).split()


@dataclass(frozen=True)
class Vocabulary:
    """Class k of a field stands for the k-th entry.

    Attributes:
        elements: atomic numbers.
        charges: formal charges in e.
        bond_orders: kekulised orders; 0 is no bond.
    """

    elements: tuple[int, ...]
    charges: tuple[int, ...]
    bond_orders: tuple[int, ...] = (0, 1, 2, 3)

    def __post_init__(self) -> None:
        """Check that no entry is missing or there twice."""
        for name in ("elements", "charges", "bond_orders"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise DataError(f"vocabulary: expected distinct {name}, got {values}")

    @classmethod
    def of(cls, table: MoleculeTable) -> Vocabulary:
        """The elements and charges that occur in a table, ascending."""
        return cls(
            elements=tuple(torch.unique(table.atomic_number).tolist()),
            charges=tuple(torch.unique(table.charge).tolist()),
        )

    def encode_elements(self, atomic_number: Tensor, mask: Tensor | None = None) -> Tensor:
        """Atomic numbers -> classes, same shape, int64; class 0 where `mask` is false.

        Raises:
            DataError: an element that the vocabulary does not hold, by name.
        """
        known = ", ".join(_symbol(z) for z in self.elements)
        return _encode(self.elements, atomic_number, mask, "element", known, _symbol)

    def encode_charges(self, charge: Tensor, mask: Tensor | None = None) -> Tensor:
        """Formal charges in e -> classes, same shape, int64; class 0 where `mask` is false.

        Raises:
            DataError: a charge that the vocabulary does not hold.
        """
        known = ", ".join(f"{q:+d}" for q in self.charges)
        return _encode(self.charges, charge, mask, "formal charge", known, "{:+d}".format)

    def encode_bonds(self, bond_order: Tensor, mask: Tensor | None = None) -> Tensor:
        """Kekulised bond orders -> classes, same shape, int64; class 0 where `mask` is false.

        Raises:
            DataError: an order that the vocabulary does not hold.
        """
        known = ", ".join(map(str, self.bond_orders))
        return _encode(self.bond_orders, bond_order, mask, "bond order", known, str)

    def decode_elements(self, classes: Tensor) -> Tensor:
        """Classes -> atomic numbers, same shape, int64."""
        return _decode(self.elements, classes)

    def decode_charges(self, classes: Tensor) -> Tensor:
        """Classes -> formal charges in e, same shape, int64."""
        return _decode(self.charges, classes)

    def decode_bonds(self, classes: Tensor) -> Tensor:
        """Classes -> kekulised bond orders, same shape, int64."""
        return _decode(self.bond_orders, classes)


def _symbol(atomic_number: int) -> str:
    known = 0 < atomic_number < len(SYMBOLS)
    return SYMBOLS[atomic_number] if known else f"number {atomic_number}"


def _encode(
    values: Sequence[int],
    found: Tensor,
    mask: Tensor | None,
    what: str,
    known: str,
    show: Callable[[int], str],
) -> Tensor:
    """Index of each found value in `values`."""
    table = torch.tensor(values, device=found.device)
    hits = found.long().unsqueeze(-1) == table
    valid = hits.any(-1) if mask is None else hits.any(-1) | ~mask
    if not valid.all():
        first = int(found[~valid].flatten()[0])
        raise DataError(f"unknown {what} {show(first)}: expected one of {known}")
    classes = hits.to(torch.uint8).argmax(-1)
    return classes if mask is None else classes * mask


def _decode(values: Sequence[int], classes: Tensor) -> Tensor:
    """Value of each class; raises DataError for a class that does not exist."""
    if classes.numel() and (int(classes.min()) < 0 or int(classes.max()) >= len(values)):
        raise DataError(f"expected classes 0 to {len(values) - 1}, got others")
    return torch.tensor(values, device=classes.device)[classes.long()]
