"""Conformers of a model placed in a pocket: AutoDock Vina docks each, the best poses are kept.

The model gives ring conformers, bond lengths and angles to start
from, and a confidence in every pose's conformation; where the ligand sits, and its torsions there,
are Vina's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from diffcore.errors import DataError
from molgen.docking.pocket import Pocket
from molgen.docking.vina import Pose, dock, scored_and_minimised
from molgen.embedding import (
    distances,
    keeps_stereo,
    overlap,
    positions_of,
    symmetries,
    with_conformers,
)
from molgen.evaluate.rmsd import in_place_rmsd
from molgen.selection import choose, pairwise_rmsd

Floats = NDArray[np.float64]
Cost = Callable[[Floats], Floats]
"""What poses [P, A, 3] cost beside Vina's energy, [P] kcal/mol."""

STARTS = 4
"""Conformers of the model that are docked."""

APART = 1.0
"""Two poses with a smaller RMSD in place are one, Angstrom."""

RANGE = 8.0
"""Poses reach so far above the best, kcal/mol."""


@dataclass(frozen=True)
class Placed:
    """A pose and what is known of it.

    Attributes:
        positions: [A, 3] Angstrom, in the protein's frame.
        vina_score: energy of the pose as it stands, kcal/mol.
        vina_min: energy after one more minimisation, kcal/mol.
        confidence: share of the model's samples whose conformation is nearest to this pose's.
        cost: what it costs beside Vina's energy, kcal/mol.
    """

    positions: Floats
    vina_score: float
    vina_min: float
    confidence: float
    cost: float = 0.0


def place(
    mol: Chem.Mol,
    pocket: Pocket,
    starts: Sequence[Floats],
    samples: Floats,
    n: int,
    *,
    exhaustiveness: int = 8,
    seed: int = 0,
    cost: Cost | None = None,
) -> list[Placed]:
    """Up to n poses, the lowest energy after minimisation, costs included, first.

    Args:
        mol: ligand with explicit hydrogens and stereo marks.
        pocket: where to dock.
        starts: conformers [A, 3] to dock; the searches are shared out among them.
        samples: the model's samples [S, A, 3], to which poses are compared.
        n: poses at most.
        exhaustiveness: searches of Vina altogether.
        seed: of the searches.
        cost: added to the energy by which poses are ranked; nothing is if left out.

    Raises:
        ConfigError: Vina or Open Babel is not installed, or an option is outside what is allowed.
        DataError: the ligand cannot be written for Vina, or no pose was found.
    """
    each = max(1, round(exhaustiveness / len(starts)))
    found: list[Pose] = []
    for start in starts:
        one = with_conformers(mol, start[None])
        found += dock(
            one,
            pocket,
            exhaustiveness=each,
            n_poses=max(n, 9),
            seed=seed,
            energy_range=RANGE,
        )
    scored = []
    for pose in found:
        if keeps_stereo(mol, pose.mol.GetConformer().GetPositions()):
            own, low = scored_and_minimised(pose.mol, pocket)
            scored.append((low.energy, own, pose.mol))
    if not scored:
        raise DataError("no pose has the marked stereo")
    positions = np.concatenate([positions_of(pose) for *_, pose in scored])
    costs = np.zeros(len(scored)) if cost is None else cost(positions)
    order = np.argsort([low + c for (low, *_), c in zip(scored, costs, strict=True)], kind="stable")
    kept = _apart([(k, scored[k][2]) for k in order.tolist()], n)
    shares = nearest_shares(mol, positions[kept], samples)
    return [
        Placed(positions[k], scored[k][1], scored[k][0], share, float(costs[k]))
        for k, share in zip(kept, shares, strict=True)
    ]


def _apart(ranked: list[tuple[int, Chem.Mol]], n: int) -> list[int]:
    """Numbers of the first n poses that are no copies of a better one."""
    kept: list[tuple[int, Chem.Mol]] = []
    for number, pose in ranked:
        if len(kept) == n:
            break
        if all(float(in_place_rmsd(pose, other)[0]) >= APART for _, other in kept):
            kept.append((number, pose))
    return [number for number, _ in kept]


def nearest_shares(mol: Chem.Mol, poses: Floats, samples: Floats) -> list[float]:
    """For each pose [P, A, 3], the share of samples [S, A, 3] that are nearest to it (aligned)."""
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    ours, theirs = poses[:, heavy], samples[:, heavy]
    distance = np.min([pairwise_rmsd(theirs, ours[:, order]) for order in symmetries(mol)], axis=0)
    counts = np.bincount(distance.argmin(1), minlength=len(poses))
    return [float(c) for c in counts / counts.sum()]


def posed(
    mol: Chem.Mol,
    pocket: Pocket,
    samples: Floats,
    n: int,
    *,
    exhaustiveness: int = 8,
    seed: int = 0,
    cost: Cost | None = None,
) -> Chem.Mol:
    """A molecule with up to n poses as conformers, of the most representative of its samples.

    Args:
        mol: ligand with explicit hydrogens and stereo marks.
        pocket: where to dock.
        samples: conformers of a model [S, A, 3]; `STARTS` of them are docked.
        n: poses at most.
        exhaustiveness: searches of Vina altogether.
        seed: of the searches.
        cost: see `place`.

    Returns:
        A copy whose conformers have the double properties ``confidence``, ``overlap``,
        ``vina_score``, ``vina_min`` and ``torsion_cost``, the lowest sum of the last two first.

    Raises:
        ConfigError: Vina or Open Babel is not installed, or an option is outside what is allowed.
        DataError: the ligand cannot be written for Vina, or no pose was found.
    """
    chosen, _ = choose(distances(mol, samples), STARTS)
    starts = [samples[k] for k in chosen.tolist()]
    poses = place(
        mol, pocket, starts, samples, n, exhaustiveness=exhaustiveness, seed=seed, cost=cost
    )
    made = np.stack([pose.positions for pose in poses])
    properties = [
        {
            "confidence": pose.confidence,
            "overlap": bad,
            "vina_score": pose.vina_score,
            "vina_min": pose.vina_min,
            "torsion_cost": pose.cost,
        }
        for pose, bad in zip(poses, overlap(mol, made).tolist(), strict=True)
    ]
    return with_conformers(mol, made, properties)
