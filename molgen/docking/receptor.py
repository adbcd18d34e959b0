"""PDBQT of a receptor by Open Babel: hydrogens, charges and atom types that AutoDock Vina knows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from diffcore.errors import ConfigError, DataError
from molgen.docking.pocket import Box
from molgen.docking.structure import Structure

PH = 7.4
REACH = 10.0
"""Residues further than this from the box (Angstrom) are left out: Vina's terms end at 8."""

PROTONATED = 0.1
"""A file with more hydrogens for each heavy atom keeps them as they are."""

VINA_TYPES = frozenset(
    "H HD HS C A N NA NS OA OS SA S P F Cl Br I Si At Mg Mn Zn Ca Fe Cu Na K Hg Co U Cd Ni".split()
)
_OTHERS = {kind.upper(): kind for kind in VINA_TYPES - {"NA", "Na"}}
_OTHERS |= {"SE": "S", "B": "C", "O": "OA", "D": "HD"}
"""Selenium is sulfur and boron carbon to Vina's radii."""

ANY_METAL = "Fe"
"""What a metal counts as that Vina does not know (all are one kind of donor, radius 1.2)."""


def receptor_pdbqt(structure: Structure, box: Box) -> str:
    """PDBQT text of what is near a box, rigid.

    A structure with hydrogens keeps them; else Open Babel adds them for pH 7.4. Cofactors and
    metals are kept. Residues out of Vina's reach are left out first, which changes no score.

    Raises:
        ConfigError: Open Babel is not installed.
        DataError: nothing is near the box, or Open Babel cannot write it.
    """
    near = within(structure, box, REACH)
    if not len(near.positions):
        raise DataError("expected atoms of the receptor near the box, found none")
    hydrogens = int((~structure.heavy).sum())
    keep = hydrogens > PROTONATED * len(structure.positions)
    if not keep:
        near = near.select(np.nonzero(near.heavy)[0].tolist())
    return _converted(near.pdb(), keep)


def within(structure: Structure, box: Box, margin: float) -> Structure:
    """Whole residues with an atom in a box that is larger by a margin (Angstrom) on all sides."""
    low, high = box.corners(margin)
    above, below = structure.positions >= low, structure.positions <= high
    rows = np.nonzero(np.all(above & below, axis=1))[0].tolist()
    wanted = {structure.residues[k] for k in rows}
    return structure.select(k for k, r in enumerate(structure.residues) if r in wanted)


@lru_cache(maxsize=4)
def _converted(text: str, hydrogens: bool) -> str:
    openbabel = _openbabel()
    conversion, mol = openbabel.OBConversion(), openbabel.OBMol()
    conversion.SetInAndOutFormats("pdb", "pdbqt")
    conversion.AddOption("r", conversion.OUTOPTIONS)
    if not conversion.ReadString(mol, text) or not mol.NumAtoms():
        raise DataError("Open Babel cannot read the receptor")
    if not hydrogens:
        mol.AddHydrogens(False, True, PH)
    written = conversion.WriteString(mol)
    atoms = [line for line in written.splitlines() if line.startswith(("ATOM", "HETATM"))]
    if not atoms:
        raise DataError("Open Babel wrote no atoms of the receptor")
    return "\n".join([*(known_type(line) for line in atoms), ""])


def known_type(line: str) -> str:
    """A PDBQT record whose atom type Vina knows.

    Types differ by case: ``NA`` is a nitrogen that accepts hydrogen bonds, ``Na`` is sodium.
    """
    kind = line[77:].strip()
    known = kind if kind in VINA_TYPES - {"O"} else _OTHERS.get(kind.upper(), ANY_METAL)
    return f"{line[:77]}{known:<2}"


def _openbabel() -> Any:
    try:
        from openbabel import openbabel
    except ImportError as error:
        raise ConfigError(
            f'preparing a receptor needs {error.name}: pip install "designloom[docking]"'
        ) from None
    openbabel.obErrorLog.SetOutputLevel(0)
    return openbabel
