"""The balance of a net of tension-only threads, compiled by numba (on the first call, then cached).

The energy of a thread that bears tension only and never softens is a convex function of its ends,
so the balance is the minimum of a convex energy: Newton's method with a backtracking line search
(Nocedal and Wright 2006, algorithm 3.2) finds it from anywhere. Its linear systems are solved by
the block factorisation of `factor`. Dynamic relaxation (Barnes 1988) was tried first: with capture
silk beside dragline, 3,000 times as stiff, it did not settle in 20,000 steps.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from structgen.webs.factor import factorise, substitute
from structgen.webs.web import Bools, Floats, Ints

RIDGE = 1e-7
"""Added to every block, as a share of the stiffest thread: broken parts have no stiffness."""

SLACK, ACROSS = 1e-3, 0.3
"""What the Newton step takes a slack thread for: so much of its stiffness along, and of that so
much across. It bears nothing; without it steps fling loose nodes far away (40 % more steps)."""


@njit(cache=True)
def threads(
    pos: Floats,
    edges: Ints,
    rest: Floats,
    law: Floats,
    alive: Bools,
    state: Floats,
    force: Floats,
) -> tuple[float, float]:
    """Energy (uN mm) and largest tension; fills ``state`` [E, 5] and ``force`` [N, 3].

    ``state`` is the unit vector of every edge, its stiffness along and across (uN/mm); see `SLACK`.
    """
    energy, largest = 0.0, 0.0
    force[:] = 0.0
    state[:] = 0.0
    for k in range(len(edges)):
        if not alive[k]:
            continue
        i, j = edges[k, 0], edges[k, 1]
        dx = pos[j, 0] - pos[i, 0]
        dy = pos[j, 1] - pos[i, 1]
        dz = pos[j, 2] - pos[i, 2]
        length = max(math.sqrt(dx * dx + dy * dy + dz * dz), 1e-12)
        state[k, 0], state[k, 1], state[k, 2] = dx / length, dy / length, dz / length
        if length <= rest[k]:
            state[k, 3] = SLACK * law[k, 0] / rest[k]
            state[k, 4] = ACROSS * state[k, 3]
            continue
        strain = length / rest[k] - 1.0
        first, knee, second = law[k, 0], law[k, 1], law[k, 2]
        if strain <= knee:
            tension = first * strain
            energy += 0.5 * rest[k] * first * strain * strain
            state[k, 3] = first / rest[k]
        else:
            more = strain - knee
            tension = first * knee + second * more
            energy += rest[k] * (
                0.5 * first * knee * knee + first * knee * more + 0.5 * second * more * more
            )
            state[k, 3] = second / rest[k]
        state[k, 4] = tension / length
        largest = max(largest, tension)
        for d in range(3):
            force[i, d] += tension * state[k, d]
            force[j, d] -= tension * state[k, d]
    return energy, largest


@njit(cache=True)
def settle(  # noqa: C901 - one compiled loop
    pos: Floats,
    held: Bools,
    edges: Ints,
    rest: Floats,
    law: Floats,
    alive: Bools,
    plan: tuple[Ints, Ints, Ints, Ints, Ints],
    tolerance: float,
    most: int,
) -> tuple[int, Floats]:
    """Move the free nodes (``pos`` [N, 3], in place) until they are balanced.

    Args:
        pos: mm.
        held: nodes that stay [N].
        edges: [E, 2].
        rest: unstrained lengths [E], mm.
        law: first stiffness, knee strain, second stiffness of every edge [E, 3], uN.
        alive: edges that are not broken [E].
        plan: of `factor.plan_of`, for these edges and held nodes.
        tolerance: largest force on a free node, as a share of the largest tension.
        most: Newton steps after which to give up.

    Returns:
        Newton steps made (``most`` if it gave up), and the forces of the threads on all nodes
        [N, 3], uN.
    """
    n = len(pos)
    state, force, trial = np.zeros((len(edges), 5)), np.zeros((n, 3)), np.zeros((n, 3))
    right = np.zeros((n, 3))
    stiffest = 0.0
    for k in range(len(edges)):
        stiffest = max(stiffest, law[k, 0] / rest[k])
    energy, largest = threads(pos, edges, rest, law, alive, state, force)
    for step in range(most):
        worst = 0.0
        for i in range(n):
            size = 0.0
            for d in range(3):
                right[i, d] = 0.0 if held[i] else force[i, d]
                size += right[i, d] ** 2
            worst = max(worst, math.sqrt(size))
        if worst <= tolerance * largest:
            return step, force
        blocks, inverse = factorise(plan, edges, state, RIDGE * stiffest)
        move = substitute(plan, blocks, inverse, right)
        slope = 0.0
        for i in range(n):
            for d in range(3):
                slope -= right[i, d] * move[i, d]
        length = 1.0
        for _ in range(30):
            for i in range(n):
                for d in range(3):
                    trial[i, d] = pos[i, d] + length * move[i, d]
            new, largest = threads(trial, edges, rest, law, alive, state, force)
            if new <= energy + 1e-4 * length * slope + 1e-13 * abs(energy):
                break
            length *= 0.5
        energy = new
        pos[:] = trial
    return most, force
