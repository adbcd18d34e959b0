"""Torsions of poses drawn anew by a torsional model that is told of the target.

Gibbs sampling (Geman & Geman 1984, IEEE PAMI 6, 721): one rotatable bond after the other is set to
an angle drawn from its density given the others, times what its contacts say,

    p(tau_b | others, target) ~ (q(tau_b | others) exp(-E(x(tau_b))))^(1 / temperature)

while the larger side of the bond stays where it is. Atoms of the ligand that are too far apart
along the bonds for the model to know of each other have the potential's wall between them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from torch import Tensor

from molgen.contacts.task import turned
from molgen.torsions import dihedral, moving_atoms, torsion_graph

if TYPE_CHECKING:
    from molgen.contacts.network import ContactPotential
    from molgen.docking.structure import Structure
    from molgen.tasks.conformers import ConformerDenoiser

Floats = NDArray[np.float64]
SWEEPS = 2
"""Times that every bond is drawn."""

TEMPERATURE = 1.0
"""What the model believes; below 1 poses are likelier than that."""

TURNS = 36
"""Angles that are weighed for a bond, evenly spaced from a random one on."""

FAR = 4
"""Bonds between atoms that the torsional model does not know of each other."""

MARGIN = 4.0
"""Target atoms so much farther away than the cutoff are looked at too, Angstrom."""


def redrawn(
    denoiser: ConformerDenoiser,
    potential: ContactPotential,
    mol: Chem.Mol,
    positions: Floats,
    structure: Structure,
    rng: torch.Generator,
    *,
    sweeps: int = SWEEPS,
    temperature: float = TEMPERATURE,
) -> Floats:
    """Poses with other torsions [P, A, 3]; the inputs are not changed.

    Args:
        denoiser: a torsional model.
        potential: what a target says.
        mol: the ligand, sanitised.
        positions: of all its atoms, [P, A, 3], Angstrom, in the target's frame.
        structure: the target.
        rng: of order and angles.
        sweeps: times that every bond is drawn.
        temperature: below 1 draws what is likely, at 1 what the model believes.

    Raises:
        DataError: no pose is near the target.
    """
    from molgen.contacts.features import ligand_classes, surroundings
    from molgen.datasets.torsions import network_input
    from molgen.torsion_cost import log_likelihood

    graph = torsion_graph(mol)
    if not len(graph.quad) or not len(positions):
        return positions.copy()
    reach = potential.config.cutoff + MARGIN
    around = surroundings(structure, positions[:, graph.heavy].reshape(-1, 3), reach)
    centre = positions.mean((0, 1))
    pos = torch.from_numpy(positions - centre)
    target_pos = torch.from_numpy(around["target_pos"] - centre).float()
    target = torch.from_numpy(around["target"])
    target_axis = torch.from_numpy(around["target_axis"]).float()
    kinds = torch.full((mol.GetNumAtoms(),), -1)
    kinds[graph.heavy] = torch.from_numpy(ligand_classes(mol))
    far = torch.from_numpy(Chem.GetDistanceMatrix(mol) >= FAR)
    moving = [torch.from_numpy(atoms) for atoms in moving_atoms(mol, graph)]
    count = len(pos)
    with torch.inference_mode():
        table = potential.table()
        encoded = denoiser.network.encode(network_input(graph, positions[:, graph.heavy]))
        for turn in [t for _ in range(sweeps) for t in _order(len(moving), rng)]:
            atoms = moving[turn][1:]
            start = torch.rand(count, 1, generator=rng)
            turns = (start + torch.arange(TURNS) / TURNS) * (2 * math.pi)
            angles = torch.from_numpy(dihedral(pos[:, graph.heavy].numpy(), graph.quad))
            likely = log_likelihood(denoiser, encoded, angles, turns)[:, turn]
            ends = graph.heavy[graph.quad[turn, 1:3]].tolist()
            still = ends[0] if int(moving[turn][0]) == ends[1] else ends[1]
            axis = torch.nn.functional.normalize(pos[:, moving[turn][0]] - pos[:, still], dim=-1)
            shown = turned(pos[:, atoms], pos[:, still], axis, turns.double())
            heavy = kinds[atoms] >= 0
            rest = _rest(kinds, moving[turn])
            energy = potential(
                shown[:, :, heavy].float(),
                kinds[atoms][heavy].expand(count, -1),
                target_pos.expand(count, -1, -1),
                target.expand(count, -1),
                target_axis.expand(count, -1, -1),
                table,
            )
            apart = torch.cdist(shown[:, :, heavy].flatten(1, 2), pos[:, rest])
            clash = potential.wall(apart).unflatten(1, (TURNS, -1)) * far[atoms][heavy][:, rest]
            logits = (likely - energy - clash.sum((-2, -1))) / temperature
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=rng).squeeze(1)
            pos[:, atoms] = shown[torch.arange(count), drawn]
    return np.asarray(pos.numpy() + centre)


def _order(number: int, rng: torch.Generator) -> list[int]:
    order: list[int] = torch.randperm(number, generator=rng).tolist()
    return order


def _rest(kinds: Tensor, moving: Tensor) -> Tensor:
    """Heavy atoms [.] that do not move."""
    free = kinds >= 0
    free[moving] = False
    return torch.nonzero(free).flatten()
