"""Strain of a bound ligand: how far above its best free conformer its pose is, in kcal/mol.

The pose may move by 0.3 Angstrom first (its coordinates are uncertain by about that), and the best
of 50 relaxed ETKDGv3 conformers and of the freely relaxed pose is what it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers

from diffcore.errors import DataError
from molgen.chem import sanitised
from molgen.embedding import embed, keeps_stereo
from molgen.relax import relax_xtb

CONFORMERS = 50
SLACK = 0.3
"""Atoms of the pose may move so far for nothing, Angstrom."""

STIFFNESS = 100.0
"""Force constant beyond that, kcal/mol/Angstrom^2."""

MAX_STEPS = 2000
BEST = 5
"""Free conformers, lowest by MMFF94s, whose energy GFN2-xTB compares."""

MMFF_METHOD = (
    "MMFF94s in vacuo; the pose relaxed with atoms held to 0.3 Angstrom, against the lowest of 50 "
    "relaxed ETKDGv3 conformers and the freely relaxed pose"
)
XTB_METHOD = (
    "GFN2-xTB with water (ALPB) at the geometries of MMFF94s: the held pose against the lowest of "
    "the best 5 conformers and the freely relaxed pose"
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FreeConformers:
    """Conformers [A, 3] of a molecule without its protein, relaxed by MMFF94s.

    Attributes:
        positions: lowest first.
        energies: kcal/mol.
    """

    positions: tuple[Floats, ...] = ()
    energies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Conformations:
    """Geometries [A, 3] relaxed by MMFF94s, energies in kcal/mol.

    Attributes:
        mol: the molecule with explicit hydrogens.
        held: the pose with its atoms held.
        held_energy: its energy.
        free: the freely relaxed pose and the conformers, lowest first.
    """

    mol: Chem.Mol
    held: Floats
    held_energy: float
    free: FreeConformers

    @property
    def strain(self) -> float:
        """By MMFF94s, kcal/mol."""
        return self.held_energy - self.free.energies[0]


def free_conformers(mol: Chem.Mol, n: int = CONFORMERS, seed: int = 0) -> FreeConformers:
    """Up to n relaxed ETKDGv3 conformers with the stereo of `mol`; none of a cage.

    Args:
        mol: molecule with explicit hydrogens and stereo marks.
        n: how many to embed.
        seed: of the embedding.

    Raises:
        DataError: MMFF94s lacks parameters for the molecule.
    """
    work, properties = _parametrised(mol)
    bare = Chem.Mol(mol)
    bare.RemoveAllConformers()
    try:
        starts = [p for p in embed(bare, n, seed + 1) if keeps_stereo(bare, p)]
    except DataError:  # what RDKit cannot embed still has its own relaxed pose
        starts = []
    return _sorted([_relaxed(work, properties, start, None) for start in starts])


def conformations(
    mol: Chem.Mol, n: int = CONFORMERS, seed: int = 0, free: FreeConformers | None = None
) -> Conformations:
    """The held pose and free conformers of a molecule with a 3D conformer.

    Args:
        mol: a pose; implicit hydrogens are added.
        n: conformers to embed.
        seed: of the embedding.
        free: conformers made before, for several poses of one molecule.

    Raises:
        DataError: no 3D conformer, more than one fragment, or MMFF94s lacks parameters.
    """
    whole = with_hydrogens(mol)
    work, properties = _parametrised(whole)
    pose = np.asarray(whole.GetConformer().GetPositions(), dtype=np.float64)
    held, energy = _relaxed(work, properties, pose, SLACK)
    known = free_conformers(whole, n, seed) if free is None else free
    others = list(zip(known.positions, known.energies, strict=True))
    together = _sorted([_relaxed(work, properties, pose, None), *others])
    return Conformations(whole, held, energy, together)


def _sorted(found: list[tuple[Floats, float]]) -> FreeConformers:
    found = sorted(found, key=lambda pair: pair[1])
    return FreeConformers(tuple(p for p, _ in found), tuple(e for _, e in found))


def _parametrised(mol: Chem.Mol) -> tuple[Chem.Mol, Any]:
    """A copy with one conformer, and its MMFF94s parameters."""
    work = Chem.Mol(mol)  # MMFF94 leaves its own idea of aromaticity behind
    if not work.GetNumConformers():
        work.AddConformer(Chem.Conformer(work.GetNumAtoms()), assignId=True)
    with rdBase.BlockLogs():
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(work, mmffVariant="MMFF94s")
    if properties is None:
        raise DataError("MMFF94s has no parameters for an atom of the molecule")
    return work, properties


def mmff_strain(mol: Chem.Mol) -> float:
    """Strain by `MMFF_METHOD`, kcal/mol.

    Raises:
        DataError: see `conformations`.
    """
    return conformations(mol).strain


def xtb_strain(found: Conformations, solvent: str | None = "water") -> float:
    """Strain by `XTB_METHOD`, kcal/mol.

    Raises:
        ConfigError: tblite is not installed, or the solvent is unknown.
        DataError: GFN2-xTB does not converge.
    """
    bound = _single_point(found.mol, found.held, solvent)
    free = min(_single_point(found.mol, p, solvent) for p in found.free.positions[: BEST + 1])
    return bound - free


def with_hydrogens(mol: Chem.Mol) -> Chem.Mol:
    """A sanitised copy of one fragment, implicit hydrogens added in 3D.

    Raises:
        DataError: RDKit refuses it, or it has no 3D conformer or several fragments.
    """
    copy = sanitised(mol)
    if copy is None:
        raise DataError("RDKit refuses the molecule")
    if copy.GetNumConformers() == 0 or not copy.GetConformer().Is3D():
        raise DataError("expected a molecule with a 3D conformer, got none")
    if not np.isfinite(copy.GetConformer().GetPositions()).all():
        raise DataError("expected finite positions, got inf or nan")
    fragments = len(Chem.GetMolFrags(copy))
    if fragments != 1:
        raise DataError(f"expected one fragment, got {fragments}")
    with rdBase.BlockLogs():
        whole = Chem.AddHs(copy, addCoords=True)
        Chem.AssignStereochemistryFrom3D(whole, replaceExistingTags=True)
    return whole


def _relaxed(
    mol: Chem.Mol, properties: Any, start: Floats, slack: float | None
) -> tuple[Floats, float]:
    """Positions and their energy without the energy of what held them."""
    mol.GetConformer().SetPositions(np.ascontiguousarray(start))
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    field.Initialize()
    if slack is not None:
        for k in range(mol.GetNumAtoms()):
            field.MMFFAddPositionConstraint(k, slack, STIFFNESS)
    field.Minimize(maxIts=MAX_STEPS)
    positions = np.array(field.Positions(), dtype=np.float64).reshape(-1, 3)
    mol.GetConformer().SetPositions(np.ascontiguousarray(positions))
    plain = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    plain.Initialize()
    energy = float(plain.CalcEnergy())
    if not (np.isfinite(energy) and np.isfinite(positions).all()):
        raise DataError("MMFF94s: the energy is not finite")
    return positions, energy


def _single_point(mol: Chem.Mol, positions: Floats, solvent: str | None) -> float:
    """GFN2-xTB energy in kcal/mol, of a geometry as it stands."""
    copy = Chem.Mol(mol)
    copy.GetConformer().SetPositions(np.ascontiguousarray(positions))
    return relax_xtb(copy, solvent, max_steps=1).energy_before
