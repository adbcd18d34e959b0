"""A web while it is being laid: nodes and threads that can be split."""

from __future__ import annotations

import numpy as np

from structgen.webs.web import Floats, Web, make_web


class Strands:
    """Nodes and edges that grow; `web` gives the finished value."""

    def __init__(self) -> None:
        self.pos: list[Floats] = []
        self.held: list[bool] = []
        self._edges: list[tuple[int, int]] = []
        self._kinds: list[int] = []
        self._pairs: set[tuple[int, int]] = set()
        self._cells: dict[tuple[int, int, int], list[int]] = {}
        self._cell = 0.0
        self._listed = 0

    @classmethod
    def of(cls, web: Web) -> Strands:
        """A web to add to."""
        made = cls()
        for point, held in zip(web.pos, web.anchors, strict=True):
            made.node(point, anchor=bool(held))
        for (i, j), kind in zip(web.edges.tolist(), web.thread.tolist(), strict=True):
            made.edge(i, j, kind)
        return made

    @property
    def n_nodes(self) -> int:
        """Number of nodes so far."""
        return len(self.pos)

    def node(self, point: Floats, *, anchor: bool = False) -> int:
        """Add a node at a point [3], mm."""
        self.pos.append(np.asarray(point, dtype=np.float64))
        self.held.append(anchor)
        return len(self.pos) - 1

    def edge(self, i: int, j: int, kind: int) -> int:
        """Add a thread of a class."""
        self._edges.append((i, j))
        self._kinds.append(kind)
        self._pairs.add((min(i, j), max(i, j)))
        return len(self._edges) - 1

    def ends(self, edge: int) -> tuple[int, int]:
        """Nodes of an edge."""
        return self._edges[edge]

    def joined(self, i: int, j: int) -> bool:
        """Whether there is an edge between two nodes."""
        return (min(i, j), max(i, j)) in self._pairs

    def distance(self, i: int, j: int) -> float:
        """Distance of two nodes, mm."""
        return float(np.linalg.norm(self.pos[i] - self.pos[j]))

    def split(self, edge: int, share: float) -> tuple[int, int]:
        """Put a node on an edge; returns the node and the new edge behind it."""
        i, j = self._edges[edge]
        node = self.node(self.pos[i] + share * (self.pos[j] - self.pos[i]))
        self._pairs.discard((min(i, j), max(i, j)))
        self._pairs.add((min(i, node), max(i, node)))
        self._edges[edge] = (i, node)
        return node, self.edge(node, j, self._kinds[edge])

    def random_edge(self, rng: np.random.Generator) -> int:
        """The longest of two edges at random: long threads are met more often."""
        picks = [int(k) for k in rng.integers(len(self._edges), size=2)]
        return max(picks, key=lambda k: self.distance(*self._edges[k]))

    def attach(self, rng: np.random.Generator, edge: int, stick: float) -> int:
        """A node on an edge: an end that is free, with the chance `stick`, or a new one."""
        free = [k for k in self._edges[edge] if not self.held[k]]
        if free and rng.uniform() < stick:
            return free[int(rng.integers(len(free)))]
        return self.split(edge, float(rng.uniform(0.25, 0.75)))[0]

    def edge_near(
        self, rng: np.random.Generator, edge: int, nearest: float, farthest: float
    ) -> int | None:
        """Another edge whose middle is so far from that of an edge, mm; at random, None for none.

        Edges are found through a grid of cells of the size of the first `farthest` asked for.
        """
        self._cell = self._cell or farthest
        while self._listed < len(self._edges):
            self._cells.setdefault(self._key(self._listed), []).append(self._listed)
            self._listed += 1
        x, y, z = self._key(edge)
        around = [
            k
            for i in (x - 1, x, x + 1)
            for j in (y - 1, y, y + 1)
            for m in (z - 1, z, z + 1)
            for k in self._cells.get((i, j, m), ())
        ]
        middle, own = self.middle(edge), set(self._edges[edge])
        picks: list[int] = rng.permutation(len(around))[:24].tolist()
        for k in (around[pick] for pick in picks):
            far = float(np.linalg.norm(self.middle(k) - middle))
            if nearest <= far <= farthest and not own & set(self._edges[k]):
                return k
        return None

    def middle(self, edge: int) -> Floats:
        """Middle of an edge [3], mm."""
        i, j = self._edges[edge]
        return 0.5 * (self.pos[i] + self.pos[j])

    def _key(self, edge: int) -> tuple[int, int, int]:
        x, y, z = np.floor(self.middle(edge) / self._cell).astype(int).tolist()
        return x, y, z

    def web(self, *, drop_isolated: bool = False) -> Web:
        """The value, without prestress."""
        anchors = np.flatnonzero(self.held)
        made = make_web(np.array(self.pos), self._edges, thread=self._kinds, anchors=anchors)
        return made.take_nodes(np.flatnonzero(made.degrees > 0)) if drop_isolated else made
