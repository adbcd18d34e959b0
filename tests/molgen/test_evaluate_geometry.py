"""Bond lengths, angles and torsions: closed forms, and distances between distributions."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from scipy.stats import wasserstein_distance

import molgen.evaluate
from molgen.datasets.reference import load_reference
from molgen.evaluate import geometry
from molgen.evaluate.prepared import Prepared
from tests.molgen.test_evaluate import embedded


def moved(mol: Chem.Mol, positions: np.ndarray) -> Chem.Mol:
    copy = Chem.Mol(mol)
    copy.GetConformer().SetPositions(np.ascontiguousarray(positions, dtype=float))
    return copy


def test_right_angle_and_torsions_of_a_square() -> None:
    corners = np.array([[1.0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]])
    assert geometry.lengths(corners, np.array([[0, 1], [1, 3]])) == pytest.approx([1, 2**0.5])
    assert geometry.angles(corners, np.array([[0, 1, 2], [1, 0, 2]])) == pytest.approx([90, 45])
    assert geometry.torsions(corners, np.array([[0, 1, 2, 3]])) == pytest.approx([0])
    for degrees in (-170.0, -90.0, -1.0, 30.0, 120.0, 180.0):
        turn = np.radians(degrees)
        bent = corners.copy()
        bent[3] = [np.cos(turn), 1, -np.sin(turn)]
        found = geometry.torsions(bent, np.array([[0, 1, 2, 3]]))
        assert abs(found[0]) == pytest.approx(abs(degrees))
        assert degrees == 180 or found[0] == pytest.approx(degrees)


def test_internal_coordinates_agree_with_rdkit() -> None:
    mol = embedded("CC(O)C=O")
    conformer, graph = mol.GetConformer(), geometry.internal(mol)
    positions = np.array(conformer.GetPositions())
    n = mol.GetNumAtoms()
    assert len(graph.bonds) == mol.GetNumBonds()
    degrees = [atom.GetDegree() for atom in mol.GetAtoms()]
    assert len(graph.angles) == sum(d * (d - 1) // 2 for d in degrees)
    expected = [rdMolTransforms.GetAngleDeg(conformer, *t) for t in graph.angles.tolist()]
    assert geometry.angles(positions, graph.angles) == pytest.approx(expected)
    turns = geometry.torsions(positions, graph.torsions)
    expected = [rdMolTransforms.GetDihedralDeg(conformer, *t) for t in graph.torsions.tolist()]
    assert np.cos(np.radians(turns)) == pytest.approx(np.cos(np.radians(expected)))
    assert np.sin(np.radians(turns)) == pytest.approx(np.sin(np.radians(expected)), abs=1e-9)
    assert graph.torsions.max() < n


def test_torsion_over_a_linear_angle_is_not_defined() -> None:
    mol = embedded("CC#CC")
    quads = geometry.internal(mol).torsions
    turns = geometry.torsions(np.array(mol.GetConformer().GetPositions()), quads)
    about_triple = [set(q[1:3]) == {1, 2} for q in quads.tolist()]
    assert np.isnan(turns[about_triple]).all()
    assert "C#C" not in geometry.torsion_angles(Prepared(mol))


def test_cells_name_types_and_hold_every_value() -> None:
    prepared = Prepared(embedded("c1ccccc1O"))
    cell = geometry.bond_lengths(prepared)
    found = geometry.collected([cell, cell, None, float("nan")])
    assert {name: len(values) for name, values in found.items()} == {
        "C-H": 10, "C:C": 12, "C-O": 2, "H-O": 2
    }  # fmt: skip
    exact = geometry.lengths(prepared.positions, prepared.internal.bonds)
    assert sorted(np.concatenate(list(found.values()))) == pytest.approx(
        sorted(np.repeat(exact, 2)), abs=5e-4
    )
    assert "C-O2-H" in geometry.collected([geometry.bond_angles(prepared)])
    assert set(geometry.collected([geometry.torsion_angles(prepared)])) == {"C:C@"}


def test_cells_do_not_depend_on_mirror_rotation_or_order() -> None:
    mol = embedded("CC(O)(F)C=O")
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    positions = np.array(mol.GetConformer().GetPositions())
    mirrored = moved(mol, positions @ turn * [1, 1, -1] + [1, 2, 3])
    shuffled = Chem.RenumberAtoms(mirrored, rng.permutation(mol.GetNumAtoms()).tolist())
    for measure in (geometry.bond_lengths, geometry.bond_angles, geometry.torsion_angles):
        first, second = (geometry.collected([measure(Prepared(m))]) for m in (mol, shuffled))
        assert set(first) == set(second)
        for name, values in first.items():
            width = 1.01 if measure is geometry.torsion_angles else 0.11
            assert np.sort(values) == pytest.approx(np.sort(second[name]), abs=width)


def test_wasserstein_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = np.sort(rng.normal(size=7)), np.sort(rng.normal(size=11).round(1))
        u, v = rng.uniform(0.1, 1, 7), rng.uniform(0.1, 1, 11)
        expected = wasserstein_distance(a, b, u, v)
        assert geometry.wasserstein((a, u), (b, v)) == pytest.approx(expected)
    point = (np.array([1.0]), np.array([3.0]))
    assert geometry.wasserstein(point, point) == 0
    assert geometry.wasserstein(point, (np.array([3.5]), np.array([1.0]))) == 2.5


def test_distance_is_weighted_by_the_reference_and_leaves_out_what_one_side_lacks() -> None:
    known = {
        "A": (np.array([1.0]), np.array([30.0])),
        "B": (np.array([1.0]), np.array([10.0])),
        "C": (np.array([1.0]), np.array([60.0])),
    }
    made = {"A": np.array([1.1, 1.1]), "B": np.array([1.5]), "D": np.array([9.0])}
    value, n = geometry.weighted_distance(made, known)
    assert value == pytest.approx((0.1 * 30 + 0.5 * 10) / 40) and n == 3
    assert np.isnan(geometry.weighted_distance({"D": np.array([1.0])}, known)[0])
    joined = geometry.merged(known, {"A": "x", "B": "x", "C": "y"})
    assert joined["x"][0].tolist() == [1.0] and joined["x"][1].tolist() == [40.0]


def test_stretching_every_molecule_moves_the_lengths_by_that_much() -> None:
    """All bonds 5 % longer: lengths move by 5 % of a bond, angles and torsions not at all."""
    mols = [embedded(smiles) for smiles in ("CCO", "CC=O", "CCN", "c1ccccc1", "CC#N", "OCCO")]
    longer = [moved(m, np.array(m.GetConformer().GetPositions()) * 1.05) for m in mols]
    before, after = (molgen.evaluate(ms, progress=False) for ms in (mols, longer))
    mean = np.concatenate(
        list(geometry.collected(after.table["bond_lengths"].tolist()).values())
    ).mean()
    shift = after.value("bond_length_distance") - before.value("bond_length_distance")
    assert 0.5 * 0.05 < shift / mean < 0.06
    for same in ("bond_angle_distance", "torsion_distance"):
        assert after.value(same) == pytest.approx(before.value(same), abs=0.05)
    mixed = "midi_bond_length_distance"  # a mixture of elements: the composition drowns the shift
    assert abs(after.value(mixed) - before.value(mixed)) < shift / 10
    assert after.value("unseen_bonds") == 0


def test_bonds_that_the_reference_lacks_are_counted() -> None:
    evaluation = molgen.evaluate([embedded("CS"), embedded("C")], progress=False)
    assert evaluation.value("unseen_bonds") == pytest.approx(100 * 2 / 9)  # C-S and S-H
    assert evaluation.value("element_distance") > 0.1


def test_no_geometry_no_value() -> None:
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    evaluation = molgen.evaluate([flat, None], progress=False)
    assert evaluation.table["bond_lengths"].isna().all()
    for name in ("bond_length_distance", "midi_bond_angle_distance", "unseen_bonds"):
        assert np.isnan(evaluation.value(name))


def test_the_shipped_reference_knows_chemistry() -> None:
    """Textbook lengths and angles, within what QM9's variety allows."""
    reference = load_reference("qm9")

    def average(pair: tuple[np.ndarray, np.ndarray]) -> float:
        return float(np.average(pair[0], weights=pair[1]))

    for name, expected in {"C-C": 1.53, "C=O": 1.21, "C-H": 1.09, "H-O": 0.97, "C#N": 1.16}.items():
        assert average(reference.bond_lengths[name]) == pytest.approx(expected, abs=0.02)
    assert average(reference.bond_angles["H-C4-H"]) == pytest.approx(108, abs=2)
    assert average(reference.bond_angles["C-C2-C"]) > 170
    counted = sum(counts.sum() for _, counts in reference.bond_lengths.values())
    bonds = sum(count for order, count in reference.bond_orders.items() if order)
    assert counted / bonds == pytest.approx(0.2, rel=0.02)  # one molecule in five
    for values, counts in reference.bond_angles.values():
        assert (np.diff(values) > 0).all() and (counts > 0).all() and 0 <= values.min()
        assert values.max() <= 180
