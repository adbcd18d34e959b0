"""Threads without which a part of a web hangs from one node, and swings free.

In a tension equilibrium every free node lies between its neighbours. So a part without an anchor
that is joined to the rest by one node collapses into that node, whatever its tensions are. A web
has no such part if its graph, with one more node joined to all anchors, is biconnected.
"""

from __future__ import annotations

import networkx as nx
import numpy as np

from structgen.webs.web import Bools, Floats, Ints

MOST = 100
"""Threads that are moved at most, and threads that are tried to be left out for each."""

GROUND = -1
"""The node that stands for everything the anchors hold on to."""


def grounded(n: int, pairs: Ints, held: Bools, ends_hold: bool = True) -> nx.Graph:
    """The graph of threads [M, 2], with `GROUND` joined to nodes that are held (or are ends)."""
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(pairs.tolist())
    if ends_hold:
        held = held | (np.bincount(pairs.ravel(), minlength=n) == 1)
    graph.add_edges_from((GROUND, k) for k in np.flatnonzero(held).tolist())
    return graph


def blocks(graph: nx.Graph) -> list[set[int]]:
    """Nodes of the biconnected components that do not hold on to the ground."""
    return [block for block in nx.biconnected_components(graph) if GROUND not in block]


def loose_parts(graph: nx.Graph) -> list[tuple[int, set[int]]]:
    """Smallest parts that one node alone holds: (that node, the nodes of the part).

    Args:
        graph: of `grounded`, connected.
    """
    cuts = set(nx.articulation_points(graph))
    found = [(block & cuts, block - cuts) for block in blocks(graph)]
    ends = [(next(iter(cut)), part) for cut, part in found if len(cut) == 1]
    return sorted(ends, key=lambda one: (len(one[1]), one[0]))


def without_loose_parts(
    n: int, pairs: Ints, probability: Floats, chosen: Ints, held: Bools, ends_hold: bool = True
) -> Ints:
    """As many threads, so that no part hangs from one node, as far as that can be.

    The likeliest thread from a loose part to elsewhere is added, and the least likely one of all
    that no part needs is left out.

    Args:
        n: number of nodes.
        pairs: that may have a thread [M, 2].
        probability: of it [M].
        chosen: places of the threads; they join all nodes.
        held: nodes that are held [N].
        ends_hold: nodes with one thread are held, too; otherwise they are loose parts.

    Returns:
        Places of the threads, as many as ``chosen``.
    """
    for _ in range(MOST):
        graph = grounded(n, pairs[chosen], held, ends_hold)
        if GROUND not in graph:
            return chosen
        loose = loose_parts(graph)
        if not loose:
            return chosen
        cut, part = loose[0]
        inside = np.isin(pairs, list(part))
        bridge = inside.any(1) & ~inside.all(1) & ~(pairs == cut).any(1)
        bridge[chosen] = False
        if not bridge.any():
            return chosen
        added = int(np.argmax(np.where(bridge, probability, -1.0)))
        more = np.append(chosen, added)
        swapped = _left_out(n, pairs, probability, more, held, len(blocks(graph)), ends_hold)
        if swapped is None:
            return chosen
        chosen = swapped
    return chosen


def _left_out(
    n: int,
    pairs: Ints,
    probability: Floats,
    chosen: Ints,
    held: Bools,
    before: int,
    ends_hold: bool,
) -> Ints | None:
    """The threads without the least likely one (the last is new) that no part needs."""
    for place in np.argsort(probability[chosen[:-1]], kind="stable")[:MOST]:
        rest = np.delete(chosen, place)
        graph = grounded(n, pairs[rest], held, ends_hold)
        # one that makes an end of a node would make an anchor of it
        short = np.bincount(pairs[rest].ravel(), minlength=n)[pairs[chosen[place]]].min() < 2
        if not short and nx.is_connected(graph) and len(blocks(graph)) < before:
            return rest
    return None
