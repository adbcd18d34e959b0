"""A sparse factorisation of a net's stiffness in 3 x 3 blocks, compiled by numba.

The order of elimination (minimum degree; George and Liu 1989, SIAM Rev. 31:1) and all places of
blocks are found once for a web; broken edges only change numbers. K = L D L^T, right-looking.
"""

from __future__ import annotations

import heapq

import numpy as np
from numba import njit

from structgen.webs.web import Bools, Floats, Ints

Plan = tuple[Ints, Ints, Ints, Ints, Ints]
"""Place of every node in the order, -1 for held ones [N]; first block of every column [F + 1]; row
of every block [M]; block of every edge, -1 for none [E]; targets of the updates, column by
column."""


def plan_of(edges: Ints, held: Bools) -> Plan:
    """Order and pattern for the free nodes of a net."""
    n = len(held)
    around: list[set[int]] = [set() for _ in range(n)]
    for i, j in edges.tolist():
        if not (held[i] or held[j]):
            around[i].add(j)
            around[j].add(i)
    order, columns = _eliminate(around, held)
    place = np.full(n, -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    rows = [sorted(int(place[k]) for k in column) for column in columns]
    start = np.zeros(len(rows) + 1, dtype=np.int64)
    start[1:] = np.cumsum([len(r) for r in rows])
    block = {
        (c, r): int(start[c]) + k for c, column in enumerate(rows) for k, r in enumerate(column)
    }
    of_edge = np.full(len(edges), -1, dtype=np.int64)
    for k, (a, b) in enumerate(place[edges].tolist()):
        if a >= 0 and b >= 0:
            of_edge[k] = block[min(a, b), max(a, b)]
    # the pair (later row a, later row b > a) of a column meets in the block (a, b)
    targets = [
        block[a, b] for column in rows for k, a in enumerate(column) for b in column[k + 1 :]
    ]
    flat = np.array([r for column in rows for r in column], dtype=np.int64)
    return place, start, flat, of_edge, np.array(targets, dtype=np.int64)


def _eliminate(around: list[set[int]], held: Bools) -> tuple[list[int], list[set[int]]]:
    """Nodes in order of minimum degree, and the neighbours of each when its turn comes."""
    heap = [(len(a), k) for k, a in enumerate(around) if not held[k]]
    heapq.heapify(heap)
    done = held.copy()
    order, columns = [], []
    while heap:
        degree, node = heapq.heappop(heap)
        if done[node] or degree != len(around[node]):
            continue
        done[node] = True
        near = around[node]
        order.append(node)
        columns.append(near)
        for k in near:
            around[k] |= near
            around[k] -= {k, node}
            heapq.heappush(heap, (len(around[k]), k))
    return order, columns


@njit(cache=True)
def factorise(  # noqa: C901 - one compiled loop
    plan: Plan, edges: Ints, state: Floats, ridge: float
) -> tuple[Floats, Floats]:
    """Blocks of L (times D) [M, 3, 3] and inverse diagonal blocks [F, 3, 3].

    Args:
        plan: of `plan_of`.
        edges: [E, 2].
        state: unit vector of every edge, stiffness along and across [E, 5].
        ridge: added to the diagonal.
    """
    place, start, rows, of_edge, targets = plan
    f = len(start) - 1
    diagonal = np.zeros((f, 3, 3))
    blocks = np.zeros((len(rows), 3, 3))
    for k in range(f):
        for a in range(3):
            diagonal[k, a, a] = ridge
    one = np.zeros((3, 3))
    for k in range(len(edges)):
        across, along = state[k, 4], state[k, 3] - state[k, 4]
        if across == 0.0:
            continue
        for a in range(3):
            for b in range(3):
                one[a, b] = along * state[k, a] * state[k, b]
            one[a, a] += across
        for end in range(2):
            c = place[edges[k, end]]
            if c >= 0:
                diagonal[c] += one
        if of_edge[k] >= 0:
            blocks[of_edge[k]] -= one
    inverse = np.zeros((f, 3, 3))
    left = np.zeros((3, 3))
    at = 0
    for c in range(f):
        inverse[c] = _inverse(diagonal[c], ridge)
        for p in range(start[c], start[c + 1]):
            # L D at row p is blocks[p]^T: blocks hold K[c, row]
            for a in range(3):
                for b in range(3):
                    left[a, b] = (
                        blocks[p, 0, a] * inverse[c, 0, b]
                        + blocks[p, 1, a] * inverse[c, 1, b]
                        + blocks[p, 2, a] * inverse[c, 2, b]
                    )
            _subtract(diagonal, rows[p], left, blocks, p)
            # by scalars, not by views of blocks: a third faster
            l00, l01, l02 = left[0, 0], left[0, 1], left[0, 2]
            l10, l11, l12 = left[1, 0], left[1, 1], left[1, 2]
            l20, l21, l22 = left[2, 0], left[2, 1], left[2, 2]
            for q in range(p + 1, start[c + 1]):
                t = targets[at]
                at += 1
                for b in range(3):
                    x, y, z = blocks[q, 0, b], blocks[q, 1, b], blocks[q, 2, b]
                    blocks[t, 0, b] -= l00 * x + l01 * y + l02 * z
                    blocks[t, 1, b] -= l10 * x + l11 * y + l12 * z
                    blocks[t, 2, b] -= l20 * x + l21 * y + l22 * z
    return blocks, inverse


@njit(cache=True, inline="always")
def _subtract(out: Floats, to: int, left: Floats, blocks: Floats, p: int) -> None:
    for a in range(3):
        for b in range(3):
            out[to, a, b] -= (
                left[a, 0] * blocks[p, 0, b]
                + left[a, 1] * blocks[p, 1, b]
                + left[a, 2] * blocks[p, 2, b]
            )


@njit(cache=True)
def _inverse(m: Floats, ridge: float) -> Floats:
    """Of a symmetric positive 3 x 3 matrix; a ridge more where rounding has made it singular."""
    out = np.zeros((3, 3))
    while True:
        c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
        c01 = m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2]
        c02 = m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]
        det = m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02
        if det > 0.0 and m[0, 0] > 0.0 and c00 > 0.0:
            break
        for a in range(3):
            m[a, a] += ridge
        ridge *= 10.0
    out[0, 0], out[0, 1], out[0, 2] = c00 / det, c01 / det, c02 / det
    out[1, 1] = (m[0, 0] * m[2, 2] - m[0, 2] * m[2, 0]) / det
    out[1, 2] = (m[0, 2] * m[1, 0] - m[0, 0] * m[1, 2]) / det
    out[2, 2] = (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) / det
    out[1, 0], out[2, 0], out[2, 1] = out[0, 1], out[0, 2], out[1, 2]
    return out


