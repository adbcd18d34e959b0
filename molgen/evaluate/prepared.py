"""One molecule with what several metrics need of it, computed once and never written back."""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

if TYPE_CHECKING:
    from molgen.docking.pocket import Pocket
    from molgen.evaluate.docked import Docked, Minimised
    from molgen.evaluate.energy import Relaxation
    from molgen.evaluate.geometry import Internal
    from molgen.evaluate.poses import Checks
    from molgen.evaluate.strain import Conformations

Valencies = Mapping[tuple[int, int], Container[tuple[int, int]]]
"""(atomic number, formal charge) -> allowed (aromatic bonds, sum of the other bond orders)."""

Atom = tuple[int, int, int, int]
"""(atomic number, formal charge, aromatic bonds, sum of the other bond orders)."""


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def kekulised(mol: Chem.Mol) -> Chem.Mol:
    """A copy with single, double and triple bonds only; `mol` itself if it has no aromatic bond.

    Raises:
        rdkit.Chem.KekulizeException: No alternation of bonds exists.
    """
    if not any(bond.GetIsAromatic() for bond in mol.GetBonds()):
        return mol
    copy = Chem.Mol(mol)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    return copy


class Prepared:
    """Views of one molecule; `mol` is never changed.

    Args:
        mol: Any molecule, sanitised or not.
        valencies: Allowed valency tuples of the reference, or None for no reference.
        pocket: What a pose is judged in, or None.
    """

    def __init__(
        self, mol: Chem.Mol, valencies: Valencies | None = None, pocket: Pocket | None = None
    ) -> None:
        """See the class."""
        self.mol = mol
        self.valencies = valencies
        self.pocket = pocket

    @cached_property
    def fragments(self) -> tuple[tuple[int, ...], ...]:
        """Atom indices of each connected component."""
        return tuple(Chem.GetMolFrags(self.mol))

    @cached_property
    def _sanitisation(self) -> tuple[Chem.Mol | None, str]:
        copy = Chem.Mol(self.mol)
        try:
            Chem.SanitizeMol(copy)
        except (ValueError, RuntimeError) as error:
            return None, _first_line(error)
        return copy, ""

    @property
    def sanitised(self) -> Chem.Mol | None:
        """A sanitised copy, or None if RDKit refuses the molecule."""
        return self._sanitisation[0]

    @property
    def refusal(self) -> str:
        """RDKit's message if it refuses the molecule, else empty."""
        return self._sanitisation[1]

    @cached_property
    def change(self) -> str:
        """What sanitisation changed in the graph (atoms, charges, bonds); empty if nothing.

        An aromatic bond is equal to a single, double or aromatic bond of the original.
        """
        if self.sanitised is None:
            return ""
        old_atoms = [(a.GetAtomicNum(), a.GetFormalCharge()) for a in self.mol.GetAtoms()]
        new_atoms = [(a.GetAtomicNum(), a.GetFormalCharge()) for a in self.sanitised.GetAtoms()]
        if [z for z, _ in old_atoms] != [z for z, _ in new_atoms]:
            return "atoms"
        if old_atoms != new_atoms:
            return "formal charges"
        alternating = {Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.AROMATIC}
        if self.mol.GetNumBonds() != self.sanitised.GetNumBonds():
            return "bonds"
        for old, new in zip(self.mol.GetBonds(), self.sanitised.GetBonds(), strict=True):
            kind = old.GetBondType()
            if kind != new.GetBondType() and not (new.GetIsAromatic() and kind in alternating):
                return "bonds"
        return ""

    @cached_property
    def perceived(self) -> Chem.Mol:
        """The graph as given, with aromaticity marked by RDKit's model, nothing else changed."""
        if self.sanitised is not None and not self.change:
            return self.sanitised
        try:
            copy = Chem.Mol(kekulised(self.mol))
            copy.UpdatePropertyCache(strict=False)
            Chem.GetSymmSSSR(copy)
            Chem.SetAromaticity(copy)
        except (ValueError, RuntimeError):
            return self.mol
        return copy

    @cached_property
    def atoms(self) -> tuple[Atom, ...]:
        """Element, charge and valency tuple of every atom, from explicit bonds alone."""
        n = self.perceived.GetNumAtoms()
        aromatic, other = [0] * n, [0.0] * n
        for bond in self.perceived.GetBonds():
            ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            order = bond.GetBondTypeAsDouble()
            for end in ends:
                if bond.GetIsAromatic():
                    aromatic[end] += 1
                else:
                    other[end] += order
        return tuple(
            (a.GetAtomicNum(), a.GetFormalCharge(), aromatic[i], int(other[i]))
            if other[i] == int(other[i])
            else (a.GetAtomicNum(), a.GetFormalCharge(), aromatic[i], -1)
            for i, a in enumerate(self.perceived.GetAtoms())
        )

    @cached_property
    def stable(self) -> tuple[bool, ...] | None:
        """Per atom: its valency tuple is known for its element and charge; None: no reference."""
        if self.valencies is None:
            return None
        known = self.valencies
        return tuple((a, o) in known.get((z, q), ()) for z, q, a, o in self.atoms)

    @cached_property
    def positions(self) -> NDArray[np.float64] | None:
        """Positions [N, 3] in Angstrom, or None without a finite 3D conformer."""
        mol = self.mol
        if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
            return None
        positions = np.asarray(mol.GetConformer().GetPositions(), dtype=np.float64)
        if not np.isfinite(positions).all():
            return None
        if len(positions) > 1 and np.ptp(positions, axis=0).max() < 1e-3:
            return None  # all atoms in one point: a placeholder, not a geometry
        return positions

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers [N]."""
        return np.array([a.GetAtomicNum() for a in self.mol.GetAtoms()], dtype=np.int64)

    @cached_property
    def incomplete(self) -> str:
        """Why energies and stereo would not be those of the molecule; empty if they are.

        The graph must be one fragment that sanitises without changes and without additions. What
        the reference knows of valencies plays no part.
        """
        if self.mol.GetNumAtoms() == 0:
            return "no atoms"
        if len(self.fragments) != 1:
            return f"fragments: {len(self.fragments)}"
        if self.sanitised is None:
            return "does not sanitise"
        if self.change:
            return f"sanitisation changes its {self.change}"
        return self.added

    @cached_property
    def added(self) -> str:
        """What RDKit had to add to make sense of the molecule; empty if nothing."""
        if self.sanitised is None:
            return ""
        atoms = list(self.sanitised.GetAtoms())
        hydrogens = sum(atom.GetTotalNumHs() for atom in atoms)
        if hydrogens:
            return f"implicit hydrogens: {hydrogens} missing"
        radicals = sum(atom.GetNumRadicalElectrons() for atom in atoms)
        plural = "" if radicals == 1 else "s"
        return f"radical: {radicals} unpaired electron{plural}" if radicals else ""

    @cached_property
    def heavy(self) -> Chem.Mol | None:
        """The sanitised molecule with its hydrogens made implicit, or None."""
        return None if self.sanitised is None else Chem.RemoveHs(self.sanitised)

    @cached_property
    def internal(self) -> Internal:
        """Its bonds, angles and torsions as atom indices."""
        from molgen.evaluate.geometry import internal

        return internal(self.mol)

    @cached_property
    def mmff(self) -> Relaxation:
        """Relaxation by MMFF94s."""
        from molgen.evaluate.energy import relaxed_mmff

        return relaxed_mmff(self)

    @cached_property
    def xtb(self) -> Relaxation:
        """Relaxation by GFN2-xTB.

        Raises:
            ConfigError: tblite is not installed.
        """
        from molgen.evaluate.energy import relaxed_xtb

        return relaxed_xtb(self)

    @cached_property
    def posebusters(self) -> Checks:
        """The checks of PoseBusters.

        Raises:
            ConfigError: PoseBusters is not installed.
        """
        from molgen.evaluate.poses import checked

        return checked(self)

    @cached_property
    def conformations(self) -> Conformations:
        """The pose held in place and free conformers, relaxed by MMFF94s.

        Raises:
            DataError: See `molgen.evaluate.strain.conformations`.
        """
        from molgen.evaluate.strain import conformations

        return conformations(self.mol)

    @cached_property
    def vina_minimum(self) -> Minimised:
        """The pose minimised by Vina.

        Raises:
            ConfigError: No pocket, or Vina or Open Babel is not installed.
            DataError: The pose cannot be scored.
        """
        from molgen.evaluate.docked import minimised

        return minimised(self)

    @cached_property
    def vina_docked(self) -> Docked:
        """The ligand docked from a fresh conformer.

        Raises:
            ConfigError: No pocket, or Vina or Open Babel is not installed.
            DataError: The ligand cannot be embedded or docked.
        """
        from molgen.evaluate.docked import docked

        return docked(self)

    @cached_property
    def pocket_checks(self) -> Checks:
        """PoseBusters' checks `dock` of the pose.

        Raises:
            ConfigError: No pocket, or PoseBusters is not installed.
            DataError: No protein is near the pose.
        """
        from molgen.docking.checks import checked_pose
        from molgen.evaluate.docked import ligand_of, pocket_of

        return checked_pose(ligand_of(self), pocket_of(self))
