"""Fragments that a molecule keeps: from SMILES, SMARTS or a molecule with coordinates.

Hydrogens say where a fragment can grow: they are taken off, and every bond that is lost so is an
open site, to be filled by whatever the model puts there. Dummy atoms (``*``) say it instead: then
hydrogens are part of the fragment, and only the dummies' places are open, for atoms other than
hydrogen. Hydrogens without coordinates beside atoms that have some are made by the model, but their
number is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rdkit import Chem


@dataclass(frozen=True, eq=False)
class Fragment:
    """Atoms that are kept, M of them, in the order they were given (dummies and free H left out).

    Attributes:
        what: ``scaffold`` or ``keep``: the argument it came from.
        atomic_number: [M] ints.
        charge: formal charges in e, [M] ints.
        bond_order: kekulised orders 0 to 3, symmetric, [M, M]; pairs without a bond stay without.
        open: bond orders that go from each atom to atoms that are not kept, in sum, [M].
        hydrogens: how many of these atoms are hydrogens, [M]; -1 where it does not matter.
        pos: coordinates in Angstrom, [M, 3]; NaN for atoms whose place is free.
        pieces: number of connected pieces.
        source: what it was read from, without free hydrogens; for pictures and messages.
    """

    what: str
    atomic_number: NDArray[np.int64]
    charge: NDArray[np.int64]
    bond_order: NDArray[np.int64]
    open: NDArray[np.int64]
    hydrogens: NDArray[np.int64]
    pos: NDArray[np.float64]
    pieces: int
    source: Chem.Mol = field(repr=False)

    def __len__(self) -> int:
        return len(self.atomic_number)

    @property
    def placed(self) -> NDArray[np.bool_]:
        """Which atoms have coordinates, [M]."""
        return np.asarray(np.isfinite(self.pos).all(-1))

    @property
    def formula(self) -> dict[int, int]:
        """Atoms that are kept, by atomic number."""
        numbers, counts = np.unique(self.atomic_number, return_counts=True)
        return dict(zip(numbers.tolist(), counts.tolist(), strict=True))

    @property
    def saturated(self) -> int:
        """Atoms of the smallest ordinary molecule with it: pieces joined, all else hydrogens."""
        return len(self) + int(self.open.sum()) - 2 * (self.pieces - 1)

    @property
    def least(self) -> int:
        """Fewest atoms of a molecule with it: every open site filled by atoms of four bonds."""
        return len(self) + -(-int(self.open.sum()) // 4)


def fragment_from_smiles(text: str) -> Fragment:
    """A scaffold without coordinates, from SMILES, or SMARTS that name one thing only.

    Raises:
        ConfigError: it cannot be read, leaves a choice open, or cannot be a part of a molecule.
    """
    from rdkit import Chem, rdBase

    if not isinstance(text, str) or not text.strip():
        raise ConfigError(f"scaffold: expected SMILES or SMARTS, got {text!r}")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text.strip())
        if mol is None:
            pattern = Chem.MolFromSmarts(text.strip())
            mol = None if pattern is None else _from_pattern(pattern)
    if mol is None:
        raise ConfigError(
            f"scaffold: expected SMILES, or SMARTS in which every atom is one element and every "
            f"bond one order, got {text!r}"
        )
    return _fragment(mol, "scaffold")


def _from_pattern(pattern: Chem.Mol) -> Chem.Mol | None:
    """The one molecule that a SMARTS pattern describes, or None where it leaves a choice."""
    from rdkit import Chem

    plain = {"SINGLE", "DOUBLE", "TRIPLE", "AROMATIC"}
    simple = {"AtomAtomicNum", "AtomType", "AtomAnd", "AtomFormalCharge", "AtomNull"}
    mol = Chem.RWMol()
    for atom in pattern.GetAtoms():
        terms = {line.split()[0] for line in atom.DescribeQuery().splitlines() if line.strip()}
        number = atom.GetAtomicNum()
        if not terms <= simple or ("AtomNull" in terms) != (number == 0):
            return None
        new = Chem.Atom(number)
        new.SetFormalCharge(atom.GetFormalCharge())
        new.SetIsAromatic(atom.GetIsAromatic())
        mol.AddAtom(new)
    for bond in pattern.GetBonds():
        kind, smarts = bond.GetBondType(), Chem.Bond.GetSmarts(bond)
        aromatic = bond.GetBeginAtom().GetIsAromatic() and bond.GetEndAtom().GetIsAromatic()
        if smarts == "":  # single or aromatic
            kind = Chem.BondType.AROMATIC if aromatic else Chem.BondType.SINGLE
        elif smarts not in ("-", "=", "#", ":") or kind.name not in plain:
            return None
        mol.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), kind)
    made = mol.GetMol()
    refused = Chem.SanitizeMol(made, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE
    return None if refused else made


def fragment_from_mol(mol: Chem.Mol) -> Fragment:
    """A fragment to keep, with the coordinates of its conformer; `mol` is not changed.

    Several disconnected pieces are kept where they are, and joined by the model (a linker). Without
    a conformer the graph alone is kept. Hydrogens that are not written out have free places.

    Raises:
        ConfigError: no molecule, no atoms, or a molecule that RDKit refuses.
    """
    from rdkit import Chem, rdBase

    if not isinstance(mol, Chem.Mol):
        raise ConfigError(f"keep: expected an rdkit.Chem.Mol, got {type(mol).__name__}")
    copy = Chem.Mol(mol)
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(copy)
        except (ValueError, RuntimeError) as error:
            text = str(error).strip().splitlines()[0]
            raise ConfigError(f"keep: RDKit refuses the fragment: {text}") from None
    return _fragment(copy, "keep")


def _fragment(mol: Chem.Mol, what: str) -> Fragment:
    from rdkit import Chem

    from molgen.chem import arrays_from_mol

    dummies = any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms())
    whole = Chem.AddHs(mol)
    pos = _positions(mol, whole.GetNumAtoms())
    if whole.GetNumConformers() == 0:
        whole.AddConformer(Chem.Conformer(whole.GetNumAtoms()))
    try:
        arrays = arrays_from_mol(whole)
    except DataError as error:
        raise ConfigError(f"{what}: {error}") from None
    numbers, orders = arrays["atomic_number"], arrays["bond_order"]
    hydrogen = _free_hydrogens(numbers, orders)
    unplaced = hydrogen & ~np.isfinite(pos).all(-1) & np.isfinite(pos).any()
    off = (numbers == 0) | unplaced if dummies else hydrogen
    kept = np.flatnonzero(~off)
    if not (numbers[kept] > 1).any():
        raise ConfigError(f"{what}: expected at least one atom other than hydrogen")
    radicals = np.array([atom.GetNumRadicalElectrons() for atom in whole.GetAtoms()])
    counted = (orders[:, off & hydrogen] > 0).sum(1) if dummies else np.full(len(numbers), -1)
    return Fragment(
        what=what,
        atomic_number=numbers[kept],
        charge=arrays["charge"][kept],
        bond_order=orders[np.ix_(kept, kept)],
        open=(orders[:, off].sum(1) + radicals)[kept],
        hydrogens=counted[kept],
        pos=pos[kept],
        pieces=_pieces(orders[np.ix_(kept, kept)]),
        source=mol,
    )


def _positions(mol: Chem.Mol, n: int) -> NDArray[np.float64]:
    """Coordinates [n, 3]: those of the conformer first, NaN for what has none."""
    pos = np.full((n, 3), np.nan)
    if mol.GetNumConformers():
        pos[: mol.GetNumAtoms()] = mol.GetConformer().GetPositions()
        if not np.isfinite(pos[: mol.GetNumAtoms()]).all():
            raise ConfigError("keep: expected finite coordinates, got inf or nan")
    return pos


def _free_hydrogens(numbers: NDArray[np.int64], orders: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Hydrogens with one bond, to an atom that is no hydrogen."""
    hydrogen = numbers == 1
    return np.asarray(hydrogen & (orders.sum(1) == 1) & ((orders > 0) @ ~hydrogen))


def _pieces(orders: NDArray[np.int64]) -> int:
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(orders > 0, directed=False)[0])
