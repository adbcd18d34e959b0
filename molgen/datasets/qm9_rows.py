"""One row of the QM9 source -> arrays of one molecule.

Worker processes import this: no torch here, and RDKit only where it is used, so that a converted
file loads without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import DataError

if TYPE_CHECKING:
    from rdkit import Chem

HARTREE_IN_EV = 27.211386245988  # CODATA 2018

# name: (column of the source, unit here, factor from the source's unit)
PROPERTIES = {
    "mu": ("Dipole_debye", "D", 1.0),
    "alpha": ("Polarizability_bohr3", "bohr^3", 1.0),
    "homo": ("HOMO_au", "eV", HARTREE_IN_EV),
    "lumo": ("LUMO_au", "eV", HARTREE_IN_EV),
    "gap": ("HOMO_LUMO_gap_au", "eV", HARTREE_IN_EV),
    "r2": ("R2_bohr2", "bohr^2", 1.0),
    "zpve": ("ZPVE_au", "eV", HARTREE_IN_EV),
    "U0": ("InternalEnergy_0K_au", "eV", HARTREE_IN_EV),
    "U": ("InternalEnergy_298K_au", "eV", HARTREE_IN_EV),
    "H": ("Enthalphy_298K_au", "eV", HARTREE_IN_EV),
    "G": ("GibbsFreeEnergy_298K_au", "eV", HARTREE_IN_EV),
    "Cv": ("Heatcapacity_Cv_cal_mol_K", "cal/mol/K", 1.0),
}
ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
REASONS = (
    "unreadable record",
    "SMILES not understood",
    "no bonds fit the geometry",
    "other connectivity than the SMILES",
    "other bond orders or charges than the SMILES",
)
COLUMNS = ("Index", "SMILES", "Elements", "XYZ_Ang", *(c for c, _, _ in PROPERTIES.values()))
Arrays = dict[str, NDArray[Any]]
Chunk = tuple[Arrays, list[tuple[int, int]]]

_EMPTY: Arrays = {
    "row": np.zeros(0, dtype=np.int64),
    "n_atoms": np.zeros(0, dtype=np.int16),
    "n_bonds": np.zeros(0, dtype=np.int16),
    "pos": np.zeros((0, 3), dtype=np.float32),
    "atomic_number": np.zeros(0, dtype=np.uint8),
    "charge": np.zeros(0, dtype=np.int8),
    "hybridisation": np.zeros(0, dtype=np.uint8),
    "ring": np.zeros(0, dtype=np.uint8),
    "aromatic": np.zeros(0, dtype=np.uint8),
    "bond_atoms": np.zeros((0, 2), dtype=np.uint8),
    "bond_order": np.zeros(0, dtype=np.uint8),
    "properties": np.zeros((0, len(PROPERTIES)), dtype=np.float64),
    "source_id": np.zeros(0, dtype=np.int32),
    "smiles_bytes": np.zeros(0, dtype=np.uint8),
    "smiles_length": np.zeros(0, dtype=np.int16),
}


def convert_rows(rows: list[tuple[int, list[str]]]) -> Chunk:
    """Convert some rows of the source (row number, cells in the order of `COLUMNS`).

    Returns:
        The flat arrays of the molecules kept, with their row numbers, and (molecule number, index
        into `REASONS`) of those left out. A row that fails costs no other row.
    """
    kept: list[Arrays] = []
    left_out: list[tuple[int, int]] = []
    for number, cells in rows:
        found = _convert_row(cells)
        if isinstance(found, int):
            index = int(cells[0]) if cells[0].isdigit() else -number - 1
            left_out.append((index, found))
        else:
            kept.append({"row": np.array([number]), **found})
    template = kept or [_EMPTY]
    return {name: np.concatenate([one[name] for one in template]) for name in _EMPTY}, left_out


def parse_cells(cells: list[str]) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
    """Atomic numbers [N], positions [N, 3] in Angstrom and properties [12] of one row.

    The coordinates are nested lists with numbers such as `0.` and `1.E-05`.

    Raises:
        ValueError: a number cannot be read, is not finite, or the counts disagree.
        KeyError: an unknown element.
    """
    numbers = [ELEMENTS[symbol.strip(" '")] for symbol in cells[2].strip("[] ").split(",")]
    flat = cells[3].replace("[", "").replace("]", "").split(",")
    pos = np.array(flat, dtype=np.float64).reshape(len(numbers), 3)
    factors = np.array([factor for _, _, factor in PROPERTIES.values()])
    properties = np.array(cells[4:], dtype=np.float64) * factors
    if not (np.isfinite(pos).all() and np.isfinite(properties).all()):
        raise ValueError("a number is not finite")
    return numbers, pos, properties


def _convert_row(cells: list[str]) -> Arrays | int:
    """Arrays of one molecule, or the index of the reason to leave it out."""
    from rdkit import Chem, rdBase

    from molgen.chem import arrays_from_mol, atom_labels, canonical_smiles, perceive_bonds

    try:
        index = int(cells[0])
        numbers, pos, properties = parse_cells(cells)
    except (ValueError, KeyError):
        return 0
    with rdBase.BlockLogs():
        given = Chem.MolFromSmiles(cells[1])
    if given is None:
        return 1
    try:
        mol = perceive_bonds(numbers, pos)
        arrays = arrays_from_mol(mol)
    except DataError:
        return 2
    smiles = canonical_smiles(mol)
    if smiles != canonical_smiles(given):
        return 4 if _skeleton(mol) == _skeleton(Chem.AddHs(given)) else 3
    first, second = np.nonzero(np.triu(arrays["bond_order"]))
    text = np.frombuffer(smiles.encode(), dtype=np.uint8)
    labels = {name: value.astype(np.uint8) for name, value in atom_labels(mol).items()}
    return {
        "n_atoms": np.array([len(numbers)], dtype=np.int16),
        "n_bonds": np.array([len(first)], dtype=np.int16),
        "pos": pos.astype(np.float32),
        "atomic_number": arrays["atomic_number"].astype(np.uint8),
        "charge": arrays["charge"].astype(np.int8),
        **labels,
        "bond_atoms": np.stack([first, second], axis=1).astype(np.uint8),
        "bond_order": arrays["bond_order"][first, second].astype(np.uint8),
        "properties": properties[None],
        "source_id": np.array([index], dtype=np.int32),
        "smiles_bytes": text,
        "smiles_length": np.array([len(text)], dtype=np.int16),
    }


def _skeleton(mol: Chem.Mol) -> str:
    """Canonical SMILES of the connectivity alone: all bonds single, no charges."""
    from rdkit import Chem

    bare = Chem.RWMol()
    for atom in mol.GetAtoms():
        new = Chem.Atom(atom.GetAtomicNum())
        new.SetNoImplicit(True)
        bare.AddAtom(new)
    for bond in mol.GetBonds():
        bare.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return str(Chem.MolToSmiles(bare))
