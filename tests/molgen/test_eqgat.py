"""EQGAT-diff in float64: symmetries against e3nn, padding, size, gradients at singular points."""

import warnings

import pytest
import torch

from diffcore import random
from molgen.models.eqgat import PAPER, SMALL, Eqgat, EqgatConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # e3nn reads its constants with torch.load
    from e3nn import o3

NODES, PAIRS = {"atom": 5, "charge": 3}, {"bond": 4}
TIMES = ("pos", "atom", "charge", "bond")
TOLERANCE = 1e-10


def config(**options: object) -> EqgatConfig:
    sizes = {"layers": 3, "scalars": 16, "vectors": 8, "pairs": 8, "hidden": 16, "heads": 4}
    return EqgatConfig(**{**sizes, **options})  # type: ignore[arg-type]


CONFIGS = {
    "paper": config(),
    "per-channel attention": config(heads=16),
    "residual": config(residual=True, radial=6),
}


def build(chosen: EqgatConfig) -> Eqgat:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(0).get_state())
        return Eqgat(chosen, NODES, PAIRS, TIMES).double()


def rotations(number: int) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(1).get_state())
        return o3.rand_matrix(number, dtype=torch.float64)


def inputs(counts: list[int], seed: int = 0, previous: bool = False) -> dict:
    rng = random.generator(seed)
    b, n = len(counts), max(counts)
    mask = torch.arange(n) < torch.tensor(counts).unsqueeze(1)
    pair = mask.unsqueeze(1) & mask.unsqueeze(2) & ~torch.eye(n, dtype=torch.bool)

    def draw(*shape: int) -> torch.Tensor:
        return random.normal(rng, torch.zeros(shape, dtype=torch.float64))

    def fields() -> dict[str, torch.Tensor]:
        found = {k: draw(b, n, c).softmax(-1) * mask.unsqueeze(-1) for k, c in NODES.items()}
        for k, c in PAIRS.items():
            p = draw(b, n, n, c)
            found[k] = (p + p.transpose(1, 2)).softmax(-1) * pair.unsqueeze(-1)
        return found

    def pos() -> torch.Tensor:
        x = draw(b, n, 3) * mask.unsqueeze(-1)
        return (x - x.sum(1, keepdim=True) / mask.sum(1).reshape(-1, 1, 1)) * mask.unsqueeze(-1)

    return {
        "fields": fields(),
        "pos": pos(),
        "times": {k: random.uniform(rng, torch.zeros(b, dtype=torch.float64)) for k in TIMES},
        "mask": mask,
        "previous": {**fields(), "pos": pos()} if previous else None,
        "level": random.uniform(rng, torch.zeros(b, dtype=torch.float64)),
    }


def turned(given: dict, matrix: torch.Tensor) -> dict:
    """All positions multiplied by a matrix [B, 3, 3] or [3, 3]."""
    previous = given["previous"]
    if previous is not None:
        previous = previous | {"pos": previous["pos"] @ matrix.mT}
    return given | {"pos": given["pos"] @ matrix.mT, "previous": previous}


def largest_difference(a: dict, b: dict) -> float:
    return max((a[k] - b[k]).abs().max().item() for k in a)


each_config = pytest.mark.parametrize("chosen", CONFIGS.values(), ids=list(CONFIGS))
each_previous = pytest.mark.parametrize("previous", [False, True], ids=["", "self-conditioned"])


@each_config
@each_previous
@pytest.mark.parametrize("sign", [1, -1], ids=["rotation", "reflection"])
def test_equivariance(chosen: EqgatConfig, previous: bool, sign: int) -> None:
    network, given = build(chosen), inputs([6, 4, 5], previous=previous)
    matrix = sign * rotations(3)
    torch.testing.assert_close(torch.det(matrix), torch.full((3,), float(sign)).double())
    out, moved = network(**given), network(**turned(given, matrix))
    # the network must do something before its symmetry means anything
    assert (out["pos"] - given["pos"]).abs().max() > 1e-3
    assert out["bond"].std() > 1e-3
    expected = out | {"pos": out["pos"] @ matrix.mT}
    assert largest_difference(expected, moved) < TOLERANCE
    assert (out["pos"] - moved["pos"]).abs().max() > 1e-3


