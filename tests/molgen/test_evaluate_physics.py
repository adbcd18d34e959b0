"""Energies and PoseBusters: planted faults are caught, failures are counted, nothing is hidden."""

from __future__ import annotations

import io
import math
import sys
from functools import cache

import numpy as np
import pandas as pd
import pytest
import rdkit
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers

import molgen.evaluate
from molgen.evaluate import energy, poses
from molgen.evaluate.prepared import Prepared
from tests.molgen.test_evaluate import bare, embedded
from tests.molgen.test_evaluate_geometry import moved


@cache
def relaxed(smiles: str) -> Chem.Mol:
    mol = embedded(smiles)
    Chem.SanitizeMol(mol)
    assert rdForceFieldHelpers.MMFFOptimizeMolecule(mol, "MMFF94s", 2000) == 0
    return bare(mol)


def stretched(mol: Chem.Mol, i: int, j: int, by: float) -> Chem.Mol:
    """The part of the molecule beyond the bond i-j moved along it."""
    broken = Chem.RWMol(mol)
    broken.RemoveBond(i, j)
    beyond = next(list(part) for part in Chem.GetMolFrags(broken) if j in part)
    positions = np.array(mol.GetConformer().GetPositions())
    axis = positions[j] - positions[i]
    positions[beyond] += by * axis / np.linalg.norm(axis)
    return moved(mol, positions)


def test_a_relaxed_molecule_has_no_strain_and_a_stretched_bond_has() -> None:
    good, bad = relaxed("CCO"), stretched(relaxed("CCO"), 0, 1, 0.4)
    table = molgen.evaluate([good, bad], progress=False).table
    assert table["mmff_strain"].iloc[0] == pytest.approx(0, abs=0.01)
    assert table["mmff_rmsd"].iloc[0] < 0.02
    assert table["mmff_strain"].iloc[1] > 20 and table["mmff_rmsd"].iloc[1] > 0.1
    assert table["strict_valid"].all()  # the graph is the same


def test_strain_of_a_stretched_bond_follows_hooke() -> None:
    """The energy of small displacements grows with their square."""
    strains = [energy.mmff_strain(Prepared(stretched(relaxed("C"), 0, 1, x))) for x in (0.01, 0.02)]
    assert strains[1] / strains[0] == pytest.approx(4, rel=0.15)


def test_energies_are_not_averaged_over_those_that_succeeded() -> None:
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    radical = Chem.RWMol(embedded("CCO"))
    radical.RemoveAtom(8)
    two = Chem.CombineMols(embedded("C"), embedded("O"))
    mols = [relaxed("CCO"), flat, radical.GetMol(), two, None]
    evaluation = molgen.evaluate(mols, progress=False)
    assert evaluation.table["mmff_status"].tolist()[:4] == [
        "converged", "no 3D conformer", "radical: 1 unpaired electron", "fragments: 2"
    ]  # fmt: skip
    assert evaluation.value("mmff_failures") == pytest.approx(80)
    row = evaluation.summary.set_index("metric").loc["mmff_strain"]
    assert row["n"] == 1 and row["unit"] == "kcal/mol"


def test_atoms_without_parameters_are_a_failure_that_is_named() -> None:
    table = molgen.evaluate([embedded("C[Se]C")], None, progress=False).table
    assert table["mmff_strain"].isna().all() and "parameters" in table["mmff_status"].iloc[0]


def test_not_converged_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from molgen.relax import relax_mmff

    monkeypatch.setattr(energy, "relax_mmff", lambda mol: replace(relax_mmff(mol), converged=False))
    relaxation = energy.relaxed_mmff(Prepared(relaxed("C")))
    assert relaxation.status == "not converged" and relaxation.energy is None


def test_median_and_failures_of_a_set() -> None:
    table = pd.DataFrame({"x": [1.0, None, 9.0, 2.0]})
    assert energy.median(table, "x") == (2.0, 3)
    assert energy.failures(table, "x") == (0.25, 4)
    assert math.isnan(energy.median(table, "y")[0]) and math.isnan(energy.failures(table, "y")[0])


