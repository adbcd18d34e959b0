"""Searches against closed forms: tilted distributions, unbiased normalisers, exact counts."""

import math

import pytest
import torch
from hypothesis import given, strategies

from diffcore import random
from diffcore.chain import Chain, Particles, take_context
from diffcore.denoisers import PREVIOUS, Counted, Oracle
from diffcore.domains import Grid, Nodes
from diffcore.errors import ConfigError
from diffcore.processes import Categorical, Gaussian, uniform_kernel
from diffcore.resampling import POTENTIALS, feynman_kac, systematic
from diffcore.samplers import Memory, solver
from diffcore.schedules import Cosine, FlowTime, power_grid, uniform_grid
from diffcore.search import best_of_n, run
from diffcore.searches import SEARCHES, search
from diffcore.state import State, expand
from diffcore.tree import Widening, tree_sampling, tree_search

SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
REWARDS = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)
TILTED = SHARES * REWARDS.exp() / (SHARES * REWARDS.exp()).sum()
NORMALISER = float((SHARES * REWARDS.exp()).sum())


def token_chain(steps: int = 6) -> Chain:
    """One token of four classes: its reverse steps are exact however few there are.

    The last time is so small that the most likely class is all but certain.
    """
    processes = {"tok": Categorical(FlowTime(), Nodes(), uniform_kernel(4))}
    mask = torch.ones(4, 1, dtype=torch.bool)
    data = State({"tok": torch.arange(4).unsqueeze(1)}, mask)
    oracle = Oracle(processes, data, SHARES.log())
    grid = torch.cat([torch.linspace(1, 1e-3, steps), torch.zeros(1)])
    return Chain(oracle, processes, grid, solver("ancestral"), State({}, mask[:1]))


def token_reward(state: State) -> torch.Tensor:
    return REWARDS[state["tok"][:, 0]]


def normal_chain(method: str = "ancestral", dim: int = 8, steps: int = 10, **options) -> Chain:
    """Standard normal data with their exact denoiser, counted under ``network``."""
    processes = {"x": Gaussian(Cosine(), Grid((dim,)))}

    def denoiser(state: State, times, context) -> State:
        alpha = expand(Cosine().alpha(times["x"]), state["x"])
        return State({"x": alpha * state["x"]}, state.mask)  # alpha^2 + sigma^2 = 1

    templates = State({}, torch.ones(1, 1, dtype=torch.bool))
    return Chain(denoiser, processes, power_grid(steps), solver(method), templates, **options)


def total(state: State) -> torch.Tensor:
    return state["x"].sum(1)


def shares(found, weighted: bool = True) -> torch.Tensor:
    p = (
        found.log_weights.exp()
        if weighted
        else torch.full_like(found.rewards, 1 / len(found.rewards))
    )
    return torch.zeros(4, dtype=torch.float64).index_add(0, found.states["tok"][:, 0], p)


# ------------------------------------------------------------------------------- what is sampled


def test_best_of_n_draws_from_the_unsteered_distribution() -> None:
    found = run(best_of_n(token_chain(), token_reward, random.generator(0), budget=6 * 2000))
    assert len(found.rewards) == 2000
    assert (shares(found) - SHARES).abs().max() < 4 * math.sqrt(0.25 / 2000)
    assert found.log_normaliser is None


@pytest.mark.parametrize("potential", POTENTIALS)
def test_feynman_kac_is_unbiased_and_samples_the_tilted_distribution(potential) -> None:
    """The mean of the normalisers of independent rounds is E[exp r], and weights are right."""
    estimates, pooled = [], torch.zeros(4, dtype=torch.float64)
    tilt = 0.15 if potential == "sum" else 0.5  # rewards of the whole way add up
    tilted = SHARES * (tilt * REWARDS).exp()
    rows = 40
    for seed in range(40):
        found = run(
            feynman_kac(
                token_chain(), token_reward, random.generator(seed), budget=6 * rows, tilt=tilt,
                potential=potential, threshold=0.9,
            )
        )  # fmt: skip
        estimates.append(math.exp(found.log_normaliser))
        pooled += estimates[-1] * shares(found)
    values = torch.tensor(estimates, dtype=torch.float64)
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean() - tilted.sum())) < 4 * error < 0.4 * float(tilted.sum())
    assert (pooled / values.sum() - tilted / tilted.sum()).abs().max() < 0.05


