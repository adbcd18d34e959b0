"""The rows of `METRICS` that need energies or PoseBusters; the last two sets are asked for."""

from __future__ import annotations

from functools import partial

from molgen.evaluate import energy, poses
from molgen.evaluate.metric import Metric

_XTB = f"{energy.XTB_SETTINGS}; total charge: sum of the formal charges"
_GFN2 = "Bannwarth, Ehlert and Grimme 2019 (JCTC 15, 1652)"
_MMFF = "Halgren 1999 (J. Comput. Chem. 20, 720)"
_POSES = "PoseBusters, Buttenschoen et al. 2024 (Chem. Sci. 15, 3130), configuration `mol`"

xtb = partial(Metric, cost="xtb", needs="tblite", extra="trust", source=_GFN2)
pose = partial(Metric, cost="posebusters", needs="posebusters", extra="trust", source=_POSES)

PHYSICS: dict[str, Metric] = {
    "mmff_strain": Metric(
        f"median energy gained by relaxing: {energy.MMFF_SETTINGS}; over those that converged",
        unit="kcal/mol",
        row=energy.mmff_strain,
        whole=partial(energy.median, column="mmff_strain"),
        source=_MMFF,
    ),
    "mmff_rmsd": Metric(
        "median displacement of all atoms by the same, after superposition",
        unit="Angstrom",
        row=energy.mmff_rmsd,
        whole=partial(energy.median, column="mmff_rmsd"),
        source=_MMFF,
    ),
    "mmff_failures": Metric(
        "molecules without an MMFF94s energy: missing, incomplete, without parameters or "
        "not converged",
        unit="%",
        whole=partial(energy.failures, column="mmff_strain"),
    ),
    "mmff_status": Metric(
        "`converged`, or why there is no MMFF94s energy",
        family="description",
        kind="text",
        row=energy.mmff_status,
    ),
    "pb_valid": pose(
        "molecules that fail no check; a check that cannot be made is not failed",
        unit="%",
        kind="flag",
        row=poses.pb_valid,
        whole=partial(poses.share, column="pb_valid"),
    ),
    "pb_valid_no_energy": pose(
        "the same without the check of the internal energy",
        unit="%",
        kind="flag",
        row=poses.pb_valid_no_energy,
        whole=partial(poses.share, column="pb_valid_no_energy"),
    ),
    "pb_failed": pose(
        "names of the failed checks", family="description", kind="text", row=poses.pb_failed
    ),
    "pb_unchecked": pose(
        "names of the checks that could not be made",
        family="description",
        kind="text",
        row=poses.pb_unchecked,
    ),
    "pb_energy_unchecked": pose(
        "checked molecules whose energy could not be compared: no conformers could be made",
        unit="%",
        family="description",
        whole=poses.without_energy,
    ),
    "xtb_energy": xtb(
        f"median energy gained by relaxing: {_XTB}; over those that converged",
        unit="kcal/mol",
        row=energy.xtb_energy,
        whole=partial(energy.median, column="xtb_energy"),
    ),
    "xtb_rmsd": xtb(
        "median displacement of all atoms by the same, after superposition",
        unit="Angstrom",
        row=energy.xtb_rmsd,
        whole=partial(energy.median, column="xtb_rmsd"),
    ),
    "xtb_bond_shift": xtb(
        "median of a molecule's mean absolute change of bond length by the same",
        unit="Angstrom",
        row=energy.xtb_bond_shift,
        whole=partial(energy.median, column="xtb_bond_shift"),
    ),
    "xtb_angle_shift": xtb(
        "median of a molecule's mean absolute change of bond angle by the same",
        unit="degree",
        row=energy.xtb_angle_shift,
        whole=partial(energy.median, column="xtb_angle_shift"),
    ),
    "xtb_torsion_shift": xtb(
        "median of a molecule's mean absolute change of torsion by the same",
        unit="degree",
        row=energy.xtb_torsion_shift,
        whole=partial(energy.median, column="xtb_torsion_shift"),
    ),
    "xtb_converged": xtb(
        "molecules whose relaxation by GFN2-xTB converged",
        unit="%",
        kind="flag",
        row=energy.xtb_converged,
        whole=partial(poses.share, column="xtb_converged"),
    ),
    "xtb_failures": xtb(
        "molecules without a GFN2-xTB energy: missing, incomplete or not converged",
        unit="%",
        whole=partial(energy.failures, column="xtb_energy"),
    ),
    "xtb_status": xtb(
        "`converged`, or why there is no GFN2-xTB energy",
        family="description",
        kind="text",
        row=energy.xtb_status,
    ),
}
"""Name -> metric."""
