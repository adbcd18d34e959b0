"""The strict scorer: every planted fault is caught, whatever else is in the batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

import molgen.evaluate
from diffcore.errors import ConfigError, DataError, OutputError
from molgen.datasets.reference import Reference, load_reference, smiles_hash
from molgen.evaluate.distribution import internal_diversity
from molgen.evaluate.prepared import Prepared
from molgen.evaluate.table import METRICS


def embedded(smiles: str) -> Chem.Mol:
    """A molecule with explicit hydrogens and 3D, kekulised and not sanitised, as generated."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return bare(mol)


def bare(mol: Chem.Mol) -> Chem.Mol:
    """The same graph and conformer, built anew: no implicit hydrogens, no flags."""
    kekulised = Chem.Mol(mol)
    Chem.Kekulize(kekulised, clearAromaticFlags=True)
    copy = Chem.RWMol()
    for old in kekulised.GetAtoms():
        atom = Chem.Atom(old.GetAtomicNum())
        atom.SetFormalCharge(old.GetFormalCharge())
        atom.SetNoImplicit(True)
        copy.AddAtom(atom)
    for bond in kekulised.GetBonds():
        copy.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondType())
    for conformer in kekulised.GetConformers():
        copy.AddConformer(conformer, assignId=True)
    return copy.GetMol()


def without_atom(mol: Chem.Mol, index: int) -> Chem.Mol:
    copy = Chem.RWMol(mol)
    copy.RemoveAtom(index)
    return copy.GetMol()


def score(mols: list, reference: str | Reference | None = "qm9") -> molgen.evaluate.Evaluation:
    return molgen.evaluate(mols, reference, progress=False)


def only(mol: Chem.Mol | None, reference: str | Reference | None = "qm9") -> pd.Series:
    return score([mol], reference).table.iloc[0]


@pytest.mark.parametrize("smiles", ["c1ccccc1", "CCO", "C#N", "c1cc[nH]c1", "OC1=NC=CN1", "CC=O"])
def test_good_molecules_pass_every_strict_check(smiles: str) -> None:
    row = only(embedded(smiles))
    assert row["strict_valid"] and row["reason"] == ""
    assert row["atom_stability"] == 1 and row["molecule_stability"]
    assert row["has_3d"] and row["n_fragments"] == 1 and row["error"] == ""
    assert row["smiles"] == Chem.CanonSmiles(smiles)
    assert row["midi_molecule_stability"] and row["connected_validity"]


def test_benzene_is_stable_aromatic_or_kekulised() -> None:
    """Aromatic orders of 1.5 must not be cut to 1 by an integer."""
    kekulised = embedded("c1ccccc1")
    aromatic = Chem.Mol(kekulised)
    Chem.SanitizeMol(aromatic)
    assert any(bond.GetIsAromatic() for bond in aromatic.GetBonds())
    table = score([kekulised, aromatic]).table
    assert table["molecule_stability"].all() and table["strict_valid"].all()
    assert table["midi_molecule_stability"].all()
    assert Prepared(kekulised).atoms == Prepared(aromatic).atoms
    assert (6, 0, 2, 1) in Prepared(aromatic).atoms


def test_two_fragments() -> None:
    two = Chem.CombineMols(embedded("CCO"), embedded("C"))
    row = only(two)
    assert not row["strict_valid"] and row["reason"] == "fragments: 2"
    assert row["n_fragments"] == 2
    assert row["molecule_stability"]  # stability does not ask for one fragment ...
    assert row["midi_validity"] and not row["connected_validity"]  # ... and one legacy neither


def test_hidden_radical() -> None:
    ethanol = embedded("CCO")
    radical = without_atom(ethanol, ethanol.GetNumAtoms() - 1)  # the hydroxyl hydrogen
    row = only(radical)
    assert not row["strict_valid"] and row["reason"] == "radical: 1 unpaired electron"
    assert not row["molecule_stability"]
    assert row["atom_stability"] == pytest.approx(7 / 8)
    assert row["connected_validity"]  # the legacy definition lets it pass


def test_implicit_hydrogens() -> None:
    mol = Chem.RWMol(Chem.MolFromSmiles("CCO"))
    row = only(mol.GetMol())
    assert not row["strict_valid"] and row["reason"] == "implicit hydrogens: 6 missing"
    assert row["atom_stability"] == 0 and row["connected_validity"]


def test_pentavalent_carbon() -> None:
    mol = Chem.RWMol(embedded("C"))
    hydrogen = Chem.Atom(1)
    hydrogen.SetNoImplicit(True)
    mol.AddBond(0, mol.AddAtom(hydrogen), Chem.BondType.SINGLE)
    row = only(mol.GetMol())
    assert not row["strict_valid"] and row["reason"].startswith("does not sanitise: Explicit val")
    assert row["atom_stability"] == pytest.approx(5 / 6) and not row["molecule_stability"]
    assert not row["midi_validity"]