def test_rounds_of_feynman_kac_are_pooled_by_their_normalisers() -> None:
    rng = random.generator(0)
    found = run(
        feynman_kac(token_chain(), token_reward, rng, budget=6 * 1600, particles=40, tilt=1.0)
    )
    assert len(found.rewards) == 1600 and len(found.history) == 40
    assert (shares(found) - TILTED).abs().max() < 0.06
    assert found.log_normaliser == pytest.approx(math.log(NORMALISER), abs=0.1)
    unweighted = shares(found, weighted=False)  # resampling has moved the particles already
    assert (unweighted - TILTED).abs().sum() < 0.7 * (SHARES - TILTED).abs().sum()


def test_without_tilt_nothing_is_steered() -> None:
    rng = random.generator(1)
    found = run(feynman_kac(token_chain(), token_reward, rng, budget=6 * 1500, tilt=0.0))
    assert (shares(found) - SHARES).abs().max() < 4 * math.sqrt(0.25 / 1500)
    assert found.log_normaliser == pytest.approx(0, abs=1e-9)


def test_tree_sampling_approaches_the_tilted_distribution() -> None:
    few, many = (
        torch.stack(
            [
                shares(
                    run(
                        tree_sampling(
                            token_chain(4), token_reward, random.generator(seed), budget=budget,
                            widening=Widening(2.0, 0.7), batch=16, tilt=1.0,
                        )
                    )
                )
                for seed in range(3)
            ]
        )
        for budget in (64, 2000)
    )  # fmt: skip
    near = (many - TILTED).abs().mean()
    assert near < 0.05 and near < 0.7 * (few - TILTED).abs().mean()


def test_a_tree_of_one_level_is_importance_sampling() -> None:
    chain = normal_chain(steps=1, dim=2)
    found = run(tree_sampling(chain, total, random.generator(0), budget=50, tilt=0.5, batch=4,
                              widening=Widening(1, 1)))  # fmt: skip
    assert len(found.rewards) == 50
    assert found.log_normaliser == pytest.approx(
        float((0.5 * found.rewards).logsumexp(0)) - math.log(50)
    )
    torch.testing.assert_close(found.log_weights, (0.5 * found.rewards).log_softmax(0))


def test_soft_values_are_log_means_over_children() -> None:
    """The normaliser is the root's value, recomputed from all leaves' own rewards."""
    tree = tree_sampling(normal_chain(steps=3), total, random.generator(3), budget=120, tilt=0.7)
    found = run(tree)
    root = tree.ledger.measure.__self__.root

    def value(node) -> float:
        if not node.children:
            return node.value
        exps = [math.exp(0.7 * value(child)) for child in node.children]
        return math.log(sum(exps) / len(exps)) / 0.7

    assert value(root) == pytest.approx(root.value)
    assert found.log_normaliser == pytest.approx(0.7 * root.value)
    todo = [root]
    while todo:
        node = todo.pop()
        assert len(node.children) <= node.visits and not node.awaited
        assert all(
            child.level == node.level + 1 and child.parent is node for child in node.children
        )
        todo += node.children


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("feynman_kac", {"tilt": 2.0}),
        ("feynman_kac", {}),
        ("tree_search", {"tilt": 2.0, "batch": 2}),
        ("evolution", {"batch": 8, "window": (0.2, 0.5), "elite": 4}),
    ],
)
def test_searches_beat_best_of_n_at_equal_evaluations(name: str, options) -> None:
    """Sum of eight standard normal numbers: its standard deviation is the unit here."""
    found = {}
    for one, extra in (("best_of_n", {}), (name, options)):
        best = [
            run(
                search(one)(normal_chain(), total, random.generator(seed), budget=400, **extra)
            ).best
            for seed in range(6)
        ]
        found[one] = sum(best) / len(best) / math.sqrt(8)
    assert 1.7 < found["best_of_n"] < 2.6  # the largest of 40 normal numbers is 2.16 on average
    assert found[name] > found["best_of_n"] + 0.2


@pytest.mark.parametrize("name", ["feynman_kac", "tree_sampling", "tree_search"])
def test_by_default_the_unit_of_the_reward_does_not_matter(name: str) -> None:
    """Neither does its zero, where some predictions have no reward."""

    def found(scale: float, shift: float):
        def reward(state: State) -> torch.Tensor:
            x = state["x"].double()
            value = torch.where(x[:, 0] > 1.0, torch.nan, x.sum(1))
            return scale * value + shift

        return run(SEARCHES[name](normal_chain(), reward, random.generator(4), budget=400))

    plain, other = found(1.0, 0.0), found(1000.0, -5000.0)
    assert plain.dropped == other.dropped > 0
    assert torch.equal(plain.states["x"], other.states["x"])
    torch.testing.assert_close(plain.log_weights, other.log_weights, rtol=1e-6, atol=1e-6)


