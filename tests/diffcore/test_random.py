"""Explicit randomness: independence of the batch, distinct streams, right frequencies."""

import numpy as np
import pytest
import torch

from diffcore import random
from diffcore.domains import Pairs
from diffcore.errors import ConfigError


@pytest.mark.parametrize("draw", [random.normal, random.uniform])
@pytest.mark.parametrize("shape", [(3,), (40,), (7, 7, 3)])
def test_a_row_is_the_same_in_any_batch(draw, shape: tuple[int, ...]) -> None:
    rows = [5, 2, 9, 0]
    together = draw(random.row_generators(1, rows), torch.zeros(4, *shape))
    for k, row in enumerate(rows):
        alone = draw(random.row_generators(1, [row]), torch.zeros(1, *shape))
        assert torch.equal(alone[0], together[k])
    assert not torch.equal(together[0], together[1])


def test_one_generator_serves_the_whole_batch() -> None:
    like = torch.zeros(2, 3, dtype=torch.float64)
    values = random.normal(random.generator(0), like)
    assert values.dtype == torch.float64
    assert torch.equal(values, random.normal(random.generator(0), like))
    rng = random.generator(0)
    assert not torch.equal(random.normal(rng, like), random.normal(rng, like))


def test_number_of_generators_must_be_the_number_of_rows() -> None:
    with pytest.raises(ValueError, match=r"one generator per row \(3\), got 2"):
        random.normal(random.row_generators(0, range(2)), torch.zeros(3, 1))


def test_every_path_has_its_own_stream() -> None:
    """SeedSequence pads with zeros: as plain entropy, 5 and (5, 0) would be one stream."""
    paths = [(), (0,), (0, 0), (0, 0, 0), (1,), (1, 0), (0, 1), (2**32,), (0, 2**32), (2**33,)]
    seeds = {random.generator(5, *path).initial_seed() for path in paths}
    seeds.add(random.generator(5 + 2**32).initial_seed())
    assert len(seeds) == len(paths) + 1


def unmix(word: int) -> int:
    """The inverse of the finaliser, from the modular inverses of both factors."""
    word ^= word >> 16
    word = word * pow(0xC2B2AE35, -1, 2**32) & 0xFFFFFFFF
    word ^= (word >> 13) ^ (word >> 26)
    word = word * pow(0x85EBCA6B, -1, 2**32) & 0xFFFFFFFF
    return word ^ (word >> 16)


def test_the_finaliser_is_a_bijection() -> None:
    words = [0, 1, 2**32 - 1, *np.random.default_rng(0).integers(0, 2**32, 1000).tolist()]
    assert [unmix(random._mix32(word)) for word in words] == words


def test_rows_never_share_a_stream() -> None:
    """Torch's CPU generator sees the low 32 bits of a seed: they are a bijection of the row."""
    torch_sees = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1 + 2**32)
    assert torch.equal(*(torch.rand(4, generator=g) for g in torch_sees))
    rows = [*range(500), 2**31, 2**32 - 1]
    low = [g.initial_seed() & 0xFFFFFFFF for g in random.row_generators(0, rows)]
    assert len({unmix(word) ^ row for word, row in zip(low, rows, strict=True)}) == 1


def test_streams_of_neighbouring_rows_are_independent() -> None:
    n = 4_000
    x = random.normal(random.row_generators(3, range(n)), torch.zeros(n, 2)).double()
    # standard errors: mean 1/sqrt(n), variance sqrt(2/n), correlation 1/sqrt(n); 5 of each
    error = n**-0.5
    assert (x.mean(0).abs() < 5 * error).all()
    assert ((x.var(0) - 1).abs() < 5 * 2**0.5 * error).all()
    assert (x[1:, 0] * x[:-1, 0]).mean().abs() < 5 * error
    assert (x[:, 0] * x[:, 1]).mean().abs() < 5 * error


def test_negative_seed_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^expected a seed of 0 or more, got -1$"):
        random.generator(-1)


def test_categorical_frequencies() -> None:
    n = 200_000
    p = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    u = random.uniform(random.generator(0), torch.zeros(n))
    drawn = random.categorical(p.expand(n, -1), u)
    counts = torch.bincount(drawn, minlength=6)
    assert (counts[p == 0] == 0).all()
    shares = counts / n
    error = (p * (1 - p) / n).sqrt()
    assert ((shares - p).abs() <= 5 * error).all()


def test_categorical_edges() -> None:
    p = torch.tensor([[0.0, 0.5, 0.5, 0.0]]).expand(3, -1)
    u = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert random.categorical(p, u).tolist() == [1, 2, 2]
    scaled = torch.tensor([[2.0, 6.0]])  # weights need not be normalised
    assert random.categorical(scaled, torch.tensor([0.2])).item() == 0
    assert random.categorical(scaled, torch.tensor([0.3])).item() == 1


def test_symmetric_pairs_share_their_draw() -> None:
    u = Pairs().tie(random.uniform(random.generator(0), torch.zeros(2, 6, 6)))
    assert torch.equal(u, u.transpose(1, 2))
    upper = torch.ones(6, 6, dtype=torch.bool).triu(1)
    assert u[:, upper].unique().numel() == 2 * 15
