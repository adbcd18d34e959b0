"""A first sketch of where the nodes of a web are, from its threads alone.

Free nodes are balanced by their threads (Tutte 1963: a planar web on a convex rim has no
crossings), and what holds the web is placed where that costs least: at the two lowest modes of what
the web answers to its anchors, the Schur complement of its Laplacian. The lowest modes of the
Laplacian itself would fold an orb into a cone, as its hub is a few threads from everywhere. A
sketch is flat and has no direction.
"""

from __future__ import annotations

import numpy as np

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


def fitted(layout: Floats, pos: Floats) -> Floats:
    """The linear map A [3, 2] whose A x of a layout's (x, y) is nearest to places [N, 3]."""
    found, *_ = np.linalg.lstsq(layout[:, :2], pos, rcond=None)
    return np.asarray(found.T)


def drawn_map(rng: np.random.Generator, stretches: Floats) -> Floats:
    """A linear map [3, 2] of a uniformly random direction, with stretches from a table [S, 2]."""
    angle = rng.uniform(0, 2 * np.pi)
    inner = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    stretch = stretches[rng.integers(len(stretches))]
    return np.asarray(turn(rng)[:, :2] * stretch @ inner)


def along_axes(pos: Floats, pairs: Ints) -> Floats:
    """Mean |dx|, |dy|, |dz| of threads over their mean length [..., 3], of places [..., N, 3]."""
    away = pos[..., pairs[:, 0], :] - pos[..., pairs[:, 1], :]
    length = np.linalg.norm(away, axis=-1).mean(-1)
    return np.asarray(np.abs(away).mean(-2) / np.maximum(length, 1e-12)[..., None])


def turn(rng: np.random.Generator) -> Floats:
    """A rotation drawn uniformly [3, 3]."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    if np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return np.asarray(q)
