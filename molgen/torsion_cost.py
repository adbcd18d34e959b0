"""How unusual the torsions of a conformer are to a torsional model, as a term of a pose's energy.

AutoDock Vina's energy has no term for torsions: an eclipsed bond costs nothing. The torsional model
knows what is found in crystals: the probability of every torsion given the others. Their product is
the pseudo-likelihood (Besag 1975, The Statistician 24, 179).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from molgen.torsions import dihedral, torsion_graph

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.models.torsion import Encoded
    from molgen.tasks.conformers import ConformerDenoiser
    from molgen.torsions import TorsionGraph

Floats = NDArray[np.float64]
WEIGHT = 0.05
"""kcal/mol of a nat: from 0.03 to 0.1 the first poses of known complexes are equally often right,
at 0 and from 0.15 on less often (`docs/conformers.md`)."""

NOISE = 0.05
"""Noise level at which the other torsions are told to the network, radians."""


def torsion_nats(denoiser: ConformerDenoiser, mol: Chem.Mol, positions: Floats) -> Floats:
    """Minus the log pseudo-likelihood [P] of the torsions of positions [P, A, 3], in nats.

    Zero for evenly distributed torsions, negative for likely ones; zero for a molecule without
    rotatable bonds.

    Args:
        denoiser: a torsional model.
        mol: the molecule, sanitised.
        positions: of all its atoms, Angstrom.
    """
    graph = torsion_graph(mol)
    if not len(positions):
        return np.zeros(0)
    known = _seen(denoiser, graph, positions[:, graph.heavy], torch.zeros(1))
    return np.asarray(-known.squeeze(-1).sum(-1).numpy())


def log_densities(denoiser: ConformerDenoiser, graph: TorsionGraph, pos: Floats) -> Floats:
    """What every rotatable bond's density is around where it is, given the other bonds.

    Args:
        denoiser: a torsional model.
        graph: of the molecule.
        pos: of its heavy atoms [N, 3], Angstrom.

    Returns:
        Logarithm of the density [R, K] after turns by k / K of a circle, relative to an even one.
    """
    bins = denoiser.process.bins
    turns = torch.arange(bins) * (2 * math.pi / bins)
    return np.asarray(_seen(denoiser, graph, pos[None], turns)[0].numpy())


def _seen(denoiser: ConformerDenoiser, graph: TorsionGraph, heavy: Floats, turns: Tensor) -> Tensor:
    """`log_likelihood` of heavy atoms' positions [P, N, 3]."""
    from molgen.datasets.torsions import network_input

    if not len(graph.quad):
        return torch.zeros(len(heavy), 0, len(turns))
    with torch.inference_mode():
        encoded = denoiser.network.encode(network_input(graph, heavy))
        angles = torch.from_numpy(dihedral(heavy, graph.quad))
        return log_likelihood(denoiser, encoded, angles, turns)


def log_likelihood(
    denoiser: ConformerDenoiser, encoded: Encoded, angles: Tensor, turns: Tensor
) -> Tensor:
    """Every torsion's log-density given the others, relative to an even one.

    Args:
        denoiser: a torsional model.
        encoded: the molecule, by the model's network.
        angles: torsions [P, R], radians.
        turns: by which every torsion is turned, the others as they are, [K] or [P, K], radians.

    Returns:
        [P, R, K], float64.
    """
    angles = angles.float()
    grid = denoiser.process.grid(angles)
    logits = denoiser.network(encoded, angles, torch.full((len(angles),), NOISE), grid)
    asked = angles.unsqueeze(-1) + turns.float().reshape(-1, 1, turns.shape[-1])
    values = logits.double().log_softmax(-1).unsqueeze(2)
    known = denoiser.process.at(values.expand(*asked.shape, -1), asked.double())
    found: Tensor = known + math.log(len(grid))
    return found
