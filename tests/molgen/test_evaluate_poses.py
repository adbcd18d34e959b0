"""Poses of a file judged in their protein, and the page that shows them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

import molgen.evaluate
from diffcore.errors import ConfigError, DataError
from molgen.complex_viewer import complex_html, complex_page, view_complex
from molgen.docking.pocket import Pocket, read_pocket
from tests.molgen.docking_examples import ligand, write

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> Pocket:
    return read_pocket(*write(tmp_path_factory.mktemp("probe")))


def shifted(by: float) -> Chem.Mol:
    mol = Chem.Mol(ligand())
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() + [by, 0.0, 0.0])
    return mol


def test_poses_are_judged_in_their_pocket(pocket: Pocket) -> None:
    for package in ("vina", "openbabel", "meeko", "posebusters"):
        pytest.importorskip(package)
    bare = Chem.RemoveHs(ligand())
    other = Chem.MolFromSmiles("CCO")
    mols = [ligand(), shifted(1.5), shifted(80.0), bare, other, None]
    found = molgen.evaluate(mols, None, pocket=pocket, progress=False)
    table = found.table.set_index("index")
    assert np.allclose(table["pose_rmsd"][:3].astype(float), [0, 1.5, 80], atol=1e-4)
    assert np.allclose(table["pose_rmsd_aligned"][:3].astype(float), 0, atol=1e-3)
    assert table["pose_near"][:2].all() and not table["pose_near"][2]
    assert table["vina_min"][0] <= table["vina_score"][0] < 0
    assert np.isnan(table["vina_score"][2]) and "near the box" in table["error"][2]
    assert table["vina_score"][3] == pytest.approx(table["vina_score"][0], abs=0.1)
    assert "3D conformer" in table["error"][4]
    assert table["error"][5] == table["error"][5] and table["pb_dock_valid"][0]
    assert found.value("pose_near") == pytest.approx(100 * 3 / 6)  # failures count
    assert found.value("vina_failures") == pytest.approx(100 * 3 / 6)


def test_sets_in_a_pocket_need_one(pocket: Pocket) -> None:
    for name in ("pocket", "docking"):
        with pytest.raises(ConfigError, match=f"include: {name} needs a protein"):
            molgen.evaluate([ligand()], None, include=name, progress=False)


# -------------------------------------------------------------------------------------- page


def posed() -> Chem.Mol:
    mol = Chem.Mol(ligand())
    mol.SetProp("_Name", HOSTILE)
    mol.GetConformer().SetDoubleProp("vina_min", -5.25)
    mol.AddConformer(shifted(1.0).GetConformer(), assignId=True)
    return mol


def test_the_page_is_self_contained_and_safe(pocket: Pocket) -> None:
    fragment = view_complex(posed(), pocket).fragment
    assert not re.search(r"https?://|src=\"|@import|url\(", fragment)
    assert fragment.count("<script>") == 1 and fragment.count("</script>") == 1
    assert "<img" not in fragment and "Vina -5.25 kcal/mol" in fragment
    whole = complex_page([(HOSTILE, pocket, [ligand()])])
    assert whole.startswith("<!doctype html>") and "<img" not in whole
    assert "<iframe srcdoc=" in view_complex(ligand(), pocket)._repr_html_()


def test_poses_and_protein_share_one_frame(pocket: Pocket) -> None:
    """Distances between ligand and protein in the page are those of the files."""
    import json

    data = json.loads(
        re.findall(r"molgenComplex\(root,(.*)\);\}\)", view_complex(posed(), pocket).fragment)[0]
    )
    (one,) = data
    ours = np.array(one["poses"][0]["pos"])
    theirs = np.array(one["pocket"]["pos"])
    shown = np.linalg.norm(ours[:, None] - theirs[None], axis=-1).min()
    heavy = ligand().GetConformer().GetPositions()[:11]
    atoms = pocket.structure.positions
    polar = ligand().GetConformer().GetPositions()
    true = min(np.linalg.norm(p[:, None] - atoms[None], axis=-1).min() for p in (heavy, polar))
    assert shown == pytest.approx(true, abs=0.6) and shown >= true - 0.02
    assert len(one["poses"]) == 2 and one["reference"] is not None
    assert {label["text"][:3] for label in one["labels"]} <= set(
        "Gly Ala Val Ser Asp Lys Phe".split()
    )
    assert one["trace"] and max(len(part) for part in one["trace"]) <= 7
    shift = np.array(one["poses"][1]["pos"]) - ours
    assert np.allclose(np.linalg.norm(shift, axis=1), 1, atol=0.03)


def test_nothing_to_show(pocket: Pocket) -> None:
    with pytest.raises(DataError, match="expected poses to show"):
        complex_html([("empty", pocket, [])])


def test_it_draws_in_a_browser(pocket: Pocket, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser on this machine")
    page = tmp_path / "view.html"
    page.write_text(complex_page([("a", pocket, [posed()]), (HOSTILE, pocket, [ligand()])]))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'p'}"]
    dump = subprocess.run(
        [browser, *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    assert re.findall(r"<title>(.*?)</title>", dump) != ["hacked"]
    assert dump.count("<option") == 2 and 'aria-pressed="true"' in dump
    assert re.search(r"<canvas[^>]* width=\"\d+\"", dump)
