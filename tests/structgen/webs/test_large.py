"""Large webs: bands of threads, then places on them; lists, attention and symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffcore.state import State
from diffcore.transformer import Size, TokenNetwork
from structgen.webs.along import OrderAttention
from structgen.webs.bands import BandNetwork, ahead, band, before, there
from structgen.webs.deposition import deposit
from structgen.webs.generator import web_of
from structgen.webs.large import Drawn, SparseTask, joined_up, uneven
from structgen.webs.layout import along_axes, drawn_map, fitted, flat_layout, turn
from structgen.webs.measures import AXES, parameters
from structgen.webs.methods import statistics, task_for
from structgen.webs.neighbours import joined, nearest
from structgen.webs.order import order
from structgen.webs.task import CLASSES, Draft
from structgen.webs.web import Web

WEBS = [deposit("orb", seed, nodes=30 + 10 * seed) for seed in range(4)]
NETWORK = {"layers": 2, "scalars": 16, "pairs": 8, "heads": 2, "radial": 4, "width": 16}


def task_of_webs() -> SparseTask:
    data = statistics(WEBS, [parameters(web) for web in WEBS])
    task = task_for("sparse", data, {"network": {**NETWORK, "blocks": 1}}).fitted(WEBS)
    assert isinstance(task, SparseTask) and sum(task.slots) == pytest.approx(1, abs=1e-6)
    return task


def shaken(network: torch.nn.Module, size: float = 0.05) -> torch.nn.Module:
    """Nothing may hide behind weights that start at zero."""
    network = network.double().eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p += size * torch.randn(p.shape, generator=rng, dtype=p.dtype)
    return network


def threads(web: Web) -> set[tuple[int, int, int]]:
    return {(*sorted(p), k) for p, k in zip(web.edges.tolist(), web.thread.tolist(), strict=True)}


def some_bands(rows: int, n: int, reach: int) -> tuple[Tensor, Tensor]:
    """Classes of bands [rows, n, reach] and a mask; the last web is shorter by 5."""
    rng = torch.Generator().manual_seed(1)
    mask = torch.ones(rows, n, dtype=torch.bool)
    mask[-1, n - 5 :] = False
    some = torch.rand(rows, n, reach, generator=rng) < 0.3
    kind = torch.randint(1, CLASSES, (rows, n, reach), generator=rng)
    return kind * (some & there(mask, reach)), mask


def test_a_web_comes_back_from_its_band() -> None:
    task = task_of_webs()
    state = task.encode(WEBS, [{}] * len(WEBS), np.random.default_rng(0))
    sure = torch.nn.functional.one_hot(state["edge"], CLASSES).double()
    told = State({"edge": sure, "anchor": held_for_sure(state)}, state.mask)
    rng = np.random.default_rng(0)
    for k, web in enumerate(WEBS):
        web = web.take_nodes(order(web, rng))
        for wanted in (None, web.n_edges):
            drawn = joined_up(state, told, k, web.n_nodes, wanted)
            assert torch.equal(drawn.band, state["edge"][k])
            assert len(drawn.pairs) == web.n_edges
            np.testing.assert_array_equal(drawn.held, web.anchors)
            draft = Draft(web.pos, drawn.pairs, drawn.chance, web.n_edges, drawn.held)
            assert threads(web_of(draft, wanted)) == threads(web)
        places = state["sketch"][k] + task.off * state["pos"][k]
        assert (places**2).sum() == pytest.approx(3 * web.n_nodes, rel=1e-5)
        assert places.sum(0).abs().max() < 1e-3, "centred"
        assert (band(web, 3) > 0).sum() == (np.abs(np.diff(web.edges)) <= 3).sum()


def test_missing_threads_are_drawn_before_places() -> None:
    """Ten threads too few and one end that nobody holds: the likeliest others come in."""
    task = task_of_webs()
    web = WEBS[2]
    state = task.encode(WEBS, [{}] * len(WEBS), np.random.default_rng(0)).take(torch.tensor([2]))
    sure = torch.nn.functional.one_hot(state["edge"], CLASSES).double()
    rng = np.random.default_rng(1)
    i, d = state["edge"][0].nonzero().T
    gone = rng.choice(len(i), 10, replace=False)
    unsure = sure.clone()
    unsure[0, i[gone], d[gone]] = 0.6 * torch.eye(CLASSES, dtype=torch.float64)[0]
    unsure[0, i[gone], d[gone], 3] = 0.4
    told = State({"edge": unsure, "anchor": held_for_sure(state)}, state.mask)
    drawn = joined_up(state, told, 0, web.n_nodes, web.n_edges)
    assert len(drawn.pairs) == web.n_edges
    assert torch.equal(drawn.band > 0, state["edge"][0] > 0)
    ends = np.bincount(drawn.pairs.ravel(), minlength=web.n_nodes) == 1
    assert not (ends & ~drawn.held).any()


def held_for_sure(state: State) -> Tensor:
    return torch.nn.functional.one_hot(state["anchor"], 2).double()


def test_three_nodes_at_least_hold_a_web() -> None:
    task = task_of_webs()
    state = task.encode(WEBS, [{}] * len(WEBS), np.random.default_rng(0))
    sure = torch.nn.functional.one_hot(state["edge"], CLASSES).double()
    told = State({"edge": sure, "anchor": held_for_sure(state)}, state.mask)
    forgotten = state.replace(anchor=torch.zeros_like(state["anchor"]))
    for k, web in enumerate(WEBS):
        drawn = joined_up(forgotten, told, k, web.n_nodes, int((state["edge"][k] > 0).sum()))
        assert drawn.held.sum() == 3 and (state["anchor"][k, : web.n_nodes][drawn.held] == 1).all()
        assert not joined_up(forgotten, told, k, web.n_nodes, None).held.any(), "as it is drawn"


def test_a_sketch_is_flat_and_has_no_crossings() -> None:
    for web in WEBS:
        pos = flat_layout(web.n_nodes, web.edges, web.thread, web.anchors)
        assert pos is not None
        assert np.abs(pos[:, 2]).max() == 0 and np.abs(pos.mean(0)).max() < 1e-12
        assert (pos**2).mean() == pytest.approx(1)
        ends = pos[web.edges][..., :2]
        assert crossings(ends) <= 0.03 * web.n_edges, "nearly planar"
        shuffled = np.random.default_rng(0).permutation(web.n_nodes)
        other = web.take_nodes(shuffled)
        again = flat_layout(web.n_nodes, other.edges, other.thread, other.anchors)
        assert again is not None
        far = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (again, pos[shuffled])]
        np.testing.assert_allclose(far[0], far[1], atol=1e-6)
    assert flat_layout(3, np.array([[0, 1], [1, 2]]), np.zeros(2, int), np.zeros(3, bool)) is None


def crossings(ends: np.ndarray) -> int:
    """Pairs of segments [E, 2, 2] that cross, by the signs of areas."""

    def side(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        u, v = b - a, c - a
        return np.sign(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0])

    a, b = ends[:, None, 0], ends[:, None, 1]
    c, d = ends[None, :, 0], ends[None, :, 1]
    shared = (np.abs(a - c).sum(-1) * np.abs(a - d).sum(-1)) == 0
    shared |= (np.abs(b - c).sum(-1) * np.abs(b - d).sum(-1)) == 0
    met = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return int((met & ~shared).sum()) // 2


def drawn_as(web: Web) -> Drawn:
    """A web as if it had been drawn for sure."""
    chance = np.eye(CLASSES)[web.thread + 1]
    nothing = torch.zeros(0)
    return Drawn(nothing, nothing, web.edges, chance, web.anchors)


def test_a_sketch_goes_along_axes_as_much_as_asked_for() -> None:
    """Of a web laid in space it needs to know no more than its threads and three numbers."""
    task = task_of_webs()
    for k, web in enumerate(WEBS):
        turned = web.but(pos=web.pos @ turn(np.random.default_rng(k)).T)
        told = parameters(turned)
        wanted = np.array([told[name] for name in AXES]) / told["mean_edge_length"]
        np.testing.assert_allclose(along_axes(turned.pos, web.edges), wanted, rtol=1e-9)
        found = task.sketched(drawn_as(web), told, np.random.default_rng(0))
        assert np.abs(along_axes(found, web.edges) - wanted).max() < 0.08
        blind = [
            task.sketched(drawn_as(web), {}, np.random.default_rng(seed)) for seed in range(20)
        ]
        off = [np.abs(along_axes(one, web.edges) - wanted).max() for one in blind]
        assert np.median(off) > 0.15, "told nothing it has any direction"
    assert not task.sketched(
        Drawn(
            torch.zeros(0),
            torch.zeros(0),
            np.array([[0, 1], [1, 2]]),
            np.eye(CLASSES)[[1, 1]],
            np.zeros(3, bool),
        ),
        {},
        np.random.default_rng(0),
    ).any(), "a line has no layout"


def test_halves_that_hang_together_by_a_thread_are_less_even() -> None:
    """Two nets of 5 by 5 nodes, held at their outer corners, joined by five threads or by one."""
    nothing = torch.zeros(0)
    grid = np.arange(50).reshape(5, 10)
    pairs = [*zip(grid[:, :-1].ravel(), grid[:, 1:].ravel(), strict=True)]
    pairs += [*zip(grid[:-1].ravel(), grid[1:].ravel(), strict=True)]
    held = np.isin(np.arange(50), grid[[0, 0, 4, 4], [0, 9, 0, 9]])

    def joined_by(rows: list[int]) -> Drawn:
        gone = {(grid[r, 4], grid[r, 5]) for r in range(5) if r not in rows}
        kept = np.array([pair for pair in pairs if pair not in gone])
        return Drawn(nothing, nothing, kept, np.eye(CLASSES)[np.full(len(kept), 2)], held)

    assert uneven(joined_by([2])) > 1.3 * uneven(joined_by([0, 1, 2, 3, 4]))
    line = Drawn(nothing, nothing, np.array([[0, 1]]), np.eye(CLASSES)[[1]], np.zeros(2, bool))
    assert uneven(line) == np.inf, "two ends hold no layout"


def test_maps_of_layouts_are_found_again() -> None:
    rng = np.random.default_rng(0)
    layout = rng.normal(size=(30, 3)) * [1, 1, 0]
    for _ in range(5):
        one = drawn_map(rng, np.array([[1.2, 0.6]]))
        np.testing.assert_allclose(np.linalg.svd(one, compute_uv=False), [1.2, 0.6])
        np.testing.assert_allclose(fitted(layout, layout[:, :2] @ one.T), one, atol=1e-12)
    directions = np.array([drawn_map(rng, np.ones((1, 2)))[:, 0] for _ in range(4000)])
    assert np.abs(directions.mean(0)).max() < 0.05
    np.testing.assert_allclose(directions.T @ directions / 4000, np.eye(3) / 3, atol=0.03)


def test_bands_are_read_from_both_ends() -> None:
    x = torch.arange(2.0 * 7 * 3).reshape(2, 7, 3, 1) + 1
    for i in range(7):
        for d in range(3):
            after, earlier = ahead(x)[:, i, d], before(x)[:, i, d]
            assert torch.equal(after, x[:, i + d + 1, d] if i + d + 1 < 7 else 0 * after)
            assert torch.equal(earlier, x[:, i - d - 1, d] if i > d else 0 * earlier)


def test_pairs_are_scored_by_both_nodes() -> None:
    network = BandNetwork(Size(16, 1, 2), 4, 2, 9)
    rng = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1, 6, CLASSES * network.KEY, generator=rng)
    scores = network._scores(one, other)
    a, b = (x.reshape(6, CLASSES, network.KEY) for x in (one, other))
    for i in range(6):
        for d in range(4):
            wanted = (a[i] * b[i - d - 1]).sum(-1) / network.KEY**0.5 if i > d else 0 * a[0, :, 0]
            torch.testing.assert_close(scores[0, i, d], wanted)


def test_padding_and_company_change_no_band() -> None:
    with torch.random.fork_rng():
        network = shaken(BandNetwork(Size(16, 2, 2), 4, 2, 9))
    edge, mask = some_bands(3, 20, 4)
    node = torch.nn.functional.one_hot((edge[..., 0] > 0).long(), 2).double()
    time, told = torch.tensor([0.2, 0.5, 0.8]), torch.full((3, 9), torch.nan)
    told[:, 0] = 0.3
    held, logits = network(node, edge, time, mask, told.double())
    alone = network(node[2:, :15], edge[2:, :15], time[2:], mask[2:, :15], told[2:].double())
    torch.testing.assert_close(held[2:, :15], alone[0])
    torch.testing.assert_close(logits[2:, :15], alone[1])
    nowhere = logits[~there(mask, 4)].softmax(-1)
    assert nowhere[:, 0].min() > 1 - 1e-9, "no thread where there are no two nodes"
    other = edge.clone()
    other[0, 10, 1] = (other[0, 10, 1] + 1) % CLASSES
    assert not torch.allclose(
        network(node, other, time, mask, told.double())[1][0, 3], logits[0, 3]
    )


def test_rotary_phases_know_how_far_tokens_are_apart() -> None:
    with torch.random.fork_rng():
        network = shaken(TokenNetwork(Size(16, 2, 2), 5, None, 3), 0.2)
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(1, 6, 5, generator=rng, dtype=torch.float64)
    told, time = torch.full((1, 3), torch.nan, dtype=torch.float64), torch.tensor([0.4]).double()
    here = network(features, told, time)
    mask = torch.arange(9).unsqueeze(0) >= 3
    later = network(torch.nn.functional.pad(features, (0, 0, 3, 0)), told, time, None, mask)
    torch.testing.assert_close(later[:, 3:], here)
    swapped = network(features[:, [1, 0, 2, 3, 4, 5]], told, time)
    assert not torch.allclose(swapped[:, 5], here[:, 5]), "the order counts"


def test_lists_hold_the_threads_of_a_node() -> None:
    edge, mask = some_bands(2, 18, 4)
    edge[0, 4:9, 0] = 1  # a node with many threads is told some of them
    near, kind = joined(edge).lists(5)
    for b in range(2):
        for i in range(18):
            all_of = {(i - d - 1, int(edge[b, i, d])) for d in range(4) if edge[b, i, d]}
            all_of |= {
                (i + d + 1, int(edge[b, i + d + 1, d]))
                for d in range(4)
                if i + d + 1 < 18 and edge[b, i + d + 1, d]
            }
            listed = list(zip(near[b, i].tolist(), kind[b, i].tolist(), strict=True))
            real = [one for one in listed if one[0] != i]
            assert len(real) == min(5, len(all_of)) and set(real) <= all_of
            assert all(k == 0 for j, k in listed if j == i)
    assert joined(edge[:, :1]).lists(2)[0].unique().tolist() == [0], "a web without threads"


def test_walks_average_over_their_ends() -> None:
    edge, _ = some_bands(2, 18, 4)
    rng = torch.Generator().manual_seed(2)
    p = torch.randn(2, 18, 3, generator=rng, dtype=torch.float64)
    found = joined(edge).walked(p, (1, 3))
    for b in range(2):
        walk = torch.zeros(18, 18, dtype=torch.float64)
        for i, d in (edge[b] > 0).nonzero().tolist():
            walk[i, i - d - 1] = walk[i - d - 1, i] = 1
        count = walk.sum(1, keepdim=True)
        lazy = 0.5 * (torch.eye(18) + walk / count.clamp_min(1))
        torch.testing.assert_close(found[0][b], lazy @ p[b])
        torch.testing.assert_close(found[1][b], lazy @ lazy @ lazy @ p[b])


def test_the_nearest_are_the_nearest() -> None:
    rng = torch.Generator().manual_seed(0)
    pos = torch.randn(2, 30, 3, generator=rng)
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[1, 25:] = False
    near = nearest(pos, mask, 6)
    far = torch.cdist(pos[0], pos[0])
    for i in range(30):
        assert set(near[0, i].tolist()) == set(far[i].argsort()[1:7].tolist())
    assert (near[1, :25] < 25).all() and (near[1, 25:] == torch.arange(25, 30)[:, None]).all()


def test_attention_along_the_order_is_what_it_says() -> None:
    """Beside a loop over nodes with explicit distances; padding is heard by nobody."""
    with torch.random.fork_rng():
        torch.random.set_rng_state(torch.Generator().manual_seed(0).get_state())
        layer = OrderAttention(12, 2).double().requires_grad_(False)
        for p in layer.parameters():
            p.data += 0.1 * torch.randn_like(p)
    rng = torch.Generator().manual_seed(1)
    s = torch.randn(1, 9, 12, generator=rng, dtype=torch.float64)
    p = torch.randn(1, 9, 3, generator=rng, dtype=torch.float64)
    rank = torch.randperm(9, generator=rng).unsqueeze(0)
    mask = torch.arange(9).unsqueeze(0) < 7
    told, move = layer(s, p, rank, mask)

    h = layer.norm(s)[0]
    q, k, v = layer.into(h).view(9, 3, 2, 16).unbind(1)
    near = torch.nn.functional.softplus(layer.nearness(h))
    steps = layer.steps(h)
    for i in range(7):
        step, heard, far, inner = torch.zeros(3, dtype=torch.float64), [], [], []
        for head in range(2):
            logits = []
            for j in range(7):
                phase = (rank[0, i] - rank[0, j]) * layer.frequencies
                a, b = q[i, head].chunk(2)
                c, d = k[j, head].chunk(2)
                # (a + ib) conj(c + id) turned by the phase between both
                product = (a * c + b * d) * phase.cos() + (a * d - b * c) * phase.sin()
                apart = (p[0, i] - p[0, j]).square().sum()
                logits.append(product.sum() / 4 - near[i, head] * apart)
            weights = torch.stack(logits).softmax(0)
            heard.append(weights @ v[:7, head])
            away = weights @ p[0, :7] - p[0, i]
            far.append(away.square().sum().log1p())
            inner.append(away @ p[0, i])
            step = step + steps[i, head] * away
        said = torch.cat([*heard, torch.stack(far), torch.stack(inner)])
        torch.testing.assert_close(told[0, i], layer.heard(said))
        torch.testing.assert_close(move[0, i], step)


def test_places_commute_with_what_webs_are_blind_to() -> None:
    task = task_of_webs()
    with torch.random.fork_rng():
        network = shaken(task.build().places)
    state = task.encode(WEBS[:2], [{}] * 2, np.random.default_rng(0))
    pos, first = state["pos"].double(), state["sketch"].double()
    node = torch.nn.functional.one_hot(state["anchor"], 2).double()
    nothing = torch.full((2, 9), torch.nan, dtype=torch.float64)
    told = nothing.clone()
    told[:, 3] = 0.4
    q = torch.from_numpy(turn(np.random.default_rng(2)))
    same = torch.eye(3, dtype=torch.float64)
    flip = torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))

    def run(matrix: Tensor, condition: Tensor, t: float) -> Tensor:
        times = {"pos": torch.full((2,), t), "anchor": torch.zeros(2), "edge": torch.zeros(2)}
        moved = pos @ matrix.T, first @ matrix.T
        out: Tensor = network(*moved, node, state["edge"], times, state.mask, condition)
        return out

    for t in (0.1, 0.6, 1.0):
        plain = run(same, nothing, t)
        for matrix in (q, flip):
            torch.testing.assert_close(run(matrix, nothing, t), plain @ matrix.T)
        seen = run(same, told, t) @ q.T, run(q, told, t)
        assert not torch.allclose(*seen), "an axis was asked for"
    short = state.take(torch.tensor([0]))
    size = WEBS[0].n_nodes
    times = {n: torch.tensor([0.6 if n == "pos" else 0.0]) for n in ("pos", "anchor", "edge")}
    alone = network(
        pos[:1, :size],
        first[:1, :size],
        node[:1, :size],
        short["edge"][:, :size],
        times,
        short.mask[:, :size],
        nothing[:1],
    )
    torch.testing.assert_close(run(same, nothing, 0.6)[:1, :size], alone)


def test_rows_are_predicted_by_the_network_of_their_stage() -> None:
    task = task_of_webs()
    with torch.random.fork_rng():
        network = shaken(task.build()).float()
    denoiser = task.denoiser(network)
    state = task.encode(WEBS[:2], [{}] * 2, np.random.default_rng(0))
    times = {"pos": torch.tensor([1.0, 0.3]), "edge": torch.tensor([0.5, 0.0])}
    times["anchor"] = times["edge"]
    made = denoiser(state, times, {})
    torch.testing.assert_close(made["pos"][0], state["pos"][0])
    assert not torch.allclose(made["pos"][1], state["pos"][1])
    assert torch.equal(made["edge"][1].argmax(-1), state["edge"][1])
    assert made["edge"][1].amax(-1).min() > 0.999 > made["edge"][0].amax(-1).min()
    for k in (0, 1):
        row = torch.tensor([k])
        one = denoiser(state.take(row), {n: t[row] for n, t in times.items()}, {})
        for name in made:
            torch.testing.assert_close(made[name][k], one[name][0])
