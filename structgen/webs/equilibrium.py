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
        keep_shape: take force densities whose equilibrium is near to the web as it stands, instead
            of those of the aim (`nearest_density`).

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


def nearest_density(
    web: Web, aim: Floats, damping: float = 1e-2, stretching: float = 0.1
) -> Floats:
    """Force densities [E] > 0 whose equilibrium is near to where the nodes are.

    Minimises the mean squared distance of the free nodes from their places, in mean lengths of a
    thread, + stretching times the mean square of log(length / length as it stands) + damping times
    that of log(q / q of the aim), by a quasi-Newton method with the adjoint gradient: with x(q) in
    equilibrium and L y the gradient by x, the derivative by q of the thread from i to j is
    -(y_j - y_i) . (x_j - x_i).

    Args:
        web: as it stands; every part is held.
        aim: tensions that are wanted [E], uN.
        damping: weight of the wanted tensions.
        stretching: weight of the lengths: without it short threads may collapse.
    """
    from scipy.optimize import minimize
    from scipy.sparse import csc_matrix, diags_array
    from scipy.sparse.linalg import splu

    free, unit = ~web.anchors, float(web.lengths.mean())
    base = aim / np.maximum(web.lengths, 0.05 * unit)
    if not free.any():
        return np.asarray(base)
    ends = incidence(web).tocsc()
    to_free, held = ends[:, free], ends[:, web.anchors] @ web.pos[web.anchors]
    before, weight = web.pos[free], 1 / (unit**2 * int(free.sum()))
    lengths = np.maximum(web.lengths, 0.02 * unit)

    def cost(logs: Floats) -> tuple[float, Floats]:
        q = base / base.mean() * np.exp(logs)
        matrix = csc_matrix(to_free.T @ diags_array(q) @ to_free)
        factor = splu(matrix, permc_spec="MMD_AT_PLUS_A")
        x = factor.solve(-(to_free.T @ (q[:, None] * held)))
        off, spans = x - before, to_free @ x + held
        squares = np.maximum((spans**2).sum(1), (1e-6 * unit) ** 2)
        longer = 0.5 * np.log(squares) - np.log(lengths)
        pull = (stretching / len(logs)) * (longer / squares)[:, None] * spans
        y = factor.solve(weight * off + to_free.T @ pull)
        slope = -q * ((to_free @ y) * spans).sum(1)
        value = weight * (off**2).sum() + stretching * (longer**2).mean()
        value = 0.5 * (value + damping * (logs**2).mean())
        return float(value), slope + damping * logs / len(logs)

    start = np.zeros(web.n_edges)
    options = {"maxiter": MOST, "maxcor": 40, "ftol": 1e-9, "gtol": 1e-9}
    bounds = [(-WIDEST, WIDEST)] * web.n_edges
    found = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(base * np.exp(found.x))


MOST = 600
"""Steps of the search for the nearest equilibrium; webs of a thousand nodes need them all."""

WIDEST = 5.0
"""Largest factor between a force density and the one that was wanted, as a logarithm."""
