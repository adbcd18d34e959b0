"""Inductive sampling: connected pieces of large webs as a training set.

As in the paper (Lu, Lee and Buehler 2023, PNAS 120) a large web teaches by its parts. Where a piece
was cut from its web it is held: a node that lost a thread becomes an anchor, so that a piece of a
web in equilibrium is in equilibrium.
"""

from __future__ import annotations

import heapq

import numpy as np

from diffcore.errors import ConfigError
from structgen.webs.web import Ints, Web


def neighbours(web: Web) -> list[list[int]]:
    """Nodes next to every node."""
    found: list[list[int]] = [[] for _ in range(web.n_nodes)]
    for i, j in web.edges.tolist():
        found[i].append(j)
        found[j].append(i)
    return found


def piece(web: Web, rng: np.random.Generator, nodes: int) -> Web:
    """A connected piece with so many nodes, grown from a random node, nearest nodes first.

    Raises:
        ConfigError: more nodes than the component of the start has, or fewer than 2.
    """
    return _cut(web, neighbours(web), rng, nodes)


def pieces(web: Web, number: int, sizes: tuple[int, int], seed: int = 0) -> list[Web]:
    """Connected pieces with sizes drawn from a range, both ends included.

    Raises:
        ConfigError: a size that the web cannot give.
    """
    low, high = sizes
    if not 2 <= low <= high:
        raise ConfigError(f"sizes: expected 2 <= smallest <= largest, got {low} and {high}")
    rng = np.random.default_rng(seed)
    around = neighbours(web)
    return [_cut(web, around, rng, int(rng.integers(low, high + 1))) for _ in range(number)]


def _cut(web: Web, around: list[list[int]], rng: np.random.Generator, nodes: int) -> Web:
    if not 2 <= nodes <= web.n_nodes:
        raise ConfigError(f"expected a piece of 2 to {web.n_nodes} nodes, got {nodes}")
    start = int(rng.integers(web.n_nodes))
    chosen: list[int] = []
    seen = {start}
    # a random stretch of the distance gives pieces of many shapes
    stretch = np.exp(rng.normal(0, 0.4, 3))
    heap = [(0.0, start)]
    while heap and len(chosen) < nodes:
        _, node = heapq.heappop(heap)
        chosen.append(node)
        for other in around[node]:
            if other not in seen:
                seen.add(other)
                far = float(np.linalg.norm((web.pos[other] - web.pos[start]) * stretch))
                heapq.heappush(heap, (far * float(np.exp(rng.normal(0, 0.15))), other))
    if len(chosen) < nodes:
        raise ConfigError(f"expected a component of {nodes} nodes, got {len(chosen)}")
    return _with_cuts_held(web, np.array(chosen, dtype=np.int64))


def _with_cuts_held(web: Web, nodes: Ints) -> Web:
    part = web.take_nodes(nodes)
    lost = web.degrees[nodes] > part.degrees
    return part.but(anchors=part.anchors | lost)
