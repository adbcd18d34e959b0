"""Redocking: a ligand's graph in, poses out, and how near they come to the known one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers, rdMolDescriptors

from diffcore.errors import ConfigError, DataError
from molgen.docking.pocket import PADDING, Pocket, read_pocket
from molgen.docking.vina import dock
from molgen.embedding import embed, positions_of, prepared, with_conformers
from molgen.evaluate.rmsd import aligned_rmsd, in_place_rmsd

CANDIDATES = 10
"""Structures that are embedded for one fresh conformer: rings differ between them."""


@dataclass(frozen=True)
class RedockItem:
    """One complex to redock, and how.

    Attributes:
        name: of the complex.
        protein: PDB file.
        ligand: file of the known pose.
        exhaustiveness: see `molgen.docking.vina.dock`.
        n_poses: likewise.
        seed: of the conformer and the searches.
        padding: of the box around the known pose, Angstrom.
        model: whose conformers are docked, and who ranks; a fresh ETKDGv3 conformer if left out.
    """

    name: str
    protein: Path
    ligand: Path
    exhaustiveness: int = 8
    n_poses: int = 9
    seed: int = 0
    padding: float = PADDING
    model: str | None = None


def redock(item: RedockItem, tell: Callable[[Any], None]) -> dict[str, Any]:
    """Docks conformers of the ligand that are made anew and compares its poses with the known one.

    Bond lengths, angles, rings and torsions of the known pose are forgotten; its stereo and the
    place of the box are not.

    Returns:
        `top1_rmsd` and `best_rmsd` (Angstrom, heavy atoms, symmetry-corrected, in place),
        `aligned_rmsd` (of the first pose, after superposition), `free_rmsd` (likewise, of the first
        conformer without a pocket), `poses`, `vina_dock` (kcal/mol), `rotatable_bonds`,
        `heavy_atoms`, `seconds` (CPU), `notes`, and `reason`: empty, or in one line why there is no
        result.
    """
    start = time.process_time()
    row: dict[str, Any] = {"name": item.name, "reason": ""}
    try:
        row |= _redocked(item, tell, row)
    except (DataError, ConfigError) as error:
        row["reason"] = " ".join(str(error).split())
    return row | {"seconds": round(time.process_time() - start, 1)}


def _redocked(
    item: RedockItem, tell: Callable[[Any], None], known: dict[str, Any]
) -> dict[str, Any]:
    pocket = read_pocket(item.protein, item.ligand, padding=item.padding)
    assert pocket.reference is not None
    mol = prepared(pocket.reference)
    facts = known | describe(mol) | {"notes": "; ".join(pocket.notes)}
    tell(facts)
    free, poses, energy = (_of_model if item.model else _of_vina)(item, mol, pocket)
    rmsd = in_place_rmsd(poses, pocket.reference)
    return facts | {
        "top1_rmsd": round(float(rmsd[0]), 3),
        "best_rmsd": round(float(rmsd.min()), 3),
        "aligned_rmsd": round(float(aligned_rmsd(poses, pocket.reference)[0]), 3),
        "free_rmsd": round(float(aligned_rmsd(free, pocket.reference)[0]), 3),
        "poses": len(rmsd),
        "vina_dock": round(energy, 3),
    }


def _of_vina(item: RedockItem, mol: Chem.Mol, pocket: Pocket) -> tuple[Chem.Mol, Chem.Mol, float]:
    """A fresh conformer, its poses as conformers, and the first one's energy."""
    fresh = fresh_conformer(mol, item.seed)
    poses = dock(
        fresh, pocket, exhaustiveness=item.exhaustiveness, n_poses=item.n_poses, seed=item.seed
    )
    positions = np.concatenate([positions_of(pose.mol) for pose in poses])
    return fresh, with_conformers(mol, positions), poses[0].energy


def _of_model(item: RedockItem, mol: Chem.Mol, pocket: Pocket) -> tuple[Chem.Mol, Chem.Mol, float]:
    """A model's first conformer, its poses, and the first one's energy."""
    from molgen.docking.job import PoseSettings, generator

    found = generator(PoseSettings(str(item.model)))
    poses = found.poses(
        mol, item.n_poses, pocket=pocket, seed=item.seed, exhaustiveness=item.exhaustiveness
    )
    energy = poses.GetConformer(0).GetDoubleProp("vina_min")
    return found.sample(mol, 1, seed=item.seed), poses, energy


def describe(mol: Chem.Mol) -> dict[str, int]:
    """Rotatable bonds (RDKit's strict definition: no amides, no rings) and heavy atoms."""
    return {
        # explicit hydrogens would make methyl groups count
        "rotatable_bonds": int(rdMolDescriptors.CalcNumRotatableBonds(Chem.RemoveHs(mol))),
        "heavy_atoms": mol.GetNumHeavyAtoms(),
    }


def fresh_conformer(mol: Chem.Mol, seed: int) -> Chem.Mol:
    """A copy with one conformer: the lowest by MMFF94s of ten ETKDGv3 structures, minimised.

    Where MMFF94s lacks parameters, the first structure as it is.

    Raises:
        DataError: the molecule cannot be embedded.
    """
    positions = embed(mol, CANDIDATES, seed + 1)
    work = with_conformers(mol, positions)
    best = work.GetConformer(0)
    with rdBase.BlockLogs():
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(Chem.Mol(work)):
            relaxed = Chem.Mol(work)  # MMFF94 leaves its own idea of aromaticity behind
            found = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
                relaxed, numThreads=1, mmffVariant="MMFF94s"
            )
            energies = [energy if left >= 0 else np.inf for left, energy in found]
            best = relaxed.GetConformer(int(np.argmin(energies)))
    out = Chem.Mol(mol)
    out.RemoveAllConformers()
    out.AddConformer(best, assignId=True)
    return out
