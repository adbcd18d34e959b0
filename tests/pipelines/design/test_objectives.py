"""Objectives, units, and what is said of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from diffcore.errors import ConfigError
from pipelines.design.objectives import Aims, parse_objective
from pipelines.design.units import QUANTITIES, in_unit

UNITS = {"gap": "eV", "sa": "", "mass": "g/mol"}


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("4 eV", "eV", 4.0),
        (4, "eV", 4.0),
        ("4000 meV", "eV", 4.0),
        ("0.5 Ha", "eV", 13.605693122994),
        ("627.5094740631 kcal/mol", "Ha", 1.0),
        ("96.48533212 kJ/mol", "eV", 1.0),
        ("1.54 Angstrom", "pm", 154.0),
        ("180 degree", "rad", 3.141592653589793),
        ("30 %", "", 0.3),
        ("1e-2 um", "nm", 10.0),
    ],
)
def test_units_are_converted(text: Any, unit: str, value: float) -> None:
    assert in_unit(text, unit, "x") == pytest.approx(value, rel=1e-8)


def test_every_unit_stands_in_one_quantity() -> None:
    every = [unit for units in QUANTITIES.values() for unit in units]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"evaluator": "gap", "goal": "target", "value": "4 ev"},
            "unit of value of gap 'ev'.*'eV'",
        ),
        ({"evaluator": "gap", "goal": "target", "value": "4 nm"}, "unit of value of gap 'nm'"),
        ({"evaluator": "gapp", "goal": "minimise"}, "evaluator of an objective 'gapp'.*'gap'"),
        ({"goal": "minimise"}, "evaluator of an objective"),
        ({"evaluator": "sa", "goal": "minimum"}, "objective of sa 'minimum'.*'minimise'"),
        ({"evaluator": "sa", "goal": "minimise", "refrence": 3}, "key .*'refrence'.*'reference'"),
        ({"evaluator": "sa", "goal": "minimise", "value": 3}, "key of the objective sa 'value'"),
        ({"evaluator": "sa", "goal": "target"}, "target needs its value"),
        ({"evaluator": "sa", "goal": "constraint"}, "at_least or at_most"),
        ({"evaluator": "sa", "goal": "constraint", "at_least": 3, "at_most": 2}, "above"),
        ({"evaluator": "sa", "goal": "target", "value": "many"}, "expected a number"),
        ({"evaluator": "sa", "goal": "target", "value": float("nan")}, "finite"),
        ({"evaluator": "sa", "goal": "target", "value": True}, "finite"),
        ({"evaluator": "sa", "goal": "target", "value": [1]}, "expected a number"),
        ("minimise sa", "expected evaluator and goal"),
    ],
)
def test_wrong_objectives_are_named_with_the_nearest_known_one(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_objective(given, UNITS)
    assert "\n" not in str(caught.value)


def test_losses_and_constraints() -> None:
    aims = Aims.of(
        [
            parse_objective({"evaluator": "gap", "goal": "target", "value": "4 eV"}, UNITS),
            parse_objective({"evaluator": "mass", "goal": "maximize", "reference": 10}, UNITS),
            parse_objective({"evaluator": "sa", "goal": "constraint", "at_most": 4}, UNITS),
        ]
    )
    assert aims.losses({"gap": 3.5, "mass": 100.0, "sa": 4.0}) == (0.5, -100.0)
    assert aims.losses({"gap": 3.5, "mass": 100.0, "sa": 4.1}) is None
    assert aims.losses({"gap": 3.5, "mass": 100.0}) is None, "an unknown constraint is not met"
    assert aims.losses({"gap": 3.5, "sa": 1.0}) is None
    assert aims.refused({"sa": 5.0}) and not aims.refused({})
    # 0.5 to 2.5, plus a tenth of the range; the maximised one's reference is given
    assert aims.reference([(0.5, -50.0), (2.5, -20.0)]) == pytest.approx((2.7, -10.0))
    assert aims.reference([]) is None
    with pytest.raises(ConfigError, match="to minimise"):
        Aims.of([aims.constraints[0]])
    with pytest.raises(ConfigError, match="twice"):
        Aims.of([aims.goals[0], aims.goals[0]])
