"""Ligands with or without their target, stored flat: any folder of complexes, or a molecule table.

A row is a ligand's heavy atoms with its target's atoms next to the ligand's centre; see
`molgen.sidegen.features`. Conversion reads every complex once, with a bar; a complex that cannot be
read costs its own row, and the card says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore import random
from diffcore.columns import save_columns
from diffcore.errors import DataError
from molgen.datasets.flat import columns_of, load_flat, padded, starts_of
from molgen.datasets.table import SPLITS, MoleculeTable

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.datasets.complexes import Complex, ComplexFiles
    from molgen.datasets.peptides import Piece
    from molgen.docking.structure import Structure

Arrays = dict[str, NDArray[Any]]
FIELDS: dict[str, tuple[str, int, torch.dtype]] = {
    "atom": ("atoms", 7, torch.uint8),
    "pos": ("atoms", 3, torch.float32),
    "edge": ("edges", 2, torch.uint8),
    "kind": ("edges", 1, torch.uint8),
    "chiral": ("centres", 4, torch.uint8),
    "hand": ("centres", 1, torch.int8),
    "target": ("targets", 3, torch.uint8),
    "target_pos": ("targets", 3, torch.float32),
}
"""Field -> what it is counted by, its columns, its type."""
COUNTS = ("atoms", "edges", "centres", "targets")
MAX_ATOMS = 60
"""Ligands with more heavy atoms are left out."""


@dataclass
class ComplexTable:
    """M ligands, each with its target or without.

    Attributes:
        fields: the flat tensors of `FIELDS`.
        counts: [M] int64 for every name of `COUNTS`.
        split: index into `SPLITS`, [M] uint8.
        card: source, names, and what was left out and why.
    """

    fields: dict[str, Tensor]
    counts: dict[str, Tensor]
    split: Tensor
    card: dict[str, Any]

    def __len__(self) -> int:
        """Number of ligands."""
        return len(self.split)

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """First row of every ligand, by name of `COUNTS`, [M + 1]."""
        return starts_of(self.counts)

    def split_indices(self, name: str) -> Tensor:
        """Ligands of one part, [.] int64."""
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}")
        return torch.nonzero(self.split == SPLITS.index(name)).flatten()

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Ligands padded to the largest of them.

        Returns:
            ``pos`` [B, N, 3] Angstrom, centred on the ligand, ``mask`` [B, N], ``atom`` [B, N, 7],
            ``bond`` [B, N, N] (class, 0 for none), ``chiral`` [B, C, 4], ``hand`` [B, C],
            ``target`` [B, T, 3], ``target_pos`` [B, T, 3] in the same frame, ``target_mask``
            [B, T]. T is 1 where no row has a target.
        """
        indices = torch.as_tensor(indices, dtype=torch.long).reshape(-1)
        owners = {name: owner for name, (owner, _, _) in FIELDS.items()}
        out, masks = padded(self.fields, owners, self.counts, self.starts, indices)
        return _dense(out, masks)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table beside its place and move it there.

        Raises:
            OutputError: it cannot be written.
        """
        columns = columns_of(self.fields, self.counts) | {"split": self.split}
        return save_columns(path, columns, self.card)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ComplexTable:
        """Read a table.

        Raises:
            DataError: the file is missing, broken or no table of complexes.
        """
        what = "table of complexes"
        fields, counts, more, card = load_flat(path, what, FIELDS, COUNTS, ("split",))
        return cls(fields, counts, more["split"], card)


def _dense(out: dict[str, Tensor], masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bonds as a matrix, all positions from the ligand's centre."""
    mask = masks["atoms"]
    b, n = mask.shape
    bond = torch.zeros(b, n, n, dtype=torch.long)
    row = torch.arange(b).unsqueeze(1).expand_as(masks["edges"])[masks["edges"]]
    first, second = out.pop("edge")[masks["edges"]].unbind(-1)
    bond[row, first, second] = out.pop("kind").squeeze(-1)[masks["edges"]]
    centre = out["pos"].sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
    for name, owner in (("pos", "atoms"), ("target_pos", "targets")):
        out[name] = (out[name] - centre.unsqueeze(1)) * masks[owner].unsqueeze(-1)
    out["hand"] = out["hand"].squeeze(-1)
    return {**out, "bond": bond, "mask": mask, "target_mask": masks["targets"]}


def flat(rows: Sequence[Arrays], split: Sequence[int], card: dict[str, Any]) -> ComplexTable:
    """A table of the arrays of `molgen.sidegen.features`."""
    fields = {}
    for name, (_, width, dtype) in FIELDS.items():
        empty = np.zeros((0, width))
        parts = [np.asarray(row[name], np.float64).reshape(-1, width) for row in rows]
        fields[name] = torch.from_numpy(np.concatenate([empty, *parts])).to(dtype)
    first = {"atoms": "atom", "edges": "edge", "centres": "chiral", "targets": "target"}
    counts = {
        n: torch.tensor([len(row[f]) for row in rows], dtype=torch.long) for n, f in first.items()
    }
    return ComplexTable(fields, counts, torch.tensor(list(split), dtype=torch.uint8), card)