@njit(cache=True)
def substitute(  # noqa: C901 - one compiled loop
    plan: Plan, blocks: Floats, inverse: Floats, right: Floats
) -> Floats:
    """Solve K x = right [N, 3] on the free nodes; 0 elsewhere."""
    place, start, rows, _, _ = plan
    f = len(start) - 1
    y = np.zeros((f, 3))
    for i in range(len(place)):
        if place[i] >= 0:
            y[place[i]] = right[i]
    z = np.zeros((f, 3))
    for c in range(f):
        for a in range(3):
            for b in range(3):
                z[c, a] += inverse[c, a, b] * y[c, b]
        for p in range(start[c], start[c + 1]):
            for a in range(3):
                for b in range(3):
                    y[rows[p], a] -= blocks[p, b, a] * z[c, b]
    for c in range(f - 1, -1, -1):
        for p in range(start[c], start[c + 1]):
            r = rows[p]
            for b in range(3):
                x = (
                    blocks[p, b, 0] * z[r, 0]
                    + blocks[p, b, 1] * z[r, 1]
                    + blocks[p, b, 2] * z[r, 2]
                )
                for a in range(3):
                    z[c, a] -= inverse[c, a, b] * x
    out = np.zeros((len(place), 3))
    for i in range(len(place)):
        if place[i] >= 0:
            out[i] = z[place[i]]
    return out
