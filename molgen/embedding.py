"""Local structures: ETKDG embeddings, clashes, stereo checks, symmetries. Angstrom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

from diffcore.errors import DataError
from molgen.evaluate.rmsd import without_hydrogens
from molgen.selection import symmetric_rmsd

Floats = NDArray[np.float64]
MAX_SYMMETRIES = 12
EMBED_SECONDS = 60
"""Time limit of an embedding by the clock; impossible cages would take many minutes."""


def prepared(mol: Chem.Mol | str) -> Chem.Mol:
    """A sanitised copy with explicit hydrogens and stereo marks, without conformers.

    The atoms keep their order; hydrogens that were implicit follow at the end. Stereo comes from
    the marks, or, where there are none, from a 3D conformer. Name and properties are kept.

    Raises:
        DataError: RDKit refuses the molecule, or there is no atom in it.
    """
    with rdBase.BlockLogs():
        if isinstance(mol, str):
            text = mol
            mol = Chem.MolFromSmiles(text)
            if mol is None:
                raise DataError(f"unreadable SMILES: {text[:80]!r}")
        copy = Chem.Mol(mol)
        try:
            Chem.SanitizeMol(copy)
            if copy.GetNumConformers() and copy.GetConformer().Is3D():
                Chem.AssignStereochemistryFrom3D(copy, replaceExistingTags=False)
            copy.RemoveAllConformers()
            whole = Chem.AddHs(copy)
            Chem.AssignStereochemistry(whole, cleanIt=True, force=True)
        except (ValueError, RuntimeError) as error:
            raise DataError(f"RDKit refuses the molecule: {_line(error)}") from None
    if not any(atom.GetAtomicNum() > 1 for atom in whole.GetAtoms()):
        raise DataError("expected a molecule with heavy atoms, got none")
    if any(atom.GetAtomicNum() == 0 for atom in whole.GetAtoms()):
        raise DataError("expected a whole molecule, got one with an open end or query atom (*)")
    return whole


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def embed(mol: Chem.Mol, n: int, seed: int) -> Floats:
    """Up to n ETKDGv3 structures [L, A, 3]; random starting coordinates where the usual ones fail.

    Raises:
        DataError: no structure was found.
    """
    work = Chem.Mol(mol)
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed % (2**31 - 1)
    parameters.numThreads = 1
    parameters.timeout = EMBED_SECONDS
    with rdBase.BlockLogs():
        for random_start in (False, True):
            parameters.useRandomCoords = random_start
            try:
                rdDistGeom.EmbedMultipleConfs(work, n, parameters)
            except (RuntimeError, ValueError) as error:
                raise DataError(f"cannot be embedded: {_line(error)}") from None
            # the ids that come back are not to be trusted where the time ran out
            if work.GetNumConformers():
                return np.stack([c.GetPositions() for c in work.GetConformers()])
    raise DataError("cannot be embedded: no structure fits the distances, also from random starts")


def keeps_stereo(mol: Chem.Mol, pos: Floats) -> bool:
    """Whether positions [A, 3] have all chiral centres and double bonds as marked in `mol`."""
    probe = with_conformers(mol, pos[None])
    with rdBase.BlockLogs():
        Chem.AssignStereochemistryFrom3D(probe, replaceExistingTags=True)
    for before, after in zip(mol.GetAtoms(), probe.GetAtoms(), strict=True):
        if before.HasProp("_CIPCode") and (
            not after.HasProp("_CIPCode") or before.GetProp("_CIPCode") != after.GetProp("_CIPCode")
        ):
            return False
    marked = (Chem.BondStereo.STEREONONE, Chem.BondStereo.STEREOANY)
    return all(
        before.GetStereo() in marked or before.GetStereo() == after.GetStereo()
        for before, after in zip(mol.GetBonds(), probe.GetBonds(), strict=True)
    )


def with_conformers(
    mol: Chem.Mol, positions: Floats, properties: Sequence[Mapping[str, float]] = ()
) -> Chem.Mol:
    """A copy with these conformers [C, A, 3] and no others, and with their properties."""
    from rdkit.Geometry import Point3D  # noqa: F401 - conformers need its converters

    out = Chem.Mol(mol)
    out.RemoveAllConformers()
    for k, pos in enumerate(positions):
        conformer = Chem.Conformer(mol.GetNumAtoms())
        conformer.Set3D(True)
        conformer.SetPositions(np.ascontiguousarray(pos, dtype=np.float64))
        for name, value in (properties[k] if properties else {}).items():
            conformer.SetDoubleProp(name, value)
        out.AddConformer(conformer, assignId=True)
    return out


def positions_of(mol: Chem.Mol) -> Floats:
    """Positions [C, A, 3] of all conformers."""
    made = [np.asarray(c.GetPositions(), np.float64) for c in mol.GetConformers()]
    return np.stack(made) if made else np.zeros((0, mol.GetNumAtoms(), 3))


def overlap(mol: Chem.Mol, pos: Floats) -> Floats:
    """How far atoms are too near each other in positions [S, A, 3]: sum in Angstrom, [S].

    Pairs four or more bonds apart; nearest allowed 2.7 between heavy atoms (2.4 with nitrogen or
    oxygen on both sides), 2.0 to a hydrogen (1.5 if the other is nitrogen or oxygen: a hydrogen
    bond), 1.7 between hydrogens.
    """
    steps = Chem.GetDistanceMatrix(mol)
    first, second = np.nonzero(np.triu(steps >= 4, 1))
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    hydrogens = (numbers[first] == 1).astype(int) + (numbers[second] == 1)
    polar = np.isin(numbers, (7, 8))
    least = np.choose(hydrogens, [2.7, 2.0, 1.7])
    least = np.where((hydrogens == 0) & polar[first] & polar[second], 2.4, least)
    least = np.where((hydrogens == 1) & (polar[first] | polar[second]), 1.5, least)
    total = np.zeros(len(pos))
    for k in range(0, len(pos), 64):
        block = pos[k : k + 64].astype(np.float32)
        difference = block[:, first] - block[:, second]
        distance = np.sqrt((difference**2).sum(-1))
        total[k : k + 64] = (least - distance).clip(0).sum(1)
    return total


def distances(mol: Chem.Mol, pos: Floats) -> Floats:
    """RMSD [S, S] of the heavy atoms between positions [S, A, 3], aligned, symmetry-corrected."""
    heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
    return symmetric_rmsd(pos[:, heavy], symmetries(mol))


def symmetries(mol: Chem.Mol) -> NDArray[np.int64]:
    """Mappings [G, N] of the heavy atoms onto themselves, at most `MAX_SYMMETRIES`."""
    heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
    bare = without_hydrogens(mol)
    matches = bare.GetSubstructMatches(bare, uniquify=False, maxMatches=MAX_SYMMETRIES)
    if bare.GetNumAtoms() != len(heavy) or not matches:
        return np.arange(len(heavy))[None]
    return np.array(matches, np.int64)
