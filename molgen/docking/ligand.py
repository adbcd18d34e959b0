"""PDBQT of a ligand by Meeko (Open Babel where Meeko fails), and poses back onto the molecule."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError, DataError
from molgen.docking.receptor import _openbabel, known_type

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LigandFile:
    """A ligand as Vina reads it.

    Attributes:
        text: PDBQT.
        atoms: index in the molecule of every atom of the text, in its order.
        start: positions [A, 3] of the whole molecule that the text was made of.
        tool: `meeko` or `openbabel`.
        turning: bonds that Vina turns.
    """

    text: str
    atoms: tuple[int, ...]
    start: Floats
    tool: str
    turning: int


def ligand_pdbqt(mol: Chem.Mol, conformer: int = -1) -> LigandFile:
    """The PDBQT of one conformer; rings stay as they are, other single bonds turn.

    Raises:
        ConfigError: neither Meeko nor Open Babel is installed.
        DataError: no conformer, several fragments, implicit hydrogens, or neither tool can write
            the molecule.
    """
    if mol.GetNumConformers() == 0:
        raise DataError("expected a ligand with a conformer, got one without positions")
    fragments = len(Chem.GetMolFrags(mol))
    if fragments != 1:
        raise DataError(f"expected a ligand of one fragment, got {fragments}: remove counter-ions")
    if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        raise DataError("expected a ligand with explicit hydrogens, got implicit ones")
    single = Chem.Mol(mol, confId=mol.GetConformer(conformer).GetId())
    start = np.asarray(single.GetConformer().GetPositions(), dtype=np.float64)
    failures = []
    for tool, write in (("meeko", _by_meeko), ("openbabel", _by_openbabel)):
        try:
            text = write(single)
            atoms = _matched(text, single, start)
        except DataError as error:
            failures.append(f"{tool}: {error}")
            continue
        return LigandFile(text, atoms, start, tool, _turning(text))
    raise DataError(f"the ligand cannot be written for Vina: {'; '.join(failures)}")


def _by_meeko(mol: Chem.Mol) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from meeko import MoleculePreparation, PDBQTWriterLegacy
    except ImportError as error:
        raise DataError(
            f'{error.name} is not installed: pip install "designloom[docking]"'
        ) from None
    logging.getLogger("meeko").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), rdBase.BlockLogs():
            warnings.simplefilter("ignore")
            setup = MoleculePreparation(rigid_macrocycles=True).prepare(Chem.Mol(mol))[0]
            text, right, said = PDBQTWriterLegacy.write_string(setup)
    except Exception as error:  # Meeko raises whatever comes
        raise DataError(_line(error)) from None
    if not right:
        raise DataError(" ".join(str(said).split()) or "no reason given")
    return _known(str(text))


def _by_openbabel(mol: Chem.Mol) -> str:
    try:
        openbabel = _openbabel()
    except ConfigError as error:
        raise DataError(str(error)) from None
    conversion, made = openbabel.OBConversion(), openbabel.OBMol()
    conversion.SetInAndOutFormats("mol", "pdbqt")
    if not conversion.ReadString(made, Chem.MolToMolBlock(mol)):
        raise DataError("it cannot be read")
    text = conversion.WriteString(made)
    if "ROOT" not in text:
        raise DataError("nothing was written")
    return _known(str(text))


def _known(text: str) -> str:
    lines = text.splitlines()
    known = [known_type(x) if x.startswith(("ATOM", "HETATM")) else x for x in lines]
    return "\n".join([*known, ""])


def _turning(text: str) -> int:
    return sum(line.startswith("BRANCH") for line in text.splitlines())


def pdbqt_positions(text: str) -> Floats:
    """Positions [N, 3] of the atoms of a PDBQT text of one model."""
    rows = [
        (float(x[30:38]), float(x[38:46]), float(x[46:54]))
        for x in text.splitlines()
        if x.startswith(("ATOM", "HETATM"))
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def pdbqt_models(text: str) -> list[Floats]:
    """Positions [N, 3] of every model of a PDBQT text."""
    parts = text.split("ENDMDL")
    return [p for p in map(pdbqt_positions, parts) if len(p)]


def _matched(text: str, mol: Chem.Mol, start: Floats) -> tuple[int, ...]:
    """Index in the molecule of every atom of the text: they stand in the same places."""
    from scipy.spatial import cKDTree

    written = pdbqt_positions(text)
    if not len(written):
        raise DataError("no atoms were written")
    distance, index = cKDTree(start).query(written)
    atoms = tuple(int(k) for k in index)
    heavy = {atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1}
    if distance.max() > 0.01 or len(set(atoms)) < len(atoms) or not heavy <= set(atoms):
        raise DataError("the atoms that were written are not those of the molecule")
    return atoms


def placed(mol: Chem.Mol, file: LigandFile, pose: Floats) -> Floats:
    """Positions [A, 3] of the whole molecule for a pose [N, 3] of the atoms of its PDBQT.

    Hydrogens that the PDBQT leaves out follow the atoms around them, which move as a rigid body.
    """
    out = np.full_like(file.start, np.nan)
    out[list(file.atoms)] = pose
    for atom in mol.GetAtoms():
        k = atom.GetIdx()
        if np.isfinite(out[k]).all():
            continue
        frame = _frame(atom, set(file.atoms))
        out[k] = superpose_by(file.start[frame], out[frame], file.start[k][None])[0]
    return out


def superpose_by(before: Floats, after: Floats, points: Floats) -> Floats:
    """Points [P, 3] moved by the rigid motion that takes `before` [K, 3] nearest to `after`.

    Kabsch 1976 (Acta Cryst. A32, 922); handedness is kept.
    """
    a, b = before - before.mean(0), after - after.mean(0)
    left, _, right = np.linalg.svd(a.T @ b)
    left[:, -1] *= np.sign(np.linalg.det(left) * np.linalg.det(right))
    return np.asarray((points - before.mean(0)) @ left @ right + after.mean(0))


def _frame(hydrogen: Chem.Atom, written: set[int]) -> list[int]:
    """Written atoms that move with a hydrogen: its neighbour, that one's neighbours, or theirs."""
    centre = hydrogen.GetNeighbors()[0]
    around = [n.GetIdx() for n in centre.GetNeighbors() if n.GetIdx() in written]
    frame = [centre.GetIdx(), *around]
    if len(around) == 1:  # a methyl group: its bond does not turn
        further = next(n for n in centre.GetNeighbors() if n.GetIdx() == around[0])
        frame += [
            n.GetIdx()
            for n in further.GetNeighbors()
            if n.GetIdx() in written and n.GetIdx() not in frame
        ]
    return frame


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
