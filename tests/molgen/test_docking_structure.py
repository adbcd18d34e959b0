"""PDB files as they come, and pockets in them: nothing dropped without a word."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from diffcore.errors import ConfigError, DataError
from molgen.datasets.complexes import find_complexes
from molgen.docking.pocket import Box, as_pocket, numbers, pose_centre, read_pocket
from molgen.docking.structure import parse_pdb, read_pdb
from tests.molgen.docking_examples import ligand, peptide_block, write


def atom(
    name: str,
    residue: str,
    number: int,
    position: tuple[float, float, float],
    *,
    record: str = "ATOM",
    site: str = " ",
    occupancy: float = 1.0,
    element: str = "",
    chain: str = "A",
) -> str:
    x, y, z = position
    padded = name if len(name) == 4 else f" {name:<3}"
    return (
        f"{record:<6}{1:>5} {padded}{site}{residue:>3} {chain}{number:>4}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0.0:6.2f}          {element:>2}"
    )


def glycine(number: int, x: float) -> list[str]:
    places = {"N": (x, 0, 0), "CA": (x + 1.5, 0, 0), "C": (x + 2, 1.4, 0), "O": (x + 1.3, 2.4, 0)}
    return [atom(n, "GLY", number, p, element=n[0]) for n, p in places.items()]


def test_the_location_of_highest_occupancy_is_kept_for_the_whole_residue() -> None:
    lines = glycine(1, 0) + [
        atom("N", "SER", 2, (5, 0, 0), element="N"),
        atom("CA", "SER", 2, (6, 0, 0), element="C"),
        atom("C", "SER", 2, (7, 0, 0), element="C"),
        atom("O", "SER", 2, (7, 1, 0), element="O"),
        atom("CB", "SER", 2, (6, 9, 0), site="A", occupancy=0.4, element="C"),
        atom("CB", "SER", 2, (6, 1, 0), site="B", occupancy=0.6, element="C"),
        atom("OG", "SER", 2, (6, 9, 1), site="A", occupancy=0.4, element="O"),
        atom("OG", "SER", 2, (6, 1, 1), site="B", occupancy=0.6, element="O"),
    ]
    found = parse_pdb("\n".join(lines))
    side = {n: p for n, p in zip(found.names, found.positions.tolist(), strict=True) if n in "CBOG"}
    assert side["CB"] == [6, 1, 0] and side["OG"] == [6, 1, 1]
    assert len(found.names) == 10
    assert found.notes == ("2 atoms at alternate locations left out",)
    assert all(line[16] == " " for line in found.lines)


def test_of_two_kinds_of_residue_in_one_place_one_is_kept() -> None:
    lines = glycine(1, 0) + [
        atom("CA", kind, 2, (6, 0, 0), site=site, occupancy=o, element="C")
        for kind, site, o in (("SER", "A", 0.3), ("THR", "B", 0.7))
    ]
    assert {r.name for r in parse_pdb("\n".join(lines)).residues} == {"GLY", "THR"}


def test_waters_go_and_metals_cofactors_and_unknown_residues_stay() -> None:
    lines = [
        "HEADER    SOMETHING",
        *glycine(1, 0),
        atom("ZN", "ZN", 2, (3, 3, 3), record="HETATM", element="ZN"),
        atom("C1", "XYZ", 3, (4, 4, 4), record="HETATM", element="C"),
        atom("O", "HOH", 4, (5, 5, 5), record="HETATM", element="O"),
        atom("O", "WAT", 5, (6, 5, 5), record="HETATM", element="O"),
    ]
    found = parse_pdb("\n".join(lines))
    assert found.hetero() == ("ZN", "XYZ")
    assert "Zn" in found.elements and "2 waters removed" in found.notes
    assert found.polymer.tolist() == [True] * 4 + [False] * 2


def test_the_first_of_several_models_is_read() -> None:
    models = [["MODEL        1", *glycine(1, 0), "ENDMDL"], ["MODEL        2", *glycine(1, 50)]]
    found = parse_pdb("\n".join([*models[0], *models[1], "ENDMDL"]))
    assert found.positions[:, 0].max() < 10 and "first of 2 models" in found.notes


def test_missing_atoms_and_torn_records_are_said() -> None:
    torn = atom("CB", "ALA", 2, (0, 0, 0))[:36] + "**.***" + atom("CB", "ALA", 2, (0, 0, 0))[42:]
    lines = [*glycine(1, 0), *[x.replace("GLY", "ALA") for x in glycine(2, 9)], torn]
    notes = parse_pdb("\n".join(lines)).notes
    assert "1 atom records without readable coordinates left out" in notes
    assert any("1 residues with missing atoms, the first ALA A2" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "record", "element"),
    [("CA", "ATOM", "C"), ("HB2", "ATOM", "H"), ("1HB", "ATOM", "H"), ("SD", "ATOM", "S")],
)
def test_elements_without_their_column(name: str, record: str, element: str) -> None:
    lines = [*glycine(1, 0), atom(name, "MET", 2, (4, 4, 4), record=record)]
    assert parse_pdb("\n".join(lines)).elements[-1] == element


def test_metals_without_their_column() -> None:
    line = atom("ZN", "ZN", 2, (4, 4, 4), record="HETATM").replace(" ZN  ", "ZN   ", 1)
    assert parse_pdb("\n".join([*glycine(1, 0), line])).elements[-1] == "Zn"


def test_what_is_no_protein_is_refused(tmp_path: Path) -> None:
    water = atom("O", "HOH", 1, (0, 0, 0), record="HETATM", element="O")
    with pytest.raises(DataError, match="expected protein or nucleic acid atoms, found none"):
        parse_pdb(water)
    with pytest.raises(DataError, match="expected a PDB file with ATOM records, got none"):
        parse_pdb("hello")
    with pytest.raises(DataError, match="got an mmCIF file"):
        parse_pdb("data_1ABC\nloop_\n_atom_site.id\n1\n")
    with pytest.raises(DataError, match="no such file"):
        read_pdb(tmp_path / "none.pdb")
    (tmp_path / "x.pdb").write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match=r"x\.pdb: expected a PDB file"):
        read_pdb(tmp_path / "x.pdb")


def test_packed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pdb.gz"
    path.write_bytes(gzip.compress(peptide_block().encode()))
    assert {r.name for r in read_pdb(path).residues} == set("GLY ALA VAL SER ASP LYS PHE".split())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.pdb\.gz"):
        read_pdb(path)


# ------------------------------------------------------------------------------------- pockets


def test_the_box_is_the_ligand_and_a_margin(tmp_path: Path) -> None:
    protein, sdf = write(tmp_path)
    pocket = read_pocket(protein, sdf, padding=4.0)
    heavy = ligand().GetConformer().GetPositions()[:11]
    assert np.allclose(pocket.box.size, np.ptp(heavy, axis=0) + 8, atol=2e-3)
    assert np.allclose(pocket.box.centre, (heavy.min(0) + heavy.max(0)) / 2, atol=2e-3)
    other = read_pocket(protein, sdf, centre=(1, 2, 3), box=15)
    assert other.box == Box((1, 2, 3), (15, 15, 15))
    assert as_pocket(pocket) is pocket


def test_a_place_is_needed_and_must_be_in_the_protein(tmp_path: Path) -> None:
    protein, sdf = write(tmp_path)
    with pytest.raises(ConfigError, match="reference ligand or the centre of the pocket, got neit"):
        read_pocket(protein)
    with pytest.raises(DataError, match=r"expected protein atoms in the pocket, found none"):
        read_pocket(protein, centre=(500, 0, 0))
    far = Chem.Mol(ligand())
    far.GetConformer().SetPositions(far.GetConformer().GetPositions() + 60)
    with pytest.raises(DataError, match=r"expected a reference ligand in the protein, got one \d"):
        read_pocket(protein, far)
    with pytest.raises(DataError, match="has no 3D conformer"):
        read_pocket(protein, Chem.MolFromSmiles("CCO"))
    with pytest.raises(ConfigError, match="box: expected edges of 1 to"):
        read_pocket(protein, sdf, box=1000)
    with pytest.raises(ConfigError, match="centre: expected three numbers, got 2"):
        read_pocket(protein, centre=(1, 2))
    with pytest.raises(ConfigError, match="place already"):
        as_pocket(read_pocket(protein, sdf), box=10)


def test_the_reference_ligand_is_taken_out_of_the_protein(tmp_path: Path) -> None:
    protein, sdf = write(tmp_path)
    copy = Chem.RemoveHs(ligand())
    lines = [
        atom(f"C{k}", "LIG", 900, tuple(p), record="HETATM", element="C", chain="B")
        for k, p in enumerate(copy.GetConformer().GetPositions().tolist())
    ]
    protein.write_text("\n".join([peptide_block().replace("END", ""), *lines]), encoding="utf-8")
    pocket = read_pocket(protein, sdf)
    assert pocket.structure.hetero() == ()
    assert any("LIG taken out" in note for note in pocket.notes)
    assert "LIG" in read_pocket(protein, centre=pocket.box.centre).structure.hetero()


def test_numbers_of_options() -> None:
    assert numbers("centre", "1, -2.5,3e1", (3,)) == [1, -2.5, 30]
    for wrong in ("1,2", "a,b,c", "1,2,nan", ""):
        with pytest.raises(ConfigError, match="--centre: expected 3 numbers with commas between"):
            numbers("centre", wrong, (3,))


def test_the_centre_of_poses(tmp_path: Path) -> None:
    _, sdf = write(tmp_path)
    where = ligand().GetConformer().GetPositions()
    assert np.allclose(pose_centre(sdf), (where.min(0) + where.max(0)) / 2, atol=1e-3)
    flat = tmp_path / "flat.smi"
    flat.write_text("CCO ethanol\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected poses with 3D coordinates"):
        pose_centre(flat)


# ----------------------------------------------------------------------------------- complexes


def test_complexes_of_folders_are_paired_by_name(tmp_path: Path) -> None:
    for folder, names in {
        "1abc": ("1abc_ligand.sdf", "1abc_ligands.sdf", "1abc_protein.pdb", "1abc_pocket.pdb"),
        "deep/2xyz": ("ligand.sdf", "pocket10.pdb"),
        "flat": ("a_rec.pdb", "a_lig.sdf", "b_rec.pdb", "b_lig.sdf"),
        "alone": ("x.pdb",),
    }.items():
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / folder / name).write_text("x", encoding="utf-8")
    found = {c.name: (c.protein.name, c.ligand.name) for c in find_complexes(tmp_path)}
    assert found == {
        "1abc": ("1abc_protein.pdb", "1abc_ligand.sdf"),
        "deep/2xyz": ("pocket10.pdb", "ligand.sdf"),
        "a": ("a_rec.pdb", "a_lig.sdf"),
        "b": ("b_rec.pdb", "b_lig.sdf"),
    }


def test_complexes_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("Name,protein,ligand\none,p.pdb,l.sdf\n,q.pdb,m.sdf\n", encoding="utf-8")
    found = find_complexes(table)
    assert [c.name for c in found] == ["one", "complex-2"]
    assert found[0].protein == tmp_path / "p.pdb"
    table.write_text("name,protein\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected the columns name, protein, ligand, got no ligan"):
        find_complexes(table)
    with pytest.raises(DataError, match="expected pairs of a .pdb and an .sdf file, found none"):
        find_complexes(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        find_complexes(tmp_path / "none")
