"""The rows of `METRICS` about poses in a pocket, docking, and the strain of bound ligands."""

from __future__ import annotations

from functools import partial

from molgen.evaluate import docked, energy, poses
from molgen.evaluate.metric import Metric

_VINA = "AutoDock Vina 1.2, Eberhardt et al. 2021 (JCIM 61, 3891)"
_POSES = "PoseBusters, Buttenschoen et al. 2024 (Chem. Sci. 15, 3130)"
_RECEPTOR = "receptor by Open Babel, pH 7.4, cofactors and metals kept, waters removed"

strain = partial(Metric, cost="strain", unit="kcal/mol")
vina = partial(Metric, cost="pocket", needs="vina", extra="docking", source=_VINA)
docking = partial(Metric, cost="docking", needs="vina", extra="docking", source=_VINA)
pose = partial(Metric, cost="pocket")
checks = partial(Metric, cost="pocket", needs="posebusters", extra="docking", source=_POSES)


DOCKING: dict[str, Metric] = {
    "mmff_bound_strain": strain(
        "median strain of the pose: MMFF94s in vacuo, the pose relaxed with atoms held to "
        "0.3 Angstrom, against the lowest of 50 relaxed ETKDGv3 conformers and the freely "
        "relaxed pose",
        row=docked.mmff_bound_strain,
        whole=partial(energy.median, column="mmff_bound_strain"),
        source="Halgren 1999 (J. Comput. Chem. 20, 720)",
    ),
    "xtb_bound_strain": strain(
        "median strain of the pose: GFN2-xTB with water (ALPB) at the geometries of MMFF94s, the "
        "held pose against the best 6 free ones",
        row=docked.xtb_bound_strain,
        whole=partial(energy.median, column="xtb_bound_strain"),
        needs="tblite",
        extra="energy",
        source="Bannwarth, Ehlert and Grimme 2019 (JCTC 15, 1652); Ehlert et al. 2021 "
        "(JCTC 17, 4250)",
    ),
    "vina_score": vina(
        f"median energy of the pose as it stands; {_RECEPTOR}",
        unit="kcal/mol",
        row=docked.vina_score,
        whole=partial(energy.median, column="vina_score"),
    ),
    "vina_min": vina(
        "median energy after Vina's minimisation: place, orientation and torsions, rings stay",
        unit="kcal/mol",
        row=docked.vina_min,
        whole=partial(energy.median, column="vina_min"),
    ),
    "vina_min_shift": vina(
        "median RMSD of heavy atoms, in place, between the pose and the minimised pose",
        unit="Angstrom",
        row=docked.vina_min_shift,
        whole=partial(energy.median, column="vina_min_shift"),
    ),
    "vina_failures": vina(
        "poses that Vina could not score",
        unit="%",
        whole=partial(energy.failures, column="vina_score"),
    ),
    "pose_rmsd": pose(
        "median symmetry-corrected RMSD of heavy atoms to the reference ligand, in place; over "
        "poses of the same molecule",
        unit="Angstrom",
        row=docked.pose_rmsd,
        whole=partial(energy.median, column="pose_rmsd"),
    ),
    "pose_rmsd_aligned": pose(
        "the same after superposition",
        unit="Angstrom",
        row=docked.pose_rmsd_aligned,
        whole=partial(energy.median, column="pose_rmsd_aligned"),
    ),
    "pose_near": pose(
        "poses with an RMSD in place of at most 2 Angstrom; other molecules and failures count "
        "as not near",
        unit="%",
        kind="flag",
        row=docked.pose_near,
        whole=partial(poses.share, column="pose_near"),
    ),
    "pb_dock_valid": checks(
        "poses that fail none of the 22 checks `dock`, in the protein without waters; a check "
        "that cannot be made is not failed",
        unit="%",
        kind="flag",
        row=docked.pb_dock_valid,
        whole=partial(poses.share, column="pb_dock_valid"),
    ),
    "pb_dock_failed": checks(
        "names of the failed checks of `dock`",
        family="description",
        kind="text",
        row=docked.pb_dock_failed,
    ),
    "pb_redock_valid": checks(
        "poses that fail none of the 28 checks `redock`: the same molecule as the reference "
        "ligand, within 2 Angstrom of it, and valid",
        unit="%",
        kind="flag",
        row=docked.pb_redock_valid,
        whole=partial(poses.share, column="pb_redock_valid"),
    ),
    "vina_dock": docking(
        f"median energy of the first pose docked anew into the box from a fresh conformer, "
        f"exhaustiveness {docked.EXHAUSTIVENESS}; {_RECEPTOR}",
        unit="kcal/mol",
        row=docked.vina_dock,
        whole=partial(energy.median, column="vina_dock"),
    ),
    "redocked_rmsd": docking(
        "median RMSD in place of that pose to the reference ligand, or to the given pose where "
        "there is none or it is another molecule",
        unit="Angstrom",
        row=docked.redocked_rmsd,
        whole=partial(energy.median, column="redocked_rmsd"),
    ),
}
"""Name -> metric."""
