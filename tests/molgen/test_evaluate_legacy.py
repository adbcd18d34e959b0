"""The definitions of the papers: what they accept and refuse, flaws included."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from molgen.evaluate import legacy
from molgen.evaluate.prepared import Prepared


def placed(smiles: str, positions: list[tuple[float, float, float]]) -> Chem.Mol:
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.Set3D(True)
    for i, position in enumerate(positions):
        conformer.SetAtomPosition(i, position)
    mol.AddConformer(conformer)
    return mol


@pytest.mark.parametrize(
    ("pair", "distance", "order"),
    [
        ((6, 6), 1.65, 0),  # 154 pm + 10
        ((6, 6), 1.63, 1),
        ((6, 6), 1.38, 2),  # 134 + 5
        ((6, 6), 1.22, 3),  # 120 + 3
        ((6, 7), 1.18, 3),
        ((1, 6), 1.18, 1),
        ((1, 6), 1.20, 0),
        ((9, 6), 1.00, 1),  # no double bond in the table, however short
        ((5, 8), 1.30, 0),  # a pair that the table does not hold
    ],
)
def test_bond_orders_from_distances(pair: tuple[int, int], distance: float, order: int) -> None:
    positions = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])
    found = legacy.edm_bond_orders(np.array(pair), positions)
    assert found.tolist() == [[0, order], [order, 0]]


def test_tables_are_symmetric_and_ordered() -> None:
    longest = legacy._LONGEST
    assert (longest == longest.swapaxes(1, 2)).all()
    known = longest[1] > 0
    assert (longest[0][known] > longest[1][known]).all()
    known = longest[2] > 0
    assert (longest[1][known] > longest[2][known]).all()


def test_edm_sees_geometry_only() -> None:
    """The graph says acetylene; the positions say two far carbons with a hydrogen each."""
    positions = [(-3.06, 0.0, 0.0), (-2.0, 0.0, 0.0), (2.0, 0.0, 0.0), (3.06, 0.0, 0.0)]
    far = Prepared(placed("[H]C#C[H]", positions))
    assert legacy.edm_atom_stability(far) == pytest.approx(0.5)  # the hydrogens
    assert legacy.edm_molecule_stability(far) is False
    assert legacy.edm_validity(far) is True  # hydrogens are added, fragments pass
    positions = [(-1.66, 0.0, 0.0), (-0.6, 0.0, 0.0), (0.6, 0.0, 0.0), (1.66, 0.0, 0.0)]
    near = Prepared(placed("[H]C#C[H]", positions))
    assert legacy.edm_molecule_stability(near) is True


def test_edm_needs_3d() -> None:
    flat = Prepared(Chem.MolFromSmiles("C"))
    assert legacy.edm_atom_stability(flat) is None
    assert legacy.edm_molecule_stability(flat) is None
    assert legacy.edm_validity(flat) is None


@pytest.mark.parametrize(
    ("smiles", "stable"),
    [
        ("[H][C]([H])[H]", [True, True, True, True]),  # MiDi lets a neutral carbon have 3 bonds
        ("[H][O]", [True, False]),
        ("[H][N+]([H])([H])[H]", [True] * 5),
        ("[H][C+2]([H])([H])[H]", [True] * 5),  # an unknown charge falls back to 0
        ("[Xe]", [False]),
    ],
)
def test_midi_stability(smiles: str, stable: list[bool]) -> None:
    prepared = Prepared(Chem.MolFromSmiles(smiles, sanitize=False))
    assert legacy._midi_stable(prepared) == stable
    assert legacy.midi_molecule_stability(prepared) is all(stable)
    assert legacy.midi_atom_stability(prepared) == pytest.approx(np.mean(stable))


def test_midi_validity_drops_the_smaller_fragment() -> None:
    larger = Chem.MolFromSmiles("CO.C(C)(C)(C)(C)C", sanitize=False)
    assert legacy.midi_validity(Prepared(larger)) is False
    smaller = Chem.MolFromSmiles("CCCCCCCCO.C(C)(C)(C)(C)C", sanitize=False)
    assert legacy.midi_validity(Prepared(smaller)) is True
    assert legacy.connected_validity(Prepared(smaller)) is False
    assert legacy.midi_validity(Prepared(Chem.Mol())) is False


@pytest.mark.parametrize(
    ("smiles", "stable"),
    [
        ("[H][C+2]([H])([H])[H]", False),  # an unknown charge is no charge 0 here
        ("[H][N+]([H])([H])[H]", True),
        ("[H][C]([H])[H]", True),  # a radical passes: its valency 3 is in the table
        ("[Xe]", False),
    ],
)
def test_semlaflow_stability(smiles: str, stable: bool) -> None:
    prepared = Prepared(Chem.MolFromSmiles(smiles, sanitize=False))
    assert legacy.semlaflow_molecule_stability(prepared) is stable


def test_semlaflow_validity_lets_fragments_pass() -> None:
    assert legacy.semlaflow_validity(Prepared(Chem.MolFromSmiles("CO.C"))) is True
    broken = Prepared(Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False))
    assert legacy.semlaflow_validity(broken) is False
    assert legacy.semlaflow_molecule_stability(broken) is False
    assert legacy.semlaflow_atom_stability(broken) is None
    assert legacy.semlaflow_validity(Prepared(Chem.Mol())) is False


@pytest.mark.parametrize(
    ("smiles", "cut", "summed"),
    [
        ("c1ccccc1", True, True),  # 3 for a carbon of benzene when cut: the table allows it
        ("[CH3]", True, True),  # which is why a methyl radical passes
        ("c1ccc2ccccc2c1", True, True),
        ("C[n+]1ccccc1", True, True),
        ("c1cc[o+]cc1", False, True),  # 2 for an oxygen with three bonds
    ],
)
def test_truncation_of_aromatic_bonds(smiles: str, cut: bool, summed: bool) -> None:
    prepared = Prepared(Chem.AddHs(Chem.MolFromSmiles(smiles)))
    assert legacy.truncated_molecule_stability(prepared) is cut
    assert legacy.midi_molecule_stability(prepared) is summed
