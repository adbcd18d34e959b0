"""Solvents: the liquidus against closed forms, the learned correction's symmetry and ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffcore.errors import ConfigError, DataError, ModelFileError
from molgen.solvents.components import PREDICTED, Component, Known, canonical, component
from molgen.solvents.excess import features, reach, scale
from molgen.solvents.fusion import predicted_fusion
from molgen.solvents.liquidus import R, crystallisation, ideal_temperature, liquidus
from molgen.solvents.model import LiquidusModel


def made(smiles: str, melting: float = 350.0, fusion: float = 20.0) -> Component:
    return Component(smiles, canonical(smiles), Known(melting, "given"), Known(fusion, "given"))


UREA = made("NC(N)=O", 406.0, 14.6)
CHOLINE = made("C[N+](C)(C)CCO.[Cl-]", 578.0, 4.3)
THYMOL = made("Cc1ccc(C(C)C)c(O)c1", 323.5, 19.65)


def test_the_ideal_temperature_solves_schroeder_van_laar() -> None:
    x = np.linspace(0.05, 0.95, 9)
    found = ideal_temperature(UREA, x)
    right = -(14.6 / R) * (1 / found - 1 / 406.0)
    assert np.allclose(np.log(x), right, atol=1e-10)


def test_a_constant_activity_shifts_the_mole_fraction() -> None:
    """ln gamma = -0.3 is an ideal liquid of mole fraction x exp(-0.3)."""
    x = np.array([0.4, 0.6])
    found = crystallisation(UREA, 0, x, lambda _t, x: np.full(len(x), -0.3))
    assert found == pytest.approx(float(ideal_temperature(UREA, 0.4 * np.exp(-0.3))), abs=1e-3)


def test_what_stays_dissolved_does_not_stop_the_other() -> None:
    def solvating(_temperature: float, _x: np.ndarray) -> np.ndarray:
        return np.array([-600.0, 0.0])

    found, first = liquidus((UREA, THYMOL), [0.2, 0.8], solvating)
    assert first == 1
    assert found == pytest.approx(float(ideal_temperature(THYMOL, 0.8)), abs=1e-3)


def test_equal_twins_cross_in_the_middle() -> None:
    pair = (made("CCO", 300, 10), made("CCCO", 300, 10))
    grid = np.arange(1, 100) / 100
    lowest = min(grid, key=lambda v: liquidus(pair, [v, 1 - v])[0])
    assert lowest == pytest.approx(0.5)


@pytest.mark.parametrize("x", [[0.0, 1.0], [1.2, -0.2], [0.5, 0.4], [float("nan"), 0.5], [1.0]])
def test_a_composition_outside_is_refused(x: list[float]) -> None:
    with pytest.raises(ConfigError, match="mole fractions"):
        liquidus((UREA, THYMOL), x)


def test_features_do_not_know_the_order() -> None:
    x = np.linspace(0.05, 0.95, 7)
    assert np.allclose(features(CHOLINE, UREA, x), features(UREA, CHOLINE, 1 - x), rtol=1e-9)


def test_the_learned_correction_is_symmetric_and_vanishes_at_the_ends() -> None:
    model = LiquidusModel.from_pretrained()
    x = np.array([1e-9, 0.3, 0.5, 1 - 1e-9])
    shift, spread = model.binary(CHOLINE, UREA, x)
    back, _ = model.binary(UREA, CHOLINE, 1 - x)
    assert np.allclose(shift, back, atol=0.5)
    assert abs(shift[0]) < 0.1 > abs(shift[-1])
    assert (spread[1:3] > spread[0]).all()
    assert shift[2] < -5, "choline chloride and urea melt far below their ideal mixture"


def test_a_third_component_in_traces_changes_little() -> None:
    model = LiquidusModel.from_pretrained()
    two, _ = model.learned((CHOLINE, UREA), np.array([[0.4, 0.6]]))
    three, _ = model.learned((CHOLINE, UREA, THYMOL), np.array([[0.4, 0.6 - 1e-7, 1e-7]]))
    assert three[0] == pytest.approx(two[0], abs=0.5)


def test_intervals_hold_their_temperature_and_name_their_route() -> None:
    found = LiquidusModel.from_pretrained().predict((CHOLINE, UREA), [[0.3, 0.7], [0.5, 0.5]])
    assert (found.lower < found.temperature).all() and (found.temperature < found.upper).all()
    assert found.method == "learned"


def test_identical_components_are_refused() -> None:
    with pytest.raises(DataError, match="different"):
        LiquidusModel.from_pretrained().predict((UREA, UREA), [[0.5, 0.5]])


def test_a_predicted_substance_is_marked_and_has_an_uncertainty() -> None:
    melting, fusion = predicted_fusion(canonical("CCCCCCCCCCCC(=O)O"))
    assert melting.source == fusion.source == PREDICTED
    assert melting.error > 0 < fusion.error
    assert 250 < melting.value < 400 and 5 < fusion.value < 80


@pytest.mark.parametrize("text", ["", "C[N+](C)(C)CCO", "no such substance", "1-2-3)("])
def test_what_is_no_component_is_refused(text: str) -> None:
    pytest.importorskip("chemicals")
    with pytest.raises(DataError, match="expected"):
        component(text)


def test_a_smiles_is_no_formula() -> None:
    pytest.importorskip("chemicals")
    assert component("NC(N)=O").smiles == component("urea").smiles == canonical("NC(N)=O")


def test_given_values_win_and_must_be_positive() -> None:
    pytest.importorskip("chemicals")
    found = component("thymol", 320.0, 18.0)
    assert (found.melting.value, found.fusion.value) == (320.0, 18.0)
    assert component("89-83-8").smiles == component("thymol").smiles == THYMOL.smiles
    with pytest.raises(ConfigError, match="above 0"):
        component("thymol", melting_point=-1)


def test_unifac_says_what_it_lacks() -> None:
    pytest.importorskip("ugropy")
    from molgen.solvents.activity import MissingGroups, group_activity

    with pytest.raises(MissingGroups, match="salts"):
        group_activity((CHOLINE, UREA))
    nothing = group_activity((made("CCCCCC"), made("CCCCCCC")))(300.0, np.array([0.5, 0.5]))
    assert np.abs(nothing).max() < 0.05, "hexane and heptane mix almost ideally"


def test_unifac_for_many_compositions_is_that_of_thermo() -> None:
    pytest.importorskip("ugropy")
    from molgen.solvents.activity import group_activity
    from molgen.solvents.unifac import activities, unifac_curve

    pair = (THYMOL, made("CCCCCCCCCC(=O)O", 304.8, 27.5))
    x = np.array([[0.1, 0.9], [0.5, 0.5], [0.93, 0.07]])
    one, many = group_activity(pair), activities(pair)(np.full(3, 310.0), x)
    assert np.allclose(many, [one(310.0, row) for row in x], atol=1e-8)
    assert np.abs(many).max() > 0.1
    found = unifac_curve(pair, x)
    assert np.allclose(found, [liquidus(pair, row, one)[0] for row in x], atol=1e-3)


def test_a_diagram_has_its_eutectic_inside_and_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("chemicals")
    pytest.importorskip("ugropy")
    from molgen.solvents import phase_diagram

    diagram = phase_diagram("menthol", "thymol", points=19)
    x, temperature = diagram.eutectic
    assert 0.4 < x[0] < 0.8 and 240 < temperature < 290
    assert len(diagram.table()) == 19
    assert diagram.liquidus.method == "unifac+learned"
    assert phase_diagram("menthol", "thymol").liquidus.method == "unifac+learned", "at the ends too"
    assert diagram.plot(tmp_path / "d.png").stat().st_size > 5000
    ternary = phase_diagram(CHOLINE, UREA, THYMOL, points=5)
    assert np.allclose(ternary.x.sum(1), 1) and len(ternary.x) == 10
    with pytest.raises(ConfigError, match="two components"):
        ternary.plot(tmp_path / "t.png")


def test_a_broken_forest_is_refused() -> None:
    from molgen.solvents.forest import Forest

    arrays = LiquidusModel.from_pretrained().melting.arrays("m")
    arrays["m.left"] = np.zeros_like(arrays["m.left"])
    with pytest.raises(ModelFileError, match="children"):
        Forest.from_arrays(arrays, "m")


def test_the_scale_is_one_in_the_middle() -> None:
    for shape in (scale, reach):
        assert np.allclose(shape(np.array([0.0, 0.5, 1.0])), [0, 1, 0])
    x = np.linspace(0, 1, 101)
    assert np.allclose(reach(x), reach(1 - x)) and (np.diff(reach(x))[:50] >= 0).all()


@pytest.mark.parametrize(
    ("smiles", "charged"),
    [
        ("C[N+](C)(C)CC(=O)[O-]", True),
        ("C[N+](C)(C)CCO.[Cl-]", True),
        ("O=[N+]([O-])c1ccccc1", False),
        ("CC(=O)O", False),
    ],
)
def test_groups_are_for_substances_without_free_charges(smiles: str, charged: bool) -> None:
    one = Component(smiles, smiles, Known(400, "given"), Known(20, "given"))
    assert one.is_ionic == charged


def test_a_zwitterion_is_left_to_the_learned_model() -> None:
    pytest.importorskip("ugropy")
    betaine = "C[N+](C)(C)CC(=O)[O-]"
    one = Component("betaine", betaine, Known(574, "given"), Known(20, "given"))
    found = LiquidusModel.from_pretrained().predict((one, THYMOL), [[0.3, 0.7]])
    assert found.method == "learned"
