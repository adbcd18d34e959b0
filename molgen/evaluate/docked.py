"""What is measured of a pose in a pocket, and of a ligand docked anew; strain of bound ligands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rdkit import Chem

from diffcore.errors import ConfigError
from molgen.evaluate.prepared import Prepared
from molgen.evaluate.rmsd import aligned_rmsd, in_place_rmsd

if TYPE_CHECKING:
    from molgen.docking.pocket import Pocket

EXHAUSTIVENESS = 8
SEED = 0


@dataclass(frozen=True)
class Minimised:
    """A pose after Vina's minimisation.

    Attributes:
        energy: kcal/mol.
        shift: how far its heavy atoms moved, Angstrom.
    """

    energy: float
    shift: float


@dataclass(frozen=True)
class Docked:
    """A ligand docked anew.

    Attributes:
        energy: of the first pose, kcal/mol.
        rmsd: of the first pose to the reference ligand where it is the same molecule, else to the
            pose that was given; Angstrom.
    """

    energy: float
    rmsd: float


def pocket_of(prepared: Prepared) -> Pocket:
    """The pocket that poses are judged in.

    Raises:
        ConfigError: none was given.
    """
    if prepared.pocket is None:
        raise ConfigError("poses are judged in a protein: expected a pocket (--pocket), got none")
    return prepared.pocket


def ligand_of(prepared: Prepared) -> Chem.Mol:
    """The sanitised pose with all hydrogens; those that were implicit are added in 3D.

    Raises:
        DataError: RDKit refuses it, or it has no 3D conformer or several fragments.
    """
    from molgen.evaluate.strain import with_hydrogens

    return with_hydrogens(prepared.mol)


def minimised(prepared: Prepared) -> Minimised:
    """The pose minimised by Vina.

    Raises:
        ConfigError: no pocket, or Vina or Open Babel is not installed.
        DataError: the pose cannot be scored.
    """
    from molgen.docking.vina import minimise

    mol = ligand_of(prepared)
    pose = minimise(mol, pocket_of(prepared))
    return Minimised(pose.energy, float(in_place_rmsd(pose.mol, mol)[0]))


def docked(prepared: Prepared) -> Docked:
    """The ligand docked from a fresh conformer.

    Raises:
        ConfigError: no pocket, or Vina or Open Babel is not installed.
        DataError: the ligand cannot be embedded or docked.
    """
    from molgen.docking.redock import fresh_conformer
    from molgen.docking.vina import dock
    from molgen.embedding import prepared as graph_of

    pocket, mol = pocket_of(prepared), ligand_of(prepared)
    fresh = fresh_conformer(graph_of(mol), SEED)
    pose = dock(fresh, pocket, exhaustiveness=EXHAUSTIVENESS, n_poses=1, seed=SEED)[0]
    known = mol
    if pocket.reference is not None and same_molecule(mol, pocket.reference):
        known = pocket.reference
    return Docked(pose.energy, float(in_place_rmsd(pose.mol, known)[0]))


def same_molecule(a: Chem.Mol, b: Chem.Mol) -> bool:
    """Whether two molecules have the same graph of heavy atoms and bonds."""
    plain = [Chem.MolToSmiles(Chem.RemoveHs(m), isomericSmiles=False) for m in (a, b)]
    return plain[0] == plain[1]


def vina_score(prepared: Prepared) -> float:
    """Vina's energy of the pose as it stands, kcal/mol."""
    from molgen.docking.vina import score

    return score(ligand_of(prepared), pocket_of(prepared))


def vina_min(prepared: Prepared) -> float:
    """Vina's energy after minimisation, kcal/mol."""
    return prepared.vina_minimum.energy


def vina_min_shift(prepared: Prepared) -> float:
    """How far that minimisation moved the heavy atoms, Angstrom."""
    return prepared.vina_minimum.shift


def vina_dock(prepared: Prepared) -> float:
    """Vina's energy of the first pose docked anew, kcal/mol."""
    return prepared.vina_docked.energy


def redocked_rmsd(prepared: Prepared) -> float:
    """RMSD in place of the first pose docked anew, Angstrom."""
    return prepared.vina_docked.rmsd


def pose_rmsd(prepared: Prepared) -> float | None:
    """RMSD in place to the reference ligand, Angstrom; None where it is another molecule."""
    pair = _with_reference(prepared)
    return None if pair is None else float(in_place_rmsd(*pair)[0])


def pose_rmsd_aligned(prepared: Prepared) -> float | None:
    """RMSD to the reference ligand after superposition, Angstrom; None for another molecule."""
    pair = _with_reference(prepared)
    return None if pair is None else float(aligned_rmsd(*pair)[0])


def pose_near(prepared: Prepared) -> bool | None:
    """Whether the RMSD in place is at most 2 Angstrom; None where it is another molecule."""
    rmsd = pose_rmsd(prepared)
    return None if rmsd is None else rmsd <= 2.0


def _with_reference(prepared: Prepared) -> tuple[Chem.Mol, Chem.Mol] | None:
    reference, mol = pocket_of(prepared).reference, prepared.sanitised
    if reference is None or mol is None or prepared.positions is None:
        return None
    return (mol, reference) if same_molecule(mol, reference) else None


def pb_dock_valid(prepared: Prepared) -> bool:
    """No check of PoseBusters `dock` failed."""
    return not prepared.pocket_checks.failed


def pb_dock_failed(prepared: Prepared) -> str:
    """Names of the failed checks, joined by `; `."""
    return "; ".join(prepared.pocket_checks.failed)


def pb_redock_valid(prepared: Prepared) -> bool | None:
    """No check of PoseBusters `redock` failed; None without a reference that is the molecule."""
    if _with_reference(prepared) is None:
        return None
    from molgen.docking.checks import checked_pose

    return not checked_pose(ligand_of(prepared), pocket_of(prepared), "redock").failed


def mmff_bound_strain(prepared: Prepared) -> float:
    """Strain of the pose by MMFF94s, kcal/mol."""
    return prepared.conformations.strain


def xtb_bound_strain(prepared: Prepared) -> float:
    """Strain of the pose by GFN2-xTB in water, kcal/mol."""
    from molgen.evaluate.strain import xtb_strain

    return xtb_strain(prepared.conformations)
