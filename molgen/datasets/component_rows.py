"""Records of the Chemical Component Dictionary to arrays of the molecule table, in a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from diffcore.errors import DataError
from molgen.chem import arrays_from_mol, atom_labels, canonical_smiles

ELEMENTS = frozenset({1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53})
MIN_HEAVY, MAX_ATOMS = 3, 255

REASONS = (
    "obsolete",
    "no PDB entry",
    "no coordinates",
    "too small",
    "too large",
    "element",
    "fragments",
    "not accepted by RDKit",
)
"""Why a component is left out."""

_ORDERS = {
    "SING": Chem.BondType.SINGLE,
    "DOUB": Chem.BondType.DOUBLE,
    "TRIP": Chem.BondType.TRIPLE,
}


@dataclass(frozen=True)
class Record:
    """One component as the dictionary has it; positions [N, 3] in Angstrom, nan where missing."""

    number: int
    name: str
    pdb: str
    date: str
    status: str
    atom_names: list[str]
    elements: list[str]
    charges: list[int]
    positions: NDArray[np.float64]
    bonds: list[tuple[str, str, str]]


@dataclass
class Converted:
    """Arrays of a chunk (see `MoleculeTable`), labels by record number, reasons of the rest."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    labels: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def skeleton(mol: Chem.Mol) -> str:
    """First block of the InChIKey: the graph without stereo, isotopes and protonation.

    Raises:
        DataError: InChI has no key for the molecule.
    """
    with rdBase.BlockLogs():
        key = str(Chem.MolToInchiKey(mol))
    if len(key) < 14:
        raise DataError("InChI has no key for the molecule")
    return key[:14]


def convert_records(records: list[Record]) -> Converted:
    """Convert a chunk."""
    out = Converted()
    rows = []
    for record in records:
        try:
            mol = build(record)
            rows.append((record, _arrays(mol, record)))
            out.labels[record.number] = (record.name, record.pdb, skeleton(mol))
        except DataError as error:
            out.left_out.append(str(error))
            rows = [row for row in rows if row[0] is not record]
    if rows:
        keys = rows[0][1]
        out.arrays = {name: np.concatenate([row[name] for _, row in rows]) for name in keys}
    return out


def build(record: Record) -> Chem.Mol:
    """The sanitised molecule of a record, with hydrogens and its crystal coordinates.

    Raises:
        DataError: one of `REASONS`.
    """
    if record.status != "REL":
        raise DataError("obsolete")
    if record.pdb in ("?", "UNDEFINED", ""):
        raise DataError("no PDB entry")
    numbers = _numbers(record)
    heavy = numbers != 1
    _check_size(numbers, heavy, record.positions)
    mol = Chem.RWMol()
    for number, charge in zip(numbers.tolist(), record.charges, strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(int(charge))
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    place = {name: k for k, name in enumerate(record.atom_names)}
    for first, second, order in record.bonds:
        if order not in _ORDERS or first not in place or second not in place:
            raise DataError("not accepted by RDKit")
        mol.AddBond(place[first], place[second], _ORDERS[order])
    conformer = Chem.Conformer(len(numbers))
    conformer.Set3D(True)
    conformer.SetPositions(np.nan_to_num(record.positions.astype(np.float64)))
    mol.AddConformer(conformer, assignId=True)
    return _sanitised(mol, bool(np.isnan(record.positions).any()))


def _numbers(record: Record) -> NDArray[np.int64]:
    table = Chem.GetPeriodicTable()
    numbers = []
    for symbol in record.elements:
        symbol = "H" if symbol.upper() == "D" else symbol.capitalize()
        try:
            numbers.append(int(table.GetAtomicNumber(symbol)))
        except RuntimeError:
            raise DataError("element") from None
    if not set(numbers) <= ELEMENTS:
        raise DataError("element")
    return np.array(numbers, dtype=np.int64)


def _check_size(
    numbers: NDArray[np.int64], heavy: NDArray[np.bool_], pos: NDArray[np.float64]
) -> None:
    if heavy.sum() < MIN_HEAVY:
        raise DataError("too small")
    if len(numbers) > MAX_ATOMS:
        raise DataError("too large")
    if np.isnan(pos[heavy]).any():
        raise DataError("no coordinates")
    # components without a crystal structure carry zeros
    distances = np.linalg.norm(pos[heavy][:, None] - pos[heavy][None], axis=-1)
    if (distances + np.eye(len(distances)) < 0.5).any():
        raise DataError("no coordinates")


def _sanitised(mol: Chem.RWMol, without_hydrogens: bool) -> Chem.Mol:
    """Sanitised, stereo from the coordinates; hydrogens placed anew where some have no place."""
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(mol)
            made = mol.GetMol()
            if without_hydrogens:
                for atom in made.GetAtoms():
                    atom.SetNoImplicit(False)
                made = Chem.AddHs(Chem.RemoveAllHs(made), addCoords=True)
            Chem.AssignStereochemistryFrom3D(made)
    except (ValueError, RuntimeError):
        raise DataError("not accepted by RDKit") from None
    if len(Chem.GetMolFrags(made)) > 1:
        raise DataError("fragments")
    if made.GetNumAtoms() > MAX_ATOMS:
        raise DataError("too large")
    return made


def _arrays(mol: Chem.Mol, record: Record) -> dict[str, NDArray[Any]]:
    """Arrays of one molecule, concatenated with others later."""
    raw, labels = arrays_from_mol(mol), atom_labels(mol)
    first, second = np.nonzero(np.triu(raw["bond_order"], 1))
    smiles = canonical_smiles(mol).encode()
    date = int(record.date.replace("-", "")) if record.date[:1].isdigit() else 0
    return {
        "n_atoms": np.array([len(raw["pos"])], np.int16),
        "n_bonds": np.array([len(first)], np.int16),
        "pos": raw["pos"].astype(np.float32),
        "atomic_number": raw["atomic_number"].astype(np.uint8),
        "charge": raw["charge"].astype(np.int8),
        **{name: values.astype(np.uint8) for name, values in labels.items()},
        "bond_atoms": np.stack([first, second], 1).astype(np.uint8),
        "bond_order": raw["bond_order"][first, second].astype(np.uint8),
        "properties": np.array([[date]], np.float64),
        "source_id": np.array([record.number], np.int32),
        "smiles_bytes": np.frombuffer(smiles, np.uint8).copy(),
        "smiles_length": np.array([len(smiles)], np.int16),
    }
