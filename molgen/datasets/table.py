"""A flat, compact store of molecules in one safetensors file, and dense batches from it.

Needs torch, numpy and safetensors only: the converted file alone is enough to train.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffcore.columns import load_columns, save_columns
from diffcore.errors import DataError

SPLITS = ("train", "validation", "test")
HYBRIDISATIONS = ("other", "S", "SP", "SP2", "SP3")

_DTYPES = {
    "n_atoms": torch.int16,
    "n_bonds": torch.int16,
    "pos": torch.float32,
    "atomic_number": torch.uint8,
    "charge": torch.int8,
    "hybridisation": torch.uint8,
    "ring": torch.uint8,
    "aromatic": torch.uint8,
    "bond_atoms": torch.uint8,
    "bond_order": torch.uint8,
    "properties": torch.float64,
    "split": torch.uint8,
    "source_id": torch.int32,
    "smiles_bytes": torch.uint8,
    "smiles_length": torch.int16,
}
_ATOM_LABELS = ("atomic_number", "charge", "hybridisation", "ring", "aromatic")


@dataclass
class MoleculeTable:
    """M molecules with A atoms and B bonds in all, stored flat, in order.

    Attributes:
        n_atoms: atoms of each molecule, [M] int16.
        n_bonds: bonds of each molecule, [M] int16.
        pos: positions in Angstrom, as in the source, [A, 3] float32.
        atomic_number: [A] uint8.
        charge: formal charge in e, [A] int8.
        hybridisation: index into `HYBRIDISATIONS`, [A] uint8.
        ring: 1 for an atom in a ring, [A] uint8.
        aromatic: 1 for an aromatic atom, [A] uint8.
        bond_atoms: the two atoms i < j of a bond, counted within its molecule, [B, 2] uint8.
        bond_order: kekulised order 1, 2 or 3, [B] uint8.
        properties: [M, P] float64; names and units stand in the card.
        split: index into `SPLITS`, [M] uint8.
        source_id: the source's own number of the molecule, [M] int32.
        smiles_bytes: canonical SMILES, hydrogens implicit, no stereo marks, UTF-8, joined, uint8.
        smiles_length: bytes of each molecule's SMILES, [M] int16.
        card: source, licence, property names and units, counts of what was left out and why.
    """

    n_atoms: Tensor
    n_bonds: Tensor
    pos: Tensor
    atomic_number: Tensor
    charge: Tensor
    hybridisation: Tensor
    ring: Tensor
    aromatic: Tensor
    bond_atoms: Tensor
    bond_order: Tensor
    properties: Tensor
    split: Tensor
    source_id: Tensor
    smiles_bytes: Tensor
    smiles_length: Tensor
    card: dict[str, Any]

    def __post_init__(self) -> None:
        """Check types and that the lengths belong together."""
        for name, dtype in _DTYPES.items():
            value = getattr(self, name)
            if value.dtype != dtype:
                raise DataError(f"molecule table: {name} must be {dtype}, not {value.dtype}")
        m, a, b = len(self.n_atoms), int(self.n_atoms.sum()), int(self.n_bonds.sum())
        expected = {"n_bonds": m, "split": m, "smiles_length": m, "properties": m, "source_id": m}
        expected |= dict.fromkeys((*_ATOM_LABELS, "pos"), a)
        expected |= {"bond_atoms": b, "bond_order": b}
        expected |= {"smiles_bytes": int(self.smiles_length.sum())}
        for name, length in expected.items():
            if len(getattr(self, name)) != length:
                raise DataError(
                    f"molecule table: {name} has {len(getattr(self, name))} rows, expected {length}"
                )

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.n_atoms)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MoleculeTable:
        """Read a table.

        Raises:
            DataError: the file is missing, broken or no molecule table.
        """
        columns, card = load_columns(path, "molecule table", tuple(_DTYPES))
        return cls(**{name: columns[name] for name in _DTYPES}, card=card)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table; `path` holds either the old or the whole new file at any moment.

        Raises:
            OutputError: the folder cannot be written.
        """
        return save_columns(path, {name: getattr(self, name) for name in _DTYPES}, self.card)

    def to(self, device: str | torch.device) -> MoleculeTable:
        """The same table on another device; `batch` then gives tensors there."""
        moved = {name: getattr(self, name).to(device) for name in _DTYPES}
        return MoleculeTable(**moved, card=self.card)

    @cached_property
    def offsets(self) -> Tensor:
        """First atom of each molecule in the flat arrays, and the end: [M + 1] int64."""
        return _starts(self.n_atoms)

    @cached_property
    def bond_offsets(self) -> Tensor:
        """First bond of each molecule in the flat arrays, and the end: [M + 1] int64."""
        return _starts(self.n_bonds)

    @cached_property
    def _centred(self) -> Tensor:
        """Positions less their molecule's unweighted mean, Angstrom, [A, 3] float32."""
        size = self.n_atoms.long()
        owner = torch.repeat_interleave(torch.arange(len(self), device=size.device), size)
        mean = torch.zeros(len(self), 3, dtype=torch.float64, device=size.device)
        mean.index_add_(0, owner, self.pos.double())
        mean /= size.clamp(min=1)[:, None]
        return (self.pos.double() - mean[owner]).float()

    @cached_property
    def _labels(self) -> Tensor:
        """Atom labels side by side in the order of `_ATOM_LABELS`, [A, 5] int16."""
        return torch.stack([getattr(self, name).to(torch.int16) for name in _ATOM_LABELS], dim=1)

    @property
    def property_names(self) -> tuple[str, ...]:
        """Names of the columns of `properties`."""
        return tuple(self.card["properties"])

    def split_indices(self, name: str) -> Tensor:
        """Molecules of one part ("train", "validation", "test"), [.] int64."""
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}")
        return torch.nonzero(self.split == SPLITS.index(name)).flatten()

    def smiles(self) -> list[str]:
        """Canonical SMILES of every molecule (hydrogens implicit, no stereo marks)."""
        text = self.smiles_bytes.cpu().numpy().tobytes()
        ends = self.smiles_length.long().cumsum(0).tolist()
        return [text[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]

    def select(self, indices: Sequence[int] | Tensor) -> MoleculeTable:
        """The named molecules, in the order asked for, as a table of their own."""
        indices = self._indices(indices)
        atoms = _ranges(self.offsets, indices)
        bonds = _ranges(self.bond_offsets, indices)
        letters = _ranges(_starts(self.smiles_length), indices)
        pick = {name: indices for name in _DTYPES}
        pick |= dict.fromkeys(("pos", *_ATOM_LABELS), atoms)
        pick |= {"bond_atoms": bonds, "bond_order": bonds, "smiles_bytes": letters}
        return MoleculeTable(
            **{name: getattr(self, name)[rows] for name, rows in pick.items()}, card=self.card
        )

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """B molecules, padded with zeros to the largest of them (N atoms).

        Returns:
            pos [B, N, 3] float32 in Angstrom, centred per molecule; atomic_number, charge,
            hybridisation, ring, aromatic [B, N] int64; bond [B, N, N] int64, symmetric, 0 to 3;
            mask [B, N] bool, true for atoms; every property under its own name, [B] float32.
        """
        indices = self._indices(indices)
        size = self.n_atoms[indices].long()
        n = int(size.max()) if len(indices) else 0
        slots = torch.arange(n, device=size.device)
        mask = slots < size[:, None]
        rows = torch.where(mask, self.offsets[indices][:, None] + slots, 0)
        labels = (self._labels[rows] * mask[..., None]).long()
        out = {name: labels[..., k].contiguous() for k, name in enumerate(_ATOM_LABELS)}
        out["pos"] = self._centred[rows] * mask[..., None]
        out["mask"] = mask

        n_bonds = self.n_bonds[indices].long()
        which = torch.repeat_interleave(torch.arange(len(indices), device=size.device), n_bonds)
        bonds = _ranges(self.bond_offsets, indices)
        first, second = self.bond_atoms[bonds].long().unbind(1)
        order = self.bond_order[bonds].long()
        bond = torch.zeros(len(indices), n, n, dtype=torch.long, device=size.device)
        bond[which, first, second] = order
        bond[which, second, first] = order
        out["bond"] = bond
        values = self.properties[indices].float()
        return out | {name: values[:, k] for k, name in enumerate(self.property_names)}

    def _indices(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Indices as int64 on the table's device; raises DataError when one is out of range."""
        found = torch.as_tensor(indices, dtype=torch.long).to(self.n_atoms.device).reshape(-1)
        if len(found) and (int(found.min()) < 0 or int(found.max()) >= len(self)):
            raise DataError(f"molecule index outside 0..{len(self) - 1}")
        return found


def _starts(lengths: Tensor) -> Tensor:
    """Running sum with a leading zero: [M] -> [M + 1] int64."""
    return torch.cat([lengths.new_zeros(1, dtype=torch.long), lengths.long().cumsum(0)])


def _ranges(starts: Tensor, indices: Tensor) -> Tensor:
    """Concatenated ranges starts[i] .. starts[i + 1] for every i of `indices`, int64."""
    first, length = starts[indices], starts[indices + 1] - starts[indices]
    shift = torch.repeat_interleave(first - (length.cumsum(0) - length), length)
    return shift + torch.arange(len(shift), device=shift.device)


assert {field.name for field in fields(MoleculeTable)} == {*_DTYPES, "card"}
