"""Parts that hang from one node: found by taking nodes away, mended with as many threads."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from structgen.webs.deposition import deposit
from structgen.webs.equilibrium import NoEquilibrium, relax, residual
from structgen.webs.generator import web_of
from structgen.webs.holding import GROUND, grounded, loose_parts, without_loose_parts
from structgen.webs.task import Draft
from structgen.webs.web import make_web

SQUARE = np.array([[0.0, 0, 0], [9, 0, 0], [9, 9, 0], [0, 9, 0]])
INNER = np.array([[3.0, 3, 0], [6, 3, 0], [6, 6, 0], [5, 5, 0.5], [5.5, 5, 0.5], [5, 5.5, 0.5]])
POS = np.concatenate([SQUARE, INNER])
SOUND = [(0, 4), (1, 5), (2, 6), (4, 5), (5, 6), (3, 4), (4, 6)]
TRIANGLE = [(7, 8), (8, 9), (7, 9)]
HELD = np.arange(10) < 4


def by_taking_away(n: int, pairs: np.ndarray, held: np.ndarray) -> set[tuple[int, frozenset[int]]]:
    graph = grounded(n, pairs, held)
    found: set[tuple[int, frozenset[int]]] = set()
    for cut in range(n):
        rest = graph.copy()
        rest.remove_node(cut)
        for part in nx.connected_components(rest):
            if GROUND not in part:
                found.add((cut, frozenset(part)))
    return {one for one in found if not any(other[1] < one[1] for other in found)}


@pytest.mark.parametrize("seed", range(6))
def test_loose_parts_are_those_that_one_node_holds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tree = nx.random_labeled_tree(14, seed=seed)
    more = [tuple(sorted(p)) for p in rng.integers(0, 14, (5, 2)).tolist() if p[0] != p[1]]
    pairs = np.array(sorted({tuple(sorted(e)) for e in tree.edges} | set(more)))
    held = np.arange(14) < 2
    found = loose_parts(grounded(14, pairs, held))
    assert {(cut, frozenset(part)) for cut, part in found} == by_taking_away(14, pairs, held)


def test_a_part_that_hangs_from_one_node_collapses_and_is_mended() -> None:
    hanging = np.array([*SOUND, *TRIANGLE, (6, 7)])
    with pytest.raises(NoEquilibrium, match="edges collapse"):
        relax(make_web(POS, hanging, anchors=np.arange(4)), keep_shape=True)
    spare = np.array([(5, 8), (4, 9), (5, 9)])
    pairs = np.concatenate([hanging, spare])
    likely = np.r_[np.full(7, 0.9), np.full(4, 0.95), 0.3, 0.4, 0.01]
    likely[6] = 0.5  # the diagonal: no part needs it
    chosen = without_loose_parts(10, pairs, likely, np.arange(11), HELD)
    assert len(chosen) == 11 and 12 in chosen and 6 not in chosen
    assert not loose_parts(grounded(10, pairs[chosen], HELD))
    web = relax(make_web(POS, pairs[chosen], anchors=np.arange(4)), keep_shape=True)
    assert residual(web) < 1e-9

    # nothing to mend it with: left as it is
    same = without_loose_parts(10, hanging, likely[:11], np.arange(11), HELD)
    np.testing.assert_array_equal(same, np.arange(11))


def test_a_laid_web_is_left_as_it_is_and_a_draft_is_mended_only_at_a_given_number() -> None:
    web = deposit("orb", 0, nodes=60)
    likely = np.ones(web.n_edges)
    chosen = np.arange(web.n_edges)
    same = without_loose_parts(web.n_nodes, web.edges, likely, chosen, web.anchors)
    np.testing.assert_array_equal(same, chosen)

    pairs = np.array([*SOUND, *TRIANGLE, (6, 7), (5, 8), (4, 9)])
    chance = np.zeros((13, 6))
    chance[:, 1] = np.r_[np.full(6, 0.9), 0.6, np.full(4, 0.95), 0.3, 0.4]
    chance[:, 0] = 1 - chance[:, 1]
    draft = Draft(POS, pairs, chance, 11, HELD)
    assert loose_parts(grounded(10, web_of(draft).edges, HELD))
    asked = web_of(draft, 11)
    assert asked.n_edges == 11 and not loose_parts(grounded(10, asked.edges, asked.anchors))
