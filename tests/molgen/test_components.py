"""The component dictionary: conversion of a small made-up one, reasons, exclusion, split."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from diffcore.errors import DataError, OutputError
from molgen.datasets import components
from molgen.datasets.component_rows import Record, build, skeleton
from molgen.datasets.exclusion import skeletons_in


def record(smiles, name="ABC", **changes):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    names = [f"{a.GetSymbol()}{a.GetIdx()}" for a in mol.GetAtoms()]
    orders = {1.0: "SING", 2.0: "DOUB", 3.0: "TRIP"}
    values = {
        "number": 0,
        "name": name,
        "pdb": "1ABC",
        "date": "2001-02-03",
        "status": "REL",
        "atom_names": names,
        "elements": [a.GetSymbol().upper() for a in mol.GetAtoms()],
        "charges": [a.GetFormalCharge() for a in mol.GetAtoms()],
        "positions": np.array(mol.GetConformer().GetPositions()),
        "bonds": [
            (
                names[b.GetBeginAtomIdx()],
                names[b.GetEndAtomIdx()],
                orders[b.GetBondTypeAsDouble()],
            )
            for b in mol.GetBonds()
        ],
    }
    return Record(**(values | changes))


def smiles_of(mol):
    return Chem.MolToSmiles(Chem.RemoveHs(mol))


@pytest.mark.parametrize("smiles", ["C[C@H](N)C(=O)O", "c1ccncc1Cl", "OC/C=C/C", "C[N+](C)(C)CC"])
def test_a_record_becomes_its_molecule_with_stereo(smiles):
    assert smiles_of(build(record(smiles))) == Chem.CanonSmiles(smiles)


def test_hydrogens_without_a_place_are_placed():
    one = record("CCO")
    lost = one.positions.copy()
    lost[-1] = np.nan
    made = build(record("CCO", positions=lost))
    assert made.GetNumAtoms() == 9
    assert np.isfinite(made.GetConformer().GetPositions()).all()


@pytest.mark.parametrize(
    ("smiles", "changes", "reason"),
    [
        ("CCO", {"status": "OBS"}, "obsolete"),
        ("CCO", {"pdb": "?"}, "no PDB entry"),
        ("CO", {}, "too small"),
        ("CCO", {"positions": np.full((9, 3), np.nan)}, "no coordinates"),
        ("CCO", {"positions": np.zeros((9, 3))}, "no coordinates"),
        ("CCO", {"elements": ["FE"] + ["C"] * 8}, "element"),
        ("CCO", {"elements": ["QQ"] + ["C"] * 8}, "element"),
        ("CCO", {"charges": [5] + [0] * 8}, "not accepted by RDKit"),
        ("CCO", {"bonds": [("C0", "X9", "SING")]}, "not accepted by RDKit"),
    ],
)
def test_what_is_left_out_says_why(smiles, changes, reason):
    with pytest.raises(DataError, match=reason):
        build(record(smiles, **changes))


def test_salts_are_left_out():
    one = record("CCO.CCO")
    pair = Chem.AddHs(Chem.MolFromSmiles("CCO.CCO"))
    apart = one.positions.copy()
    apart[list(Chem.GetMolFrags(pair)[1])] += 20
    with pytest.raises(DataError, match="fragments"):
        build(record("CCO.CCO", positions=apart))


@pytest.fixture
def dictionary(tmp_path):
    """A dictionary of four records in the format of the real one."""
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    records = [
        record("CCCO", "AAA"),
        record("CCCN", "BBB", date="2025-06-01"),
        record("CCCS", "CCC", status="OBS"),
        record("c1ccccc1CO", "DDD"),
    ]
    atoms = [
        (r.name, n, e, c, *p)
        for r in records
        for n, e, c, p in zip(r.atom_names, r.elements, r.charges, r.positions, strict=True)
    ]
    bonds = [(r.name, *b) for r in records for b in r.bonds]

    def category(names, rows):
        return pdbx.BinaryCIFCategory(
            {
                n: np.array(list(column))
                for n, column in zip(names, zip(*rows, strict=True), strict=True)
            }
        )

    wanted = components._COLUMNS
    atom_order = (
        "comp_id",
        "atom_id",
        "type_symbol",
        "charge",
        "model_Cartn_x",
        "model_Cartn_y",
        "model_Cartn_z",
    )
    assert atom_order == wanted["chem_comp_atom"]
    block = pdbx.BinaryCIFBlock(
        {
            "chem_comp": category(
                wanted["chem_comp"], [(r.name, r.date, r.pdb, r.status) for r in records]
            ),
            "chem_comp_atom": category(atom_order, atoms),
            "chem_comp_bond": category(wanted["chem_comp_bond"], bonds),
        }
    )
    path = tmp_path / "dictionary.bcif"
    pdbx.BinaryCIFFile({"components": block}).write(str(path))
    return path


def test_conversion_split_and_exclusion(dictionary, tmp_path, monkeypatch):
    monkeypatch.setenv("DESIGNLOOM_CACHE", str(tmp_path / "cache"))
    components.convert(source=dictionary, workers=1, progress=False)
    table = components.load(progress=False)
    assert components.names(table) == ["AAA", "BBB", "DDD"]
    assert table.split.tolist() == [0, 1, 0]
    assert table.card["left_out"]["obsolete"] == 1
    assert table.card["counts"]["kept"] == 3
    test = tmp_path / "test.sdf"
    with Chem.SDWriter(str(test)) as writer:
        writer.write(Chem.MolFromSmiles("OCCC"))
    found = skeletons_in([test])
    assert found.counts == ((test, 1, 0),)
    kept = components.excluded(table, set(found.skeletons))
    assert components.names(kept) == ["BBB", "DDD"]
    assert kept.card["excluded"] == 1
    assert "excluded" not in table.card
    with pytest.raises(OutputError, match="--force"):
        components.convert(out=components.cache_path(), source=dictionary, progress=False)


def test_stereo_and_charge_do_not_change_the_skeleton():
    keys = {
        skeleton(Chem.MolFromSmiles(s)) for s in ("C[C@H](N)C(=O)O", "C[C@@H]([NH3+])C(=O)[O-]")
    }
    assert len(keys) == 1
    assert skeleton(Chem.MolFromSmiles("CCCO")) not in keys


def test_broken_files_are_refused_in_a_line(tmp_path):
    pytest.importorskip("biotite")
    torn = tmp_path / "torn.bcif"
    torn.write_bytes(b"\x83\xa7version")
    with pytest.raises(DataError, match="not a readable component dictionary"):
        components.convert(out=tmp_path / "o.safetensors", source=torn, progress=False)
    assert not (tmp_path / "o.safetensors").exists()
    with pytest.raises(DataError, match="no such file"):
        skeletons_in([tmp_path / "nowhere.sdf"])
    with pytest.raises(DataError, match="found none"):
        skeletons_in([tmp_path])
