"""Complexes as what a contact potential is fitted to: poses, their moves, what is around them."""

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
from molgen.datasets.complex_table import peptides_of, to_train_on
from molgen.datasets.flat import columns_of, load_flat, padded, starts_of

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.conformers import ConformerGenerator
    from molgen.datasets.complexes import ComplexFiles
    from molgen.docking.structure import Structure

Arrays = dict[str, NDArray[Any]]
FIELDS: dict[str, tuple[str, int, torch.dtype]] = {
    "atom": ("atoms", 1, torch.uint8),
    "pos": ("atoms", 3, torch.float32),
    "target": ("targets", 1, torch.uint8),
    "target_pos": ("targets", 3, torch.float32),
    "target_axis": ("targets", 3, torch.float32),
    "axis": ("turns", 2, torch.uint8),
    "density": ("turns", 72, torch.float16),
    "moved": ("moves", 2, torch.uint8),
}
"""Field -> what it is counted by, its columns, its type. `axis` holds the atoms of a bond, the one
that stays first; `density` the logarithm of the torsional model's density at 72 turns of it from
where it is; `moved` a turn and an atom that it carries along."""
COUNTS = ("atoms", "targets", "turns", "moves")


@dataclass
class ContactTable:
    """M ligands in their targets.

    Attributes:
        fields: the flat tensors of `FIELDS`.
        counts: [M] int64 for every name of `COUNTS`.
        piece: 1 for pieces of proteins, 0 for ligands, [M] uint8.
        card: source, names, and what was left out and why.
    """

    fields: dict[str, Tensor]
    counts: dict[str, Tensor]
    piece: Tensor
    card: dict[str, Any]

    def __len__(self) -> int:
        """Number of ligands."""
        return len(self.piece)

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """First row of every ligand, by name of `COUNTS`, [M + 1]."""
        return starts_of(self.counts)

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Ligands padded to the largest of them.

        Returns:
            ``atom`` [B, N] (-1: none), ``pos`` [B, N, 3] from the ligand's centre, ``mask``
            [B, N], ``target`` [B, T] (-1: none), ``target_pos`` [B, T, 3] in the same frame,
            ``target_axis`` [B, T, 3] (see `molgen.contacts.features.surroundings`),
            ``axis`` [B, R, 2], ``density`` [B, R, 72], ``moved`` [B, R, N] and ``n_turns`` [B].
        """
        indices = torch.as_tensor(indices, dtype=torch.long).reshape(-1)
        owners = {name: owner for name, (owner, _, _) in FIELDS.items()}
        out, masks = padded(self.fields, owners, self.counts, self.starts, indices)
        mask = masks["atoms"]
        row = torch.arange(len(indices)).unsqueeze(1).expand_as(masks["moves"])[masks["moves"]]
        turn, atom = out["moved"][masks["moves"]].unbind(-1)
        moved = torch.zeros(len(indices), masks["turns"].shape[1], mask.shape[1], dtype=torch.bool)
        moved[row, turn, atom] = True
        centre = out["pos"].sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        for name, owner, where in (("atom", "atoms", "pos"), ("target", "targets", "target_pos")):
            out[where] = (out[where] - centre.unsqueeze(1)) * masks[owner].unsqueeze(-1)
            out[name] = torch.where(masks[owner], out[name].squeeze(-1), -1)
        return {**out, "moved": moved, "mask": mask, "n_turns": self.counts["turns"][indices]}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table beside its place and move it there.

        Raises:
            OutputError: it cannot be written.
        """
        columns = columns_of(self.fields, self.counts) | {"piece": self.piece}
        return save_columns(path, columns, self.card)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ContactTable:
        """Read a table.

        Raises:
            DataError: the file is missing, broken or no table of contacts.
        """
        fields, counts, more, card = load_flat(
            path, "table of contacts", FIELDS, COUNTS, ("piece",)
        )
        return cls(fields, counts, more["piece"], card)


def flat(rows: Sequence[Arrays], piece: Sequence[int], card: dict[str, Any]) -> ContactTable:
    """A table of the arrays of `arrays_of`."""
    fields = {}
    for name, (_, width, dtype) in FIELDS.items():
        parts = [np.asarray(row[name], np.float64).reshape(-1, width) for row in rows]
        fields[name] = torch.from_numpy(np.concatenate([np.zeros((0, width)), *parts])).to(dtype)
    first = {"atoms": "pos", "targets": "target_pos", "turns": "axis", "moves": "moved"}
    counts = {
        n: torch.tensor([len(row[f]) for row in rows], dtype=torch.long) for n, f in first.items()
    }
    return ContactTable(fields, counts, torch.tensor(list(piece), dtype=torch.uint8), card)


def arrays_of(generator: ConformerGenerator, ligand: Chem.Mol, target: Structure) -> Arrays:
    """The row of a ligand with its conformer in its target.

    Raises:
        DataError: no atom of the target is near.
    """
    from molgen.contacts.features import ligand_classes, surroundings
    from molgen.torsion_cost import log_densities
    from molgen.torsions import moving_atoms, torsion_graph

    graph = torsion_graph(ligand)
    whole = np.asarray(ligand.GetConformer().GetPositions(), np.float64)
    pos = whole[graph.heavy]
    place = {int(atom): k for k, atom in enumerate(graph.heavy)}
    axis, moved = [], []
    for turn, atoms in enumerate(moving_atoms(ligand, graph)):
        first, *carried = (place[int(atom)] for atom in atoms if int(atom) in place)
        b, c = graph.quad[turn, 1:3].tolist()
        axis.append((b, c) if first == c else (c, b))
        moved += [(turn, atom) for atom in carried]
    density = log_densities(generator.denoiser, graph, pos)
    return {
        "atom": ligand_classes(ligand),
        "pos": pos,
        **surroundings(target, pos),
        "axis": np.array(axis, np.int64).reshape(-1, 2),
        "density": density,
        "moved": np.array(moved, np.int64).reshape(-1, 2),
    }


def of_complexes(
    generator: ConformerGenerator,
    found: Iterable[ComplexFiles],
    *,
    exclude: frozenset[str] = frozenset(),
    exclude_proteins: Sequence[Structure] = (),
    pieces: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> ContactTable:
    """Ligands in their targets, and pieces of the proteins in the rest of them.

    Args:
        generator: a torsional model.
        found: complexes; see `molgen.datasets.complexes.find_complexes`.
        exclude: InChIKey skeletons of a test set's ligands.
        exclude_proteins: a test set's proteins; see `molgen.datasets.complexes.same_protein`.
        pieces: so many peptides of every protein; see `molgen.datasets.peptides`.
        seed: of their choice.
        progress: show a bar with the time left.

    Raises:
        DataError: no complex is left.
    """
    from tqdm import tqdm

    rows: list[Arrays] = []
    names: list[str] = []
    left_out: dict[str, str] = {}
    for files in tqdm(list(found), unit="complex", desc="complexes", disable=not progress):
        try:
            one = to_train_on(files, exclude, exclude_proteins)
            made = [arrays_of(generator, one.ligand, one.target)]
        except DataError as error:
            left_out[files.name] = str(error)
            continue
        rng = random.generator(seed, 11, len(names))
        for piece in peptides_of(one.target, pieces, rng):
            made.append(arrays_of(generator, piece.ligand, piece.target))
        rows += made
        names += [files.name] + [""] * (len(made) - 1)
    if not rows:
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        raise DataError(f"expected complexes to train on, none is left: {reasons}")
    card = {"names": [n for n in names if n], "left_out": left_out, "pieces": names.count("")}
    return flat(rows, [int(not name) for name in names], card)
