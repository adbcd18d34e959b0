"""Properties that are asked for: units, ranges, refusals in one line."""

import dataclasses

import pytest
import torch

from diffcore import random
from diffcore.errors import ConfigError
from molgen.targets import HARTREE, UNITS, Target, draw_condition, parse_targets, quantity
from tests.molgen.test_tasks import task

TASK = dataclasses.replace(
    task(), conditions={"gap": (6.9, 1.3), "mu": (2.7, 1.5), "alpha": (75.3, 8.2)}
)


@pytest.mark.parametrize(
    ("value", "ev"),
    [(0.25, 0.25 * HARTREE), ("0.25", 0.25 * HARTREE), ("6.8 eV", 6.8), ("6.8eV", 6.8),
     ("2.5e-1 Ha", 0.25 * HARTREE), ("2.5e-1Ha", 0.25 * HARTREE)],
)  # fmt: skip
def test_energies_are_in_hartree_or_carry_their_unit(value: float | str, ev: float) -> None:
    assert quantity("gap", value) == pytest.approx(ev, rel=1e-12)


def test_conversions_against_independent_factors() -> None:
    from ase import units  # an independent table of constants

    assert UNITS["gap"]["Ha"] == pytest.approx(units.Hartree, rel=1e-6)
    assert 1 / UNITS["alpha"]["A^3"] == pytest.approx(units.Bohr**3, rel=1e-6)
    assert UNITS["Cv"]["J/mol/K"] == pytest.approx(
        units.J / units.mol / (units.kcal / 1e3 / units.mol), rel=1e-6
    )


def test_a_value_and_a_range() -> None:
    gap, mu = parse_targets({"gap": 0.25, "mu": (0, 1)}, TASK)
    assert (gap.low, gap.high) == (0.25 * HARTREE, 0.25 * HARTREE)
    assert (mu.low, mu.high, mu.scale) == (0.0, 1.0, 1.5)
    values = torch.tensor([-0.5, 0.0, 0.4, 1.0, 2.5, float("nan")])
    miss = mu.miss(values)
    torch.testing.assert_close(miss[:5], torch.tensor([1 / 3, 0.0, 0.0, 0.0, 1.0]))
    assert bool(miss[5].isnan())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"colour": 1.0}, "was not trained with 'colour'; it knows gap, mu, alpha"),
        ({"gap": 6.8}, "expected -0.0331 to 0.54 Ha, got 6.8; if that is in eV, write '6.8 eV'"),
        ({"gap": "6.8 kcal"}, "expected a number in Ha or eV, got '6.8 kcal'"),
        ({"gap": "wide"}, "expected a number"),
        ({"mu": float("nan")}, "expected a finite number"),
        ({"mu": (2, 1)}, "expected low before high"),
        ({"mu": (1, 2, 3)}, r"expected a value or \(low, high\)"),
        ({"mu": 1e9}, "expected -6.3 to 11.7 D"),
    ],
)
def test_what_cannot_be_is_refused(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_targets(given, TASK)


def test_a_model_without_conditions_says_so() -> None:
    with pytest.raises(ConfigError, match="it knows none: it was trained without properties"):
        parse_targets({"gap": 0.25}, task())


def test_the_condition_is_standardised_and_a_row_depends_on_its_own_generator() -> None:
    targets = parse_targets({"mu": (0, 3), "gap": "6.9 eV"}, TASK)
    rngs = random.row_generators(0, range(400))
    condition = draw_condition(targets, TASK, rngs)
    assert bool(condition[:, 2].isnan().all())
    torch.testing.assert_close(condition[:, 0], torch.zeros(400), atol=1e-5, rtol=0)
    mu = condition[:, 1] * 1.5 + 2.7
    assert float(mu.min()) >= 0 and float(mu.max()) <= 3 and abs(float(mu.mean()) - 1.5) < 0.25
    again = draw_condition(targets, TASK, random.row_generators(0, [7]))
    torch.testing.assert_close(again[0, :2], condition[7, :2])


def test_the_ends_of_a_range_are_hit() -> None:
    assert Target("mu", 1.0, 2.0, 0.5).miss(torch.tensor([1.0, 2.0])).tolist() == [0.0, 0.0]
