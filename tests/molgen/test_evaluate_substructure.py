"""Properties, ring systems, scaffolds, functional groups: counted by hand on small molecules."""

from __future__ import annotations

import sys

import pytest
from rdkit import Chem

import molgen.evaluate
from molgen.datasets.reference import Reference, load_reference
from molgen.evaluate import properties, substructure
from molgen.evaluate.prepared import Prepared
from tests.molgen.test_evaluate import embedded


def prepared(smiles: str) -> Prepared:
    return Prepared(Chem.AddHs(Chem.MolFromSmiles(smiles)))


@pytest.mark.parametrize(
    ("smiles", "systems"),
    [
        ("CCO", {}),
        ("C1CC1C1CC1", {"C1CC1": 2}),  # two systems, joined by a bond
        ("C1CC12CC2", {"C1CC12CC2": 1}),  # spiro: one system
        ("c1ccc2ccccc2c1", {"c1ccc2ccccc2c1": 1}),
        ("Cc1ccccc1", {"c1ccccc1": 1}),
        ("C1CC2CCC1C2", {"C1CC2CCC1C2": 1}),  # bridged
        ("c1ccccc1-c1cc[nH]c1", {"c1ccccc1": 1, "c1cc[nH]c1": 1}),
    ],
)
def test_ring_systems(smiles: str, systems: dict[str, int]) -> None:
    cell = substructure.ring_systems(prepared(smiles))
    assert substructure.parse_counts(cell) == systems


def test_ring_systems_of_three_rings_that_meet_one_by_one() -> None:
    """The last ring found can join two that had been apart."""
    cell = substructure.ring_systems(prepared("C1CCC2C(C1)CC1CCCCC1C2"))
    assert list(substructure.parse_counts(cell).values()) == [1]


def test_scaffold_and_functional_groups() -> None:
    assert substructure.scaffold(prepared("CCc1ccccc1")) == "c1ccccc1"
    assert substructure.scaffold(prepared("CCO")) == ""
    groups = substructure.parse_counts(substructure.functional_groups(prepared("CC(=O)OCCO")))
    assert groups["ester"] == 1 and groups["Al_OH"] == 1 and "amide" not in groups


def test_total_variation() -> None:
    assert substructure.total_variation({"a": 3, "b": 1}, {"a": 6, "b": 2}) == 0
    assert substructure.total_variation({"a": 1}, {"b": 5}) == 1
    assert substructure.total_variation({"a": 1, "b": 1}, {"a": 1, "c": 1}) == 0.5


def test_unseen_ring_systems_are_shares_of_valid_molecules_with_a_ring() -> None:
    known = load_reference("qm9")
    narrow = Reference(**{**vars(known), "ring_systems": {"C1CC1": 5}})
    mols = [embedded(s) for s in ("C1CC1", "C1CCC1", "CCO")] + [None]
    evaluation = molgen.evaluate(mols, narrow, progress=False)
    assert evaluation.value("unseen_ring_systems") == pytest.approx(50)
    assert evaluation.value("ring_system_distance") == pytest.approx(0.5)
    assert evaluation.value("scaffold_diversity") == 100
    assert molgen.evaluate(mols, known, progress=False).value("unseen_ring_systems") == 0


def test_functional_group_distance_falls_when_the_groups_are_those_of_the_reference() -> None:
    known = load_reference("qm9")
    ether = Reference(**{**vars(known), "functional_groups": {"ether": 10}})
    near = molgen.evaluate([embedded("CCOCC"), embedded("CCCOCC")], ether, progress=False)
    far = molgen.evaluate([embedded("CC=O"), embedded("CC#N")], ether, progress=False)
    name = "functional_group_distance"
    assert near.value(name) == 0 and far.value(name) == pytest.approx(1, abs=1e-9)


def test_sa_score_is_ertls_and_leaves_the_path_alone() -> None:
    """Benzene and ethanol are easy, a strained cage is hard: 1 to 10."""
    before = list(sys.path)
    easy, hard = (properties.sa_score(prepared(s)) for s in ("CCO", "C12C3C4C1C5C2C3C45"))
    assert sys.path == before and "sascorer" not in sys.modules
    assert 1 <= easy < 3 < hard <= 10
    assert properties.sa_score(Prepared(Chem.Mol())) is None


def test_lipinski() -> None:
    assert properties.lipinski_violations(prepared("CCO")) == 0
    greasy = "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC"  # heavy and lipophilic
    assert properties.lipinski_violations(prepared(greasy)) == 2
    sugar = (
        "OCC1OC(OC2C(O)C(O)C(O)OC2CO)C(O)C(O)C1OC1OC(CO)C(O)C(O)C1O"  # donors, acceptors, weight
    )
    assert properties.lipinski_violations(prepared(sugar)) == 3


def test_alerts() -> None:
    quinone = prepared("O=C1C=CC(=O)C=C1")
    assert "quinone" in properties.pains_alerts(quinone)
    assert properties.brenk_alerts(prepared("CC=O")) != ""
    assert (
        properties.pains_alerts(prepared("CCO")) == properties.brenk_alerts(prepared("CCO")) == ""
    )
    evaluation = molgen.evaluate([embedded("CC=O"), embedded("CCO"), None], progress=False)
    assert evaluation.value("with_brenk_alert") == pytest.approx(50)


def test_molecules_that_do_not_sanitise_have_no_properties() -> None:
    pentavalent = Prepared(Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False))
    for measure in (
        properties.logp, properties.qed, properties.sa_score, properties.lipinski_violations,
        properties.pains_alerts, substructure.ring_systems, substructure.scaffold,
        substructure.functional_groups,
    ):  # fmt: skip
        assert measure(pentavalent) is None