@each_config
@each_previous
def test_permutation(chosen: EqgatConfig, previous: bool) -> None:
    network, given = build(chosen), inputs([6, 6], previous=previous)
    order = torch.randperm(6, generator=random.generator(2))

    def permuted(fields: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            k: x[:, order][:, :, order] if k in PAIRS else x[:, order] for k, x in fields.items()
        }

    shuffled = given | {
        "fields": permuted(given["fields"]),
        "pos": given["pos"][:, order],
        "previous": permuted(given["previous"]) if previous else None,
    }
    assert largest_difference(permuted(network(**given)), network(**shuffled)) < TOLERANCE


@each_config
@each_previous
@pytest.mark.parametrize("count", [1, 2, 5])
def test_padding_does_not_matter(chosen: EqgatConfig, previous: bool, count: int) -> None:
    """A molecule in a batch with a larger one, against the same molecule alone."""
    network, given = build(chosen), inputs([count, 7], previous=previous)

    def first(x: torch.Tensor, name: str) -> torch.Tensor:
        return x[:1, :count, :count] if name in PAIRS else x[:1, :count]

    alone = given | {
        "fields": {k: first(x, k) for k, x in given["fields"].items()},
        "pos": given["pos"][:1, :count],
        "times": {k: t[:1] for k, t in given["times"].items()},
        "mask": given["mask"][:1, :count],
        "level": given["level"][:1],
    }
    if previous:
        alone["previous"] = {k: first(x, k) for k, x in given["previous"].items()}
    together = {k: first(x, k) for k, x in network(**given).items()}
    assert largest_difference(network(**alone), together) < TOLERANCE


@each_config
def test_pair_logits_are_symmetric(chosen: EqgatConfig) -> None:
    bond = build(chosen)(**inputs([6, 4]))["bond"]
    torch.testing.assert_close(bond, bond.transpose(1, 2), rtol=0, atol=1e-12)


@each_previous
@pytest.mark.parametrize("residual", [False, True])
def test_cross_products_see_chirality_and_nothing_else(previous: bool, residual: bool) -> None:
    network = build(config(cross=True, residual=residual))
    given = inputs([6, 4, 5], previous=previous)
    matrix = rotations(3)
    out = network(**given)
    turn = network(**turned(given, matrix))
    assert largest_difference(out | {"pos": out["pos"] @ matrix.mT}, turn) < TOLERANCE
    mirror = network(**turned(given, -matrix))
    # the size is set by fresh weights; it must be far above rounding
    assert largest_difference(out | {"pos": -out["pos"] @ matrix.mT}, mirror) > 1e-7


def test_sizes() -> None:
    """Le et al. 2024 report 12.3 M parameters."""
    paper = Eqgat(PAPER, NODES, PAIRS, TIMES)
    assert sum(p.numel() for p in paper.parameters()) == pytest.approx(12.3e6, rel=0.03)
    small = Eqgat(SMALL, NODES, PAIRS, TIMES)
    # 12 MB in half precision is what may be shipped
    assert sum(p.numel() for p in small.parameters()) * 2 < 12e6


def flat(out: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum((x**2).sum() for x in out.values())  # type: ignore[return-value]


@each_config
@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("case", ["coincident", "at the centre", "single atom", "pair"])
def test_gradients_are_finite(chosen: EqgatConfig, previous: bool, case: str) -> None:
    network = build(chosen)
    given = inputs([{"single atom": 1, "pair": 2}.get(case, 4)], previous=previous)
    pos = given["pos"].clone()
    if case == "coincident":
        pos[:, 1] = pos[:, 0]
    if case == "at the centre":
        pos[:] = 0
    pos.requires_grad_(True)
    out = network(**given | {"pos": pos})
    flat(out).backward()
    assert all(x.isfinite().all() for x in out.values())
    assert pos.grad is not None and pos.grad.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@each_config
def test_every_parameter_is_used(chosen: EqgatConfig) -> None:
    """Distributed training stops at parameters without a gradient."""
    network = build(chosen)
    flat(network(**inputs([5, 6], previous=True))).backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None]
    # the last layer's vectors may end in the position head alone, but must end somewhere
    assert unused == []


def test_the_last_prediction_and_every_time_matter() -> None:
    network, given = build(config()), inputs([6], previous=True)
    out = network(**given)
    for name in TIMES:
        times = given["times"] | {name: given["times"][name] + 0.3}
        assert largest_difference(out, network(**given | {"times": times})) > 1e-4
    assert largest_difference(out, network(**given | {"previous": None})) > 1e-4
