"""The paper's three ways to make webs, and ours: what is encoded is what is decoded."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from diffcore.checkpoint import save_weights
from diffcore.errors import ConfigError, ModelFileError
from diffcore.guidance import conditioned
from diffcore.objective import Objective, denoising_loss
from structgen.webs.batches import WebBatches
from structgen.webs.deposition import deposit
from structgen.webs.generator import WebGenerator, web_of
from structgen.webs.large import STAGES
from structgen.webs.layout import turn
from structgen.webs.measures import parameters
from structgen.webs.methods import METHODS, statistics, task_for, task_from_json
from structgen.webs.order import back_edges, order, permuted, symmetry
from structgen.webs.recipes import RECIPES, mapped
from structgen.webs.rows import AnalogTask, number_probabilities
from structgen.webs.strings import END, StringTask
from structgen.webs.task import Draft, Request, WebTask
from structgen.webs.web import Web
from structgen.webs.weights import shipped

WEBS = [deposit("orb", seed, nodes=24 + 3 * (seed % 4)) for seed in range(12)]
VALUES = [parameters(web) for web in WEBS]
SMALL = {
    "equivariant": {"layers": 1, "scalars": 16, "pairs": 8, "heads": 2, "radial": 4},
    "sparse": {"layers": 2, "scalars": 16, "pairs": 8, "heads": 2, "width": 16, "blocks": 1},
    **dict.fromkeys(
        ("analog", "adjacency", "autoregressive"), {"width": 16, "layers": 1, "heads": 2}
    ),
}


def task_of(method: str) -> WebTask:
    return task_for(method, statistics(WEBS, VALUES), {"network": SMALL[method]}).fitted(WEBS)


def threads(web: Web) -> set[tuple[int, int, int]]:
    return {(*sorted(p), k) for p, k in zip(web.edges.tolist(), web.thread.tolist(), strict=True)}


def test_the_order_is_breadth_first_and_keeps_the_web() -> None:
    web = WEBS[0]
    first, second = (order(web, np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(first) == list(range(web.n_nodes)) and not np.array_equal(first, second)
    ordered = web.take_nodes(first)
    back = back_edges(ordered, ordered.n_nodes)
    assert all(back[1:]) and not back[0], "every node but the first has a neighbour before it"
    assert sum(map(len, back)) == web.n_edges
    bandwidth = np.abs(np.diff(ordered.edges, axis=1)).max()
    assert bandwidth < 0.6 * np.abs(np.diff(web.edges, axis=1)).max()
    assert max(far for one in back_edges(ordered, 2) for far, _ in one) == 2


def test_parameters_follow_a_permutation_of_the_axes() -> None:
    rng = np.random.default_rng(0)
    web = mapped(WEBS[1], turn(rng) @ np.diag([1.0, 2.0, 3.0]))
    for _ in range(6):
        matrix = symmetry(rng)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3))
        found = permuted({**parameters(web), "strength": 2.0}, matrix)
        wanted = parameters(mapped(web, matrix))
        assert found.pop("strength") == 2.0
        assert found == pytest.approx(wanted, rel=1e-9)
    assert "mean_dx" not in permuted({"mean_dx": 1.0, "n_nodes": 3.0}, symmetry(rng))


def test_whole_numbers_have_the_product_of_their_bits() -> None:
    rng = np.random.default_rng(0)
    high = rng.uniform(size=(5, 3))
    p = number_probabilities(high)
    assert p.shape == (5, 8)
    np.testing.assert_allclose(p.sum(-1), 1)
    np.testing.assert_allclose(p[:, 5], high[:, 0] * (1 - high[:, 1]) * high[:, 2])


def ordered_like(task: WebTask, web: Web) -> Web:
    return web.take_nodes(order(web, np.random.default_rng(0)))


@pytest.mark.parametrize("method", ["analog", "autoregressive"])
def test_a_web_comes_back_from_its_encoding(method: str) -> None:
    task = task_of(method)
    for web, values in zip(WEBS[:4], VALUES, strict=False):
        state = task.encode([web], [values], np.random.default_rng(0))
        if isinstance(task, AnalogTask):
            draft = task.draft(state["pos"][0].double().numpy(), state["bits"][0].double().numpy())
        else:
            assert isinstance(task, StringTask)
            tokens = state["token"][0]
            legal = task.alphabet.allowed(state["token"], state["nodes"])
            assert bool(legal.gather(-1, state["token"].unsqueeze(-1)).all()), "a web is legal"
            unsure = torch.full((len(tokens), task.alphabet.classes), 1e-4)
            draft = task.draft(tokens, unsure, web.n_nodes)
        ordered = ordered_like(task, web)
        assert draft.threads == web.n_edges
        assert threads(web_of(draft)) == threads(ordered)
        np.testing.assert_array_equal(draft.held, ordered.anchors)
        centred = (ordered.pos - ordered.pos.mean(0)) / ordered.lengths.mean()
        coarse = 1e-5 if method == "analog" else task.data.scale * 3.6 / 96
        inside = np.abs(centred) < 3.4 * task.data.scale
        assert np.abs(draft.pos - centred)[inside].max() < coarse


def test_strings_allow_only_what_can_follow() -> None:
    task = task_of("autoregressive")
    assert isinstance(task, StringTask)
    a = task.alphabet
    thread = a.thread(1, 0)
    x, y, z = (a.places + k * a.bins for k in range(3))
    tokens = torch.tensor([[1, x, y, z, 2, thread, x + 5, y, z, END, a.mask]])
    legal = a.allowed(tokens, torch.tensor([2]))[0]
    groups = [set(a.group[row].tolist()) for row in legal]
    assert groups[:10] == [{1}, {3}, {4}, {5}, {1}, {2}, {3}, {4}, {5}, {0}]
    assert a.far[legal[5]].unique().tolist() == [1], "nothing before the first node"
    three = a.allowed(
        torch.tensor([[1, x, y, z, 2, thread, x, y, z, 1, thread, thread]]), torch.tensor([3])
    )
    assert a.far[three[0, 11]].unique().tolist() == [0, 2], "further back, or on to its place"


@pytest.mark.parametrize("method", METHODS)
def test_a_fresh_network_learns_and_draws(method: str) -> None:
    task = task_of(method)
    with torch.random.fork_rng():
        torch.random.set_rng_state(torch.Generator().manual_seed(0).get_state())
        network = task.build()
    batches = iter(WebBatches(WEBS, VALUES, task, 4, seed=3))
    state = next(batches)
    if task.ordered:
        assert bool(
            (state["nodes"] if "nodes" in state else state.mask.sum(1)).unique().numel() == 1
        )
    objective = Objective(
        weighting="uniform",
        self_condition=0.5,
        independent=0.0,
        align=False,
        condition_drop=0.2,
        stages=STAGES if method == "sparse" else (),
    )
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for k in range(30):
        rng = torch.Generator().manual_seed(k % 3)
        loss, _ = denoising_loss(
            task.denoiser(network, taught=True), task.taught(), state, objective, rng
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    network.eval().requires_grad_(False)
    told = task.data.condition([VALUES[0]])
    denoiser = conditioned(task.denoiser(network), condition=told)

    def drawn(*seeds: int) -> list[Draft]:
        rngs = [torch.Generator().manual_seed(k) for k in seeds]
        told, threads = [VALUES[0]] * len(seeds), [None] * len(seeds)
        return task.propose(denoiser, Request(20, rngs, 4, told, threads))

    both, alone = drawn(1, 2), drawn(2)
    np.testing.assert_allclose(both[1].pos, alone[0].pos, rtol=1e-4, atol=1e-4)
    for draft in both:
        web = web_of(draft, 30)
        assert (web.n_nodes, web.n_edges, web.connected) == (20, 30, True)
        np.testing.assert_allclose(draft.chance.sum(-1), 1, atol=1e-5)
        assert np.isfinite(web.pos).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_comes_back_from_its_card(method: str, tmp_path) -> None:
    task = task_of(method)
    assert task_from_json(json.loads(json.dumps(task.to_json()))) == task
    path = save_weights(
        tmp_path / "m.safetensors",
        task.build().state_dict(),
        {"kind": "webs", "task": task.to_json()},
    )
    generator = WebGenerator.from_pretrained(path)
    assert generator.task == task
    assert generator.largest == int(task.beyond * max(web.n_nodes for web in WEBS))
    with pytest.raises(ConfigError, match="n_nodes"):
        generator.check({"n_nodes": generator.largest + 1})


def test_what_is_no_task_is_one_line(tmp_path) -> None:
    task = task_of("analog")
    for change, said in (
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"network": {"depth": 3}}, "analog: .*depth"),
        ({"sizes": None}, "not a web task"),
        ({"colour": 1}, "colour"),
    ):
        value = {**task.to_json(), **change}
        with pytest.raises(ConfigError, match=said):
            task_from_json(value)
        card = {"kind": "webs", "task": value}
        path = save_weights(tmp_path / "m.safetensors", task.build().state_dict(), card)
        with pytest.raises(ModelFileError, match=said):
            WebGenerator.from_pretrained(path)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_model_says_its_method(name: str) -> None:
    generator = WebGenerator.from_pretrained(name)
    assert generator.task.method in METHODS
    assert RECIPES[generator.card["recipe"]["name"]].method == generator.task.method
