"""A second, slow solver of the same pull test: what `relaxation` is compared with.

A damped Newton method on the forces, with scipy's sparse matrices; it shares the silks and nothing
of the solver with `mechanics`. No thread breaks in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structgen.webs.mechanics import Load, rest_lengths
from structgen.webs.silk import axial_stiffness, silk_set
from structgen.webs.web import Floats, Web


def reference_force(web: Web, load: Load, silk: str, displacement: float, steps: int = 10) -> float:
    """Force conjugate to a displacement, uN.

    Args:
        web: with anchors; its tensions are its prestress.
        load: see `mechanics.Load`.
        silk: set of `silk.SETS`.
        displacement: mm, below the first break.
        steps: in which the displacement is reached.

    Raises:
        DataError: the prestress breaks a thread.
    """
    silks = silk_set(silk)
    stiff, rest = axial_stiffness(web, silks), rest_lengths(web, silks)
    knee = np.array([s.yield_strain for s in silks])[web.thread]
    slope = np.array([s.hardening / s.modulus for s in silks])[web.thread]
    pos = web.pos.copy()
    free = np.flatnonzero(np.repeat(~load.held, 3))
    law = (web.edges, rest, stiff, knee, slope)
    for _ in range(steps):
        pos += load.direction * displacement / steps
        _balance(pos, free, law)
    return -float((_forces(pos, law)[0] * load.direction).sum())


_Law = tuple[Any, ...]


def _forces(pos: Floats, law: _Law) -> tuple[Floats, Floats, Floats, Floats]:
    """Forces on nodes [N, 3]; unit vectors [E, 3], tensions over length and tangents [E]."""
    edges, rest, stiff, knee, slope = law
    i, j = edges.T
    spans = pos[j] - pos[i]
    length = np.linalg.norm(spans, axis=1)
    strain = length / rest - 1
    first = strain <= knee
    tension = stiff * np.where(first, strain, knee + slope * (strain - knee))
    tension = np.where(strain > 0, tension, 0.0)
    tangent = np.where(strain > 0, np.where(first, stiff, stiff * slope) / rest, 0.0)
    unit = spans / length[:, None]
    total = np.zeros_like(pos)
    np.add.at(total, i, tension[:, None] * unit)
    np.add.at(total, j, -tension[:, None] * unit)
    return total, unit, tension / length, tangent


def _balance(pos: Floats, free: Any, law: _Law) -> None:
    """Move the free coordinates, in place, until the forces on them vanish."""
    from scipy.sparse import csc_matrix, identity
    from scipy.sparse.linalg import spsolve

    i, j = law[0].T
    n = pos.size
    axes = np.arange(3)
    for _ in range(500):
        force, unit, across, tangent = _forces(pos, law)
        left = force.ravel()[free]
        if np.abs(left).max() < 1e-7 * (across * law[1]).max():
            return
        block = (tangent - across)[:, None, None] * unit[:, :, None] * unit[:, None, :]
        block += across[:, None, None] * np.eye(3)
        rows, columns, values = [], [], []
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            rows.append(np.repeat(3 * a[:, None] + axes, 3, axis=1).ravel())
            columns.append(np.tile(3 * b[:, None] + axes, (1, 3)).ravel())
            values.append(sign * block.ravel())
        entries = np.concatenate(rows), np.concatenate(columns)
        matrix = csc_matrix((np.concatenate(values), entries), shape=(n, n))[free][:, free]
        matrix = csc_matrix(matrix + 1e-6 * tangent.max() * identity(len(free)))
        move = np.zeros(n)
        move[free] = spsolve(matrix, left)
        size, now = 1.0, np.linalg.norm(left)
        while size > 0.01:
            new = _forces(pos + size * move.reshape(-1, 3), law)[0].ravel()[free]
            if np.linalg.norm(new) < now:
                break
            size *= 0.5
        pos += size * move.reshape(-1, 3)
