"""Handedness, read from the coordinates: is one hand preferred?

A model that treats mirror images alike must make both hands equally often. Whether a set does is
judged by molecules, not by centres: the centres of a rigid molecule are not independent.
"""

from __future__ import annotations

import math

import pandas as pd
from rdkit import Chem
from scipy.stats import binomtest

from molgen.evaluate.metric import Counted
from molgen.evaluate.prepared import Prepared


def stereocentres(prepared: Prepared) -> str | None:
    """CIP labels of the tetrahedral centres, in the order of the atoms, such as `RRS`.

    Perceived from the coordinates; None for a molecule without 3D or with an incomplete graph.
    """
    if prepared.positions is None or prepared.incomplete or prepared.sanitised is None:
        return None
    mol = Chem.Mol(prepared.sanitised)
    Chem.AssignStereochemistryFrom3D(mol)
    labels = (a.GetProp("_CIPCode") for a in mol.GetAtoms() if a.HasProp("_CIPCode"))
    return "".join(label for label in labels if label in ("R", "S"))


def chirality_balance(table: pd.DataFrame) -> Counted:
    """Share of R among the assigned tetrahedral centres."""
    labels = "".join(cell for cell in table["stereocentres"] if isinstance(cell, str))
    return (labels.count("R") / len(labels), len(labels)) if labels else (math.nan, 0)


def chirality_p_value(table: pd.DataFrame) -> Counted:
    """Two-sided sign test over molecules: more R than S against more S than R.

    Every molecule is as likely as its mirror image under the null hypothesis, whatever its
    number of centres; molecules with as many R as S say nothing and are left out.
    """
    cells = [cell for cell in table["stereocentres"] if isinstance(cell, str)]
    signs = [cell.count("R") - cell.count("S") for cell in cells]
    right, n = sum(s > 0 for s in signs), sum(s != 0 for s in signs)
    return (float(binomtest(right, n, 0.5).pvalue), n) if n else (math.nan, 0)
