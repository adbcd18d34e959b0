"""The contract: every wrapper, sampler, edit and search on every toy task.

To cover a new one, add a row to one of the tables. A builder that does not apply to a task (no
classes to enumerate) returns None.
"""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from diffcore import random
from diffcore.chain import Chain
from diffcore.composition import conjunction, disjunction, negation
from diffcore.denoisers import PREVIOUS, Counted, Denoiser, with_temperature, without_previous
from diffcore.domains import Pairs, Points
from diffcore.editing import Jumps, Known, inpaint
from diffcore.experts import experts
from diffcore.guidance import classifier_free, conditioned, energy_guided
from diffcore.inversion import ddim_invert, dpm_decode, dpm_encode
from diffcore.likelihood import bound, classify
from diffcore.noising import vary
from diffcore.processes import Categorical, Gaussian
from diffcore.refinement import enumerated, refined
from diffcore.samplers import SOLVERS, prior, sample, solver
from diffcore.schedules import uniform_grid
from diffcore.search import run
from diffcore.searches import SEARCHES
from diffcore.state import State
from tests.diffcore.toys import TOYS, Toy

pytest.importorskip("sklearn", reason="the pixels are scikit-learn's digits")

STEPS = 4


def energy(state: State, times) -> Tensor:
    """Differentiable in every field: small squares, and the share of the first class."""
    total = torch.zeros(state.rows, dtype=torch.float64, device=state.mask.device)
    for name, x in state.items():
        if name != "cond" and x.is_floating_point():
            total = (
                total + 0.1 * x.double().square().flatten(1).sum(1) + x.double().flatten(1).sum(1)
            )
    return total


def unconditional(denoiser: Denoiser) -> Denoiser:
    return conditioned(denoiser, cond=torch.tensor([[math.nan]]))


def classes(toy: Toy) -> list[str]:
    return [n for n, p in toy.processes.items() if isinstance(p, Categorical)]


def numbers(toy: Toy) -> list[str]:
    return [n for n, p in toy.processes.items() if isinstance(p, Gaussian)]


Wrap = Callable[[Toy, Denoiser], Denoiser | None]

WRAPPERS: Mapping[str, Wrap] = {
    "itself": lambda toy, d: d,
    "counted": lambda toy, d: Counted(d),
    "temperature": lambda toy, d: with_temperature(d, dict.fromkeys(classes(toy), 0.5)),
    "without previous": lambda toy, d: without_previous(d),
    "conditioned": lambda toy, d: conditioned(d, cond=torch.tensor([[2.0]])),
    "classifier-free": lambda toy, d: classifier_free(d, unconditional(d), toy.processes, 3.0),
    "classifier-free, interval": lambda toy, d: classifier_free(
        d, unconditional(d), toy.processes, 3.0, (0.2, 0.6)
    ),
    "energy at x0": lambda toy, d: energy_guided(d, toy.processes, energy),
    "energy through the network": lambda toy, d: energy_guided(
        d, toy.processes, energy, on="denoiser", limit=1.0
    ),
    "energy at xt": lambda toy, d: (
        energy_guided(d, toy.processes, energy, on="xt", limit=1.0) if numbers(toy) else None
    ),
    "and": lambda toy, d: conjunction(
        unconditional(d),
        [(d, 1.5), (conditioned(d, cond=torch.tensor([[1.0]])), 0.5)],
        toy.processes,
    ),
    "not": lambda toy, d: negation(d, conditioned(d, cond=torch.tensor([[0.0]])), toy.processes),
    "or": lambda toy, d: disjunction(
        [
            (d, lambda s, t: torch.zeros(s.rows)),
            (unconditional(d), lambda s, t: torch.linspace(-1, 1, s.rows)),
        ],
        toy.processes,
    ),
    "experts": lambda toy, d: experts(
        toy.processes, [((-math.inf, 0.0), d), ((0.0, math.inf), unconditional(d))]
    ),
    "enumerated": lambda toy, d: enumerated(d, toy.processes, energy) if classes(toy) else None,
    "refined": lambda toy, d: refined(d, toy.processes, energy, 0.1, steps=2),
}
"""Denoiser -> Denoiser."""


Make = Callable[[Toy, Denoiser, State, list[torch.Generator]], State | None]


