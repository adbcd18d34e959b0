"""Density and viscosity: volumes of the literature, laws of the temperature, planted lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffcore.errors import ConfigError, DataError, ModelFileError
from molgen.solvents import data
from molgen.solvents.components import Component, Known, canonical
from molgen.solvents.liquid import SHIPPED, LiquidModel, axis, mixture
from molgen.solvents.volume import mcgowan


def made(smiles: str) -> Component:
    return Component(smiles, canonical(smiles), Known(350.0, "given"), Known(20.0, "given"))


CHOLINE, UREA, GLYCEROL = made("C[N+](C)(C)CCO.[Cl-]"), made("NC(N)=O"), made("OCC(O)CO")


@pytest.mark.parametrize(
    ("smiles", "volume"), [("O", 16.73), ("CCO", 44.91), ("c1ccccc1", 71.64), ("CCCCCC", 95.40)]
)
def test_mcgowan_volumes_are_those_of_the_literature(smiles: str, volume: float) -> None:
    assert mcgowan(smiles) == pytest.approx(volume, abs=0.01)


def test_an_unknown_element_has_a_volume() -> None:
    assert mcgowan("[Cl-].[Cl-].[Zn+2]") > mcgowan("[Cl-].[Na+]") > 0


@pytest.mark.parametrize("pair", [(CHOLINE, UREA), (made("CC(C)C1CCC(C)CC1O"), made("Oc1ccccc1"))])
def test_a_hotter_liquid_is_thinner_and_lighter(pair: tuple[Component, Component]) -> None:
    model, hot = LiquidModel.from_pretrained(), np.linspace(273.15, 393.15, 13)
    for quantity in ("density", "viscosity"):
        found = model.predict(quantity, pair, [[0.4, 0.6]] * len(hot), hot)
        assert (np.diff(found.value) < 0).all()
        assert (found.lower < found.value).all() and (found.value < found.upper).all()


def test_the_order_of_the_components_does_not_matter() -> None:
    model = LiquidModel.from_pretrained()
    for quantity in ("density", "viscosity"):
        one = model.predict(quantity, (CHOLINE, UREA, GLYCEROL), [[0.2, 0.3, 0.5]], 320.0)
        other = model.predict(quantity, (GLYCEROL, CHOLINE, UREA), [[0.5, 0.2, 0.3]], 320.0)
        assert one.value == pytest.approx(other.value, rel=1e-9)


def test_well_known_solvents_are_near_their_measured_values() -> None:
    """Part of what was learnt from: a wrong unit or a swapped column would show.

    Densities 1.20 and 1.19 g/cm^3, viscosities 750 and 259 mPa s at 298 K (Smith, Abbott and Ryder
    2014, Chem. Rev. 114, 11060, table 6).
    """
    model, x = LiquidModel.from_pretrained(), [[1 / 3, 2 / 3]]
    for other, dense, thick in ((UREA, 1.20, 750), (GLYCEROL, 1.19, 259)):
        parts = (CHOLINE, other)
        assert model.predict("density", parts, x).value[0] == pytest.approx(dense, rel=0.03)
        assert abs(np.log(model.predict("viscosity", parts, x).value[0] / thick)) < np.log(3)


def test_what_cannot_be_predicted_is_refused() -> None:
    model = LiquidModel.from_pretrained()
    with pytest.raises(ConfigError, match="quantity"):
        model.predict("colour", (CHOLINE, UREA), [[0.5, 0.5]])
    with pytest.raises(ConfigError, match="temperature"):
        model.predict("density", (CHOLINE, UREA), [[0.5, 0.5]], 600.0)
    with pytest.raises(ConfigError, match="temperature"):
        model.predict("density", (CHOLINE, UREA), [[0.5, 0.5]], float("nan"))
    with pytest.raises(ConfigError):
        model.predict("density", (CHOLINE, UREA), [[1.0, 0.0]])
    with pytest.raises(DataError, match="different"):
        model.predict("density", (UREA, UREA), [[0.5, 0.5]])
    with pytest.raises(ModelFileError, match="liquids"):
        LiquidModel.from_pretrained(SHIPPED.with_name("eutectic.safetensors"))


def test_a_mixture_of_one_with_a_trace_has_the_mean_of_the_one() -> None:
    pure = mixture([UREA.smiles, CHOLINE.smiles], np.array([1 - 1e-9, 1e-9]))
    width = len(pure) // 4
    from molgen.solvents.descriptors import descriptors

    assert pure[: width - 1] == pytest.approx(descriptors(UREA.smiles), abs=1e-4)
    assert pure[width : 2 * width] == pytest.approx(np.zeros(width), abs=1e-4)


TABLE = """Component#1,Component#2,Component#3,X#1 (molar fraction),X#2 (molar fraction),\
X#3 (molar fraction),"Temperature, K","Density, g/cm^3"
Choline  Chloride,urea,,0.333,0.667,,298.15,1.2
urea,choline chloride,,0.667,0.333,,298.15,1.3
urea,choline chloride,water,0.5,0.25,0.25,298.15,1.18
urea,choline chloride,,0.9,0.333,,298.15,1.2
urea,Cuprymina,,0.5,0.5,,298.15,1.2
urea,choline chloride,,0.667,0.333,,298.15,1200
urea,Urea,,0.5,0.5,,298.15,1.2
urea,1-butyl-3-methylimidazolium CHLORIDE,,0.5,0.5,,298.15,1.1
"""


def test_rows_that_are_no_mixture_are_left_out_and_doubles_merged(tmp_path: Path) -> None:
    pytest.importorskip("chemicals")
    (tmp_path / "designsolvents2024_Density.csv").write_text(TABLE)
    found = data.read_liquid(tmp_path, "density")
    assert len(found) == 3 and found["system"].nunique() == 3
    both = found[found["x"].map(len).eq(2) & found["smiles"].map(lambda s: CHOLINE.smiles in s)]
    assert both["value"].tolist() == [pytest.approx(np.sqrt(1.2 * 1.3))]
    assert sum(both["x"].iloc[0]) == pytest.approx(1)
    with pytest.raises(DataError, match="expected a table"):
        data.read_liquid(tmp_path, "viscosity")


def test_planted_lines_are_found_again() -> None:
    pytest.importorskip("sklearn")
    import pandas as pd

    from molgen.solvents.liquid_training import grow_line, held_out_lines, lines_of, splits_of

    rng, rows = np.random.default_rng(0), []
    chains = ["C" * n + "O" for n in range(2, 14)]
    for k, first in enumerate(chains):
        for second in chains[k + 1 : k + 4]:
            for x in (0.25, 0.5, 0.75):
                mean = x * len(first) + (1 - x) * len(second)
                for kelvin in (283.15, 303.15, 323.15, 343.15):
                    log = 0.3 * mean + (2000 + 100 * mean) * (1 / kelvin - 1 / 313.15)
                    value = np.exp(log + 0.01 * rng.standard_normal())
                    rows.append(((first, second), (x, 1 - x), kelvin, value))
    table = pd.DataFrame(rows, columns=["smiles", "x", "temperature", "value"])
    table["system"] = [" + ".join(s) for s in table["smiles"]]
    table["mixture"] = [f"{s} {x}" for s, x in zip(table["system"], table["x"], strict=True)]
    lines = lines_of("viscosity", table)
    everything = np.arange(len(table))
    model = grow_line(lines, everything, trees=20)
    found, _ = model.line(lines.rows, lines.known, lines.along)
    assert np.abs(found - lines.answers).mean() < 0.05
    slope = model.slope.mean(lines.rows)
    mean = np.array([x[0] * len(s[0]) + x[1] * len(s[1]) for s, x in table[["smiles", "x"]].values])
    assert np.abs(slope - (2000 + 100 * mean)).mean() < 100
    for by in ("system", "component"):
        splits = splits_of(lines.systems, by)
        tested = np.concatenate([test for _, test in splits])
        assert sorted(tested) == everything.tolist()
        for learn, test in splits:
            assert not {lines.systems[i] for i in learn} & {lines.systems[i] for i in test}
        held, spread = held_out_lines(lines, splits, trees=20)
        assert (
            np.abs(held - lines.answers).mean()
            < 0.5 * np.abs(lines.answers - lines.answers.mean()).mean()
        )
        assert (spread > 0).all()
    assert axis("viscosity", np.array([300.0]))[0] > 0 > axis("viscosity", np.array([330.0]))[0]
