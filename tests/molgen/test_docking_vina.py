"""Receptors and ligands for Vina, and what scoring, minimising and docking must hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolTransforms

from diffcore.errors import ConfigError, DataError
from molgen.docking.structure import parse_pdb
from molgen.embedding import prepared, with_conformers
from molgen.evaluate.rmsd import in_place_rmsd
from tests.molgen.docking_examples import ligand, peptide_block, write
from tests.molgen.test_docking_structure import atom

pytest.importorskip("openbabel")
pytest.importorskip("meeko")
pytest.importorskip("vina")

from molgen.docking import receptor, vina  # noqa: E402
from molgen.docking.ligand import ligand_pdbqt, pdbqt_positions, placed  # noqa: E402
from molgen.docking.pocket import Box, Pocket, read_pocket  # noqa: E402


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Pocket:
    return read_pocket(*write(tmp_path_factory.mktemp("probe")))


# ------------------------------------------------------------------------------------ receptor


def kinds(text: str) -> list[str]:
    return [line[77:].strip() for line in text.splitlines()]


def test_hydrogens_are_added_and_metals_keep_their_type() -> None:
    zinc = atom("ZN", "ZN", 99, (0, 0, 12), record="HETATM", element="ZN", chain="B")
    odd = atom("MO", "MO", 98, (0, 6, 12), record="HETATM", element="MO", chain="B")
    structure = parse_pdb("\n".join([peptide_block().replace("END", ""), zinc, odd]))
    found = kinds(receptor.receptor_pdbqt(structure, Box((0, 0, 0), (40, 40, 40))))
    assert found.count("Zn") == 1 and found.count(receptor.ANY_METAL) == 1
    assert found.count("HD") >= 12  # amides, ammonium groups, hydroxyl
    assert set(found) <= receptor.VINA_TYPES
    heavy = sum(kind not in ("H", "HD", "HS") for kind in found)
    assert heavy == len(structure.positions)


def test_nitrogen_that_accepts_is_not_sodium() -> None:
    """The types NA and Na differ by case alone."""
    sodium = atom("NA", "NA", 97, (0, 0, 12), record="HETATM", element="NA", chain="B")
    structure = parse_pdb("\n".join([peptide_block().replace("END", ""), sodium]))
    found = kinds(receptor.receptor_pdbqt(structure, Box((0, 0, 0), (40, 40, 40))))
    assert found.count("Na") == 1
    pyridine = Chem.AddHs(Chem.MolFromSmiles("Cc1ccncc1"))
    rdDistGeom.EmbedMolecule(pyridine, randomSeed=1)
    found = [
        line[77:].strip()
        for line in ligand_pdbqt(pyridine).text.splitlines()
        if line.startswith("ATOM")
    ]
    assert found.count("NA") == 1 and "Na" not in found
    for kind in receptor.VINA_TYPES - {"O"}:
        assert receptor.known_type(f"{'ATOM':<77}{kind:<2}")[77:].strip() == kind


def test_a_file_with_hydrogens_keeps_them() -> None:
    mol = Chem.AddHs(Chem.MolFromPDBBlock(peptide_block()), addCoords=True, addResidueInfo=True)
    bare = parse_pdb(Chem.MolToPDBBlock(mol, flavor=4))
    polar = sum(
        a.GetAtomicNum() == 1 and a.GetNeighbors()[0].GetAtomicNum() in (7, 8)
        for a in mol.GetAtoms()
    )
    found = kinds(receptor.receptor_pdbqt(bare, Box((0, 0, 0), (40, 40, 40))))
    assert found.count("HD") == polar


def test_what_is_out_of_reach_changes_no_score(pocket: Pocket) -> None:
    far = [
        atom(n, "ALA", k, (x + 60.0 + 4 * k, y, z), element=n[0], chain="F")
        for k in range(1, 9)
        for n, (x, y, z) in {"N": (0, 0, 0), "CA": (1.5, 0, 0), "C": (2, 1.4, 0)}.items()
    ]
    more = parse_pdb("\n".join([peptide_block().replace("END", ""), *far]))
    assert len(receptor.within(more, pocket.box, receptor.REACH).positions) == len(
        receptor.within(pocket.structure, pocket.box, receptor.REACH).positions
    )
    assert vina.score(ligand(), replace(pocket, structure=more)) == vina.score(ligand(), pocket)


# -------------------------------------------------------------------------------------- ligand


def test_the_pose_of_the_file_is_the_molecule() -> None:
    mol = ligand()
    file = ligand_pdbqt(mol)
    assert file.tool == "meeko" and file.turning == 5
    made = placed(mol, file, pdbqt_positions(file.text))
    assert np.abs(made - mol.GetConformer().GetPositions()).max() < 2e-3


def test_hydrogens_follow_a_turned_bond() -> None:
    """RDKit turns the bond; from the written atoms alone all others must come out the same."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(C)CC(C)(O)C#C"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=5) == 0
    file = ligand_pdbqt(mol)
    assert len(file.atoms) < mol.GetNumAtoms()
    turned = Chem.Mol(mol)
    conformer = turned.GetConformer()
    rdMolTransforms.SetDihedralDeg(conformer, 0, 1, 3, 4, 100.0)
    rdMolTransforms.SetDihedralDeg(conformer, 1, 3, 4, 6, -40.0)
    expected = np.array(conformer.GetPositions()) @ np.diag([-1.0, -1.0, 1.0]) + [3.0, 4.0, 5.0]
    made = placed(mol, file, expected[list(file.atoms)])
    assert np.abs(made - expected).max() < 1e-3


