"""Requests through the shipped model: whatever comes back is what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolDescriptors

from diffcore.errors import ConfigError, YieldError
from molgen.generate import MoleculeGenerator
from molgen.steer import redraw
from molgen.weights.files import shipped


@pytest.fixture(scope="module")
def generator() -> Iterator[MoleculeGenerator]:
    if "qm9" not in shipped():
        pytest.skip("the weights qm9 are not in this checkout")
    yield MoleculeGenerator.from_pretrained("qm9")


def embedded(smiles: str) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


def counted(mol: Chem.Mol) -> str:
    """RDKit's formula, of a molecule that it may have refused."""
    return str(rdMolDescriptors.CalcMolFormula(mol, False, False)).rstrip("+-")


def small(generator: MoleculeGenerator, n: int, **options: Any) -> list[Chem.Mol]:
    return generator.sample(n, steps=15, progress=False, **options)


def test_every_molecule_has_the_formula_and_no_charge(generator: MoleculeGenerator) -> None:
    mols = small(generator, 4, formula="C4H8O", seed=1)
    assert len(mols) == 4
    for mol in mols:
        assert counted(mol) == "C4H8O" and Chem.GetFormalCharge(mol) == 0


def test_every_molecule_has_the_charge(generator: MoleculeGenerator) -> None:
    for mol in small(generator, 4, charge=1, n_atoms=12):
        assert Chem.GetFormalCharge(mol) == 1 and mol.GetNumAtoms() == 12


def test_every_molecule_holds_the_scaffold(generator: MoleculeGenerator) -> None:
    pattern = Chem.MolFromSmarts("[#6+0]-,:[#6+0](=[#8+0])-,:[#7+0]")
    for mol in small(generator, 4, scaffold="CC(=O)N", n_atoms=12):
        assert [0, 1, 2, 3] in [list(match) for match in mol.GetSubstructMatches(pattern)]
        for index in range(4):  # every bond end is taken: 4 for C, 2 for O, 3 for N
            ends = sum(b.GetBondTypeAsDouble() for b in mol.GetAtomWithIdx(index).GetBonds())
            assert ends == (4, 4, 2, 3)[index]


def test_every_molecule_holds_the_fragment_where_it_was(generator: MoleculeGenerator) -> None:
    part = embedded("CC(=O)N")
    part.GetConformer().SetPositions(part.GetConformer().GetPositions() @ _turn() + [5.0, -3, 9])
    before = part.GetConformer().GetPositions()
    for mol in small(generator, 4, keep=part, n_atoms=14):
        assert np.array_equal(mol.GetConformer().GetPositions()[:4], before[:4])
        assert [a.GetSymbol() for a in mol.GetAtoms()][:4] == ["C", "C", "O", "N"]
    assert np.array_equal(part.GetConformer().GetPositions(), before)


def test_marked_sites_carry_the_rest_and_the_others_their_hydrogens(
    generator: MoleculeGenerator,
) -> None:
    for mol in small(generator, 2, scaffold="*OC(C)*", n_atoms=12):
        assert [a.GetSymbol() for a in mol.GetAtoms()][:3] == ["O", "C", "C"]
        heavy, hydrogens = [0, 0, 0], [0, 0, 0]
        for index in range(3):
            for other in mol.GetAtomWithIdx(index).GetNeighbors():
                if other.GetAtomicNum() == 1:
                    hydrogens[index] += 1
                else:
                    heavy[index] += other.GetIdx() > 2
        assert heavy == [1, 1, 0] and hydrogens == [0, 1, 3]


def test_a_linker_joins_two_fragments_that_stay_where_they_are(
    generator: MoleculeGenerator,
) -> None:
    cut = Chem.RWMol(Chem.RemoveHs(embedded("O=CCCCC#N")))
    cut.RemoveAtom(3)
    ends = cut.GetMol()
    assert len(Chem.GetMolFrags(ends)) == 2
    for mol in small(generator, 2, keep=ends, n_atoms=17):
        places = mol.GetConformer().GetPositions()[:6]
        assert np.array_equal(places, ends.GetConformer().GetPositions())
        (joined,) = [piece for piece in Chem.GetMolFrags(mol) if 0 in piece]
        assert set(range(6)) <= set(joined)
        kept = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()}
        assert {p for p in kept if max(p) < 6} == {(0, 1), (1, 2), (3, 4), (4, 5)}


def _turn() -> np.ndarray:
    c, s = np.cos(1.1), np.sin(1.1)
    return np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])


def test_a_molecule_of_a_request_depends_on_seed_and_index_alone(
    generator: MoleculeGenerator,
) -> None:
    whole = small(generator, 4, formula="C3H8O", seed=3)
    tail = list(generator.stream(1, formula="C3H8O", seed=3, start=3, steps=15))
    assert generator.evaluations > 0
    for one, other in zip(whole[3:], tail, strict=True):
        assert one.GetProp("index") == other.GetProp("index")
        ours, theirs = (m.GetConformer().GetPositions() for m in (one, other))
        assert np.allclose(ours, theirs, atol=1e-3)


def test_a_request_that_is_never_met_ends_with_what_was_missing(
    generator: MoleculeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redraw, "HOPELESS", (4, 0.5))
    with pytest.raises(YieldError, match="hopeless: 0 of 4 molecules .* have C9H12O, charge .0"):
        generator.sample(4, formula="C9H12O", steps=1, progress=False)


def test_contradictions_are_refused_before_any_evaluation(generator: MoleculeGenerator) -> None:
    before = generator.evaluations
    for options in (
        {"formula": "C7H9O2"},
        {"scaffold": "c1ccccc1", "formula": "C5H10O"},
        {"property": {"logp": 1.0}},
    ):
        with pytest.raises(ConfigError):
            generator.stream(3, **options)
    with pytest.raises(TypeError, match="colour"):
        generator.stream(3, colour="red")
    assert generator.evaluations == before
