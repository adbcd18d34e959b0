"""Choosing a few conformers out of many: those that leave the least expected RMSD.

If the pool is a sample of the conformers that are likely, the first conformer to show is the one
with the smallest mean RMSD to the pool, and every further one is the one that lowers the mean
distance of the pool to its nearest chosen conformer most (greedy k-medoids; Nemhauser et al. 1978:
at least 63 % of what the best choice achieves).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pairwise_rmsd(a: Floats, b: Floats) -> Floats:
    """RMSD [S, T] after alignment of every row of a [S, N, 3] to every row of b [T, N, 3].

    Kabsch 1976 by singular values of the 3x3 covariance: |a|^2 + |b|^2 - 2 (s1 + s2 +- s3).
    """
    a = a - a.mean(1, keepdims=True)
    b = b - b.mean(1, keepdims=True)
    n = a.shape[1]
    flat_a = a.transpose(0, 2, 1).reshape(-1, n)
    flat_b = b.transpose(0, 2, 1).reshape(-1, n)
    cov = (flat_a @ flat_b.T).reshape(len(a), 3, len(b), 3).transpose(0, 2, 1, 3)
    overlap = _signed_singular_sum(cov)
    squares = (a**2).sum((1, 2))[:, None] + (b**2).sum((1, 2))[None] - 2 * overlap
    return np.asarray(np.sqrt(squares.clip(0) / n))


def _signed_singular_sum(m: Floats) -> Floats:
    """s1 + s2 + sign(det) s3 of m [..., 3, 3], from the eigenvalues of m^T m (Smith 1961)."""
    g = np.swapaxes(m, -1, -2) @ m
    q = np.trace(g, axis1=-2, axis2=-1) / 3
    shifted = g - q[..., None, None] * np.eye(3)
    p = np.sqrt((shifted**2).sum((-1, -2)) / 6).clip(1e-12)
    r = (_det(shifted) / (2 * p**3)).clip(-1, 1)
    angle = np.arccos(r) / 3
    first = q + 2 * p * np.cos(angle)
    third = q + 2 * p * np.cos(angle + 2 * np.pi / 3)
    second = 3 * q - first - third
    roots = [np.sqrt(x.clip(0)) for x in (first, second, third)]
    return np.asarray(roots[0] + roots[1] + np.sign(_det(m)) * roots[2])


def _det(m: Floats) -> Floats:
    return np.asarray((m[..., 0, :] * np.cross(m[..., 1, :], m[..., 2, :])).sum(-1))


def symmetric_rmsd(pos: Floats, symmetries: Ints) -> Floats:
    """RMSD [S, S] between rows of pos [S, N, 3], the smallest over the symmetries [G, N]."""
    best = pairwise_rmsd(pos, pos)
    for order in symmetries:
        if not (order == np.arange(pos.shape[1])).all():
            best = np.minimum(best, pairwise_rmsd(pos, pos[:, order]))
    return np.minimum(best, best.T)


def choose(distance: Floats, n: int, weights: Floats | None = None) -> tuple[Ints, Floats]:
    """Up to n rows of a pool, the most representative first.

    Args:
        distance: between all members of the pool, [S, S].
        n: how many.
        weights: of the pool's members [S]; equal if left out.

    Returns:
        Chosen rows [min(n, S)], and for each the share of the pool's weight that is nearest to it.
    """
    size = len(distance)
    w = np.ones(size) / size if weights is None else weights / weights.sum()
    nearest = np.full(size, np.inf)
    chosen: list[int] = []
    for _ in range(min(n, size)):
        # mean distance to the nearest if the column were chosen too
        cost = (w[:, None] * np.minimum(nearest[:, None], distance)).sum(0)
        cost[chosen] = np.inf
        best = int(cost.argmin())
        chosen.append(best)
        nearest = np.minimum(nearest, distance[:, best])
    owner = distance[:, chosen].argmin(1)
    share = np.bincount(owner, weights=w, minlength=len(chosen))
    return np.array(chosen, np.int64), share.astype(np.float64)