def _known(toy: Toy, like: State, rng: list[torch.Generator]) -> Known:
    """The first element of every field of some clean state is known."""
    clean = _clean(toy, like, rng)
    where = {}
    for name, process in toy.processes.items():
        known = torch.zeros(clean[name].shape, dtype=torch.bool)
        if isinstance(process.domain, Pairs):
            known[:, 0, 1] = known[:, 1, 0] = True
        else:
            known[:, 0] = True
        where[name] = known[..., 0] if isinstance(process.domain, Points) else known
    return Known(clean, where)


def _clean(toy: Toy, like: State, rng: list[torch.Generator]) -> State:
    """A clean state of the shape of ``like``: a prediction of the untrained network."""
    return sample(
        toy.network().to(_dtype(like)), toy.processes, like, uniform_grid(2), rng,
        method=solver("ancestral"),
    )  # fmt: skip


def _inpaint(toy: Toy, d: Denoiser, start: State, rng: list[torch.Generator], **options) -> State:
    known = _known(toy, start, rng)
    made = inpaint(d, toy.processes, known, uniform_grid(STEPS), rng, method=toy.method, **options)
    for name, process in toy.processes.items():
        at = known.at(name, process)
        assert torch.equal(made[name][at], known.state[name][at])
        if isinstance(process.domain, Points):  # kept where it was: not centred
            moved = process.domain.project(made[name], made.mask)
            made = made.replace(**{name: moved})
    return made


def _vary(toy: Toy, d: Denoiser, start: State, rng: list[torch.Generator]) -> State:
    grid = 0.5 * uniform_grid(STEPS)
    return vary(d, toy.processes, _clean(toy, start, rng), grid, rng, method=toy.method)


def _invert(toy: Toy, d: Denoiser, start: State, rng: list[torch.Generator]) -> State | None:
    if not numbers(toy):
        return None
    clean, given = _clean(toy, start, rng), tuple(classes(toy))
    noise = ddim_invert(d, toy.processes, clean, uniform_grid(STEPS), given=given)
    method = solver("ddim")
    return sample(d, toy.processes, noise, uniform_grid(STEPS), rng, method=method, given=given)


def _translate(toy: Toy, d: Denoiser, start: State, rng: list[torch.Generator]) -> State:
    clean = _clean(toy, start, rng)
    codes = dpm_encode(d, toy.processes, clean, uniform_grid(STEPS), rng)
    again = dpm_decode(d, toy.processes, codes)
    for name in toy.processes:
        torch.testing.assert_close(again[name], clean[name])
    return dpm_decode(unconditional(d), toy.processes, codes)


def _sampler(name: str) -> Make:
    def make(toy: Toy, d: Denoiser, start: State, rng: list[torch.Generator]) -> State | None:
        masks = [toy.processes[n].kernel.mask_class is not None for n in classes(toy)]
        if name in ("masked", "left_to_right") and not all(masks):
            return None
        schedules = [type(toy.processes[n].schedule).__name__ for n in numbers(toy)]
        if name == "flow_euler" and set(schedules) - {"FlowTime"}:
            return None
        grid = uniform_grid(STEPS)
        return sample(d, toy.processes, start, grid, rng, method=solver(name))

    return make


MAKERS: Mapping[str, Make] = {
    **{f"sampler {name}": _sampler(name) for name in SOLVERS},
    "inpaint": _inpaint,
    "inpaint with jumps": lambda *given: _inpaint(*given, jumps=Jumps(1, 2), noise="kept"),
    "vary": _vary,
    "ddim inversion": _invert,
    "dpm translation": _translate,
}
"""Samplers and edits: a start and a denoiser -> a clean state."""


# --------------------------------------------------------------------------------- what must hold


def _dtype(state: State) -> torch.dtype:
    return next((x.dtype for x in state.values() if x.is_floating_point()), torch.float32)


def real(toy: Toy, name: str, mask: Tensor) -> Tensor:
    """Elements of a field that are no padding, [B, ...]."""
    return toy.processes[name].domain.weights(mask) > 0


def check_prediction(toy: Toy, clean: State, mask: Tensor, dtype: torch.dtype) -> None:
    assert clean.mask.equal(mask)
    for name, process in toy.processes.items():
        x, there = clean[name], real(toy, name, mask)
        assert x.isfinite().all(), name
        assert x.device == mask.device
        if isinstance(process, Categorical):
            assert (x[there] >= 0).all()
            torch.testing.assert_close(x[there].sum(-1), torch.ones_like(x[there][..., 0]))
            if process.kernel.mask_class is not None:  # clean data are never masked
                assert (x[there][..., process.kernel.mask_class] < 1e-6).all()
        else:
            assert x.dtype == dtype
        if isinstance(process.domain, Pairs):
            torch.testing.assert_close(x, x.transpose(1, 2))
        if isinstance(process.domain, Points):
            assert x.sum(1).abs().max() < 1e-4
            assert (x[~mask] == 0).all()