def of_complexes(
    found: Iterable[ComplexFiles],
    *,
    exclude: frozenset[str] = frozenset(),
    exclude_proteins: Sequence[Structure] = (),
    validation_from: int | None = None,
    pieces: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> ComplexTable:
    """Ligands with their targets.

    Args:
        found: complexes; see `molgen.datasets.complexes.find_complexes`.
        exclude: InChIKey skeletons of a test set's ligands.
        exclude_proteins: a test set's proteins; see `molgen.datasets.complexes.same_protein`.
        validation_from: complexes deposited from this day on (YYYYMMDD, by the HEADER record of the
            protein's file) are the validation split; those without a date are for training.
        pieces: so many peptides of every protein, as further ligands of what is around them; see
            `molgen.datasets.peptides`.
        seed: of their choice.
        progress: show a bar with the time left.

    Raises:
        DataError: no complex is left.
    """
    from tqdm import tqdm

    rows: list[Arrays] = []
    split: list[int] = []
    names: list[str] = []
    left_out: dict[str, str] = {}
    for files in tqdm(list(found), unit="complex", desc="complexes", disable=not progress):
        try:
            one = to_train_on(files, exclude, exclude_proteins)
            made = [arrays_of_complex(one.ligand, one.target)]
        except DataError as error:
            left_out[files.name] = str(error)
            continue
        rng = random.generator(seed, 11, len(names))
        for piece in peptides_of(one.target, pieces, rng):
            made.append(arrays_of_complex(piece.ligand, piece.target))
        later = validation_from is not None and one.date >= validation_from
        rows += made
        split += [int(later)] * len(made)
        names.append(files.name)
    if not rows:
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise DataError(f"expected complexes to train on, none is left: {reasons}")
    card: dict[str, Any] = {"names": names, "left_out": left_out}
    return flat(rows, split, card | ({"pieces": len(rows) - len(names)} if pieces else {}))


def arrays_of_complex(ligand: Chem.Mol, target: Structure) -> Arrays:
    """The row of a ligand with its conformer, and of its target.

    Raises:
        DataError: no atom of the target is near.
    """
    from molgen.sidegen.features import ligand_arrays, target_arrays

    pos = np.asarray(ligand.GetConformer().GetPositions(), np.float64)
    own = ligand_arrays(ligand, pos)
    return own | target_arrays(target, own["pos"].mean(0))


def to_train_on(
    files: ComplexFiles, exclude: frozenset[str], exclude_proteins: Sequence[Structure]
) -> Complex:
    """A complex that is neither of a test set nor too large.

    Raises:
        DataError: it is, or a file cannot be read.
    """
    from molgen.datasets.complexes import read_complex, same_protein

    one = read_complex(files)
    if one.skeleton in exclude:
        raise DataError("its ligand is in a test set")
    if any(same_protein(one.target, other) for other in exclude_proteins):
        raise DataError("its protein is in a test set")
    if one.ligand.GetNumHeavyAtoms() > MAX_ATOMS:
        raise DataError(f"more than {MAX_ATOMS} heavy atoms")
    return one


def peptides_of(target: Structure, number: int, rng: torch.Generator) -> list[Piece]:
    """Up to so many peptides of a protein, of one to three residues."""
    from molgen.datasets.peptides import pieces

    if number == 0:
        return []
    found = [piece for length in (1, 2, 3) for piece in pieces(target, length)]
    chosen = torch.randperm(len(found), generator=rng)[:number]
    return [found[k] for k in chosen.tolist()]


def of_molecules(table: MoleculeTable, *, progress: bool = True) -> ComplexTable:
    """Ligands without target, from a molecule table; those that RDKit refuses are left out."""
    from tqdm import tqdm

    from molgen.sidegen.features import NO_TARGET, ligand_arrays
    from molgen.torsions import molecule_of

    rows, split = [], []
    for k in tqdm(range(len(table)), unit="mol", desc="ligands", disable=not progress):
        mol = molecule_of(**arrays_of_row(table, k))
        if mol is None or not 3 <= mol.GetNumHeavyAtoms() <= MAX_ATOMS:
            continue
        pos = np.asarray(mol.GetConformer().GetPositions(), np.float64)
        rows.append(ligand_arrays(mol, pos) | NO_TARGET)
        split.append(int(table.split[k]))
    if not rows:
        raise DataError("expected molecules to train on, none is left")
    return flat(rows, split, {key: table.card.get(key) for key in ("source", "excluded")})


def arrays_of_row(table: MoleculeTable, k: int) -> Arrays:
    """The arrays of molecule k that `molgen.torsions.molecule_of` wants."""
    atoms = slice(int(table.offsets[k]), int(table.offsets[k + 1]))
    bonds = slice(int(table.bond_offsets[k]), int(table.bond_offsets[k + 1]))
    out = {n: getattr(table, n)[atoms].numpy() for n in ("atomic_number", "charge", "pos")}
    return out | {n: getattr(table, n)[bonds].numpy() for n in ("bond_atoms", "bond_order")}
