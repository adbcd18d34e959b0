"""RDKit molecules <-> arrays. Units: Angstrom for positions, e for charges.

All molecules here carry explicit hydrogens and one 3D conformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from diffcore.errors import DataError

BOND_TYPES = {
    1: Chem.BondType.SINGLE,
    2: Chem.BondType.DOUBLE,
    3: Chem.BondType.TRIPLE,
}
BOND_ORDERS = {kind: order for order, kind in BOND_TYPES.items()}
HYBRIDISATION_INDEX = {
    Chem.HybridizationType.S: 1,
    Chem.HybridizationType.SP: 2,
    Chem.HybridizationType.SP2: 3,
    Chem.HybridizationType.SP3: 4,
}


def mol_from_arrays(
    atomic_number: ArrayLike, charge: ArrayLike, bond_order: ArrayLike, pos: ArrayLike
) -> Chem.Mol:
    """Build a molecule exactly as told: nothing is sanitised, added or perceived.

    Args:
        atomic_number: [N] ints, 1 to 118.
        charge: formal charges in e, [N] ints.
        bond_order: kekulised orders, 0 (none) to 3, symmetric, [N, N] ints.
        pos: positions in Angstrom, [N, 3].

    Returns:
        An unsanitised molecule; every atom has `NoImplicit` set; one 3D conformer.

    Raises:
        DataError: shapes disagree, an element or bond order is unknown, or the bonds are not
            symmetric.
    """
    numbers = np.asarray(atomic_number, dtype=np.int64)
    charges = np.asarray(charge, dtype=np.int64)
    orders = np.asarray(bond_order, dtype=np.int64)
    xyz = np.asarray(pos, dtype=np.float64)
    _check_arrays(numbers, charges, orders, xyz)
    mol = _bare_mol(numbers.tolist(), xyz)
    for atom, q in zip(mol.GetAtoms(), charges.tolist(), strict=True):
        atom.SetFormalCharge(q)
        atom.SetNoImplicit(True)
    first, second = np.nonzero(np.triu(orders, 1))
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        mol.AddBond(i, j, BOND_TYPES[int(orders[i, j])])
    return mol.GetMol()


def arrays_from_mol(mol: Chem.Mol) -> dict[str, NDArray[Any]]:
    """Arrays of a molecule: the inverse of `mol_from_arrays`; `mol` is not changed.

    Aromatic bonds are kekulised. Hydrogens must be explicit.

    Returns:
        atomic_number [N] int64, charge [N] int64, bond_order [N, N] int64, pos [N, 3] float64
        in Angstrom.

    Raises:
        DataError: no 3D conformer, implicit hydrogens, a bond that is neither single, double nor
            triple, or aromatic bonds that cannot be kekulised.
    """
    if mol.GetNumConformers() == 0:
        raise DataError("expected a molecule with a conformer, got one without positions")
    kekulised = Chem.RWMol(mol)
    if any(bond.GetIsAromatic() for bond in mol.GetBonds()):
        try:
            with rdBase.BlockLogs():
                Chem.Kekulize(kekulised, clearAromaticFlags=True)
        except Chem.KekulizeException as error:
            raise DataError(f"cannot kekulise the molecule: {error}") from None
    for atom in mol.GetAtoms():
        if not atom.NeedsUpdatePropertyCache() and atom.GetTotalNumHs() > 0:
            raise DataError("expected explicit hydrogens, got implicit ones; use Chem.AddHs")
    n = mol.GetNumAtoms()
    orders = np.zeros((n, n), dtype=np.int64)
    for bond in kekulised.GetBonds():
        order = BOND_ORDERS.get(bond.GetBondType())
        if order is None:
            raise DataError(f"expected single, double or triple bonds, got {bond.GetBondType()}")
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        orders[i, j] = orders[j, i] = order
    atoms = [(atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in mol.GetAtoms()]
    labels = np.array(atoms, dtype=np.int64).reshape(n, 2)
    return {
        "atomic_number": labels[:, 0].copy(),
        "charge": labels[:, 1].copy(),
        "bond_order": orders,
        "pos": np.array(mol.GetConformer().GetPositions(), dtype=np.float64).reshape(n, 3),
    }


def atom_labels(mol: Chem.Mol) -> dict[str, NDArray[np.int64]]:
    """Labels that follow from the graph of a sanitised molecule, each [N] int64.

    Returns:
        hybridisation (0 other, 1 S, 2 SP, 3 SP2, 4 SP3), ring (0 or 1), aromatic (0 or 1).
    """
    rows = [
        (
            # RDKit leaves hydrogens that AddHs made without one
            1 if atom.GetAtomicNum() == 1 else HYBRIDISATION_INDEX.get(atom.GetHybridization(), 0),
            atom.IsInRing(),
            atom.GetIsAromatic(),
        )
        for atom in mol.GetAtoms()
    ]
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    return {"hybridisation": table[:, 0], "ring": table[:, 1], "aromatic": table[:, 2]}


def aromatic_bond_flags(
    atomic_number: ArrayLike, charge: ArrayLike, bond_atoms: ArrayLike, bond_order: ArrayLike
) -> NDArray[np.bool_]:
    """Which bonds RDKit marks as aromatic, in the order given.

    Args:
        atomic_number: [N] ints.
        charge: formal charges in e, [N] ints.
        bond_atoms: the two atoms of each bond, [B, 2] ints.
        bond_order: kekulised orders 1 to 3, [B] ints.

    Returns:
        [B] bool.

    Raises:
        DataError: RDKit refuses the molecule.
    """
    ends, orders = np.asarray(bond_atoms, dtype=np.int64), np.asarray(bond_order, dtype=np.int64)
    n = len(np.asarray(atomic_number))
    square = np.zeros((n, n), dtype=np.int64)
    square[ends[:, 0], ends[:, 1]] = square[ends[:, 1], ends[:, 0]] = orders
    mol = sanitised(mol_from_arrays(atomic_number, charge, square, np.zeros((n, 3))))
    if mol is None:
        raise DataError("expected a molecule that sanitises")
    bonds = [mol.GetBondBetweenAtoms(i, j) for i, j in ends.tolist()]
    return np.array([bond.GetIsAromatic() for bond in bonds], dtype=bool)


def sanitised(mol: Chem.Mol) -> Chem.Mol | None:
    """A sanitised copy, or None where RDKit refuses the molecule; `mol` is not changed."""
    copy = Chem.Mol(mol)
    try:
        with rdBase.BlockLogs():
            Chem.SanitizeMol(copy)
    except (Chem.MolSanitizeException, ValueError, RuntimeError):
        return None
    return copy


def perceive_bonds(atomic_number: Sequence[int], pos: ArrayLike, charge: int = 0) -> Chem.Mol:
    """Molecule whose bonds and formal charges are perceived from its geometry.

    Connectivity from van der Waals radii with a cover factor of 1.15, then bond orders (Kim and
    Kim, Bull. Korean Chem. Soc. 36, 1769, 2015, as in RDKit's `rdDetermineBonds`).

    Args:
        atomic_number: [N] ints.
        pos: positions in Angstrom, [N, 3].
        charge: total charge in e.

    Returns:
        A sanitised molecule (aromaticity marked) with one conformer.

    Raises:
        DataError: no bond orders fit the geometry and the charge.
    """
    mol = _bare_mol(atomic_number, np.asarray(pos, dtype=np.float64))
    try:
        with rdBase.BlockLogs():
            rdDetermineBonds.DetermineBonds(
                mol, useVdw=True, covFactor=1.15, charge=charge, embedChiral=False
            )
            Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"cannot perceive bonds: {str(error).strip().splitlines()[0]}") from None
    return mol.GetMol()


def canonical_smiles(mol: Chem.Mol) -> str:
    """Canonical SMILES of a sanitised molecule: hydrogens implicit, no stereo or isotope marks.

    This is the string by which uniqueness and novelty are counted.
    """
    with rdBase.BlockLogs():
        return str(Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False))


def to_xyz_block(mol: Chem.Mol, comment: str = "") -> str:
    """XYZ text of the first conformer, Angstrom, with a final newline.

    Raises:
        DataError: the molecule has no conformer.
    """
    if mol.GetNumConformers() == 0:
        raise DataError("expected a molecule with a conformer, got one without positions")
    lines = [str(mol.GetNumAtoms()), " ".join(comment.split())]
    for atom, (x, y, z) in zip(mol.GetAtoms(), mol.GetConformer().GetPositions(), strict=True):
        lines.append(f"{atom.GetSymbol():<2} {x:14.8f} {y:14.8f} {z:14.8f}")
    return "\n".join(lines) + "\n"


def _bare_mol(numbers: Sequence[int], xyz: NDArray[np.float64]) -> Chem.RWMol:
    """Atoms and one 3D conformer, no bonds."""
    mol = Chem.RWMol()
    for number in numbers:
        mol.AddAtom(Chem.Atom(int(number)))
    conformer = Chem.Conformer(len(numbers))
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(xyz))
    mol.AddConformer(conformer, assignId=True)
    return mol


def _check_arrays(
    numbers: NDArray[np.int64],
    charges: NDArray[np.int64],
    orders: NDArray[np.int64],
    xyz: NDArray[np.float64],
) -> None:
    """Raise DataError unless the arrays describe one molecule."""
    n = len(numbers)
    expected = {"charge": (charges, (n,)), "bond_order": (orders, (n, n)), "pos": (xyz, (n, 3))}
    for name, (value, shape) in expected.items():
        if value.shape != shape:
            raise DataError(f"expected {name} of shape {shape}, got {value.shape}")
    unknown = numbers[(numbers < 1) | (numbers > 118)]
    if len(unknown):
        raise DataError(f"expected atomic numbers 1 to 118, got {unknown[0]}")
    if ((orders < 0) | (orders > 3)).any():
        raise DataError("expected bond orders 0 to 3, got others")
    if (orders != orders.T).any():
        raise DataError("expected symmetric bond orders, got bond_order[i, j] != bond_order[j, i]")
    if not np.isfinite(xyz).all():
        raise DataError("expected finite positions, got inf or nan")