def test_unknown_charge_is_unstable_and_does_not_count_as_zero() -> None:
    mol = Chem.RWMol(embedded("C"))
    mol.GetAtomWithIdx(0).SetFormalCharge(2)
    row = only(mol.GetMol())
    assert not row["strict_valid"] and not row["molecule_stability"]
    assert row["atom_stability"] == pytest.approx(4 / 5)
    assert row["midi_molecule_stability"]  # the published trap: unknown charges fall back to 0


def test_charge_missing_in_the_reference_is_named() -> None:
    row = only(embedded("[OH3+]"))
    assert row["reason"] == "charge not in the reference: O+" and row["charge"] == 1


def test_element_missing_in_the_reference_is_named() -> None:
    row = only(embedded("CS"))
    assert row["reason"] == "element not in the reference: S"
    assert row["atom_stability"] == pytest.approx(5 / 6) and row["error"] == ""


def test_valency_missing_in_the_reference_is_named() -> None:
    known = load_reference("qm9")
    fewer = {**known.valency, (6, 0): {(2, 1): 1}}
    narrow = Reference(**{**vars(known), "valency": fewer})
    row = only(embedded("C"), narrow)
    assert row["reason"] == "valency not in the reference: C with 4"


def test_sanitisation_must_not_change_the_molecule() -> None:
    """RDKit rewrites N(=O)=O to the charge-separated form: then it is not the molecule made."""
    nitro = Chem.RWMol(embedded("C[N+](=O)[O-]"))
    nitrogen, oxygen = nitro.GetAtomWithIdx(1), nitro.GetAtomWithIdx(3)
    nitrogen.SetFormalCharge(0)
    oxygen.SetFormalCharge(0)
    nitro.GetBondBetweenAtoms(1, 3).SetBondType(Chem.BondType.DOUBLE)
    row = only(nitro.GetMol())
    assert row["reason"] == "sanitisation changes its formal charges"
    assert not row["molecule_stability"]


def test_a_ring_that_cannot_be_kekulised() -> None:
    mol = Chem.RWMol(Chem.MolFromSmiles("c1ccccc1"))
    mol.RemoveAtom(0)
    mol.AddBond(0, 4, Chem.BondType.AROMATIC)
    for bond in mol.GetBonds():
        bond.SetBondType(Chem.BondType.AROMATIC)
        bond.SetIsAromatic(True)
    for atom in mol.GetAtoms():
        atom.SetIsAromatic(True)
    row = only(mol.GetMol())
    assert row["reason"].startswith("does not sanitise: Can't kekulize")
    assert row["error"] == ""


def test_missing_and_flat_3d() -> None:
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    point = embedded("CCO")
    for i in range(point.GetNumAtoms()):
        point.GetConformer().SetAtomPosition(i, (0.0, 0.0, 0.0))
    broken = embedded("CCO")
    broken.GetConformer().SetAtomPosition(0, (math.nan, 0.0, 0.0))
    evaluation = score([flat, point, broken, embedded("CCO")])
    assert evaluation.table["has_3d"].tolist() == [False, False, False, True]
    assert evaluation.table["strict_valid"].all()  # a graph needs no geometry to be valid
    assert evaluation.table["edm_atom_stability"].notna().tolist() == [False] * 3 + [True]
    assert evaluation.value("has_3d") == 25
    stable = evaluation.summary.set_index("metric").loc["edm_molecule_stability"]
    assert stable["n"] == 1


def test_duplicates_are_counted_before_deduplication() -> None:
    mols = [embedded("CCO")] * 3 + [embedded("C"), None]
    evaluation = score(mols)
    assert evaluation.table["unique"].tolist()[:4] == [True, False, False, True]
    assert pd.isna(evaluation.table["unique"].iloc[4])
    assert evaluation.value("uniqueness") == pytest.approx(50)
    assert evaluation.value("legacy_uniqueness_after_dedup") == 100
    assert evaluation.value("valid_unique_novel") <= 40


def test_novelty_is_against_the_training_set() -> None:
    known = embedded("C1CCCCC1")
    new = embedded("FC(F)(F)C(F)(F)C(F)(F)C(F)(F)F")
    hashes = np.array([smiles_hash("C1CCCCC1")], dtype=np.uint64)
    held = Reference(**{**vars(load_reference("qm9")), "smiles_hashes": hashes})
    evaluation = score([known, new], held)
    assert evaluation.table["novel"].tolist() == [False, True]
    assert evaluation.value("novelty") == 50


def test_hostile_items_cost_one_row_each() -> None:
    empty = Chem.Mol()
    mols = [None, "CCO", 3.0, empty, embedded("CCO"), Chem.MolFromSmarts("[#6]~[#7]")]
    evaluation = score(mols)
    table = evaluation.table
    assert len(table) == 6 and table["index"].tolist() == list(range(6))
    assert table["strict_valid"].tolist() == [False] * 4 + [True, False]
    assert table["reason"].iloc[0] == "no molecule" and table["reason"].iloc[3] == "no atoms"
    assert table["error"].iloc[1] == "expected an rdkit Mol, got str"
    assert (table.loc[~table["strict_valid"], "reason"] != "").all()
    assert evaluation.value("strict_valid") == pytest.approx(100 / 6)
    assert sum(evaluation.reasons().values()) == 5


