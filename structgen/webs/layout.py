"""A first sketch of where the nodes of a web are, from its threads alone.

Free nodes are balanced by their threads (Tutte 1963: a planar web on a convex rim has no
crossings), and what holds the web is placed where that costs least: at the two lowest modes of what
the web answers to its anchors, the Schur complement of its Laplacian. The lowest modes of the
Laplacian itself would fold an orb into a cone, as its hub is a few threads from everywhere. A
sketch is flat and has no direction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffcore import random
from structgen.webs.web import THREADS, Bools, Floats, Ints

RIDGE = 1e-6
"""Added to the Laplacian, as a share of its mean diagonal: what nothing holds has a place, too."""

TAUT = {"anchor": 10.0, "frame": 5.0}
"""Force densities beside those of other classes of threads: they keep the rim wide."""


def flat_layout(n: int, pairs: Ints, thread: Ints, held: Bools) -> Floats | None:
    """Places [N, 3] in the plane z = 0, centred, of unit mean square.

    Args:
        n: number of nodes.
        pairs: threads [E, 2]; they join all nodes.
        thread: their classes [E].
        held: nodes that are held [N]; nodes with one thread are held, too.

    Returns:
        None if fewer than three nodes are held.
    """
    held = held | (np.bincount(pairs.ravel(), minlength=n) == 1)
    if held.sum() < 3:
        return None
    return _balanced(n, pairs, np.array([TAUT.get(name, 1.0) for name in THREADS])[thread], held)


def _balanced(n: int, pairs: Ints, density: Floats, held: Bools) -> Floats:
    from scipy.sparse import coo_array, csc_matrix, diags_array
    from scipy.sparse.linalg import splu

    i, j = pairs.T
    graph = coo_array((density, (i, j)), shape=(n, n)).tocsr()
    graph = graph + graph.T
    diagonal = np.asarray(graph.sum(1)).ravel()
    diagonal = diagonal + RIDGE * diagonal.mean()
    laplacian = (diags_array(diagonal) - graph).tocsr()
    free = ~held
    to_held = laplacian[free][:, held].toarray()
    follow = -splu(csc_matrix(laplacian[free][:, free])).solve(to_held) if free.any() else to_held
    answer = laplacian[held][:, held].toarray() + to_held.T @ follow
    _, modes = np.linalg.eigh(0.5 * (answer + answer.T))
    pos = np.zeros((n, 3))
    pos[held, :2] = modes[:, 1:3]
    pos[free] = follow @ pos[held]
    pos -= pos.mean(0)
    return np.asarray(pos / np.sqrt((pos**2).mean()))


def random_turn(rng: torch.Generator) -> Tensor:
    """A rotation drawn uniformly [3, 3] (a random unit quaternion; Shoemake 1992)."""
    w, x, y, z = torch.nn.functional.normalize(random.normal(rng, torch.zeros(4)), dim=0)
    rows = (
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)]),
        torch.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)]),
        torch.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]),
    )
    return torch.stack(rows)