# ------------------------------------------------------------------------------------------ xTB


def test_xtb_measures_what_a_stretched_bond_costs() -> None:
    pytest.importorskip("tblite")
    mols = [relaxed("CCO"), stretched(relaxed("CCO"), 0, 1, 0.3), None]
    evaluation = molgen.evaluate(mols, include="xtb", progress=False)
    table = evaluation.table
    assert table["xtb_status"].tolist()[:2] == ["converged", "converged"]
    assert 0 <= table["xtb_energy"].iloc[0] < 5 and table["xtb_energy"].iloc[1] > 15
    assert table["xtb_bond_shift"].iloc[1] > 0.02 > table["xtb_bond_shift"].iloc[0]
    assert (table.loc[:1, ["xtb_rmsd", "xtb_angle_shift", "xtb_torsion_shift"]] >= 0).all(axis=None)
    assert evaluation.value("xtb_converged") == pytest.approx(100 * 2 / 3)
    assert evaluation.value("xtb_failures") == pytest.approx(100 / 3)


def test_shifts_of_one_stretched_bond_by_hand() -> None:
    """Methane, one bond longer by d: the mean over its four bonds is about d / 4."""
    pytest.importorskip("tblite")
    shape = Prepared(relaxed("C"))
    settled = energy.relaxed_xtb(shape)
    longer = energy.relaxed_xtb(Prepared(stretched(relaxed("C"), 0, 1, 0.2)))
    assert longer.bonds == pytest.approx(0.05, abs=settled.bonds + 0.02)
    assert longer.angles is not None and longer.torsions is None  # methane has no torsion


def test_charge_of_the_molecule_is_the_sum_of_the_formal_charges() -> None:
    """Ammonium relaxes as a cation: as the neutral radical NH4 it would fall apart."""
    pytest.importorskip("tblite")
    relaxation = energy.relaxed_xtb(Prepared(relaxed("[NH4+]")))
    assert relaxation.status == "converged"
    assert relaxation.energy < 3 and relaxation.rmsd < 0.05