def test_a_metric_that_fails_costs_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(prepared: Prepared) -> float:
        raise RuntimeError("planted")

    bad = METRICS["qed"].__class__(**{**vars(METRICS["qed"]), "row": broken})
    monkeypatch.setitem(METRICS, "qed", bad)
    row = only(embedded("CCO"))
    assert row["strict_valid"] and math.isnan(float(row["qed"] or math.nan))
    assert row["error"] == "qed: RuntimeError: planted"


def test_arguments_are_not_changed() -> None:
    mols = [embedded("c1ccccc1"), Chem.MolFromSmiles("CCO"), embedded("CO")]
    before = [mol.ToBinary() for mol in mols]
    score(mols)
    assert [mol.ToBinary() for mol in mols] == before


def test_bad_arguments() -> None:
    with pytest.raises(DataError, match="at least one"):
        score([])
    with pytest.raises(ConfigError, match="expected a list of molecules, got Mol"):
        score(embedded("C"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="unknown reference 'nope'"):
        score([embedded("C")], "nope")
    with pytest.raises(ConfigError, match="no metric 'nope'"):
        score([embedded("C")]).value("nope")


def test_without_a_reference() -> None:
    evaluation = score([embedded("CS"), embedded("C")], None)
    assert evaluation.table["strict_valid"].all()
    assert math.isnan(evaluation.value("atom_stability"))
    assert math.isnan(evaluation.value("novelty"))


def test_summary_has_every_metric_and_its_definition() -> None:
    evaluation = molgen.evaluate(
        [embedded("CCO") for _ in range(10)],
        run={"seconds": 5.0, "evaluations": 25},
        progress=False,
    )
    summary = evaluation.summary.set_index("metric")
    assert set(summary.index) >= {
        name for name, metric in METRICS.items() if metric.summarised and metric.cost == "cheap"
    }
    assert (summary["definition"].str.len() > 0).all()
    assert set(summary["family"]) == {"strict", "description", "legacy"}
    assert summary.loc["strict_valid", "value"] == 100 and summary.loc["strict_valid", "std"] == 0
    assert summary.loc["seconds_per_molecule", "value"] == pytest.approx(0.5)
    assert summary.loc["network_evaluations", "value"] == 25
    columns = {name for name, m in METRICS.items() if m.row and m.cost == "cheap"}
    assert columns <= set(evaluation.table.columns)


def test_deviation_over_five_subsets() -> None:
    """Ten molecules, one broken: the subsets of two score 50, 100, 100, 100, 100."""
    good, bad = embedded("CCO"), Chem.MolFromSmiles("CCO")
    evaluation = score([bad] + [good] * 9)
    std = evaluation.summary.set_index("metric").loc["strict_valid", "std"]
    assert std == pytest.approx(math.sqrt(500))  # mean 90: (40^2 + 4 * 10^2) / 4
    assert math.isnan(score([good]).summary["std"].iloc[0])


def test_internal_diversity_of_two_molecules_is_one_minus_tanimoto() -> None:
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in ("CCO", "CCCO")]
    table = pd.DataFrame({"strict_valid": [True, True], "smiles": ["CCO", "CCCO"]})
    value, n = internal_diversity(table)
    assert n == 2 and value == pytest.approx(1 - DataStructs.TanimotoSimilarity(*prints))


def test_rows_as_csv_and_html(tmp_path: Path) -> None:
    evaluation = score([embedded("CCO"), None])
    path = tmp_path / "rows.csv"
    evaluation.to_csv(path)
    assert len(pd.read_csv(path)) == 2
    with pytest.raises(OutputError, match="exists"):
        evaluation.to_csv(path)
    evaluation.to_csv(path, force=True)
    with pytest.raises(OutputError, match="cannot write"):
        evaluation.to_csv(tmp_path / "no" / "rows.csv")
    html = evaluation._repr_html_()
    assert "strict_valid" in html and "nan" not in html.lower()
    assert "strict_valid" in evaluation.text()


def test_importing_the_package_is_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys, molgen, molgen.evaluate; "
        "assert callable(molgen.evaluate); "
        "heavy = {'rdkit', 'pandas', 'torch', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_rdkit_stays_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    with rdBase.BlockLogs():
        pentavalent = Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False)
    score([pentavalent])
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_real_molecules_score_at_least_999_in_a_thousand() -> None:
    """QM9's own test split; needs the converted data set in the cache."""
    from molgen.chem import mol_from_arrays
    from molgen.datasets.qm9 import cache_path, load

    if not cache_path().exists():
        pytest.skip("QM9 has not been converted on this machine")
    table = load(progress=False)
    chosen = table.select(table.split_indices("test")[::10])
    mols = []
    for i in range(len(chosen)):
        one = chosen.batch([i])
        arrays = (one["atomic_number"], one["charge"], one["bond"], one["pos"])
        mols.append(mol_from_arrays(*(array[0].numpy() for array in arrays)))
    evaluation = score(mols)
    assert evaluation.value("strict_valid") >= 99.9
    assert evaluation.value("molecule_stability") >= 99.9
