"""A web of threads: the value that everything in this package takes and gives.

Units: positions mm, radii um, forces uN, moduli GPa, so that a thread's axial stiffness in uN is
1000 E pi r^2 (GPa um^2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import DataError

if TYPE_CHECKING:
    import networkx as nx

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

THREADS = ("thread", "anchor", "frame", "radius", "spiral")
"""Classes of threads: unknown or tangle, mooring to a support, frame, radius, capture spiral."""

SHORTEST = 1e-9
"""Length in mm up to which an edge has no length."""


@dataclass(frozen=True, eq=False)
class Web:
    """Nodes, threads between them and what holds them.

    Attributes:
        pos: positions [N, 3], mm.
        edges: pairs of nodes [E, 2]; undirected, each once, the smaller node first.
        thread: class of every edge [E], an index into `THREADS`.
        radius: radius of every edge [E], um.
        tension: prestress of every edge [E], uN; 0 for a thread that just spans its length.
        anchors: nodes that are held [N].
    """

    pos: Floats
    edges: Ints
    thread: Ints
    radius: Floats
    tension: Floats
    anchors: Bools

    def __post_init__(self) -> None:
        """Check everything but anchors and connectivity, which not every use needs."""
        check_arrays(self)

    @property
    def n_nodes(self) -> int:
        """Number of nodes N."""
        return len(self.pos)

    @property
    def n_edges(self) -> int:
        """Number of edges E."""
        return len(self.edges)

    @property
    def spans(self) -> Floats:
        """Vectors from the first to the second node of every edge [E, 3], mm."""
        return self.pos[self.edges[:, 1]] - self.pos[self.edges[:, 0]]

    @property
    def lengths(self) -> Floats:
        """Lengths of the edges [E], mm."""
        return np.asarray(np.linalg.norm(self.spans, axis=1))

    @property
    def degrees(self) -> Ints:
        """Edges at every node [N]."""
        return np.bincount(self.edges.ravel(), minlength=self.n_nodes).astype(np.int64)

    @property
    def volume(self) -> float:
        """Volume of the threads, mm^3."""
        return float(math.pi * 1e-6 * (self.radius**2 * self.lengths).sum())

    def but(self, **fields: Any) -> Web:
        """A checked copy with other values of the named attributes."""
        return replace(self, **fields)

    def components(self) -> Ints:
        """Number of the connected component of every node [N]."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n = self.n_nodes
        ones = np.ones(self.n_edges)
        graph = coo_array((ones, (self.edges[:, 0], self.edges[:, 1])), shape=(n, n))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)

    @property
    def connected(self) -> bool:
        """Whether it is one component."""
        return bool((self.components() == 0).all())

    def take_nodes(self, nodes: Ints) -> Web:
        """The subgraph of some nodes, in their order, and of the edges between them."""
        place = np.full(self.n_nodes, -1, dtype=np.int64)
        place[nodes] = np.arange(len(nodes))
        kept = (place[self.edges] >= 0).all(1)
        return Web(
            self.pos[nodes],
            np.sort(place[self.edges[kept]], axis=1),
            self.thread[kept],
            self.radius[kept],
            self.tension[kept],
            self.anchors[nodes],
        )

    def take_edges(self, keep: Bools | Ints) -> Web:
        """The same nodes with some of the edges."""
        return self.but(
            edges=self.edges[keep],
            thread=self.thread[keep],
            radius=self.radius[keep],
            tension=self.tension[keep],
        )

    def to_networkx(self) -> nx.Graph[int]:
        """Nodes with ``pos`` and ``anchor``; edges with ``thread``, ``radius`` and ``tension``."""
        import networkx as nx

        graph: nx.Graph[int] = nx.Graph()
        for node in range(self.n_nodes):
            pos = tuple(float(x) for x in self.pos[node])
            graph.add_node(node, pos=pos, anchor=bool(self.anchors[node]))
        for (i, j), kind, radius, tension in zip(
            self.edges.tolist(), self.thread, self.radius, self.tension, strict=True
        ):
            graph.add_edge(i, j, thread=THREADS[kind], radius=float(radius), tension=float(tension))
        return graph

    def to_pyg(self) -> Any:
        """``torch_geometric.data.Data``: every edge in both directions, classes as integers."""
        import torch
        from torch_geometric.data import Data

        both = np.concatenate([self.edges, self.edges[:, ::-1]]).T.copy()
        twice = {
            name: torch.from_numpy(np.tile(getattr(self, name), 2))
            for name in ("thread", "radius", "tension")
        }
        return Data(
            pos=torch.from_numpy(self.pos.copy()).float(),
            edge_index=torch.from_numpy(both),
            anchor=torch.from_numpy(self.anchors.copy()),
            **twice,
        )


def make_web(
    pos: Any,
    edges: Any,
    *,
    thread: Any = 0,
    radius: Any = 1.0,
    tension: Any = 0.0,
    anchors: Any = None,
) -> Web:
    """A web from anything array-like; positions may have two columns, values one for all edges.

    Edges are brought into order: the smaller node first, and of repeated edges the first stays.

    Raises:
        DataError: shapes do not fit, or a value is impossible.
    """
    try:
        points = np.array(pos, dtype=np.float64, ndmin=2)
        pairs = np.sort(np.array(edges, dtype=np.int64).reshape(-1, 2), axis=1)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected numbers for positions and pairs of nodes: {error}") from error
    if points.shape[1] == 2:
        points = np.column_stack([points, np.zeros(len(points))])
    first = np.sort(np.unique(pairs, axis=0, return_index=True)[1])
    held = np.zeros(len(points), dtype=bool)
    if anchors is not None:
        try:
            held[np.asarray(anchors)] = True
        except IndexError:
            raise DataError(f"anchors: expected nodes 0 to {len(points) - 1}") from None
    n = len(pairs)
    try:
        return Web(
            points,
            pairs[first],
            np.broadcast_to(np.asarray(thread, dtype=np.int64), n)[first].copy(),
            np.broadcast_to(np.asarray(radius, dtype=np.float64), n)[first].copy(),
            np.broadcast_to(np.asarray(tension, dtype=np.float64), n)[first].copy(),
            held,
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"expected one value for every edge: {error}") from error


