"""Ligands with what GFN2-xTB says of their crystal conformers, for the energy models of SIDEGEN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcore.columns import load_columns, save_columns
from diffcore.errors import DataError
from molgen.datasets.complex_table import ComplexTable, arrays_of_row, flat
from molgen.datasets.table import MoleculeTable

if TYPE_CHECKING:
    from molgen.sidegen.chemistry import ScalarFeatures

MAX_ATOMS = 45
"""Larger molecules, hydrogens counted, are left out: a single point takes a tenth of a second."""


@dataclass
class ChemicalTable:
    """M ligands.

    Attributes:
        ligands: their graphs and conformers.
        feature: standardised SCF energy beyond the composition's, and HOMO-LUMO gap, [M, 2].
        charge: partial charges of all heavy atoms in the ligands' order, e, [A, 1].
    """

    ligands: ComplexTable
    feature: Tensor
    charge: Tensor

    def batch(self, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """As the ligands' batch, with ``feature`` [B, 2] and ``charge`` [B, N, 1]."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        out = self.ligands.batch(indices)
        first = self.ligands.starts["atoms"][indices]
        rows = first[:, None] + torch.arange(out["mask"].shape[1])
        rows = torch.where(out["mask"], rows, 0)
        charge = self.charge[rows] * out["mask"].unsqueeze(-1)
        return {**out, "feature": self.feature[indices], "charge": charge}

    def save(self, folder: Path) -> None:
        """Write both files of a folder."""
        self.ligands.save(folder / "chemistry-ligands.safetensors")
        columns = {"feature": self.feature, "charge": self.charge}
        save_columns(folder / "chemistry.safetensors", columns, {"ligands": len(self.ligands)})

    @classmethod
    def load(cls, folder: Path) -> ChemicalTable:
        """Read them.

        Raises:
            DataError: one is missing or broken.
        """
        ligands = ComplexTable.load(folder / "chemistry-ligands.safetensors")
        path, names = folder / "chemistry.safetensors", ("feature", "charge")
        columns, _ = load_columns(path, "table of chemical features", names)
        return cls(ligands, columns["feature"], columns["charge"])


def chemical_table(table: MoleculeTable, number: int, progress: bool = True) -> ChemicalTable:
    """Single points of the first `number` molecules that are small enough and converge.

    Raises:
        ConfigError: tblite is not installed.
        DataError: fewer than ten are left.
    """
    from tqdm import tqdm

    from molgen.sidegen.chemistry import scalar_features, standardised
    from molgen.sidegen.features import NO_TARGET, ligand_arrays
    from molgen.torsions import molecule_of

    rows: list[dict[str, NDArray[Any]]] = []
    found: list[ScalarFeatures] = []
    counts: list[NDArray[np.int64]] = []
    small = torch.nonzero((table.n_atoms <= MAX_ATOMS) & (table.n_atoms >= 10)).flatten().tolist()
    with tqdm(total=number, unit="mol", desc="GFN2-xTB", disable=not progress) as bar:
        for k in small:
            if len(rows) == number:
                break
            mol = molecule_of(**arrays_of_row(table, k))
            if mol is None:
                continue
            try:
                one = scalar_features(mol)
            except DataError:
                continue
            pos = np.asarray(mol.GetConformer().GetPositions(), np.float64)
            rows.append(ligand_arrays(mol, pos) | NO_TARGET)
            found.append(one)
            counts.append(np.bincount([a.GetAtomicNum() for a in mol.GetAtoms()], minlength=54))
            bar.update()
    if len(rows) < 10:
        raise DataError(f"expected molecules with a GFN2-xTB energy, found {len(rows)}")
    feature = standardised(found, np.array(counts, np.float64))
    charge = np.concatenate([one.charges for one in found])
    card = {"source": table.card.get("source"), "method": "GFN2-xTB in vacuo, single point"}
    return ChemicalTable(
        flat(rows, [0] * len(rows), card),
        torch.from_numpy(feature).float(),
        torch.from_numpy(charge).float().unsqueeze(-1),
    )
