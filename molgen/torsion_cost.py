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

from molgen.torsions import dihedral, torsion_graph

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.tasks.conformers import ConformerDenoiser

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
    from molgen.datasets.torsions import network_input

    graph = torsion_graph(mol)
    if not len(graph.quad) or not len(positions):
        return np.zeros(len(positions))
    heavy = positions[:, graph.heavy]
    network = denoiser.network
    with torch.inference_mode():
        encoded = network.encode(network_input(graph, heavy))
        angles = torch.from_numpy(dihedral(heavy, graph.quad)).float()
        grid = denoiser.process.grid(angles)
        logits = network(encoded, angles, torch.full((len(angles),), NOISE), grid)
        known = denoiser.process.at(logits.float().log_softmax(-1), angles)
    return np.asarray(-(known + math.log(len(grid))).sum(-1).double().numpy())