@pytest.mark.parametrize("module", ["tblite", "posebusters"])
def test_a_missing_package_costs_its_columns_and_says_so(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what an absent package looks like
    monkeypatch.setattr(poses, "_buster", poses._buster.__wrapped__)
    dear = {"tblite": "xtb", "posebusters": "posebusters"}[module]
    evaluation = molgen.evaluate([relaxed("C"), None], include=dear, progress=False)
    assert evaluation.table["strict_valid"].tolist() == [True, False]  # the run goes on
    said = evaluation.table["error"].iloc[0]
    assert module in said and "pip install" in said
    column = {"xtb": "xtb_energy", "posebusters": "pb_valid"}[dear]
    assert evaluation.table[column].isna().all()
    assert math.isnan(evaluation.value(column))


# --------------------------------------------------------------------------------- PoseBusters


@cache
def pb(smiles: str) -> poses.Checks:
    pytest.importorskip("posebusters")
    return poses.checked(Prepared(relaxed(smiles)))


def test_good_molecules_pass() -> None:
    assert pb("CCO") == pb("c1ccccc1O") == poses.Checks()


def test_stretched_bond_fails_its_check() -> None:
    pytest.importorskip("posebusters")
    checks = poses.checked(Prepared(stretched(relaxed("CCO"), 0, 1, 0.8)))
    assert "bond_lengths" in checks.failed


def test_bent_benzene_fails_flatness() -> None:
    pytest.importorskip("posebusters")
    mol = relaxed("c1ccccc1")
    positions = np.array(mol.GetConformer().GetPositions())
    normal = np.linalg.svd(positions - positions.mean(0))[2][2]
    for i in (0, 3):
        positions[i] += 1.0 * normal
    checks = poses.checked(Prepared(moved(mol, positions)))
    assert "aromatic_ring_flatness" in checks.failed


def test_fragments_radicals_and_flat_molecules_fail() -> None:
    pytest.importorskip("posebusters")
    two = Chem.CombineMols(relaxed("CCO"), moved(relaxed("C"), np.array(
        relaxed("C").GetConformer().GetPositions()) + [9.0, 0, 0]))  # fmt: skip
    assert "all_atoms_connected" in poses.checked(Prepared(two)).failed
    radical = Chem.RWMol(relaxed("CCO"))
    radical.RemoveAtom(8)
    assert "no_radicals" in poses.checked(Prepared(radical.GetMol())).failed
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    assert poses.checked(Prepared(flat)).failed == ("no 3D conformer",)
    pentavalent = Chem.RWMol(relaxed("C"))
    extra = Chem.Atom(1)
    extra.SetNoImplicit(True)
    pentavalent.AddBond(0, pentavalent.AddAtom(extra), Chem.BondType.SINGLE)
    checks = poses.checked(Prepared(pentavalent.GetMol()))
    assert checks.failed and poses.pb_failed(Prepared(pentavalent.GetMol()))


def test_energy_alone_separates_the_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = Prepared(relaxed("C"))
    prepared.__dict__["posebusters"] = poses.Checks(failed=(poses.ENERGY,))
    assert not poses.pb_valid(prepared) and poses.pb_valid_no_energy(prepared)
    assert poses.pb_failed(prepared) == "internal_energy"


def test_missing_molecules_stay_in_the_denominator() -> None:
    table = pd.DataFrame({"pb_valid": [True, None, False, True]})
    assert poses.share(table, "pb_valid") == (0.5, 4)
    assert poses.share(table.astype("boolean"), "pb_valid") == (0.5, 4)
    assert math.isnan(poses.share(pd.DataFrame({"pb_valid": [None, None]}), "pb_valid")[0])
    table = pd.DataFrame({"pb_unchecked": ["", None, "internal_energy"]})
    assert poses.without_energy(table) == (0.5, 2)


def test_posebusters_leaves_the_log_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    """A molecule that RDKit refuses is a row of the table, not a line on the terminal."""
    pytest.importorskip("posebusters")
    oxonium = Chem.RWMol(embedded("COC"))
    oxonium.AddBond(oxonium.AddAtom(Chem.Atom(1)), 1, Chem.BondType.SINGLE)
    conformer = oxonium.GetConformer()
    conformer.SetAtomPosition(oxonium.GetNumAtoms() - 1, (0.0, 0.0, 3.0))
    before = rdBase.LogStatus()
    table = molgen.evaluate([bare(oxonium)] * 2, include="posebusters", progress=False).table
    assert table["pb_failed"].str.contains("sanitization").all()
    assert rdBase.LogStatus() == before
    assert "valence" not in "".join(capfd.readouterr())


def test_posebusters_does_not_fail_by_a_closed_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's or a test's standard error may be closed while RDKit's log still holds it."""
    pytest.importorskip("posebusters")
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(rdkit.log_handler, "stream", closed)
    table = molgen.evaluate([embedded("CCO")], include="posebusters", progress=False).table
    assert table["pb_valid"].all() and not table["pb_failed"].any()


@pytest.mark.slow
def test_real_molecules_pass_posebusters() -> None:
    """QM9's own test split: at least 97 % of 200; needs the converted data set in the cache."""
    pytest.importorskip("posebusters")
    from molgen.datasets.qm9 import cache_path, load
    from molgen.datasets.reference_statistics import molecules

    if not cache_path().exists():
        pytest.skip("QM9 has not been converted on this machine")
    table = load(progress=False)
    test = table.split_indices("test")
    chosen = table.select(test[:: len(test) // 200][:200])
    evaluation = molgen.evaluate(list(molecules(chosen)), include="posebusters", progress=False)
    assert evaluation.value("pb_valid") >= 97
    assert evaluation.value("strict_valid") >= 99.9
