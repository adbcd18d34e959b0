"""The web value, its files, equilibria and generators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from diffcore.errors import ConfigError, DataError, OutputError
from structgen.webs import deposit, from_networkx, from_pyg, make_web, read_web, relax, write_web
from structgen.webs.deposition import FRAME, _rim
from structgen.webs.equilibrium import NoEquilibrium, aimed, nearest_density, residual, solve
from structgen.webs.io import read_webs, write_webs
from structgen.webs.measures import by_shape, novelty
from structgen.webs.pictures import facing
from structgen.webs.recipes import recipe, webs_of
from structgen.webs.silk import SILKS, axial_stiffness, silk_set
from structgen.webs.strands import Strands
from structgen.webs.subgraphs import pieces
from structgen.webs.web import Web, check_structure

CROSS = make_web(
    [[-1, 0], [1, 0], [0, -1], [0, 1], [0.3, 0.4]],
    [[4, 0], [1, 4], [2, 4], [3, 4]],
    anchors=[0, 1, 2, 3],
)


def same(one: Web, other: Web) -> bool:
    order = [np.lexsort(w.edges.T[::-1]) for w in (one, other)]
    names = ("edges", "thread", "radius", "tension")
    return np.allclose(one.pos, other.pos, atol=1e-8) and all(
        np.allclose(getattr(one, n)[order[0]], getattr(other, n)[order[1]], atol=1e-8)
        for n in names
    )


@pytest.mark.parametrize("ending", ["graphml", "nodes.csv", "jsonl"])
def test_files_give_back_what_was_written(tmp_path: Path, ending: str) -> None:
    web = deposit("orb", 3, nodes=40)
    path = write_web(web, tmp_path / f"web.{ending}")
    found = read_web(path)
    assert same(web, found)
    assert (found.anchors == web.anchors).all()
    with pytest.raises(OutputError, match="exists already"):
        write_web(web, path)


def test_graphs_give_back_what_they_were_made_of() -> None:
    web = deposit("tangle", 1, nodes=40)
    assert same(web, from_networkx(web.to_networkx()))
    back = from_pyg(web.to_pyg())  # float32 positions
    assert np.allclose(back.pos, web.pos, atol=1e-4) and (back.edges == web.edges).all()
    data = web.to_pyg()
    assert data.num_edges == 2 * web.n_edges and data.is_undirected()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pos": [[0, 0], [np.nan, 1]]}, "node 1 has no finite position"),
        ({"edges": [[0, 5]]}, "leads to node 5"),
        ({"edges": [[1, 1]]}, "from node 1 to itself"),
        ({"edges": []}, "2 nodes in space and an edge"),
        ({"radius": -1.0}, "radius: expected values above 0"),
        ({"tension": np.inf}, "tension: expected 0 uN or more"),
        ({"thread": 9}, "thread classes"),
        ({"anchors": [7]}, "anchors: expected nodes 0 to 1"),
        ({"radius": [1.0, 2.0]}, "one value for every edge"),
    ],
)
def test_bad_arrays_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        make_web(**{"pos": [[0, 0], [1, 1]], "edges": [[0, 1]], **change})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("web", "words"),
    [
        (make_web([[0, 0], [1, 0], [2, 0]], [[0, 1]], anchors=[0]), "isolated"),
        (make_web([[0, 0], [0, 0], [1, 0]], [[0, 1], [1, 2]], anchors=[2]), "length zero"),
        (make_web([[0, 0], [1, 0]], [[0, 1]]), "no node of the web is held"),
        (
            make_web([[0, 0], [1, 0], [5, 0], [6, 0]], [[0, 1], [2, 3]], anchors=[0]),
            "1 without an anchor",
        ),
    ],
)
def test_bad_structures_are_named(web: Web, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_structure(web)


def test_bad_files_are_named_in_one_line(tmp_path: Path) -> None:
    cases = {
        "a.graphml": "<graphml><broken",
        "b.jsonl": '{"pos": [[0, 0]]}',
        "c.nodes.csv": "x,y\n0,0\n",
        "d.mat": "no matlab file",
        "e.jsonl": "",
        "f.txt": "",
    }
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises((DataError, ConfigError)) as error:
            read_web(tmp_path / name)
        assert name.split(".")[0] in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="holds one web, got 2"):
        write_webs([CROSS, CROSS], tmp_path / "two.graphml")
    assert len(read_webs(write_webs([CROSS, CROSS], tmp_path / "two.jsonl"))) == 2


def test_a_cross_of_equal_force_densities_meets_in_the_mean_of_its_anchors() -> None:
    uneven = CROSS.but(pos=CROSS.pos + [[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 2, 0], [0, 0, 0]])
    pos = solve(uneven, np.ones(4))
    np.testing.assert_allclose(pos[4], uneven.pos[:4].mean(0), atol=1e-12)
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    expected = (weights[:, None] * uneven.pos[:4]).sum(0) / weights.sum()
    np.testing.assert_allclose(solve(uneven, weights)[4], expected, atol=1e-12)


def test_an_affine_map_of_an_equilibrium_is_an_equilibrium() -> None:
    web = deposit("tangle", 2, nodes=60)
    density = web.tension / web.lengths
    scaled = web.but(pos=web.pos * [0.3, 2.0, 1.1])
    assert residual(scaled.but(tension=density * scaled.lengths)) < 1e-9


def test_webs_without_equilibrium_are_told_apart() -> None:
    dangling = make_web([[0, 0], [1, 0], [2, 0], [1, 1]], [[0, 1], [1, 2], [1, 3]], anchors=[0, 2])
    with pytest.raises(NoEquilibrium, match="1 threads have a free end") as error:
        relax(dangling)
    assert error.value.reason == "dangling"
    triangle = make_web(
        [[0, 0], [1, 0], [2, 0], [1, 1], [1.5, 1]],
        [[0, 1], [1, 2], [1, 3], [3, 4], [1, 4]],
        anchors=[0, 2],
    )
    with pytest.raises(NoEquilibrium, match="3 edges collapse") as error:
        relax(triangle)
    assert error.value.reason == "collapsed"


def test_keeping_the_shape_moves_an_equilibrium_little_and_noise_more_than_the_aim_does() -> None:
    web = deposit("orb", 0, nodes=60)
    size = web.lengths.mean()
    kept = relax(web, keep_shape=True)
    assert np.abs(kept.pos - web.pos).max() < 1e-3 * size
    blank = web.but(tension=np.ones(web.n_edges))
    moved = [np.abs(relax(blank, keep_shape=k).pos - web.pos).mean() for k in (True, False)]
    assert moved[0] < 0.3 * moved[1]
    assert residual(relax(blank, keep_shape=True)) < 1e-9
    # a web whose nodes were pushed aside comes back nearer than it was pushed
    rng = np.random.default_rng(0)
    push = 0.1 * size * rng.normal(size=web.pos.shape) * ~web.anchors[:, None]
    pushed = web.but(pos=web.pos + push)
    ratios = []
    for stretching in (0.0, 0.1):
        density = nearest_density(pushed, aimed(web), stretching=stretching)
        lengths = pushed.but(pos=solve(pushed, density)).lengths
        ratios.append(np.log(lengths / pushed.lengths).std())
    assert ratios[1] < 0.9 * ratios[0], "lengths are kept"
    for keep, share in ((True, 1.0), (False, 2.0)):
        back = relax(pushed.but(tension=web.tension), keep_shape=keep)
        assert np.linalg.norm(back.pos - pushed.pos) < share * np.linalg.norm(push)


def test_no_thread_of_a_large_web_collapses_because_the_search_ends_early() -> None:
    web = deposit("orb", 3, nodes=600)
    held, lost = np.flatnonzero(web.anchors)[:3], np.flatnonzero(web.anchors)[3:]
    web = web.take_nodes(np.setdiff1d(np.arange(web.n_nodes), lost))
    moved = np.random.default_rng(0).normal(0, 0.5 * web.lengths.mean(), web.pos.shape)
    hung = make_web(web.pos + moved, web.edges, anchors=held)  # badly held, nodes out of place
    lengths = relax(hung, keep_shape=True).lengths
    assert lengths.min() > 0.02 * lengths.mean()


@pytest.mark.parametrize("family", ["orb", "tangle", "hybrid"])
def test_generated_webs_are_one_balanced_piece_and_follow_the_seed(family: str) -> None:
    web = deposit(family, 4, nodes=120)
    assert same(web, deposit(family, 4, nodes=120))
    assert not np.array_equal(web.pos, deposit(family, 5, nodes=120).pos)
    assert web.connected and residual(web) < 1e-9 and web.tension.min() > 0
    assert abs(web.n_nodes - 120) < 40
    assert np.isfinite(web.pos).all()


def test_the_default_orb_is_like_the_traced_one() -> None:
    # the traced orb: 633 nodes, 1241 edges, 78 % of degree 4, length variation 0.62
    webs = [deposit("orb", seed) for seed in range(3)]
    four = np.mean([(w.degrees == 4).mean() for w in webs])
    spread = np.mean([w.lengths.std() / w.lengths.mean() for w in webs])
    assert 0.73 < four < 0.83 and 0.5 < spread < 0.8
    assert all(580 < w.n_nodes < 680 and 1100 < w.n_edges < 1300 for w in webs)


@pytest.mark.shared
def test_the_traced_webs_are_read(repository: Path) -> None:
    folder = repository.parent / "shared/data/webs"
    if not folder.is_dir():
        pytest.skip("no folder with the traced webs beside the checkout")
    orb, caster = read_web(folder / "orb.mat"), read_web(folder / "deinopis.mat")
    assert (orb.n_nodes, orb.n_edges, caster.n_nodes, caster.n_edges) == (633, 1241, 35, 53)
    assert orb.connected and 0.77 < (orb.degrees == 4).mean() < 0.79


@pytest.mark.parametrize("name", ["tangle", "hybrid"])
def test_recipes_cut_as_many_pieces_as_asked_for(name: str) -> None:
    small = replace(recipe(name), large=(2, 300))
    webs = webs_of(small, 5, 7)
    assert len(webs) == 5
    for web, again in zip(webs, webs_of(small, 5, 7), strict=True):
        assert 19 <= web.n_nodes <= 44 and web.connected
        assert residual(web) < 1e-6, "turned and stretched it is balanced still"
        np.testing.assert_array_equal(web.pos, again.pos)
    apart = [np.ptp(web.pos, 0) for web in webs]
    assert len({tuple(np.round(a, 6)) for a in apart}) == 5, "no piece twice"


def test_pieces_are_connected_and_stay_balanced() -> None:
    web = deposit("tangle", 0, nodes=400)
    parts = pieces(web, 20, (16, 40), seed=1)
    assert all(p.connected and 16 <= p.n_nodes <= 40 for p in parts)
    assert max(residual(p) for p in parts) < 1e-9
    assert len({p.n_nodes for p in parts}) > 5
    cut = [p.anchors.sum() for p in parts]
    assert min(cut) >= 1
    with pytest.raises(ConfigError, match="piece of 2 to"):
        pieces(web, 1, (1000, 1000))


@pytest.mark.parametrize("options", [{"nodes": 3}, {"size": -1.0}, {"seed": -1}])
def test_impossible_requests_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        deposit("orb", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="known: orb, tangle, hybrid"):
        deposit("cube")


def test_silks_have_their_published_numbers() -> None:
    assert SILKS["dragline"].toughness == pytest.approx(160, rel=0.15)  # Gosline 1999: 160 MJ/m^3
    assert SILKS["caerostris"].toughness == pytest.approx(354, rel=0.4)  # Agnarsson 2010
    web = CROSS.but(radius=np.full(4, 2.0))
    # 10 GPa on pi 2^2 um^2
    assert axial_stiffness(web, silk_set("dragline"))[0] == pytest.approx(
        10e9 * 12.566e-12 * 1e6, rel=1e-4
    )
    with pytest.raises(ConfigError, match="unknown silk"):
        silk_set("nylon")


def test_networkx_attributes() -> None:
    graph = CROSS.to_networkx()
    assert isinstance(graph, nx.Graph) and graph.nodes[0]["anchor"]
    assert set(graph.edges[0, 4]) == {"thread", "radius", "tension"}
    with pytest.raises(DataError, match="'pos'"):
        from_networkx(nx.path_graph(3))


def test_a_web_in_a_plane_is_pictured_from_its_face() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(40, 3)) * [10, 10, 0.1]
    for _ in range(20):
        turned = flat @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        elevation, azimuth = np.radians(facing(turned))
        c = np.cos(elevation)
        eye = np.array([c * np.cos(azimuth), c * np.sin(azimuth), np.sin(elevation)])
        normal = np.linalg.svd(turned - turned.mean(axis=0))[2][2]
        assert abs(eye @ normal) > np.cos(np.radians(30))
    assert facing(rng.normal(size=(400, 3))) == (30.0, -60.0)


def test_a_radius_through_a_corner_of_the_frame_meets_it() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        web = Strands()
        angles = np.sort(rng.uniform(0, 1, 5)) + 2 * np.pi * np.arange(5) / 5
        at = [np.array([np.cos(a), np.sin(a), 0.0]) * rng.uniform(0.7, 1.3) for a in angles]
        corners = [web.node(p) for p in at]
        frame = [web.edge(corners[k], corners[(k + 1) % 5], FRAME) for k in range(5)]
        _rim(web, frame, angles, float(angles[rng.integers(5)]))
        assert len(frame) == 6


def test_a_web_is_old_whatever_its_order_and_place() -> None:
    webs = [deposit("orb", seed, nodes=30) for seed in range(3)]
    known = by_shape(webs)
    rng = np.random.default_rng(0)
    again = webs[1].take_nodes(rng.permutation(webs[1].n_nodes))
    moved = again.but(pos=2 * again.pos + 5)
    other = webs[1].take_edges(np.arange(1, webs[1].n_edges))
    assert novelty(webs, known) == 0
    assert novelty([moved, other], known) == 0.5
    assert novelty(webs[:1], by_shape(webs[1:])) == 1