def test_open_babel_writes_what_meeko_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from molgen.docking import ligand as module

    def refuse(mol: Chem.Mol) -> str:
        raise DataError("not today")

    by_meeko = ligand_pdbqt(ligand())
    monkeypatch.setattr(module, "_by_meeko", refuse)
    file = ligand_pdbqt(ligand())
    assert file.tool == "openbabel" and file.turning == by_meeko.turning
    assert set(file.atoms) >= {a.GetIdx() for a in ligand().GetAtoms() if a.GetAtomicNum() > 1}
    monkeypatch.setattr(module, "_by_openbabel", refuse)
    with pytest.raises(DataError, match="meeko: not today; openbabel: not today"):
        ligand_pdbqt(ligand())


def test_ligands_that_vina_cannot_take() -> None:
    salt = Chem.AddHs(Chem.MolFromSmiles("CC(=O)[O-].[Na+]"))
    rdDistGeom.EmbedMolecule(salt, randomSeed=1)
    with pytest.raises(DataError, match="expected a ligand of one fragment, got 2"):
        ligand_pdbqt(salt)
    with pytest.raises(DataError, match="without positions"):
        ligand_pdbqt(prepared("CCO"))
    with pytest.raises(DataError, match="explicit hydrogens"):
        ligand_pdbqt(Chem.RemoveHs(ligand()))


# ---------------------------------------------------------------------------------------- Vina


