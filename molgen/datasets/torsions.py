"""Torsion graphs of a molecule table, stored flat, and padded batches of them.

Needs torch, numpy and safetensors to train from a converted file; rdkit to convert.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore.columns import save_columns
from diffcore.errors import DataError
from molgen.datasets.flat import columns_of, load_flat, padded, starts_of
from molgen.datasets.table import SPLITS, MoleculeTable

if TYPE_CHECKING:
    from molgen.torsions import TorsionGraph

VERSION = 1
COUNTS = ("atoms", "edges", "torsions", "pairs")
FIELDS: dict[str, tuple[str, int, torch.dtype]] = {
    "atom": ("atoms", 7, torch.uint8),
    "edge": ("edges", 2, torch.uint8),
    "edge_kind": ("edges", 4, torch.uint8),
    "quad": ("torsions", 4, torch.uint8),
    "sub": ("torsions", 6, torch.int16),
    "offset": ("torsions", 6, torch.float32),
    "angle": ("torsions", 1, torch.float32),
    "pair": ("pairs", 2, torch.uint8),
    "pair_end": ("pairs", 2, torch.uint8),
    "pair_sub": ("pairs", 2, torch.uint8),
    "pair_kind": ("pairs", 2, torch.uint8),
}
"""Field -> what it is counted by, its columns, its type."""
_CHUNK = 256

Arrays = dict[str, NDArray[Any]]


@dataclass
class TorsionTable:
    """M molecules with at least one rotatable bond.

    Attributes:
        fields: the flat tensors of `FIELDS`.
        counts: [M] int64 for every name of `COUNTS`.
        split: index into `SPLITS`, [M] uint8.
        source: the molecule's source_id in the molecule table, [M] int32.
        card: what the file holds.
    """

    fields: dict[str, Tensor]
    counts: dict[str, Tensor]
    split: Tensor
    source: Tensor
    card: dict[str, Any]

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.split)

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """First row of every molecule, by name of `COUNTS`, [M + 1]."""
        return starts_of(self.counts)

    def split_indices(self, name: str) -> Tensor:
        """Molecules of one part, [.] int64."""
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}")
        return torch.nonzero(self.split == SPLITS.index(name)).flatten()

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Molecules padded to the largest of them, with masks; see `shaped`."""
        indices = torch.as_tensor(indices, dtype=torch.long).reshape(-1)
        owners = {name: owner for name, (owner, _, _) in FIELDS.items()}
        out, masks = padded(self.fields, owners, self.counts, self.starts, indices)
        out |= {f"{owner[:-1]}_mask": mask for owner, mask in masks.items()}
        return shaped(out)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table beside its place and move it there.

        Raises:
            OutputError: it cannot be written.
        """
        columns = columns_of(self.fields, self.counts) | {
            "split": self.split,
            "source": self.source,
        }
        return save_columns(path, columns, self.card)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TorsionTable:
        """Read a table.

        Raises:
            DataError: the file is missing, broken or no torsion table.
        """
        own = ("split", "source")
        fields, counts, more, card = load_flat(path, "torsion table", FIELDS, COUNTS, own)
        return cls(fields, counts, more["split"], more["source"], card)


def shaped(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns in the shape that the network expects: sub, offset [B, R, 2, 3], angle [B, R]."""
    out = dict(batch)
    for name in ("sub", "offset"):
        out[name] = batch[name].unflatten(-1, (2, 3))
    real = out["torsion_mask"][..., None, None]
    out["sub"] = torch.where(real, out["sub"], -1)
    if "angle" in batch:
        out["angle"] = batch["angle"].squeeze(-1)
    return out


def build(table: MoleculeTable, progress: bool = True, workers: int = 2) -> TorsionTable:
    """Torsion graphs of all molecules of a table that have a rotatable bond (needs rdkit)."""
    from tqdm import tqdm

    from molgen.datasets.parallel import map_in_order

    parts: list[Arrays] = []
    chunks = (
        table.select(torch.arange(at, min(at + _CHUNK, len(table))))
        for at in range(0, len(table), _CHUNK)
    )
    inputs = (_plain(chunk) for chunk in chunks)
    with tqdm(total=len(table), unit="mol", desc="torsions", disable=not progress) as bar:
        for given, arrays in map_in_order(_graphs, inputs, workers):
            bar.update(len(given["split"]))
            if len(arrays["split"]):
                parts.append(arrays)
    if not parts:
        raise DataError("expected molecules with rotatable bonds, found none")
    whole = {n: torch.from_numpy(np.concatenate([p[n] for p in parts])) for n in parts[0]}
    card = {k: table.card.get(k) for k in ("name", "source", "licence", "split", "excluded")}
    counts = {name: int((whole["split"] == k).sum()) for k, name in enumerate(SPLITS)}
    return TorsionTable(
        {name: whole[name] for name in FIELDS},
        {name: whole[f"n_{name}"] for name in COUNTS},
        whole["split"],
        whole["source"],
        {**card, "version": VERSION, "counts": {"molecules": len(whole["split"]), **counts}},
    )


def _plain(table: MoleculeTable) -> Arrays:
    names = ("n_atoms", "n_bonds", "pos", "atomic_number", "charge", "bond_atoms", "bond_order")
    plain = {name: getattr(table, name).numpy() for name in names}
    return plain | {"split": table.split.numpy(), "source": table.source_id.numpy()}


def _graphs(plain: Arrays) -> Arrays:
    """Flat arrays of a chunk, molecules without rotatable bonds left out; runs in a worker."""
    from molgen.torsions import arrays_of, molecule_of

    rows: list[Arrays] = []
    kept: list[int] = []
    atom = bond = 0
    for k, (n, b) in enumerate(zip(plain["n_atoms"], plain["n_bonds"], strict=True)):
        part = {
            name: plain[name][atom : atom + n] for name in ("atomic_number", "charge", "pos")
        } | {name: plain[name][bond : bond + b] for name in ("bond_atoms", "bond_order")}
        atom, bond = atom + int(n), bond + int(b)
        mol = molecule_of(**part)
        arrays = None if mol is None else arrays_of(mol)
        if arrays is not None and len(arrays["quad"]) and np.isfinite(arrays["angle"]).all():
            rows.append(arrays)
            kept.append(k)
    out: Arrays = {"split": plain["split"][kept], "source": plain["source"][kept]}
    for name, (_, width, dtype) in FIELDS.items():
        empty = np.zeros((0, width), np.float32)
        flat = np.concatenate([empty, *(r[name].reshape(-1, width) for r in rows)])
        out[name] = torch.from_numpy(flat).to(dtype).numpy()
    for name, field in (
        ("atoms", "atom"),
        ("edges", "edge"),
        ("torsions", "quad"),
        ("pairs", "pair"),
    ):
        out[f"n_{name}"] = np.array([len(r[field]) for r in rows], np.int64)
    return out


def network_input(graph: TorsionGraph, pos: NDArray[np.float64]) -> dict[str, Tensor]:
    """A batch of L local structures of one molecule from its heavy atoms' positions [L, N, 3]."""
    from molgen.torsions import offsets

    count = {"atoms": graph.atom, "edges": graph.edge, "torsions": graph.quad, "pairs": graph.pair}
    out: dict[str, Tensor] = {}
    for name, rows in count.items():
        out[f"{name[:-1]}_mask"] = torch.ones(len(pos), len(rows), dtype=torch.bool)
    for name in FIELDS:
        if name not in ("offset", "angle"):
            one = torch.from_numpy(getattr(graph, name))
            out[name] = one.expand(len(pos), *one.shape)
    out["offset"] = torch.from_numpy(offsets(graph, pos)).float()
    return out
