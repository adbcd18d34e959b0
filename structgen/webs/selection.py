"""Which of the pairs of nodes that may have a thread have one."""

from __future__ import annotations

import numpy as np

from structgen.webs.holding import without_loose_parts
from structgen.webs.web import Bools, Floats, Ints


def chosen_threads(
    n: int,
    pairs: Ints,
    probability: Floats,
    number: int,
    held: Bools,
    whole: bool,
    ends_hold: bool = True,
) -> Ints:
    """Places of so many threads that join all nodes, the most likely ones.

    Args:
        n: number of nodes.
        pairs: that may have a thread [M, 2], the smaller node first; they join all nodes.
        probability: of it [M].
        number: at least n - 1, at most M.
        held: nodes that are held [N].
        whole: see that no part hangs from one node, as far as that can be (`holding`).
        ends_hold: nodes with one thread are held, too.
    """
    chosen = likely_edges(n, pairs, probability, number)
    if not whole:
        return chosen
    return without_loose_parts(n, pairs, probability, chosen, held, ends_hold)


def likely_edges(n: int, pairs: Ints, probability: Floats, number: int) -> Ints:
    """Places of the most likely threads [number]: a maximum spanning tree, then others by rank.

    Args:
        n: number of nodes.
        pairs: [M, 2], the smaller node first; they join all nodes.
        probability: of a thread at every pair [M].
        number: at least n - 1, at most M.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    cost = 1 - np.log(np.clip(probability, 1e-12, 1))
    tree = minimum_spanning_tree(coo_array((cost, tuple(pairs.T)), shape=(n, n)).tocsr()).tocoo()
    low, high = np.minimum(tree.row, tree.col), np.maximum(tree.row, tree.col)
    inside = np.isin(pairs[:, 0] * n + pairs[:, 1], low.astype(np.int64) * n + high)
    order = np.argsort(-np.clip(probability, 1e-12, 1), kind="stable")
    rest = order[~inside[order]][: number - int(inside.sum())]
    return np.concatenate([np.flatnonzero(inside), rest])
