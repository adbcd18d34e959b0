"""A peptide and a ligand beside it, small enough for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers


@cache
def peptide_block() -> str:
    """PDB text of GAVSDKF without hydrogens."""
    mol = Chem.AddHs(Chem.MolFromSequence("GAVSDKF"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return Chem.MolToPDBBlock(Chem.RemoveHs(mol), flavor=4)


@cache
def ligand() -> Chem.Mol:
    """3-hydroxypropanamide with a ring, near the peptide's middle, not in it."""
    mol = Chem.AddHs(Chem.MolFromSmiles("OCCc1ccc(CN)cc1"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    from molgen.docking.structure import parse_pdb

    atoms = parse_pdb(peptide_block()).positions
    middle = atoms.mean(0)
    axis = np.linalg.svd(atoms - middle)[2][2]  # the thinnest direction: out of the peptide
    own = mol.GetConformer().GetPositions()
    own = own - own.mean(0)
    turn = np.linalg.svd(own)[2]
    flat = own @ turn.T @ np.linalg.svd(atoms - middle)[2] * 1.0
    for step in np.arange(3.0, 12.0, 0.25):
        moved = flat + middle + step * axis
        nearest = np.linalg.norm(moved[:, None] - atoms[None], axis=-1).min()
        if nearest > 2.6:
            break
    mol.GetConformer().SetPositions(np.ascontiguousarray(moved))
    mol.SetProp("_Name", "probe")
    return mol


def write(folder: Path, ligand_name: str = "probe_ligand.sdf") -> tuple[Path, Path]:
    """The peptide and the ligand as files."""
    protein, sdf = folder / "probe_protein.pdb", folder / ligand_name
    protein.write_text(peptide_block(), encoding="utf-8")
    with Chem.SDWriter(str(sdf)) as writer:
        writer.write(ligand())
    return protein, sdf
