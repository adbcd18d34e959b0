"""Solvent design: targets, novelty, roles, scores against the diagrams they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffcore.errors import ConfigError
from molgen.solvents.components import Component, Known, canonical
from molgen.solvents.novelty import is_novel, key, library, nearest, well_known
from molgen.solvents.targets import Range, ranges


def made(smiles: str, melting: float = 350.0, error: float = 0.0) -> Component:
    return Component(
        smiles, canonical(smiles), Known(melting, "given", error), Known(20.0, "given")
    )


@pytest.mark.parametrize(
    "target",
    [
        {"eutectic_temperature": [("<", 250), (">", 300)]},
        {"eutectic_temperature": ("<", -5)},
        {"x_acceptor": (">", 1.5)},
        {"eutectic_temperature": ("=", 300)},
        {"eutectic_temperature": ("<", float("nan"))},
        {"eutectic_temperature": ("<", "cold")},
        {"colour": ("<", 3)},
        {"alerts": 3},
    ],
)
def test_a_target_that_makes_no_sense_is_refused(target: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="target"):
        ranges(target)  # type: ignore[arg-type]


def test_bounds_add_up() -> None:
    found = ranges({"eutectic_temperature": [("<", 300), (">", 250)], "alerts": ("<", 0)})
    assert found == {"eutectic_temperature": Range(250, 300), "alerts": Range(high=0)}


def test_the_probability_is_that_of_a_normal_distribution() -> None:
    assert Range(high=300).probability(300, 10) == pytest.approx(0.5)
    assert Range(290, 310).probability(300, 10) == pytest.approx(math.erf(1 / math.sqrt(2)))
    assert (Range(high=300).probability(299, 0), Range(high=300).probability(301, 0)) == (1, 0)


def test_known_systems_are_known_in_either_order() -> None:
    names = library()
    menthol, thymol = names["menthol"], names["thymol"]
    assert key(menthol, thymol) == key(thymol, menthol) != key(menthol, menthol)
    assert not is_novel(thymol, menthol) and is_novel(names["caffeine"], names["squalene"])
    assert nearest(thymol, menthol).name == "menthol + thymol"
    assert nearest(thymol, menthol).similarity == 1
    assert nearest(names["carvacrol"], menthol).similarity < 1
    assert len(names) > 80 and all("doi:" in reference for _, _, reference in well_known())
    assert {name for row in well_known() for name in row[:2]} <= set(names)


def test_the_library_agrees_with_the_tables_of_chemicals() -> None:
    chemicals = pytest.importorskip("chemicals")
    import csv

    from molgen.solvents.novelty import REFERENCES

    with (REFERENCES / "solvent_components.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            assert canonical(chemicals.search_chemical(row["cas"]).smiles) == row["smiles"], row


def test_roles_and_filters() -> None:
    pytest.importorskip("rdkit")
    from molgen.solvents.choice import alerts, is_acceptor, is_donor, passes
    from molgen.solvents.designer import pairs

    salt = canonical("C[N+](C)(C)CCO.[Cl-]")
    assert is_acceptor(salt) and not is_donor(salt)
    assert is_donor("CCO") and is_acceptor("CCO") and not is_donor("CC(C)=O")
    assert not passes("CCCCCC") and not passes("C[Si](C)(C)O") and not passes("O")
    assert alerts("CC(=O)Cl") and not alerts("CCO")
    pool = [made(s) for s in ("CCO", "CC(C)=O", "NC(N)=O")]
    found = list(pairs(pool, np.random.default_rng(0), novel=False))
    assert len(found) == 3, "each pair once; two ketones would not do"
    assert all(is_donor(d.smiles) and is_acceptor(a.smiles) for a, d in found)


def test_a_score_says_what_the_diagram_says() -> None:
    pytest.importorskip("ugropy")
    from molgen.solvents import phase_diagram
    from molgen.solvents.designer import judged

    sure = (made("CC1CCC(C(C)C)C(O)C1"), made("Cc1ccc(C(C)C)c(O)c1"))
    diagram = phase_diagram(*sure, points=19)
    row = judged(diagram, ranges({"eutectic_temperature": ("<", 300)})).row
    assert row["eutectic_temperature"] == diagram.liquidus.temperature.min()
    assert row["lower"] < row["eutectic_temperature"] < row["upper"]
    assert not row["novel"] and row["meets"] is (row["eutectic_temperature"] < 300)
    unsure = phase_diagram(made(sure[0].smiles, error=30.0), sure[1], points=19)
    wider = judged(unsure, ranges({})).row
    assert wider["upper"] - wider["lower"] > row["upper"] - row["lower"] + 20


def test_proposals_meet_the_target_and_differ() -> None:
    pytest.importorskip("ugropy")
    from molgen.solvents import SolventDesigner
    from molgen.solvents.designer import drawings

    designer = SolventDesigner.from_pretrained()
    asked = {"eutectic_temperature": ("<", 300), "molar_mass": ("<", 180)}
    found = designer.propose(6, asked, seed=3, generated=0, scored=80)
    assert 0 < len(found) <= 6
    assert (found["molar_mass"] <= 180).all() and found["novel"].all()
    assert found["probability"].between(0, 1).all()
    pairs = {frozenset(p) for p in zip(found["acceptor"], found["donor"], strict=True)}
    assert len(pairs) == len(found) == len(found.attrs["diagrams"])
    lowest = [d.eutectic[1] for d in found.attrs["diagrams"]]
    assert np.allclose(lowest, found["eutectic_temperature"])
    assert drawings(found).size[0] > 300
    again = designer.propose(6, asked, seed=3, generated=0, scored=80)
    assert again["donor"].tolist() == found["donor"].tolist()


def test_an_impossible_target_gives_an_empty_table() -> None:
    pytest.importorskip("ugropy")
    from molgen.solvents import SolventDesigner
    from molgen.solvents.designer import drawings

    designer = SolventDesigner.from_pretrained()
    found = designer.propose(3, {"molar_mass": ("<", 5)}, generated=0, scored=5)
    assert found.empty and "probability" in found
    with pytest.raises(ConfigError, match="none"):
        drawings(found)
    for wrong in ({"n": 0}, {"scored": 0}, {"generated": -1}, {"each": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="expected"):
            designer.propose(**wrong)


def test_components_are_written_by_a_model_of_tokens_too() -> None:
    pytest.importorskip("selfies")
    from molgen.solvents.choice import fitting, written

    made = written("qm9-causal-selfies", 12, seed=0)
    assert made == written("qm9-causal-selfies", 12, seed=0) and len(made) > 8
    kept = fitting([*made, "OCC(O)CO", "C1CC1", "not a molecule", "CC(=O)Cl"])
    assert "OCC(O)CO" in kept and not {"C1CC1", "not a molecule", "CC(=O)Cl"} & set(kept)


def test_the_viscosity_counts_in_logarithms() -> None:
    assert Range(high=100.0).logarithms == Range(high=math.log(100.0))
    assert Range(10.0, 100.0).logarithms.probability(math.log(100.0), 1e6) < 0.01
    assert Range(0.0, 100.0).logarithms.low == -math.inf
    assert ranges({"viscosity": ("<", 100)})["viscosity"].high == 100
