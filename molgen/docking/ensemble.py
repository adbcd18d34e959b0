"""Conformers of a model placed in a pocket: AutoDock Vina docks each, the best poses are kept.

The model gives ring conformers, bond lengths and angles to start from, and a confidence in every
pose's conformation. Where the ligand sits is Vina's; its torsions there are too, unless a model
that is told of the target draws them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from diffcore.errors import DataError
from molgen.docking.pocket import Pocket
from molgen.docking.vina import Pose, dock, minimise, scored_and_minimised
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
Costs = Mapping[str, Callable[[Floats], Floats]]
"""What poses [P, A, 3] cost beside Vina's energy, [P] kcal/mol, by name."""

STARTS = 4
"""Conformers of the model that are docked."""

Redraw = Callable[[Floats], Floats]
"""Poses [P, A, 3] with other torsions, as many."""

SEARCHED = 9
"""Poses that are looked for at least: how good the first is should not depend on n."""

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
        costs: what it costs beside Vina's energy, kcal/mol, by name.
    """

    positions: Floats
    vina_score: float
    vina_min: float
    confidence: float
    costs: dict[str, float] = field(default_factory=dict)


def place(
    mol: Chem.Mol,
    pocket: Pocket,
    starts: Sequence[Floats],
    samples: Floats,
    n: int,
    *,
    exhaustiveness: int = 8,
    seed: int = 0,
    costs: Costs | None = None,
    redraw: Redraw | None = None,
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
        costs: added to the energy by which poses are ranked; nothing is if left out.
        redraw: draws the torsions of the first n poses anew; what becomes of that is minimised and
            ranked with them.

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
            n_poses=max(n, SEARCHED),
            seed=seed,
            energy_range=RANGE,
        )
    scored = _scored([pose.mol for pose in found], mol, pocket)
    if not scored:
        raise DataError("no pose has the marked stereo")
    if redraw is not None:
        first = _ranked(mol, scored, max(n, SEARCHED), costs or {})
        drawn = redraw(np.stack([pose.positions for pose in first]))
        scored = [*first, *_minimised(drawn, mol, pocket)]
    ranked = _ranked(mol, scored, n, costs or {})
    shares = nearest_shares(mol, np.stack([pose.positions for pose in ranked]), samples)
    return [replace(pose, confidence=share) for pose, share in zip(ranked, shares, strict=True)]


def _minimised(positions: Floats, mol: Chem.Mol, pocket: Pocket) -> list[Placed]:
    """Poses [P, A, 3] minimised by Vina's energy, without those that it cannot judge."""
    found = []
    for one in positions:
        with suppress(DataError):  # the pose that it was drawn from remains
            low = minimise(with_conformers(mol, one[None]), pocket)
            pos = positions_of(low.mol)[0]
            if keeps_stereo(mol, pos):
                found.append(Placed(pos, low.energy, low.energy, 0.0))
    return found


def _scored(poses: list[Chem.Mol], mol: Chem.Mol, pocket: Pocket) -> list[Placed]:
    """Poses with their energies, without those that lost the marked stereo."""
    found = []
    for pose in poses:
        positions = positions_of(pose)[0]
        if keeps_stereo(mol, positions):
            own, low = scored_and_minimised(pose, pocket)
            found.append(Placed(positions, own, low.energy, 0.0))
    return found


def _ranked(mol: Chem.Mol, poses: Sequence[Placed], n: int, costs: Costs) -> list[Placed]:
    """The first n poses by energy and costs that are no copies of a better one."""
    positions = np.stack([pose.positions for pose in poses])
    beside = {name: cost(positions) for name, cost in costs.items()}
    total = np.array([pose.vina_min for pose in poses]) + sum(beside.values())
    kept: list[tuple[Placed, Chem.Mol]] = []
    for k in total.argsort(kind="stable").tolist():
        one = with_conformers(mol, positions[k, None])
        if all(float(in_place_rmsd(one, other)[0]) >= APART for _, other in kept):
            own = {name: float(cost[k]) for name, cost in beside.items()}
            kept.append((replace(poses[k], costs=own), one))
        if len(kept) == n:
            break
    return [pose for pose, _ in kept]


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
    costs: Costs | None = None,
    redraw: Redraw | None = None,
) -> Chem.Mol:
    """A molecule with up to n poses as conformers, of the most representative of its samples.

    Args:
        mol: ligand with explicit hydrogens and stereo marks.
        pocket: where to dock.
        samples: conformers of a model [S, A, 3]; `STARTS` of them are docked.
        n: poses at most.
        exhaustiveness: searches of Vina altogether.
        seed: of the searches.
        costs: see `place`.
        redraw: see `place`.

    Returns:
        A copy whose conformers have the double properties ``confidence``, ``overlap``,
        ``vina_score``, ``vina_min`` and the costs by name, the lowest sum of ``vina_min`` and costs
        first.

    Raises:
        ConfigError: Vina or Open Babel is not installed, or an option is outside what is allowed.
        DataError: the ligand cannot be written for Vina, or no pose was found.
    """
    chosen, _ = choose(distances(mol, samples), STARTS)
    starts = [samples[k] for k in chosen.tolist()]
    poses = place(
        mol,
        pocket,
        starts,
        samples,
        n,
        exhaustiveness=exhaustiveness,
        seed=seed,
        costs=costs,
        redraw=redraw,
    )
    made = np.stack([pose.positions for pose in poses])
    properties = [
        {
            "confidence": pose.confidence,
            "overlap": bad,
            "vina_score": pose.vina_score,
            "vina_min": pose.vina_min,
            **pose.costs,
        }
        for pose, bad in zip(poses, overlap(mol, made).tolist(), strict=True)
    ]
    return with_conformers(mol, made, properties)