def check_clean(toy: Toy, made: State, start: State) -> None:
    """A finished state: on its domains, padding zero, mask and conditions as they were."""
    assert torch.equal(made.mask, start.mask)
    torch.testing.assert_close(made["cond"], start["cond"], rtol=0, atol=0, equal_nan=True)
    assert set(made) == set(start)
    for name, process in toy.processes.items():
        x, there = made[name], real(toy, name, made.mask)
        assert x.shape == process.domain.shape(made.mask) and x.device == made.mask.device
        padding = x[~there]
        assert (padding == 0).all(), name
        if isinstance(process, Categorical):
            assert x.dtype == torch.int64
            assert ((x >= 0) & (x < process.kernel.classes)).all()
            assert process.kernel.mask_class not in x[there].tolist()
        else:
            assert x.isfinite().all() and x.dtype == start[name].dtype
        if isinstance(process.domain, Pairs):
            assert torch.equal(x, x.transpose(1, 2))
        if isinstance(process.domain, Points):
            assert x.sum(1).abs().max() < 1e-4


def begin(toy: Toy, templates: State, rows: int, dtype=torch.float32) -> State:
    """A state at the prior; row i has template i mod M and its own noise."""
    index = torch.arange(rows) % templates.rows
    some = templates.take(index)
    noise = prior(toy.processes, some.mask, random.row_generators(3, range(rows)))
    state = some.replace(**noise)
    fields = {n: x.to(dtype) if x.is_floating_point() else x for n, x in state.items()}
    return State(fields, state.mask)


@pytest.fixture(scope="module", params=TOYS)
def toy(request: pytest.FixtureRequest) -> Toy:
    return TOYS[request.param]()


@pytest.fixture(params=["oracle", "network"])
def task(request: pytest.FixtureRequest, toy: Toy) -> tuple[Denoiser, State]:
    """An exact denoiser on whole rows, or an untrained network on padded ones."""
    if request.param == "oracle":
        return toy.oracle, toy.whole
    return toy.network(), toy.templates