def from_networkx(graph: Any) -> Web:
    """A web of a graph whose nodes have ``pos``; what else is missing takes its default.

    Raises:
        DataError: a node without a position, or values that no web can have.
    """
    place = {node: k for k, node in enumerate(graph.nodes)}
    missing = [node for node, data in graph.nodes(data=True) if "pos" not in data]
    if missing:
        raise DataError(f"node {missing[0]!r} has no attribute 'pos'")
    edges = [(place[i], place[j]) for i, j in graph.edges]
    values = [data for _, _, data in graph.edges(data=True)]
    return make_web(
        [data["pos"] for _, data in graph.nodes(data=True)],
        edges,
        thread=[thread_class(v.get("thread", 0)) for v in values],
        radius=[float(v.get("radius", 1.0)) for v in values],
        tension=[float(v.get("tension", 0.0)) for v in values],
        anchors=[place[n] for n, data in graph.nodes(data=True) if data.get("anchor")] or None,
    )


def from_pyg(data: Any) -> Web:
    """A web of a ``torch_geometric.data.Data`` with ``pos`` and ``edge_index``.

    Raises:
        DataError: one of them is missing, or values that no web can have.
    """
    if getattr(data, "pos", None) is None or getattr(data, "edge_index", None) is None:
        raise DataError("expected a graph with pos and edge_index")
    defaults = {"thread": 0, "radius": 1.0, "tension": 0.0}
    values = {n: data[n].cpu().numpy() if n in data else d for n, d in defaults.items()}
    anchors = data["anchor"].cpu().numpy().nonzero()[0] if "anchor" in data else None
    return make_web(
        data.pos.cpu().numpy(), data.edge_index.cpu().numpy().T, **values, anchors=anchors
    )


def thread_class(value: object) -> int:
    """The index of a class of threads, given by name or index.

    Raises:
        DataError: there is no such class.
    """
    text = str(value).strip()
    if text in THREADS:
        return THREADS.index(text)
    if text.isdigit() and int(text) < len(THREADS):
        return int(text)
    raise DataError(f"unknown thread class {text!r}; known: {', '.join(THREADS)}")


def check_arrays(web: Web) -> None:
    """Shapes, numbers and edges.

    Raises:
        DataError: the first thing that is wrong.
    """
    n, e = len(web.pos), len(web.edges)
    if web.pos.shape != (n, 3) or n < 2 or e < 1:
        raise DataError(f"a web needs 2 nodes in space and an edge, got {n} nodes and {e} edges")
    shapes = {"thread": e, "radius": e, "tension": e, "anchors": n}
    for name, size in shapes.items():
        if getattr(web, name).shape != (size,):
            raise DataError(f"{name}: expected {size} values, got {getattr(web, name).shape}")
    if not np.isfinite(web.pos).all():
        node = int(np.flatnonzero(~np.isfinite(web.pos).all(1))[0])
        raise DataError(f"node {node} has no finite position: {web.pos[node].tolist()}")
    _check_edges(web.edges, n)
    _check_values(web)


def _check_edges(edges: Ints, n: int) -> None:
    if edges.min() < 0 or edges.max() >= n:
        raise DataError(f"an edge leads to node {int(edges.max())}; there are nodes 0 to {n - 1}")
    if (edges[:, 0] == edges[:, 1]).any():
        node = int(edges[(edges[:, 0] == edges[:, 1]).argmax(), 0])
        raise DataError(f"an edge leads from node {node} to itself")
    if (edges[:, 0] > edges[:, 1]).any() or len(np.unique(edges, axis=0)) != len(edges):
        raise DataError("expected every edge once, with the smaller node first")


def _check_values(web: Web) -> None:
    if web.thread.min() < 0 or web.thread.max() >= len(THREADS):
        raise DataError(f"thread classes: expected 0 to {len(THREADS) - 1}")
    if not (np.isfinite(web.radius).all() and web.radius.min() > 0):
        raise DataError(f"radius: expected values above 0 um, got {web.radius.min()}")
    if not (np.isfinite(web.tension).all() and web.tension.min() >= 0):
        raise DataError(f"tension: expected 0 uN or more, got {web.tension.min()}")


def check_structure(web: Web) -> Web:
    """What mechanics needs: anchors, no isolated node, no zero-length edge, all of it held.

    Raises:
        DataError: the first of these that fails, with the number of cases.
    """
    alone = int((web.degrees == 0).sum())
    if alone:
        raise DataError(f"expected a web without isolated nodes, got {alone} of them")
    flat = int((web.lengths <= SHORTEST).sum())
    if flat:
        raise DataError(f"expected edges with a length, got {flat} of length zero")
    if not web.anchors.any():
        raise DataError("expected anchors: no node of the web is held")
    part = web.components()
    loose = len(set(part.tolist()) - set(part[web.anchors].tolist()))
    if loose:
        raise DataError(f"expected every part of the web to be held, got {loose} without an anchor")
    return web


def describe(web: Web) -> Mapping[str, float]:
    """Counts that fit into a line."""
    return {"nodes": web.n_nodes, "edges": web.n_edges, "anchors": int(web.anchors.sum())}
