"""Conformers that a model draws of ligands, and how near each is to the one in the crystal.

What a ranking is taught on: for every ligand of a molecule table its graph, `SAMPLES` conformers of
a torsional model, and their symmetry-corrected RMSD to the crystal's, after alignment. Bond
lengths, angles and rings are the crystal's in all of them: they say nothing of which is best, and
to embed a ligand takes five times as long as to turn its bonds.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore.columns import save_columns
from diffcore.errors import DataError
from molgen.datasets.flat import columns_of, load_flat, padded, starts_of

if TYPE_CHECKING:
    from molgen.conformers import ConformerGenerator
    from molgen.datasets.table import MoleculeTable
    from molgen.torsions import TorsionGraph

SAMPLES = 48
"""Conformers kept of every ligand."""

LEAST_TORSIONS, MOST_TORSIONS, MOST_ATOMS = 2, 12, 45
"""Ligands with fewer rotatable bonds are too easy, with more, or more heavy atoms, out of reach."""

BONDS = 4
"""Fewest bonds between the atoms of a pair: what is nearer is the torsional model's."""

FIELDS: dict[str, tuple[str, torch.dtype]] = {
    "atom": ("atoms", torch.uint8),
    "pos": ("atoms", torch.float32),
    "edge": ("edges", torch.uint8),
    "edge_kind": ("edges", torch.uint8),
    "near": ("pairs", torch.uint8),
    "bonds": ("pairs", torch.uint8),
}
"""Field -> what it is counted by, and its type; `pos` is [A, SAMPLES * 3], Angstrom."""

COUNTS = ("atoms", "edges", "pairs")
Arrays = dict[str, NDArray[Any]]