def test_the_score_does_not_depend_on_the_frame(pocket: Pocket) -> None:
    """Turned by 90 degrees and shifted, protein and ligand alike; the grid is new."""
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

    def moved(positions: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(positions @ turn.T + [10.1, -3.3, 7.7])

    lines = []
    for line, p in zip(pocket.structure.lines, moved(pocket.structure.positions), strict=True):
        lines.append(line[:30] + "".join(f"{x:8.3f}" for x in p) + line[54:])
    mol = Chem.Mol(ligand())
    mol.GetConformer().SetPositions(moved(mol.GetConformer().GetPositions()))
    other = replace(pocket, structure=parse_pdb("\n".join(lines)), reference=mol)
    expected = vina.score(ligand(), pocket)
    assert expected < -0.3
    assert vina.score(mol, other) == pytest.approx(expected, abs=0.15)


def test_minimising_lowers_the_energy_and_keeps_bonds_and_rings(pocket: Pocket) -> None:
    mol = ligand()
    before = mol.GetConformer().GetPositions().copy()
    pose = vina.minimise(mol, pocket)
    assert pose.energy <= vina.score(mol, pocket) + 1e-3
    assert pose.energy == pytest.approx(vina.score(pose.mol, pocket), abs=0.05)
    assert np.array_equal(before, mol.GetConformer().GetPositions())
    after = pose.mol.GetConformer().GetPositions()
    for bond in mol.GetBonds():
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        lengths = [np.linalg.norm(p[i] - p[j]) for p in (before, after)]
        assert lengths[0] == pytest.approx(lengths[1], abs=3e-3)
    ring = [a.GetIdx() for a in mol.GetAtoms() if a.GetIsAromatic()]
    inner = [np.linalg.norm(p[ring][:, None] - p[ring][None], axis=-1) for p in (before, after)]
    assert np.allclose(*inner, atol=5e-3)


def test_docking_finds_at_least_the_minimum_nearby_and_repeats_itself(pocket: Pocket) -> None:
    options = {"exhaustiveness": 1, "n_poses": 4, "seed": 3}
    poses = vina.dock(ligand(), pocket, **options)
    energies = [pose.energy for pose in poses]
    assert energies == sorted(energies) and 1 <= len(poses) <= 4
    assert energies[0] <= vina.minimise(ligand(), pocket).energy + 0.3
    low, high = pocket.box.corners(1.0)
    for pose in poses:
        heavy = pose.mol.GetConformer().GetPositions()[:11]
        assert ((heavy > low) & (heavy < high)).all()
        assert Chem.MolToSmiles(pose.mol) == Chem.MolToSmiles(ligand())
    again = vina.dock(ligand(), pocket, **options)
    assert [pose.energy for pose in again] == energies
    assert float(in_place_rmsd(again[0].mol, poses[0].mol)[0]) == 0


def test_a_pose_far_from_the_protein_is_refused(pocket: Pocket) -> None:
    far = Chem.Mol(ligand())
    far.GetConformer().SetPositions(far.GetConformer().GetPositions() + 80)
    with pytest.raises(DataError, match="expected atoms of the receptor near the box"):
        vina.score(far, pocket)
    for options in ({"exhaustiveness": 0}, {"n_poses": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            vina.dock(ligand(), pocket, **options)


def test_no_vina_names_the_extra(pocket: Pocket, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "vina" else real(name))
    vina._mapped.cache_clear()
    with pytest.raises(ConfigError, match=r'pip install "designloom\[docking\]"'):
        vina.score(ligand(), pocket)


# ------------------------------------------------------------- redocking, checks, placing


def test_a_fresh_conformer_remembers_stereo_and_nothing_else() -> None:
    from molgen.docking.redock import describe, fresh_conformer

    mol = prepared("C[C@H](O)CC1CCNCC1")
    one, two = (fresh_conformer(mol, seed) for seed in (0, 0))
    assert np.array_equal(one.GetConformer().GetPositions(), two.GetConformer().GetPositions())
    copy = Chem.Mol(one)
    Chem.AssignStereochemistryFrom3D(copy)
    assert Chem.MolToSmiles(Chem.RemoveHs(copy)) == Chem.MolToSmiles(Chem.RemoveHs(mol))
    assert rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol)
    assert describe(mol) == {"rotatable_bonds": 2, "heavy_atoms": 10}
    assert describe(prepared("CC(C)(C)C")) == {"rotatable_bonds": 0, "heavy_atoms": 5}


def test_redocking_gives_a_result_or_a_reason(tmp_path: Path) -> None:
    from molgen.docking.redock import RedockItem, redock

    protein, sdf = write(tmp_path)
    told: list[object] = []
    row = redock(RedockItem("probe", protein, sdf, exhaustiveness=1), told.append)
    assert row["reason"] == "" and told
    assert 0 <= row["best_rmsd"] <= row["top1_rmsd"] < 30
    broken = tmp_path / "broken.sdf"
    broken.write_text("nothing\n", encoding="utf-8")
    for item in (
        RedockItem("no protein", tmp_path / "none.pdb", sdf),
        RedockItem("no ligand", protein, broken),
    ):
        row = redock(item, told.append)
        assert row["reason"] and "\n" not in row["reason"] and "top1_rmsd" not in row


def test_posebusters_sees_a_clash_and_the_right_pose(pocket: Pocket) -> None:
    pytest.importorskip("posebusters")
    from molgen.docking.checks import checked_pose

    good = checked_pose(ligand(), pocket, "redock")
    assert good.failed == ()
    into = Chem.Mol(ligand())
    where = into.GetConformer().GetPositions()
    middle = pocket.structure.positions.mean(0)
    into.GetConformer().SetPositions(np.ascontiguousarray(where - where.mean(0) + middle))
    assert "minimum_distance_to_protein" in checked_pose(into, pocket).failed
    assert "rmsd_≤_2å" in checked_pose(into, pocket, "redock").failed
    with pytest.raises(ConfigError, match="expected a reference ligand"):
        checked_pose(into, replace(pocket, reference=None), "redock")


def test_a_model_places_its_conformers(pocket: Pocket) -> None:
    from molgen.conformers import ConformerGenerator
    from molgen.weights.files import shipped

    if "bound" not in shipped():
        pytest.skip("the weights bound are not in this checkout")
    generator = ConformerGenerator.from_pretrained("bound")
    mol = Chem.MolFromSmiles("OCc1ccccc1")
    mol.SetProp("_Name", "probe")
    made = generator.sample(mol, n=3, pocket=pocket, exhaustiveness=1, seed=1)
    assert made.GetProp("_Name") == "probe"
    assert Chem.MolToSmiles(made) == Chem.MolToSmiles(prepared(mol))
    names = ("vina_min", "vina_score", "confidence", "overlap", "torsion_cost", "contact_cost")
    rows = [[c.GetDoubleProp(name) for name in names] for c in made.GetConformers()]
    lows = [row[0] + row[4] + row[5] for row in rows]
    assert 1 <= len(rows) <= 3 and lows == sorted(lows)
    assert sum(row[2] for row in rows) == pytest.approx(1)
    for c, row in zip(made.GetConformers(), rows, strict=True):
        one = Chem.Mol(made, confId=c.GetId())
        assert vina.score(one, pocket) == pytest.approx(row[1], abs=0.02)
    with pytest.raises(ConfigError, match="expected a pocket beside them"):
        generator.sample("CCO", n=1, centre=(0, 0, 0))


def test_poses_are_ranked_by_energy_and_cost(pocket: Pocket) -> None:
    from molgen.docking.ensemble import place

    mol = ligand()
    start = mol.GetConformer().GetPositions()
    settings = {"exhaustiveness": 1, "seed": 1}
    plain = place(mol, pocket, [start], start[None], 4, **settings)
    energies = [pose.vina_min for pose in plain]
    assert len(plain) > 1 and energies == sorted(energies) and not any(p.costs for p in plain)
    first = plain[0].positions

    def cost(poses):
        return 50.0 * (abs(poses - first).max((1, 2)) < 1e-6)

    costs = {"a": cost, "b": lambda poses: poses[:, 0, 0]}
    other = place(mol, pocket, [start], start[None], 40, costs=costs, **settings)
    sums = [pose.vina_min + sum(pose.costs.values()) for pose in other]
    assert sums == sorted(sums) and {tuple(pose.costs) for pose in other} == {("a", "b")}
    assert all(pose.costs["a"] == 0 for pose in other[:-1]), "what costs most comes last"


def test_redrawn_poses_are_ranked_with_those_they_came_from(pocket: Pocket) -> None:
    from molgen.docking.ensemble import place

    mol = ligand()
    start = mol.GetConformer().GetPositions()
    settings = {"exhaustiveness": 1, "seed": 1}
    plain = place(mol, pocket, [start], start[None], 3, **settings)
    shown = []

    def known(poses):
        shown.append(len(poses))
        return np.repeat(start[None], len(poses), 0)

    told = place(mol, pocket, [start], start[None], 30, redraw=known, **settings)
    assert shown[0] >= len(plain), "more are drawn anew than are asked for"
    assert [pose.vina_min for pose in told] == sorted(pose.vina_min for pose in told)
    minimum = vina.minimise(mol, pocket)
    ends = [
        in_place_rmsd(with_conformers(mol, pose.positions[None]), minimum.mol)[0] for pose in told
    ]
    assert min(ends) < 0.3, "the pose that was drawn is there, minimised"

    def thrown_away(poses):
        return poses + 500.0

    same = place(mol, pocket, [start], start[None], 3, redraw=thrown_away, **settings)
    assert [p.vina_min for p in same] == pytest.approx([p.vina_min for p in plain])


def test_scored_and_minimised_at_once_is_as_one_after_the_other(pocket: Pocket) -> None:
    before, pose = vina.scored_and_minimised(ligand(), pocket)
    assert before == pytest.approx(vina.score(ligand(), pocket), abs=1e-6)
    assert pose.energy < before
    assert pose.energy == pytest.approx(vina.minimise(ligand(), pocket).energy, abs=1e-6)
