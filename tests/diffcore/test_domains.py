"""Domains as properties: projections, symmetry, masks, counts."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from diffcore import random
from diffcore.domains import Domain, Grid, Nodes, Pairs, Points, Slots

NODES: list[Domain] = [Nodes(), Nodes((3,)), Points(), Points(2), Pairs(), Pairs((4,)), Slots(3)]
CASES: list[Domain] = [Grid((2, 3)), *NODES]
COUNTS = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def mask_of(counts: list[int]) -> torch.Tensor:
    return torch.arange(max(counts) + 1) < torch.tensor(counts).unsqueeze(1)


def draw(domain: Domain, mask: torch.Tensor, seed: int) -> torch.Tensor:
    return random.normal(
        random.generator(seed), torch.zeros(domain.shape(mask), dtype=torch.float64)
    )


@pytest.mark.parametrize("domain", CASES, ids=repr)
@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=25)
def test_projection_is_idempotent_and_linear(domain: Domain, counts: list[int], seed: int) -> None:
    mask = mask_of(counts)
    x, y = draw(domain, mask, seed), draw(domain, mask, seed + 1)
    once = domain.project(x, mask)
    torch.testing.assert_close(domain.project(once, mask), once, rtol=0, atol=1e-14)
    both = domain.project(2 * x + y, mask)
    torch.testing.assert_close(both, 2 * once + domain.project(y, mask), rtol=0, atol=1e-13)
    # the nearest point: what was taken away is orthogonal to what is left
    assert ((x - once) * once).sum().abs() < 1e-12


@pytest.mark.parametrize("domain", NODES, ids=repr)
@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=25)
def test_padding_is_zero_and_does_not_matter(domain: Domain, counts: list[int], seed: int) -> None:
    mask = mask_of(counts)
    x = domain.project(draw(domain, mask, seed), mask)
    real = mask if not isinstance(domain, Pairs) else mask.unsqueeze(1) & mask.unsqueeze(2)
    assert (x[~real] == 0).all()
    assert (domain.weights(mask)[~real] == 0).all()
    other = draw(domain, mask, seed)
    other[~real] += 100
    torch.testing.assert_close(domain.project(other, mask), x, rtol=0, atol=1e-13)


@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=25)
def test_points_are_centred(counts: list[int], seed: int) -> None:
    mask = mask_of(counts)
    x = Points().project(draw(Points(), mask, seed), mask)
    assert x.sum(1).abs().max() < 1e-13
    assert Points().degrees(mask).tolist() == [3 * (n - 1) for n in counts]


@given(counts=COUNTS, seed=st.integers(0, 100))
@settings(max_examples=25)
def test_pairs_count_once(counts: list[int], seed: int) -> None:
    mask = mask_of(counts)
    pairs = [n * (n - 1) / 2 for n in counts]
    assert Pairs().weights(mask).sum((1, 2)).tolist() == pairs
    assert Pairs().degrees(mask).tolist() == pairs
    assert Pairs((4,)).degrees(mask).tolist() == [4 * n for n in pairs]
    x = Pairs((4,)).project(draw(Pairs((4,)), mask, seed), mask)
    assert torch.equal(x, x.transpose(1, 2))
    assert (x.diagonal(dim1=1, dim2=2) == 0).all()
    classes = torch.randint(0, 9, Pairs().shape(mask), generator=random.generator(seed))
    tied = Pairs().project(classes, mask)
    assert torch.equal(tied, tied.transpose(1, 2))
    assert torch.equal(tied.triu(1), Pairs().project(tied, mask).triu(1))


def test_nodes_and_grid_count_every_element() -> None:
    mask = mask_of([2, 4])
    assert Nodes().weights(mask).sum(1).tolist() == [2, 4]
    assert Nodes((3,)).degrees(mask).tolist() == [6, 12]
    assert Grid((2, 3)).degrees(mask).tolist() == [6, 6]


@pytest.mark.parametrize("domain", CASES, ids=repr)
def test_degrees_are_the_rank_of_noise(domain: Domain) -> None:
    """Projected, tied noise spans as many dimensions as the domain says it has."""
    mask = mask_of([3])
    rng = random.generator(0)
    like = torch.zeros(domain.shape(mask), dtype=torch.float64)
    noise = [domain.project(domain.tie(random.normal(rng, like)), mask) for _ in range(60)]
    rank = torch.linalg.matrix_rank(torch.stack(noise).flatten(1))
    assert int(rank) == int(domain.degrees(mask)[0])


@pytest.mark.parametrize("domain", CASES, ids=repr)
def test_noise_has_unit_variance_on_the_domain(domain: Domain) -> None:
    mask = torch.ones(20_000, 3, dtype=torch.bool)
    like = torch.zeros(domain.shape(mask))
    noise = domain.project(domain.tie(random.normal(random.generator(1), like)), mask)
    weights = domain.weights(mask)
    weights = weights.reshape(*weights.shape, *([1] * (noise.dim() - weights.dim())))
    squares = (weights * noise**2).flatten(1).sum(1)
    dof = float(domain.degrees(mask)[0])
    # chi-square of dof degrees: mean dof, variance 2 dof; five standard errors
    assert squares.mean().item() == pytest.approx(dof, abs=5 * (2 * dof / 20_000) ** 0.5)
    assert squares.var().item() == pytest.approx(2 * dof, rel=0.15)