def test_a_tree_branches_in_its_window_and_at_the_prior_only() -> None:
    wide = Widening(1.0, 0.6)
    tree = tree_search(
        normal_chain(), total, random.generator(0), budget=300, window=(0.4, 0.6), widening=wide,
        batch=1,
    )  # fmt: skip
    run(tree)
    root = tree.ledger.measure.__self__.root  # type: ignore[union-attr]
    todo, many = [root], set()
    while todo:
        node = todo.pop()
        todo += node.children
        if len(node.children) > 1:
            many.add(node.level)
    assert {-1} < many <= {-1, 4, 5, 6}  # of ten steps 6, 5 and 4 are left


def test_feynman_kac_looks_at_predictions_in_its_window_only() -> None:
    looks = []

    def reward(state: State) -> torch.Tensor:
        looks.append(state.rows)
        return total(state)

    options = {"budget": 100, "particles": 10, "window": (0.4, 0.6), "tilt": 1.0}
    run(feynman_kac(normal_chain(), reward, random.generator(0), **options))
    assert looks == [10] * 4  # three levels and the end


def test_children_are_like_their_parents_the_more_the_later_they_part() -> None:
    """Noised to level k and drawn again, the correlation of normal data is alpha^2 there."""
    chain = normal_chain(dim=400)
    alphas = Cosine().alpha(chain.grids["x"].double())
    rngs = random.row_generators(0, range(8))
    x = random.normal(rngs, torch.zeros(8, 400))
    parents = Particles(State({"x": x}, torch.ones(8, 1, dtype=torch.bool)), None, {}, chain.steps)
    for level in (2, 5, 8):
        at = chain.back(parents, level, rngs)
        assert at.level == level and at.memory is None
        likeness = float((at.state["x"] * x).mean())
        assert abs(likeness - float(alphas[level])) < 0.06
        assert abs(float(at.state["x"].var()) - 1) < 0.08  # still a sample of q_t


# ------------------------------------------------------------------------------ counts and budget


@pytest.mark.parametrize("method", ["ancestral", "renoise"])
@pytest.mark.parametrize("name", SEARCHES)
def test_every_evaluation_and_every_reward_is_counted(name: str, method: str) -> None:
    chain = token_chain()
    seen, network = [], Counted(chain.denoiser)
    chain = Chain(
        network, chain.processes, chain.grid, solver(method), chain.templates, network=network
    )
    network.evaluations = 1000  # counted before: not ours

    def reward(state: State) -> torch.Tensor:
        seen.append(state.rows)
        return token_reward(state)

    found = run(SEARCHES[name](chain, reward, random.generator(0), budget=131))
    assert found.evaluations == network.evaluations - 1000
    assert 131 - 6 < found.evaluations <= 131
    assert found.calls == network.calls
    assert found.scored == sum(seen)
    assert found.history[-1] == (found.evaluations, found.best)
    falling = [b for _, b in found.history]
    assert falling == sorted(falling)
    assert torch.equal(found.rewards, found.rewards.sort(descending=True).values)
    assert float(found.log_weights.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["best_of_n", "tree_search", "feynman_kac"])
def test_correctors_and_guidance_cost_what_they_cost(name: str) -> None:
    """Heun's second evaluation and a wrapper that calls twice stay within the budget."""
    chain = token_chain()
    network = Counted(chain.denoiser)

    def twice(state: State, times, context) -> State:
        network(state, times, context)
        return network(state, times, context)

    method = solver("heun")
    chain = Chain(
        twice, chain.processes, chain.grid, method, chain.templates, network=network, price=2
    )
    assert chain.cost(0) == 2 * 11
    found = run(SEARCHES[name](chain, token_reward, random.generator(0), budget=200))
    assert 200 - 22 < found.evaluations <= 200
    assert found.evaluations == network.evaluations


def test_the_best_of_n_do_not_depend_on_the_batch() -> None:
    one, other = (
        run(best_of_n(normal_chain(), total, random.generator(5), budget=200, batch=batch))
        for batch in (3, 64)
    )
    assert torch.equal(one.states["x"], other.states["x"])
    assert one.calls > other.calls


@pytest.mark.parametrize("name", SEARCHES)
def test_the_same_seed_gives_the_same_search(name: str) -> None:
    def go(seed: int):
        return run(SEARCHES[name](normal_chain(), total, random.generator(seed), budget=150))

    one, same, other = go(3), go(3), go(4)
    assert torch.equal(one.states["x"], same.states["x"]) and one.history == same.history
    assert not torch.equal(one.states["x"], other.states["x"])


