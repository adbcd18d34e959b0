"""Tension equilibria by force densities (Schek 1974, Comput. Methods Appl. Mech. Eng. 3:115).

With force densities q = tension / length above 0 and anchors in every component, the positions of
the free nodes solve one linear system and every thread is under tension:
C_f^T Q C_f x_f = -C_f^T Q C_a x_a, C the incidence matrix of the edges. An affine map of the
anchors maps the whole equilibrium.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diffcore.errors import DataError
from structgen.webs.web import Floats, Web, check_structure

COLLAPSED = 1e-3
"""Share of the mean length below which an edge has collapsed: its thread has no equilibrium."""


class NoEquilibrium(DataError):
    """A web has no equilibrium in which every thread is under tension; ``reason`` in a word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def incidence(web: Web) -> Any:
    """Sparse [E, N]: -1 at the first and 1 at the second node of every edge."""
    from scipy.sparse import csr_array

    e = web.n_edges
    rows = np.repeat(np.arange(e), 2)
    values = np.tile([-1.0, 1.0], e)
    return csr_array((values, (rows, web.edges.ravel())), shape=(e, web.n_nodes))


def solve(web: Web, density: Floats) -> Floats:
    """Positions [N, 3] in equilibrium under force densities [E] > 0; anchors stay.

    Raises:
        DataError: a part of the web is not held, or a force density is not above 0.
    """
    from scipy.sparse import csc_matrix, diags_array
    from scipy.sparse.linalg import splu

    check_structure(web)
    if not (np.isfinite(density).all() and density.min() > 0):
        raise DataError(f"force densities: expected values above 0, got {density.min()}")
    free = ~web.anchors
    pos = web.pos.copy()
    if not free.any():
        return pos
    c = incidence(web).tocsc()
    laplacian = (c.T @ diags_array(density / density.mean()) @ c).tocsr()[free]
    right = -(laplacian[:, web.anchors] @ pos[web.anchors])
    matrix = csc_matrix(laplacian[:, free])
    pos[free] = splu(matrix, permc_spec="MMD_AT_PLUS_A").solve(np.asarray(right))
    return pos


def relax(web: Web, *, rounds: int = 3, keep_shape: bool = False) -> Web:
    """The web in a tension equilibrium, with its tensions.

    Args:
        web: its tensions, where above 0, are the aim; elsewhere the median of the others, or 1 uN.
        rounds: times the force densities are set anew from the aim and the lengths.
        keep_shape: take force densities with which the web is as near as possible to an
            equilibrium as it stands (bounded least squares), instead of those of the aim.

    Raises:
        NoEquilibrium: ``dangling`` threads, or nodes that ``collapsed`` into each other.
        DataError: no anchors, isolated nodes, zero-length edges or parts that are not held.
    """
    check_structure(web)
    check_ends(web)
    aim = aimed(web)
    density = nearest_density(web, aim) if keep_shape else aim / web.lengths
    pos = solve(web, density)
    for _ in range(0 if keep_shape else rounds - 1):
        lengths = web.but(pos=pos).lengths
        density = aim / np.maximum(lengths, 0.05 * lengths.mean())
        pos = solve(web, density)
    return _whole(web.but(pos=pos), density)


def balanced(web: Web, density: Floats) -> Web:
    """The web in the equilibrium of given force densities [E] > 0, uN/mm.

    Raises:
        NoEquilibrium: ``dangling`` threads, or nodes that ``collapsed`` into each other.
        DataError: no anchors, isolated nodes, zero-length edges or parts that are not held.
    """
    check_ends(web)
    return _whole(web.but(pos=solve(web, density)), density)


def _whole(web: Web, density: Floats) -> Web:
    lengths = web.lengths
    flat = int((lengths < COLLAPSED * lengths.mean()).sum())
    if flat:
        raise NoEquilibrium("collapsed", f"no tension equilibrium: {flat} edges collapse")
    return web.but(tension=density * lengths)


def check_ends(web: Web) -> None:
    """Free ends can bear no tension.

    Raises:
        NoEquilibrium: a node with one thread is not an anchor.
    """
    ends = int(((web.degrees == 1) & ~web.anchors).sum())
    if ends:
        raise NoEquilibrium("dangling", f"no tension equilibrium: {ends} threads have a free end")


def aimed(web: Web) -> Floats:
    """Tensions to aim at [E], above 0."""
    given = web.tension > 0
    middle = float(np.median(web.tension[given])) if given.any() else 1.0
    return np.where(given, web.tension, middle)


def residual(web: Web) -> float:
    """Largest force on a free node, as a share of the largest tension."""
    free = ~web.anchors
    if not free.any():
        return 0.0
    force = incidence(web).T @ (web.spans / web.lengths[:, None] * web.tension[:, None])
    return float(np.linalg.norm(force[free], axis=1).max() / max(web.tension.max(), 1e-300))


def nearest_density(web: Web, aim: Floats, damping: float = 0.1) -> Floats:
    """Force densities [E] that nearly balance the nodes where they are.

    Minimises |forces on free nodes|^2 + damping^2 |tension - aim|^2 over q >= 0.02 of the aim.

    Args:
        web: as it stands.
        aim: tensions that are wanted [E], uN.
        damping: weight of the wanted tensions.
    """
    from scipy.sparse import csr_matrix, diags_array, eye_array, vstack

    lengths = web.lengths
    free = ~web.anchors
    units = web.spans / lengths[:, None]
    to_nodes = incidence(web).T.tocsr()[free]
    # unknowns are tensions relative to the aim
    rows = [to_nodes @ diags_array(units[:, k] * aim / aim.mean()) for k in range(3)]
    matrix = csr_matrix(vstack([*rows, damping * eye_array(web.n_edges)]))
    right = np.concatenate([np.zeros(3 * int(free.sum())), np.full(web.n_edges, damping)])
    solver = _exact if web.n_edges <= EXACT else _descended
    return np.asarray(np.maximum(solver(matrix, right), LEAST) * aim / lengths)


EXACT = 400
"""Threads up to which the bounded least squares are solved by dense matrices."""

LEAST = 0.02
"""Smallest tension, as a share of the aim."""


def _exact(matrix: Any, right: Floats) -> Floats:
    from scipy.optimize import lsq_linear

    options = {"bounds": (LEAST, np.inf), "lsq_solver": "exact", "max_iter": 30, "tol": 1e-6}
    return np.asarray(lsq_linear(matrix.toarray(), right, **options).x)


def _descended(matrix: Any, right: Floats) -> Floats:
    """The same by a bounded quasi-Newton method: a large net in a second, to four digits."""
    from scipy.optimize import minimize

    def cost(x: Floats) -> tuple[float, Floats]:
        off = matrix @ x - right
        return 0.5 * float(off @ off), np.asarray(matrix.T @ off)

    start = np.ones(matrix.shape[1])
    options = {"maxiter": 1000, "maxfun": 1500, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-7}
    bounds = [(LEAST, None)] * len(start)
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x)
