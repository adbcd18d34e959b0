"""Repair: better geometry, same graph, same stereo; planted changes of either are refused."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import ConfigError
from molgen import repair as module
from molgen.relax import Relaxed, relax_mmff
from molgen.repair import changed_graph, changed_stereo, repair


def embedded(smiles: str, seed: int = 1) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=seed) == 0
    return mol


def moved(mol: Chem.Mol, positions: np.ndarray) -> Chem.Mol:
    copy = Chem.Mol(mol)
    copy.GetConformer().SetPositions(np.ascontiguousarray(positions))
    return copy


def swapped(mol: Chem.Mol, first: int, second: int) -> Chem.Mol:
    """A copy in which two atoms have changed places."""
    positions = mol.GetConformer().GetPositions().copy()
    positions[[first, second]] = positions[[second, first]]
    return moved(mol, positions)


def relaxing_to(monkeypatch: pytest.MonkeyPatch, after: Chem.Mol, converged: bool = True) -> None:
    """Let the relaxation end in a given geometry."""
    monkeypatch.setattr(
        module, "METHODS", {"mmff": lambda mol: Relaxed(after, 10.0, 1.0, 0.2, converged)}
    )


def test_a_strained_molecule_is_repaired_and_says_so() -> None:
    mol = embedded("C[C@H](N)C(=O)O")
    mol.SetProp("_Name", "alanine")
    noise = np.random.default_rng(0).normal(scale=0.05, size=(mol.GetNumAtoms(), 3))
    rough = moved(mol, mol.GetConformer().GetPositions() + noise)
    before = rough.GetConformer().GetPositions().copy()
    result = repair(rough)
    assert result.reason == ""
    assert result.mol is not None
    assert result.mol.GetPropsAsDict().keys() >= {
        "repair",
        "repair_energy_kcal_mol",
        "repair_rmsd",
    }
    assert float(result.mol.GetProp("repair_energy_kcal_mol")) > 1
    assert result.mol.GetProp("_Name") == "alanine"
    assert relax_mmff(result.mol).energy < 0.01
    assert np.array_equal(rough.GetConformer().GetPositions(), before)
    assert not rough.HasProp("repair")
    for one in (rough, result.mol):
        Chem.AssignStereochemistryFrom3D(one)
    assert Chem.MolToSmiles(rough) == Chem.MolToSmiles(result.mol)


def test_an_inverted_centre_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mol = embedded("C[C@H](N)C(=O)O")
    hydrogen = next(a for a in mol.GetAtomWithIdx(1).GetNeighbors() if a.GetAtomicNum() == 1)
    mirror = moved(mol, mol.GetConformer().GetPositions() * [1, 1, -1])
    for after in (mirror, swapped(mol, 0, hydrogen.GetIdx())):
        relaxing_to(monkeypatch, after)
        result = repair(mol)
        assert result.mol is None
        assert result.reason.startswith(("repair changed the stereo: C2", "repair changed the gr"))
    relaxing_to(monkeypatch, mirror)
    assert repair(mol).reason in {
        "repair changed the stereo: C2 from R to S",
        "repair changed the stereo: C2 from S to R",
    }


def test_a_centre_without_a_cip_code_is_seen() -> None:
    """1,3-Dimethylcyclobutane: cis and trans differ, yet no centre is R or S by itself."""
    cis, trans = embedded("C[C@H]1C[C@@H](C)C1"), embedded("C[C@H]1C[C@H](C)C1")
    assert changed_stereo(cis, cis) == "" == changed_stereo(trans, trans)
    assert changed_stereo(cis, trans).startswith("repair changed the stereo: C")


def test_a_turned_double_bond_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    e = embedded("C/C(F)=C(C)/F")
    z = embedded("C/C(F)=C(C)\\F")
    relaxing_to(monkeypatch, z)
    assert "double bond 2-4 from" in repair(e).reason
    relaxing_to(monkeypatch, e)
    assert repair(e).mol is not None


def test_hydrogens_that_trade_places_are_no_stereo() -> None:
    mol = embedded("CCO")
    neighbours = mol.GetAtomWithIdx(0).GetNeighbors()
    first, second, *_ = (atom.GetIdx() for atom in neighbours if atom.GetAtomicNum() == 1)
    assert changed_stereo(mol, swapped(mol, first, second)) == ""


def test_a_bond_that_breaks_or_forms_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mol = embedded("CCO")
    assert changed_graph(mol) == ""
    positions = mol.GetConformer().GetPositions()
    torn = positions.copy()
    torn[3] += 2 * (torn[3] - torn[0])
    relaxing_to(monkeypatch, moved(mol, torn))
    assert repair(mol).reason == "repair changed the graph: a bond C-H broke"
    glued = positions.copy()
    glued[3] = glued[2] + [0.0, 0.0, 0.9]
    assert changed_graph(moved(mol, glued)).startswith("repair changed the graph: a bond")


def test_a_proton_that_xtb_moves_is_a_changed_graph() -> None:
    """Glycine's zwitterion is no minimum in vacuo: the proton goes over to the carboxylate."""
    pytest.importorskip("tblite")
    zwitterion = embedded("[NH3+]CC(=O)[O-]", seed=3)
    result = repair(zwitterion, "xtb")
    assert result.mol is None
    assert result.reason.startswith("repair changed the graph: a bond")


def test_xtb_repairs_a_small_molecule() -> None:
    pytest.importorskip("tblite")
    result = repair(embedded("OO"), "xtb")
    assert result.mol is not None
    assert result.mol.GetProp("repair") == "xtb"


def test_failures_are_reasons_and_unknown_methods_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = Chem.AddHs(Chem.MolFromSmiles("CC"))
    assert repair(flat).reason == "repair failed: expected a molecule with a 3D conformer, got none"
    assert repair(embedded("C[Se]C")).reason.startswith("repair failed: MMFF94s has no parameters")
    mol = embedded("C")
    relaxing_to(monkeypatch, mol, converged=False)
    assert repair(mol).reason == "repair did not converge"
    with pytest.raises(ConfigError, match="unknown repair 'uff': expected one of mmff"):
        repair(mol, "uff")


@pytest.mark.parametrize(
    "smiles",
    ["C1CC1", "C12CC1C2", "C1C2CC1C2", "C#CC#N", "c1ccccc1", "C12C3C4C1C5C2C3C45", "FC(F)(F)C=O"],
)
def test_good_geometries_of_strained_molecules_are_not_called_changed(smiles: str) -> None:
    mol = relax_mmff(embedded(smiles)).mol
    result = repair(mol)
    assert result.mol is not None, result.reason
