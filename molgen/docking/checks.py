"""PoseBusters' checks of a pose in its pocket: the configurations `dock` and `redock`.

Buttenschoen, Morris and Deane 2024, Chem. Sci. 15, 3130. The protein is the first model without
waters, hydrogens left out, and only its residues near the pose: checks of waters always pass.
PoseBusters can take minutes for large ligands: give it work through `molgen.evaluate.workers`
where a time limit is needed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError, DataError
from molgen.docking.pocket import Pocket, heavy_positions
from molgen.evaluate.poses import Checks, _quiet

Mode = Literal["dock", "redock"]
REACH = 14.0
"""Residues of the protein this near to the pose are looked at, Angstrom."""


def checked_pose(mol: Chem.Mol, pocket: Pocket, mode: Mode = "dock") -> Checks:
    """Runs the 22 checks of `dock`, or the 28 of `redock` against the reference ligand.

    Args:
        mol: a sanitised molecule with a conformer in the protein's frame.
        pocket: the protein, with a reference ligand for `redock`.
        mode: which configuration.

    Raises:
        ConfigError: PoseBusters is not installed, or there is no reference ligand.
        DataError: no protein atom is near the pose.
    """
    if mode == "redock" and pocket.reference is None:
        raise ConfigError("PoseBusters redock: expected a reference ligand, got none")
    buster = _buster(mode)
    near = pocket.structure.near(heavy_positions(mol), REACH)
    if not len(near.lines):
        raise DataError(f"no protein atom within {REACH:g} Angstrom of the pose")
    near = near.select(np.nonzero(near.heavy)[0].tolist())
    with _quiet(), rdBase.BlockLogs():
        protein = Chem.MolFromPDBBlock(near.pdb(), sanitize=False, proximityBonding=False)
        if protein is None:
            raise DataError("RDKit cannot read the protein")
        true = pocket.reference if mode == "redock" else None
        report = buster.bust(Chem.Mol(mol), true, protein, full_report=False).iloc[0]
    cells = {str(name): value for name, value in report.items()}
    unchecked = tuple(name for name, value in cells.items() if pd.isna(value))
    failed = tuple(n for n, value in cells.items() if n not in unchecked and not value)
    return Checks(failed, unchecked)


@lru_cache(maxsize=2)
def _buster(mode: Mode) -> Any:
    try:
        from posebusters import PoseBusters
    except ImportError as error:
        raise ConfigError(
            f'PoseBusters needs the package {error.name}: pip install "designloom[docking]"'
        ) from None
    config = PoseBusters(config=mode).config
    modules = [m for m in config["modules"] if m.get("chosen_binary_test_output")]
    for module in modules:
        if module["function"] == "energy_ratio":
            module["parameters"] = {**module.get("parameters", {}), "num_threads": 1}
    return PoseBusters(config={**config, "modules": modules}, max_workers=0)
