"""The molecule table: batches against a plain loop, files that survive, broken ones refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffcore.errors import DataError, OutputError
from molgen.datasets.reference import (
    build_reference,
    load_reference,
    smiles_hash,
    valency_tables,
)
from molgen.datasets.table import MoleculeTable
from molgen.datasets.vocabulary import Vocabulary

PROPERTIES = ("mu", "alpha", "homo", "lumo", "gap", "Cv")
SMILES = ["C", "[NH3+][O-]", "c1ccoc1", "C#N", "O"]


def random_table(n: int = 12, seed: int = 0) -> MoleculeTable:
    """Random graphs that look like molecules to the table, and to nobody else."""
    generator = np.random.default_rng(seed)
    n_atoms = generator.integers(1, 9, size=n)
    pairs, orders, n_bonds = [], [], []
    for size in n_atoms:
        upper = [(i, j) for j in range(size) for i in range(j)]
        chosen = [pair for pair in upper if generator.random() < 0.4]
        pairs += chosen
        orders += generator.integers(1, 4, size=len(chosen)).tolist()
        n_bonds.append(len(chosen))
    total = int(n_atoms.sum())
    text = [f"C{k}" for k in range(n)]
    return MoleculeTable(
        n_atoms=torch.tensor(n_atoms, dtype=torch.int16),
        n_bonds=torch.tensor(n_bonds, dtype=torch.int16),
        pos=torch.tensor(generator.normal(size=(total, 3)) + 5.0, dtype=torch.float32),
        atomic_number=torch.tensor(generator.choice([1, 6, 7, 8], total), dtype=torch.uint8),
        charge=torch.tensor(generator.integers(-1, 2, total), dtype=torch.int8),
        hybridisation=torch.tensor(generator.integers(0, 5, total), dtype=torch.uint8),
        ring=torch.tensor(generator.integers(0, 2, total), dtype=torch.uint8),
        aromatic=torch.tensor(generator.integers(0, 2, total), dtype=torch.uint8),
        bond_atoms=torch.tensor(pairs, dtype=torch.uint8).reshape(-1, 2),
        bond_order=torch.tensor(orders, dtype=torch.uint8),
        properties=torch.tensor(generator.normal(size=(n, 2))),
        split=torch.tensor([k % 3 for k in range(n)], dtype=torch.uint8),
        source_id=torch.arange(1, n + 1, dtype=torch.int32),
        smiles_bytes=torch.tensor(list("".join(text).encode()), dtype=torch.uint8),
        smiles_length=torch.tensor([len(t) for t in text], dtype=torch.int16),
        card={"name": "random", "properties": {"b": "eV", "a": "D"}},
    )


def table_of(smiles: list[str]) -> MoleculeTable:
    """Real molecules, all in the training split."""
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import rdDistGeom

    from molgen.chem import arrays_from_mol, atom_labels, canonical_smiles

    parts: dict[str, list[np.ndarray]] = {}
    for k, text in enumerate(smiles):
        mol = chem.AddHs(chem.MolFromSmiles(text))
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
        arrays = arrays_from_mol(mol)
        bonds = np.stack(np.nonzero(np.triu(arrays["bond_order"])), axis=1)
        name = np.frombuffer(canonical_smiles(mol).encode(), dtype=np.uint8)
        row = {
            "n_atoms": [mol.GetNumAtoms()],
            "n_bonds": [len(bonds)],
            "pos": arrays["pos"],
            "atomic_number": arrays["atomic_number"],
            "charge": arrays["charge"],
            **atom_labels(mol),
            "bond_atoms": bonds,
            "bond_order": arrays["bond_order"][bonds[:, 0], bonds[:, 1]],
            "properties": [[float(len(arrays["pos"]) + j * j) for j in range(len(PROPERTIES))]],
            "split": [0],
            "source_id": [k],
            "smiles_bytes": name,
            "smiles_length": [len(name)],
        }
        for key, value in row.items():
            parts.setdefault(key, []).append(np.asarray(value))
    template = random_table(1)
    tensors = {
        key: torch.from_numpy(np.concatenate(value)).to(getattr(template, key).dtype)
        for key, value in parts.items()
    }
    card = {key: "" for key in ("source", "licence", "version", "counts", "split")}
    return MoleculeTable(**tensors, card={**card, "properties": dict.fromkeys(PROPERTIES, "eV")})


def test_batch_equals_a_plain_loop() -> None:
    table = random_table()
    chosen = [7, 0, 11, 7, 3]
    batch = table.batch(chosen)
    n = max(int(table.n_atoms[k]) for k in chosen)
    assert batch["pos"].shape == (5, n, 3) and batch["bond"].shape == (5, n, n)
    bond_start = np.concatenate([[0], np.cumsum(table.n_bonds.numpy())])
    for row, k in enumerate(chosen):
        size, start = int(table.n_atoms[k]), int(table.offsets[k])
        atoms = slice(start, start + size)
        assert batch["mask"][row].tolist() == [True] * size + [False] * (n - size)
        pos = table.pos[atoms]
        torch.testing.assert_close(batch["pos"][row, :size], pos - pos.mean(0))
        for name in ("atomic_number", "charge", "hybridisation", "ring", "aromatic"):
            assert batch[name][row, :size].tolist() == getattr(table, name)[atoms].tolist()
            assert not batch[name][row, size:].any()
        bond = torch.zeros(n, n, dtype=torch.long)
        for b in range(bond_start[k], bond_start[k + 1]):
            i, j = table.bond_atoms[b].tolist()
            bond[i, j] = bond[j, i] = int(table.bond_order[b])
        assert torch.equal(batch["bond"][row], bond)
        assert not batch["pos"][row, size:].any()


def test_batch_types_are_those_a_network_takes() -> None:
    batch = random_table().batch(torch.tensor([1, 2]))
    assert batch["pos"].dtype == torch.float32 and batch["mask"].dtype == torch.bool
    labels = ("atomic_number", "charge", "hybridisation", "ring", "aromatic", "bond")
    assert all(batch[name].dtype == torch.long for name in labels)


def test_select_then_batch_is_batch() -> None:
    table = random_table()
    chosen = [5, 2, 9]
    part = table.select(chosen)
    for name, value in table.batch(chosen).items():
        assert torch.equal(part.batch([0, 1, 2])[name], value)
    assert part.smiles() == [table.smiles()[k] for k in chosen]
    assert part.source_id.tolist() == [6, 3, 10]
    assert torch.equal(part.properties, table.properties[chosen])


def test_select_of_nothing_is_an_empty_table() -> None:
    part = random_table().select([])
    assert len(part) == 0 and part.smiles() == []
    assert part.batch([])["pos"].shape == (0, 0, 3)


@pytest.mark.parametrize("index", [-1, 12])
def test_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(DataError, match=r"outside 0\.\.11"):
        random_table().batch([index])


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    table = random_table()
    path = table.save(tmp_path / "new folder" / "t.safetensors")
    again = MoleculeTable.load(path)
    assert again.card == table.card
    assert again.property_names == ("b", "a")  # the order of the columns, not of the alphabet
    assert all(torch.equal(getattr(again, n), getattr(table, n)) for n in load_file(path))
    assert [file.name for file in path.parent.iterdir()] == ["t.safetensors"]


def test_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = random_table().save(tmp_path / "t.safetensors")
    before = path.read_bytes()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        random_table(seed=1).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_output_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        random_table().save(tmp_path / "file" / "t.safetensors")
    with pytest.raises(OutputError, match="expected a file"):
        random_table().save(tmp_path)


def test_missing_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no molecule table"):
        MoleculeTable.load(tmp_path / "none.safetensors")
    path = random_table().save(tmp_path / "t.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="not a readable molecule table"):
        MoleculeTable.load(path)
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="not a molecule table"):
        MoleculeTable.load(tmp_path / "other.safetensors")


def test_lengths_that_disagree_are_refused(tmp_path: Path) -> None:
    path = random_table().save(tmp_path / "t.safetensors")
    tensors = load_file(path)
    tensors["charge"] = tensors["charge"][:-1].clone()
    save_file(tensors, path, metadata={"card": "{}"})
    with pytest.raises(DataError, match="charge has"):
        MoleculeTable.load(path)


def test_split_indices() -> None:
    table = random_table()
    assert table.split_indices("validation").tolist() == [1, 4, 7, 10]
    with pytest.raises(DataError, match="unknown split 'dev'"):
        table.split_indices("dev")


def test_vocabulary_round_trip_and_unknown_entries() -> None:
    table = random_table()
    vocabulary = Vocabulary.of(table)
    batch = table.batch([0, 1, 2])
    classes = vocabulary.encode_elements(batch["atomic_number"], batch["mask"])
    assert (classes[~batch["mask"]] == 0).all()
    decoded = vocabulary.decode_elements(classes)
    assert torch.equal(decoded[batch["mask"]], batch["atomic_number"][batch["mask"]])
    charges = vocabulary.encode_charges(batch["charge"])
    assert torch.equal(vocabulary.decode_charges(charges), batch["charge"])
    assert torch.equal(
        vocabulary.decode_bonds(vocabulary.encode_bonds(batch["bond"])), batch["bond"]
    )
    with pytest.raises(DataError, match="unknown element Br: expected one of H, C, N, O"):
        vocabulary.encode_elements(torch.tensor([6, 35]))
    with pytest.raises(DataError, match=r"unknown formal charge \+2"):
        vocabulary.encode_charges(torch.tensor([2]))
    with pytest.raises(DataError, match="classes 0 to 3"):
        vocabulary.decode_bonds(torch.tensor([4]))
    with pytest.raises(DataError, match="distinct elements"):
        Vocabulary(elements=(6, 6), charges=(0,))


def test_valencies_of_molecules_counted_by_hand() -> None:
    tuples, total = valency_tables(table_of(SMILES))
    assert tuples == {
        "1:0": {"0,1": 4 + 3 + 4 + 1 + 2},
        "6:0": {"0,4": 2, "2,1": 4},  # methane, hydrogen cyanide; four furan carbons
        "7:0": {"0,3": 1},
        "7:1": {"0,4": 1},
        "8:-1": {"0,1": 1},
        "8:0": {"0,2": 1, "2,0": 1},  # water; furan
    }
    assert total["6:0"] == {"4": 6} and total["7:1"] == {"4": 1} and total["8:0"] == {"2": 2}


def test_reference_is_built_and_read_back(tmp_path: Path) -> None:
    build_reference(table_of(SMILES), "tiny", tmp_path, command="by hand", progress=False)
    reference = load_reference("tiny", tmp_path)
    assert reference.info["command"] == "by hand"
    assert reference.ring_sizes == {5: 1}
    assert reference.rings_per_molecule == {0: 4, 1: 1}
    assert reference.n_atoms == {3: 2, 5: 2, 9: 1}
    assert reference.charges == {-1: 1, 0: 23, 1: 1}
    assert reference.valency[(8, 0)] == {(0, 2): 1, (2, 0): 1}
    assert reference.contains(["C", "N", "c1ccoc1", "C#N"]).tolist() == [True, False, True, True]


def test_reference_files_that_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown reference 'qm10': expected one of qm9"):
        load_reference("qm10")
    build_reference(table_of(["C"]), "a", tmp_path, progress=False)
    build_reference(table_of(["O"]), "b", tmp_path, progress=False)
    (tmp_path / "b.safetensors").replace(tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="do not belong together"):
        load_reference("a", tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"info": {}}))
    with pytest.raises(DataError, match="is broken"):
        load_reference("a", tmp_path)


def test_the_shipped_reference_is_qm9() -> None:
    reference = load_reference("qm9")
    assert reference.contains(["C", "N", "O", "CCCCCCCCCCCCCC"]).tolist()[-1] is False
    assert (np.diff(reference.smiles_hashes.astype(object)) > 0).all()
    assert set(reference.elements) == {1, 6, 7, 8, 9}
    assert max(reference.n_atoms) == 29
    assert sum(reference.n_atoms.values()) == reference.info["n_molecules"]
    assert sum(reference.elements.values()) == sum(k * v for k, v in reference.n_atoms.items())
    # QM9 is closed-shell: carbon has four bonds unless charged
    assert set(reference.total_valence[(6, 0)]) == {4}
    assert set(reference.total_valence[(7, 1)]) == {4}


def test_smiles_hash_is_that_of_b2sum() -> None:
    # printf C | b2sum -l 64
    assert smiles_hash("C") == int.from_bytes(bytes.fromhex("659a93f4dc463c0b"), "little")