# -------------------------------------------------------------------------- what travels together


def marked_chain(rows: int = 5) -> tuple[Chain, list[bool]]:
    """Every template has a mark in its condition and in the context; predictions repeat it."""
    marks = torch.arange(rows, dtype=torch.float32)
    processes = {"x": Gaussian(Cosine(), Grid((2,))), "y": Gaussian(Cosine(), Grid((1,)))}
    checks = []

    def denoiser(state: State, times, context) -> State:
        mark = state["mark"]
        assert torch.equal(mark, context["mark"])
        assert torch.equal(mark, context["inner"]["mark"])
        assert context["shared"] == "all rows"
        assert torch.equal(state["y"][:, 0], -mark) and (times["y"] == 0).all()
        previous = context[PREVIOUS]
        if previous is not None:
            checks.append(torch.equal(previous["x"][:, 0], mark))
        return State({"x": mark.unsqueeze(1).expand(-1, 2), "y": state["y"]}, state.mask)

    mask = torch.ones(rows, 1, dtype=torch.bool)
    templates = State({"mark": marks, "y": -marks.unsqueeze(1)}, mask)
    context = {
        "mark": marks,
        "inner": State({"mark": marks}, mask),
        "scale": torch.tensor(2.0),
        "shared": "all rows",
    }
    chain = Chain(
        denoiser, processes, uniform_grid(8), solver("ancestral"), templates, ("y",), context
    )
    return chain, checks


@pytest.mark.parametrize("name", SEARCHES)
def test_memory_conditions_and_context_travel_with_the_particles(name: str) -> None:
    chain, checks = marked_chain()

    def reward(state: State) -> torch.Tensor:
        assert torch.allclose(state["x"][:, 0], state["mark"])
        return 3 * state["mark"]

    found = run(SEARCHES[name](chain, reward, random.generator(0), budget=400))
    assert all(checks) and len(checks) >= 7
    assert torch.allclose(found.rewards.float(), 3 * found.states["mark"])
    assert found.best >= 9
    if name == "feynman_kac":
        assert (found.states["mark"] == 4).float().mean() > 0.9


def test_a_multistep_memory_is_copied_with_its_particle() -> None:
    state = State({"x": torch.arange(3.0)}, torch.ones(3, 1, dtype=torch.bool))
    memory = Memory(state, {"x": torch.arange(3.0)})
    at = Particles(state, memory, {"cond": torch.arange(3), "n": 7}, 2)
    taken = at.take(torch.tensor([2, 2, 0, 1]))
    assert taken.level == 2 and taken.context["n"] == 7
    for one in (taken.state["x"], taken.memory.clean["x"], taken.memory.times["x"]):
        assert one.tolist() == [2, 2, 0, 1]
    assert taken.context["cond"].tolist() == [2, 2, 0, 1]


def test_a_context_that_fits_no_row_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"context 'c': expected one entry for each of 3 rows"):
        take_context({"c": torch.zeros(2)}, torch.tensor([0]), 3)


# --------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("fault", ["nan", "raise"])
@pytest.mark.parametrize("name", SEARCHES)
def test_samples_without_a_reward_are_dropped_and_counted(name: str, fault: str) -> None:
    bad = 1

    def reward(state: State) -> torch.Tensor:
        tok = state["tok"][:, 0]
        if fault == "raise" and (tok == bad).any():
            raise ZeroDivisionError("no such\nmolecule")
        return torch.where(tok == bad, torch.nan, token_reward(state))

    tilt = {"tilt": 1.0} if name == "feynman_kac" else {}
    found = run(SEARCHES[name](token_chain(), reward, random.generator(2), budget=1200, **tilt))
    assert found.dropped > 0
    assert not (found.states["tok"] == bad).any()
    assert found.rewards.isfinite().all() and found.complete
    assert found.error == ("ZeroDivisionError: no such molecule" if fault == "raise" else None)
    if name in ("best_of_n", "feynman_kac"):
        assert len(found.rewards) + found.dropped == 200
    if name == "feynman_kac":  # what is left of the tilted distribution
        left = TILTED * (torch.arange(4) != bad)
        assert (shares(found) - left / left.sum()).abs().max() < 0.12
        expected = math.log(NORMALISER * float(left.sum()))
        assert found.log_normaliser == pytest.approx(expected, abs=0.3)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_reward_that_never_works_leaves_nothing_but_counts(name: str) -> None:
    def reward(state: State) -> torch.Tensor:
        raise ValueError("broken")

    found = run(SEARCHES[name](token_chain(), reward, random.generator(0), budget=60))
    assert len(found.rewards) == found.states.rows == len(found.states["tok"]) == 0
    assert found.dropped >= 10 and found.evaluations <= 60 and not found.complete
    assert found.best == -math.inf and found.error == "ValueError: broken"


