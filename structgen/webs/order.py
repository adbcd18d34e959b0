"""Orders of nodes and of axes, for models that see a web as a sequence in a box."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from structgen.webs.measures import AXES
from structgen.webs.web import Floats, Ints, Web


def order(web: Web, rng: np.random.Generator) -> Ints:
    """Nodes from one end of the web to the other [N], ties at random.

    The order of Cuthill and McKee (1969; scipy): breadth first from a node at the rim, so that a
    thread joins nodes that are near in the order, and every node but the first of a component has
    a thread to one before it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n = web.n_nodes
    shuffled = rng.permutation(n)
    place = np.argsort(shuffled)
    i, j = place[web.edges].T
    ends = np.concatenate([i, j]), np.concatenate([j, i])
    graph = coo_array((np.ones(2 * len(i)), ends), shape=(n, n)).tocsr()
    found = reverse_cuthill_mckee(graph, symmetric_mode=True)[::-1]
    return np.asarray(shuffled[found], dtype=np.int64)


def back_edges(web: Web, reach: int) -> list[list[tuple[int, int]]]:
    """For every node its threads to nodes up to ``reach`` before it: (how far, class), sorted."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(web.n_nodes)]
    for (i, j), kind in zip(web.edges.tolist(), web.thread.tolist(), strict=True):
        if abs(i - j) <= reach:
            found[max(i, j)].append((abs(i - j), kind))
    return [sorted(one) for one in found]


def symmetry(rng: np.random.Generator) -> Floats:
    """One of the 48 maps [3, 3] of the axes onto each other: permutation and signs."""
    return np.asarray(np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)[:, None])


def permuted(values: Mapping[str, float], matrix: Floats) -> dict[str, float]:
    """Parameters of a web whose positions were mapped by a `symmetry`; mechanics are the same."""
    source = np.abs(matrix).argmax(1)
    known = [name for name in AXES if name in values]
    if len(known) < len(AXES):
        return {k: v for k, v in values.items() if k not in AXES}
    return {**values} | {AXES[k]: values[AXES[s]] for k, s in enumerate(source)}