def built(table: Mapping, name: str, *arguments):
    made = table[name](*arguments)
    if made is None:
        pytest.skip("does not apply to this task")
    return made


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_predict_on_the_domain(toy: Toy, task, wrapper: str) -> None:
    denoiser, templates = task
    wrapped = built(WRAPPERS, wrapper, toy, denoiser)
    for dtype in (torch.float32, torch.float64):
        if isinstance(denoiser, torch.nn.Module):
            denoiser.to(dtype)
        state = begin(toy, templates, 6, dtype)
        before = {n: x.clone() for n, x in state.items()}
        previous = None
        for t in (1.0, 0.6, 0.05):
            times = {n: torch.full((6,), t, dtype=dtype) for n in toy.processes}
            previous = wrapped(state, times, {PREVIOUS: previous})
            check_prediction(toy, previous, state.mask, dtype)
            alone = state.take(torch.tensor([4]))
            if wrapper != "or":  # its densities are functions of the batch here
                one = wrapped(alone, {n: x[4:5] for n, x in times.items()}, {PREVIOUS: None})
                for name in toy.processes:
                    torch.testing.assert_close(
                        one[name][0], previous[name][4], rtol=1e-4, atol=1e-4
                    )
        for name, x in before.items():  # nothing is changed in place
            torch.testing.assert_close(state[name], x, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_denoisers_sample_clean_states(toy: Toy, task, wrapper: str) -> None:
    denoiser, templates = task
    wrapped = built(WRAPPERS, wrapper, toy, denoiser)
    start = begin(toy, templates, 4)

    def make() -> State:
        rngs = random.row_generators(1, range(4))
        return sample(wrapped, toy.processes, start, uniform_grid(STEPS), rngs, method=toy.method)

    one, same = make(), make()
    check_clean(toy, one, start)
    assert all(torch.equal(one[n], same[n]) for n in toy.processes)


@pytest.mark.parametrize("maker", MAKERS)
def test_samplers_and_edits_return_clean_states(toy: Toy, task, maker: str) -> None:
    denoiser, templates = task
    start = begin(toy, templates, 4)

    def make(seed: int) -> State | None:
        return MAKERS[maker](toy, denoiser, start, random.row_generators(seed, range(4)))

    one = make(1)
    if one is None:
        pytest.skip("does not apply to this task")
    check_clean(toy, one, start)
    same, other = make(1), make(2)
    assert all(torch.equal(one[n], same[n]) for n in toy.processes)
    if maker in ("sampler ancestral", "vary") and not isinstance(denoiser, torch.nn.Module):
        assert any(not torch.equal(one[n], other[n]) for n in toy.processes)


@pytest.mark.parametrize("maker", ["inpaint", "vary", "sampler ancestral", "dpm translation"])
def test_a_row_does_not_depend_on_its_batch(toy: Toy, maker: str) -> None:
    start, network = begin(toy, toy.templates, 4), toy.network()
    together = MAKERS[maker](toy, network, start, random.row_generators(1, range(4)))
    index = torch.tensor([2])
    alone = MAKERS[maker](toy, network, start.take(index), random.row_generators(1, [2]))
    for name in toy.processes:
        torch.testing.assert_close(alone[name][0], together[name][2], rtol=1e-4, atol=1e-4)


def chain_of(toy: Toy, denoiser: Denoiser, templates: State, **options) -> Chain:
    grid = uniform_grid(STEPS)
    return Chain(denoiser, toy.processes, grid, toy.method, templates, **options)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_return_clean_states(toy: Toy, task, name: str) -> None:
    denoiser, templates = task
    counted, scored = Counted(denoiser), []

    def reward(state: State) -> Tensor:
        scored.append(state.rows)
        check_clean(toy, state, known(state))
        return toy.reward(state)

    def known(state: State) -> State:
        """Every row has the mask and the condition of one template."""
        for row in range(state.rows):
            assert any(
                torch.equal(state.mask[row], templates.mask[m])
                and torch.equal(
                    state["cond"][row].nan_to_num(-1), templates["cond"][m].nan_to_num(-1)
                )
                for m in range(templates.rows)
            )
        return state

    def go(seed: int):
        chain = chain_of(toy, counted, templates)
        return run(SEARCHES[name](chain, reward, random.generator(seed), budget=60))

    found = go(1)
    assert found.error is None and found.dropped == 0
    assert found.evaluations == counted.evaluations and found.calls == counted.calls
    assert 60 - STEPS < found.evaluations <= 60
    assert found.scored == sum(scored)
    check_clean(toy, found.states, known(found.states))
    torch.testing.assert_close(found.rewards, toy.reward(found.states).double())
    assert float(found.log_weights.exp().sum()) == pytest.approx(1)
    same = go(1)
    assert all(torch.equal(found.states[n], same.states[n]) for n in toy.processes)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["feynman_kac", "tree_search"])
def test_searches_go_over_every_wrapper(toy: Toy, name: str, wrapper: str) -> None:
    network = Counted(toy.network())
    wrapped = built(WRAPPERS, wrapper, toy, network)
    chain = chain_of(toy, wrapped, toy.templates, network=network, price=3.0)
    found = run(SEARCHES[name](chain, toy.reward, random.generator(0), budget=50))
    assert found.evaluations == network.evaluations <= 50
    assert found.error is None and found.dropped == 0
    check_clean(toy, found.states, found.states)


def test_bounds_and_classifiers_read_every_task(toy: Toy) -> None:
    network = toy.network()
    clean = _clean(toy, begin(toy, toy.templates, 3), random.row_generators(0, range(3)))
    found = bound(network, toy.processes, clean, random.generator(0), draws=4, repeats=2)
    assert found.nats.shape == (3,) and found.nats.isfinite().all()
    torch.testing.assert_close(sum(found.fields.values()), found.nats)
    torch.testing.assert_close(sum(found.parts.values()), found.nats)
    options = [{"cond": torch.tensor([[c]])} for c in (0.0, 1.0)]
    posterior = classify(network, toy.processes, clean, options, random.generator(0), draws=4)
    torch.testing.assert_close(posterior.exp().sum(1), torch.ones(3, dtype=torch.float64))
    # padding has no part in it: nodes of a padded row are fewer dimensions
    sizes = clean.mask.sum(1)
    if len(sizes.unique()) > 1:
        assert found.dimensions.argsort().tolist() == sizes.argsort().tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("name", SEARCHES)
def test_searches_follow_the_device(toy: Toy, name: str) -> None:
    device = torch.device("cuda")
    chain = chain_of(toy, toy.network().to(device), toy.templates.to(device))
    found = run(SEARCHES[name](chain, toy.reward, random.generator(0), budget=60))
    assert all(x.device.type == "cuda" for x in found.states.values())
    check_clean(toy, found.states, found.states)
