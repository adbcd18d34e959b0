"""Large structures of many blocks: placed along a path, stitched at seams, balanced as a whole.

A block keeps its force densities, so that only its seams have to move. Its anchors stay supports
unless they are stitched to the next block; threads that end nowhere are taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffcore.errors import ConfigError, DataError
from structgen.webs.equilibrium import balanced
from structgen.webs.paths import Places
from structgen.webs.web import Floats, Ints, Web, check_structure


@dataclass(frozen=True)
class Assembly:
    """A structure of blocks.

    Attributes:
        web: in tension equilibrium.
        block: block that every node came from [N].
        stitched: nodes that were merged at seams.
        pruned: nodes that were taken away because their threads ended nowhere.
    """

    web: Web
    block: Ints
    stitched: int
    pruned: int


def assemble(
    blocks: Sequence[Web], places: Places, *, overlap: float = 0.25, stitches: int = 4
) -> Assembly:
    """Put blocks at places, one each (repeated if there are fewer blocks), and balance the whole.

    Args:
        blocks: webs with tensions; any size, as each is scaled to its place.
        places: of `paths.along_curve` or `paths.over_surface`.
        overlap: share of a block's length by which it reaches into its neighbours.
        stitches: pairs of nearest nodes that are merged at every seam.

    Raises:
        ConfigError: an option outside its range, or no blocks.
        NoEquilibrium: the assembly has no tension equilibrium.
        DataError: a block cannot be placed.
    """
    if not 0 <= overlap < 0.9:
        raise ConfigError(f"overlap: expected 0 up to 0.9, got {overlap}")
    if stitches < 1:
        raise ConfigError(f"stitches: expected at least 1, got {stitches}")
    if not blocks:
        raise ConfigError("expected at least one block")
    chosen = [blocks[k % len(blocks)] for k in range(len(places.centres))]
    placed = [
        placed_at(web, places.centres[k], places.frames[k], places.reach[k] / (1 - overlap))
        for k, web in enumerate(chosen)
    ]
    density = np.concatenate([w.tension / w.lengths for w in placed])
    start = np.append(0, np.cumsum([w.n_nodes for w in placed]))
    owner = np.repeat(np.arange(len(placed)), np.diff(start))
    pairs = [
        (start[a] + i, start[b] + j)
        for a, b in places.seams.tolist()
        for i, j in nearest_pairs(placed[a].pos, placed[b].pos, stitches)
    ]
    merged = Merge.of(placed, start, pairs)
    web, kept_edges, kept = merged.web()
    web, keep, edges = pruned(web)
    final = balanced(web, density[kept_edges][edges])
    return Assembly(final, owner[kept][keep], len(pairs), len(kept) - len(keep))


def placed_at(web: Web, centre: Floats, frame: Floats, room: Floats) -> Web:
    """A block turned so that its longest axes lie along a frame's columns, scaled to its room.

    Args:
        web: the block.
        centre: [3], mm.
        frame: columns are directions [3, 3].
        room: extent along each column [3], mm; NaN: the scale of the first.

    Raises:
        DataError: the block cannot be pulled taut (`check_structure`), or has no extent.
    """
    check_structure(web)
    if not web.tension.min() > 0:
        raise DataError("expected blocks in tension: relax them first")
    centred = web.pos - web.pos.mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    own = centred @ axes.T
    size = np.ptp(own, axis=0)
    scale = room[0] / size[0]
    scales = np.where(
        np.isnan(room) | (size < 1e-9 * size[0]), scale, room / np.maximum(size, 1e-300)
    )
    own = (own - 0.5 * (own.max(0) + own.min(0))) * scales
    density = web.tension / web.lengths
    moved = web.but(pos=centre + own @ frame.T)
    # a block keeps its mean tension at its new size
    density = density * (web.tension.mean() / (density * moved.lengths).mean())
    return moved.but(tension=density * moved.lengths)


def nearest_pairs(one: Floats, other: Floats, number: int) -> list[tuple[int, int]]:
    """The nearest pairs of nodes of two blocks, every node in one pair at most."""
    from scipy.spatial import cKDTree

    near = min(8, len(other))
    far, index = cKDTree(other).query(one, k=near)
    far, index = far.reshape(len(one), near), index.reshape(len(one), near)
    order = np.argsort(far, axis=None, kind="stable")
    used: tuple[set[int], set[int]] = (set(), set())
    found: list[tuple[int, int]] = []
    for flat in order.tolist():
        i, j = flat // near, int(index[flat // near, flat % near])
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            found.append((i, j))
            if len(found) == number:
                break
    return found


@dataclass(frozen=True)
class Merge:
    """Blocks in one numbering, with nodes that become one.

    Attributes:
        blocks: the placed webs.
        start: first node of every block, and the number of all [M + 1].
        label: the group of every node, numbered from 0 [N].
        stitched: whether a node was merged [N].
    """

    blocks: Sequence[Web]
    start: Ints
    label: Ints
    stitched: Ints

    @classmethod
    def of(cls, blocks: Sequence[Web], start: Ints, pairs: Sequence[tuple[int, int]]) -> Merge:
        """Groups of the nodes that pairs join."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        n = int(start[-1])
        i, j = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        graph = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
        label = connected_components(graph, directed=False)[1].astype(np.int64)
        count = np.bincount(label)
        return cls(blocks, start, label, (count[label] > 1).astype(np.int64))

    def web(self) -> tuple[Web, Ints, Ints]:
        """The merged web, which edges of all blocks it kept, and a first node of every group."""
        pos = np.concatenate([w.pos for w in self.blocks])
        held = np.concatenate([w.anchors for w in self.blocks]) & (self.stitched == 0)
        edges = np.concatenate(
            [w.edges + s for w, s in zip(self.blocks, self.start[:-1], strict=True)]
        )
        count = np.bincount(self.label)
        middle = np.column_stack([np.bincount(self.label, pos[:, k]) / count for k in range(3)])
        first = np.unique(self.label, return_index=True)[1]
        pairs = np.sort(self.label[edges], axis=1)
        real = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
        kept = real[np.sort(np.unique(pairs[real], axis=0, return_index=True)[1])]
        values = {
            name: np.concatenate([getattr(w, name) for w in self.blocks])[kept]
            for name in ("thread", "radius", "tension")
        }
        anchors = np.bincount(self.label, held) > 0
        web = Web(middle, pairs[kept], anchors=anchors, **values)
        return web, kept, first


def pruned(web: Web) -> tuple[Web, Ints, Ints]:
    """The web without free ends and without parts that nothing holds; kept nodes and edges.

    Raises:
        DataError: nothing is left.
    """
    alive = np.ones(web.n_nodes, dtype=bool)
    part = web.components()
    alive &= np.isin(part, part[web.anchors])
    while True:
        inside = alive[web.edges].all(1)
        degree = np.bincount(web.edges[inside].ravel(), minlength=web.n_nodes)
        loose = alive & ((degree == 0) | ((degree == 1) & ~web.anchors))
        if not loose.any():
            break
        alive &= ~loose
    if not alive.any():
        raise DataError("nothing of the assembly is held")
    edges = np.flatnonzero(alive[web.edges].all(1))
    return web.take_nodes(np.flatnonzero(alive)), np.flatnonzero(alive), edges