@pytest.mark.parametrize("name", SEARCHES)
def test_a_reward_of_the_wrong_shape_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="reward: expected one number for each of") as caught:
        run(
            SEARCHES[name](token_chain(), lambda s: torch.zeros(()), random.generator(0), budget=60)
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_can_be_left_and_continued(name: str) -> None:
    options = {"particles": 4} if name == "feynman_kac" else {"batch": 4}
    asked = []
    going = SEARCHES[name](normal_chain(), total, random.generator(0), budget=400, **options)
    early = run(going, stop=lambda: asked.append(0) or len(asked) >= 9)
    assert 0 < early.evaluations < 400 and len(early.rewards) > 0
    late = run(going)
    whole = run(SEARCHES[name](normal_chain(), total, random.generator(0), budget=400, **options))
    assert late.best >= early.best
    assert late.history == whole.history and torch.equal(late.states["x"], whole.states["x"])


def test_a_first_round_that_is_left_shows_its_predictions() -> None:
    going = feynman_kac(normal_chain(), total, random.generator(0), budget=400)
    early = run(going, stop=lambda: True)
    assert not early.complete and len(early.rewards) == 40 and early.history == ()
    assert run(going).complete


@pytest.mark.parametrize("name", ["feynman_kac", "tree_sampling", "tree_search"])
def test_branches_need_randomness(name: str) -> None:
    with pytest.raises(ConfigError, match="needs a sampler with randomness"):
        SEARCHES[name](normal_chain("ddim"), total, random.generator(0), budget=100)
    assert token_chain().branches
    run(best_of_n(normal_chain("ddim"), total, random.generator(0), budget=100))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("best_of_n", {"budget": 9}, "budget: expected at least 10 network evaluations"),
        ("best_of_n", {"budget": math.nan}, "budget: expected at least 10"),
        ("best_of_n", {"batch": 0}, "batch: expected at least 1, got 0"),
        ("feynman_kac", {"potential": "mean"}, "unknown potential 'mean'; known: difference, max"),
        ("feynman_kac", {"threshold": 1.5}, "a threshold from 0 to 1"),
        ("feynman_kac", {"tilt": math.inf}, "a finite tilt"),
        ("feynman_kac", {"particles": 0}, "particles: expected at least 1"),
        ("feynman_kac", {"every": 0}, "every: expected at least 1"),
        ("tree_sampling", {"tilt": 0.0}, "a finite tilt above 0"),
        ("tree_search", {"batch": 0}, "a batch of at least 1"),
        ("tree_search", {"exploration": -1.0}, "exploration: expected 0 or more"),
        ("tree_search", {"window": (0.7, 0.5)}, "window: expected shares of the steps"),
        ("feynman_kac", {"window": (0.5, 1.5)}, "window: expected shares of the steps"),
        ("evolution", {"window": (0.0, 0.0)}, "window: expected shares of the steps"),
        ("evolution", {"first": 1.5}, "first: expected a share from 0 to 1, got 1.5"),
        ("evolution", {"elite": 0}, "elite: expected at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sampled(name: str, options, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SEARCHES[name](normal_chain(), total, random.generator(0), **{"budget": 100, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("factor", "exponent"), [(0, 0.5), (1, 0), (1, 1.5), (math.nan, 0.5)])
def test_bad_widenings_are_refused(factor: float, exponent: float) -> None:
    with pytest.raises(ConfigError, match="widening: expected a factor above 0"):
        Widening(factor, exponent)


def test_bad_chains_and_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown search 'beam'; known: best_of_n, feynman_kac"):
        search("beam")
    with pytest.raises(ConfigError, match="price: expected a number above 0"):
        normal_chain(price=0)
    chain = token_chain()
    with pytest.raises(ConfigError, match="falls from 1 or less to 0"):
        Chain(chain.denoiser, chain.processes, torch.ones(3), chain.method, chain.templates)


@given(
    strategies.lists(strategies.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 0),
    strategies.floats(0, 1, exclude_max=True),
)
def test_systematic_resampling_copies_in_proportion(weights: list[float], u: float) -> None:
    share = torch.tensor(weights, dtype=torch.float64)
    share = share / share.sum()
    index = systematic(share, u)
    copies = torch.bincount(index, minlength=len(share))
    assert copies.sum() == len(share)
    assert ((copies - len(share) * share).abs() < 1 + 1e-9).all()
