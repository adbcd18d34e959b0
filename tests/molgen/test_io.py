"""Molecule files: broken entries become rows, and whatever stops a run leaves whole records."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import ConfigError, DataError, OutputError
from molgen.io import (
    Entry,
    MoleculeWriter,
    count_complete,
    count_records,
    read_molecules,
    read_records,
)
from molgen.records import MAX_XYZ_ATOMS

SUFFIXES = (".sdf", ".smi", ".csv", ".xyz")
READABLE = (".sdf", ".smi", ".xyz")


def molecule(smiles: str, name: str = "") -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=3) == 0
    mol.SetProp("_Name", name)
    return mol


MOLS = [molecule("CCO", "first"), molecule("c1ccccc1", "second one"), molecule("C#N")]


def write(path: Path, mols: list[Chem.Mol] | None = None, **options: bool) -> Path:
    with MoleculeWriter(path, **options) as writer:
        for mol in MOLS if mols is None else mols:
            writer.write(mol)
    return path


def smiles(mol: Chem.Mol | None) -> str:
    assert mol is not None
    clean = Chem.Mol(mol)
    Chem.SanitizeMol(clean)
    return Chem.MolToSmiles(Chem.RemoveHs(clean))


@pytest.mark.parametrize("suffix", READABLE)
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    entries = list(read_molecules(write(tmp_path / f"m{suffix}")))
    assert [entry.number for entry in entries] == [0, 1, 2]
    assert [entry.name for entry in entries] == ["first", "second one", ""]
    assert [entry.reason for entry in entries] == ["", "", ""]
    assert [smiles(entry.mol) for entry in entries] == ["CCO", "c1ccccc1", "C#N"]
    assert [entry.mol.GetNumAtoms() for entry in entries] == [9, 12, 3]


def test_sdf_keeps_positions_and_properties(tmp_path: Path) -> None:
    mol = Chem.Mol(MOLS[0])
    mol.SetProp("note", "two\n\nlines $$$$")
    mol.SetDoubleProp("energy", -1.25)
    (entry,) = read_molecules(write(tmp_path / "m.sdf", [mol]))
    assert entry.mol is not None and entry.mol.GetConformer().Is3D()
    difference = entry.mol.GetConformer().GetPositions() - mol.GetConformer().GetPositions()
    assert abs(difference).max() < 1e-4
    assert entry.mol.GetProp("note") == "two lines"
    assert float(entry.mol.GetProp("energy")) == -1.25


def test_sdf_keeps_a_radical_and_a_missing_hydrogen(tmp_path: Path) -> None:
    """What is wrong with a molecule must still be wrong after reading it back."""
    radical = Chem.RWMol(MOLS[0])
    radical.RemoveAtom(8)
    for atom in radical.GetAtoms():
        atom.SetNoImplicit(True)
        atom.SetNumRadicalElectrons(0)
    (entry,) = read_molecules(write(tmp_path / "m.sdf", [radical.GetMol()]))
    clean = Chem.Mol(entry.mol)
    Chem.SanitizeMol(clean)
    assert sum(atom.GetNumRadicalElectrons() for atom in clean.GetAtoms()) == 1
    assert sum(atom.GetTotalNumHs() for atom in clean.GetAtoms()) == 0


def test_broken_entries_become_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "m.sdf")
    first, second, third = path.read_text().split("$$$$\n")[:3]
    junk = "junk\n\n\n  9  9  0\nM  END\n"
    torn = third[: len(third) // 3]
    binary = "\0\x01\x02\x7f" * 50 + "\n"
    path.write_text("$$$$\n".join([first, junk, binary, second, torn]))
    entries = list(read_molecules(path))
    assert [entry.mol is not None for entry in entries] == [True, False, False, True, False]
    assert entries[1].name == "junk" and entries[1].reason.startswith("unreadable record: ")
    assert "truncated" in entries[2].reason and "truncated" in entries[4].reason
    assert all("\n" not in entry.reason for entry in entries)


def test_an_endless_record_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m.sdf")
    first, second, *_ = path.read_text().split("$$$$\n")
    path.write_text(first + "junk\n" * 2000 + "$$$$\n" + second + "$$$$\n")
    monkeypatch.setattr("molgen.records.MAX_RECORD_CHARACTERS", 4000)
    entries = list(read_molecules(path))
    assert [entry.mol is not None for entry in entries] == [False, True]
    assert "longer than 4000" in entries[0].reason


def test_windows_line_ends_mol_files_and_gzip(tmp_path: Path) -> None:
    path = write(tmp_path / "m.sdf")
    text = path.read_text()
    (tmp_path / "w.sdf").write_bytes(text.replace("\n", "\r\n").encode())
    (tmp_path / "one.mol").write_text(text.split("$$$$\n")[0])
    with gzip.open(tmp_path / "m.sdf.gz", "wt") as file:
        file.write(text)
    assert [smiles(e.mol) for e in read_molecules(tmp_path / "w.sdf")] == ["CCO", "c1ccccc1", "C#N"]
    assert [smiles(e.mol) for e in read_molecules(tmp_path / "one.mol")] == ["CCO"]
    assert len(list(read_molecules(tmp_path / "m.sdf.gz"))) == 3
    whole = (tmp_path / "m.sdf.gz").read_bytes()
    (tmp_path / "torn.sdf.gz").write_bytes(whole[: len(whole) - 20])
    assert all(isinstance(entry, Entry) for entry in read_molecules(tmp_path / "torn.sdf.gz"))


def test_smiles_state_their_hydrogens(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("smiles name\nCCO  ethanol\n\n[CH3]\nnot a smiles\nC(C)(C)(C)(C)C x\n")
    entries = list(read_molecules(path))
    assert [entry.number for entry in entries] == [0, 1, 2, 3]
    assert entries[0].name == "ethanol" and entries[0].mol.GetNumAtoms() == 9
    assert entries[1].mol.GetNumAtoms() == 4
    assert entries[2].mol is None and entries[2].reason.startswith("unreadable SMILES")
    assert entries[3].mol.GetNumAtoms() == 6  # refused by RDKit: passed on for the scorer to judge


def test_xyz(tmp_path: Path) -> None:
    path = write(tmp_path / "m.xyz", [molecule("C[NH3+]", "cation")])
    (entry,) = read_molecules(path)
    assert smiles(entry.mol) == "C[NH3+]" and entry.name == "cation"
    good = path.read_text()
    path.write_text("1\n\nQq 0 0 0\n" + good + f"{MAX_XYZ_ATOMS + 1}\n\nH 0 0 0\n")
    entries = list(read_molecules(path))
    assert [e.mol is not None for e in entries] == [False, True, False]
    path.write_text(good + "hello\n")
    assert [e.mol is not None for e in read_molecules(path)] == [True, False]


@pytest.mark.parametrize("symbol", ["Qq", "Du"])
def test_an_unknown_element_is_named(tmp_path: Path, symbol: str) -> None:
    xyz = write(tmp_path / "m.xyz", MOLS[:2])
    xyz.write_text(xyz.read_text().replace("\nO  ", f"\n{symbol:<3}"))
    first, second = read_molecules(xyz)
    assert first.mol is None and first.reason == f"unknown element '{symbol}'"
    assert second.mol is not None  # the frame after it is found again
    sdf = write(tmp_path / "m.sdf", MOLS[:2])
    sdf.write_text(sdf.read_text().replace(" O  ", f" {symbol:<3}"))
    first, second = read_molecules(sdf)
    assert first.mol is None and first.reason == f"unreadable record: unknown element '{symbol}'"
    assert second.mol is not None


@pytest.mark.parametrize("suffix", READABLE)
def test_records_are_counted_without_parsing(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"m{suffix}")
    assert count_records(path) == len(list(read_records(path))) == 3


def test_a_frame_of_a_million_atoms_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.xyz"
    path.write_text("20000\n\n" + "H 0 0 0\n" * 20000 + "1\nnext\nH 0 0 0\n")
    first, second = read_records(path)
    assert "20000 atoms" in first.reason and not first.text
    assert second.name == "next" and not second.reason


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("page.smi", "<!doctype html>\n<p>hello", DataError, "not a SMILES file.*HTML"),
        ("page.xyz", "<html>\n", DataError, "not an XYZ file: expected the number of atoms"),
        ("data.smi", "\0\1\2\3\n", DataError, "not a SMILES file: it holds binary data"),
        ("data.xyz", "\x7fELF\0\1\n", DataError, "not an XYZ file"),
        ("data.sdf", "\x7fELF\0\1" * 99, DataError, "not an SDF file"),
        ("none.sdf", None, DataError, "no such file"),
        ("empty.sdf", "", DataError, "empty"),
        ("blank.smi", " \n\n", DataError, "empty"),
        ("page.sdf", "<html><body>hello</body></html>\n" * 5, DataError, "is not an SDF file"),
        ("m.docx", "x", ConfigError, r"\.sdf, \.mol, \.smi, \.smiles, \.xyz"),
        ("m.sdf.gz", "not gzip", DataError, "cannot read"),
    ],
)
def test_unusable_files(
    tmp_path: Path, name: str, content: str | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=message) as caught:
        read_molecules(path)  # before the first entry is asked for
    assert "\n" not in str(caught.value)
    with pytest.raises((DataError, ConfigError)):
        read_molecules(tmp_path)


# ------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_record_is_on_disk_at_once(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    with MoleculeWriter(path) as writer:
        for n, mol in enumerate(MOLS, start=1):
            before = mol.ToBinary()
            writer.write(mol)
            assert writer.count == n == count_complete(path)
            assert mol.ToBinary() == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_torn_record_is_cut_off_and_the_run_continues(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"whole{suffix}").read_bytes()
    two = write(tmp_path / f"two{suffix}", MOLS[:2]).read_bytes()
    path = tmp_path / f"m{suffix}"
    for size in range(len(two), len(whole), max(1, (len(whole) - len(two)) // 7)):
        path.write_bytes(whole[:size])
        assert count_complete(path) == 2
        with MoleculeWriter(path, append=True) as writer:
            assert writer.count == 2
            writer.write(MOLS[2])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupt_leaves_whole_records(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    with pytest.raises(KeyboardInterrupt), MoleculeWriter(path) as writer:
        writer.write(MOLS[0])
        writer._file.write(b"half a rec")  # the interrupt came in the middle of a write
        raise KeyboardInterrupt
    assert count_complete(path) == 1
    assert path.read_bytes() == write(tmp_path / f"one{suffix}", MOLS[:1]).read_bytes()


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    path = write(tmp_path / "m.sdf")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"), MoleculeWriter(path):
        pass
    with pytest.raises(RuntimeError), MoleculeWriter(path, force=True):
        raise RuntimeError  # before the first molecule: the old file stays
    assert path.read_bytes() == before
    write(path, MOLS[:1], force=True)
    assert count_complete(path) == 1


def test_no_file_is_left_when_nothing_was_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), MoleculeWriter(tmp_path / "m.sdf"):
        raise RuntimeError
    assert not (tmp_path / "m.sdf").exists()


def test_bad_outputs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.sdf, \.smi, \.csv, \.xyz"):
        MoleculeWriter(tmp_path / "m.docx")
    with (
        pytest.raises(OutputError, match="cannot write"),
        MoleculeWriter(tmp_path / "no" / "m.sdf"),
    ):
        pass
    (tmp_path / "folder.sdf").mkdir()
    with pytest.raises(OutputError), MoleculeWriter(tmp_path / "folder.sdf", force=True):
        pass
    foreign = tmp_path / "foreign.sdf"
    foreign.write_text("something else entirely")
    with pytest.raises(OutputError, match="no whole record"):
        write(foreign, append=True)
    assert foreign.read_text() == "something else entirely"
    with pytest.raises(OutputError, match="with block"):
        MoleculeWriter(tmp_path / "m.sdf").write(MOLS[0])
    with pytest.raises(DataError, match="no coordinates"):
        write(tmp_path / "m.xyz", [Chem.MolFromSmiles("C")])
    assert not (tmp_path / "m.xyz").exists()


def test_names_cannot_break_a_file(tmp_path: Path) -> None:
    mol = Chem.Mol(MOLS[0])
    mol.SetProp("_Name", 'a\nb,"c"\n$$$$')
    mol.SetProp("x", "1\n2")
    for suffix in SUFFIXES:
        path = write(tmp_path / f"n{suffix}", [mol, mol])
        assert count_complete(path) == 2
        if suffix in READABLE:
            assert len(list(read_molecules(path))) == 2


def test_csv_columns(tmp_path: Path) -> None:
    import csv

    mol = Chem.Mol(MOLS[1])
    mol.SetProp("seed", "7")
    with write(tmp_path / "m.csv", [mol, MOLS[0]]).open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "name": "second one",
        "smiles": "c1ccccc1",
        "formula": "C6H6",
        "charge": "0",
        "n_atoms": "12",
        "seed": "7",
    }
    assert rows[1]["smiles"] == "CCO" and rows[1]["seed"] == ""


def test_stereo_is_read_from_the_geometry(tmp_path: Path) -> None:
    mol = molecule("C[C@H](F)O")
    for atom in mol.GetAtoms():
        atom.SetChiralTag(Chem.ChiralType.CHI_UNSPECIFIED)
    assert write(tmp_path / "m.smi", [mol]).read_text().split()[0] == Chem.CanonSmiles("C[C@H](F)O")