@dataclass
class PoolTable:
    """M ligands.

    Attributes:
        fields: the flat tensors of `FIELDS`.
        counts: [M] int64 for every name of `COUNTS`.
        rmsd: to the crystal's conformer, Angstrom, [M, SAMPLES].
        card: what the file holds.
    """

    fields: dict[str, Tensor]
    counts: dict[str, Tensor]
    rmsd: Tensor
    card: dict[str, Any]

    def __len__(self) -> int:
        """Number of ligands."""
        return len(self.rmsd)

    @cached_property
    def starts(self) -> dict[str, Tensor]:
        """First row of every ligand, by name of `COUNTS`, [M + 1]."""
        return starts_of(self.counts)

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Ligands padded to the largest: the fields, ``pos`` [B, S, N, 3], masks, ``rmsd``."""
        indices = torch.as_tensor(indices, dtype=torch.long).reshape(-1)
        owners = {name: owner for name, (owner, _) in FIELDS.items()}
        out, masks = padded(self.fields, owners, self.counts, self.starts, indices)
        out |= {"rmsd": self.rmsd[indices], "size": self.counts["atoms"][indices]}
        names = {"atoms": "atom_mask", "edges": "edge_mask", "pairs": "near_mask"}
        out |= {names[owner]: mask for owner, mask in masks.items()}
        out["pos"] = out["pos"].unflatten(-1, (-1, 3)).transpose(1, 2)
        return out

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        columns = columns_of(self.fields, self.counts) | {"rmsd": self.rmsd}
        return save_columns(path, columns, self.card)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PoolTable:
        """Read a table.

        Raises:
            DataError: the file is missing, broken or no table of pools.
        """
        what = "table of conformer pools"
        fields, counts, more, card = load_flat(path, what, FIELDS, COUNTS, ("rmsd",))
        return cls(fields, counts, more["rmsd"], card)


def joined(tables: Sequence[PoolTable]) -> PoolTable:
    """One table of several."""
    first = tables[0]
    left_out = sum((t.card["left_out"] for t in tables), 0)
    return PoolTable(
        {n: torch.cat([t.fields[n] for t in tables]) for n in FIELDS},
        {n: torch.cat([t.counts[n] for t in tables]) for n in COUNTS},
        torch.cat([t.rmsd for t in tables]),
        {**first.card, "ligands": sum(map(len, tables)), "left_out": left_out},
    )


def pairs_of(graph: TorsionGraph) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pairs of heavy atoms [P, 2] at least `BONDS` apart, and the bonds between them [P].

    Atoms of different fragments count as far apart.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import shortest_path

    n = len(graph.atom)
    i, j = graph.edge.T
    graph_of_bonds = coo_array((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    apart = shortest_path(graph_of_bonds, directed=False, unweighted=True)
    apart = np.where(np.isfinite(apart), apart, 255).clip(0, 255).astype(np.int64)
    first, second = np.nonzero(np.triu(apart >= BONDS, 1))
    return np.stack([first, second], 1), apart[first, second]


def pool_of(generator: ConformerGenerator, ligand: Arrays, seed: int = 0) -> Arrays:
    """The arrays of one ligand, from those of `molgen.torsions.molecule_of`.

    Raises:
        DataError: RDKit refuses it, or it is too rigid or too large.
    """
    from molgen.embedding import symmetries
    from molgen.selection import pairwise_rmsd
    from molgen.torsions import molecule_of, torsion_graph

    mol = molecule_of(**ligand)
    if mol is None:
        raise DataError("RDKit refuses the molecule")
    graph = torsion_graph(mol)
    if not LEAST_TORSIONS <= len(graph.quad) <= MOST_TORSIONS or len(graph.heavy) > MOST_ATOMS:
        raise DataError("too rigid or too large")
    crystal = np.asarray(mol.GetConformer().GetPositions())[None]
    same = np.zeros(SAMPLES + SAMPLES // 2, np.int64)
    pool = generator.turned(mol, graph, crystal, same, seed)[:, graph.heavy]
    rng = np.random.default_rng(seed)
    pool = pool[rng.choice(len(pool), SAMPLES, replace=len(pool) < SAMPLES)]
    bound = crystal[:, graph.heavy]
    ways = [pairwise_rmsd(pool, bound[:, way]) for way in symmetries(mol)]
    near, bonds = pairs_of(graph)
    return {
        "atom": graph.atom,
        "edge": graph.edge,
        "edge_kind": graph.edge_kind,
        "near": near,
        "bonds": bonds,
        "pos": pool.transpose(1, 0, 2).reshape(len(graph.heavy), -1),
        "rmsd": np.min(ways, 0)[:, 0],
    }


@lru_cache(maxsize=1)
def _generator(model: str) -> ConformerGenerator:
    from molgen.conformers import ConformerGenerator

    torch.set_num_threads(1)
    return ConformerGenerator.from_pretrained(model)


def _one(ligand: Arrays, model: str) -> Arrays | None:
    try:
        return pool_of(_generator(model), ligand)
    except DataError:
        return None


def build(
    table: MoleculeTable, model: str, folder: Path, number: int, workers: int = 1, part: int = 200
) -> PoolTable:
    """Pools of the first ligands of a table that have one; goes on where it was stopped.

    Args:
        table: ligands with crystal conformers.
        model: that draws the conformers, by name or path.
        folder: where the parts are kept.
        number: ligands.
        workers: processes.
        part: ligands a part.

    Raises:
        DataError: no ligand of the table has a pool, or the folder's parts are of others.
    """
    from tqdm import tqdm

    from molgen.datasets.parallel import map_in_order

    origin = {"model": model, "ligands_crc32": zlib.crc32(table.source_id.numpy().tobytes())}
    parts: list[PoolTable] = []
    while (path := folder / f"pools-{len(parts)}.safetensors").exists():
        parts.append(PoolTable.load(path))
        if {name: parts[-1].card.get(name) for name in origin} != origin:
            raise DataError(f"{path}: expected conformers of these ligands by {model}, got others")
    seen = sum(len(p) + p.card["left_out"] for p in parts)
    done = sum(map(len, parts))
    rows: list[Arrays] = []
    left_out = 0
    with tqdm(total=number, initial=done, unit="mol", desc="pools") as bar:
        found = map_in_order(partial(_one, model=model), _ligands(table, seen), workers)
        for _, one in found if done < number else ():
            if one is None:
                left_out += 1
            else:
                rows.append(one)
                bar.update()
            enough = done + len(rows) == number
            if len(rows) == part or (enough and rows):
                made = _flat(rows, {**origin, "left_out": left_out, "ligands": len(rows)})
                made.save(folder / f"pools-{len(parts)}.safetensors")
                parts.append(made)
                done, rows, left_out = done + len(rows), [], 0
            if enough:
                break
    if rows:  # the table has no more
        parts.append(_flat(rows, {**origin, "left_out": left_out, "ligands": len(rows)}))
    if not parts:
        raise DataError("expected ligands with rotatable bonds, none has a pool of conformers")
    return joined(parts)


def _ligands(table: MoleculeTable, first: int) -> Iterator[Arrays]:
    from molgen.datasets.complex_table import arrays_of_row

    return (arrays_of_row(table, k) for k in range(first, len(table)))


def _flat(rows: list[Arrays], card: dict[str, Any]) -> PoolTable:
    fields = {
        name: torch.from_numpy(np.concatenate([row[name] for row in rows])).to(dtype)
        for name, (_, dtype) in FIELDS.items()
    }
    owners = {"atoms": "atom", "edges": "edge", "pairs": "near"}
    counts = {n: torch.tensor([len(row[f]) for row in rows]) for n, f in owners.items()}
    rmsd = torch.from_numpy(np.stack([row["rmsd"] for row in rows])).float()
    return PoolTable(fields, counts, rmsd, card)
