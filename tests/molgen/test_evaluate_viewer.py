"""The 3D viewer: self-contained, safe against names, and alive in a browser where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from diffcore.errors import DataError
from molgen.viewer import facing, view, viewer_html

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>"


def molecule(smiles: str, name: str = "") -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=3)
    mol.SetProp("_Name", name)
    return mol


def test_fragment_is_self_contained_and_safe() -> None:
    fragment = viewer_html([molecule("CC=O", HOSTILE), None, molecule("C#N")], height=300)
    assert not re.search(r"https?://|src=\"|@import|url\(", fragment)
    assert fragment.count("<script>") == 1 and fragment.count("</script>") == 1
    assert "onerror" in fragment and "<img" not in fragment  # as data, never as a tag
    assert '"symbols":["C","C","O"' in fragment and "[1,2,2.0]" in fragment


def test_it_faces_the_viewer_and_keeps_its_handedness() -> None:
    positions = np.random.default_rng(0).normal(size=(7, 3)) * [1.0, 5.0, 3.0] + 10
    turned = facing(positions)
    spread = turned.std(axis=0)
    assert spread[0] > spread[1] > spread[2] and abs(turned.mean(axis=0)).max() < 1e-12

    def volume(p: np.ndarray) -> float:
        return float(np.linalg.det(p[1:4] - p[0]))

    assert volume(turned) == pytest.approx(volume(positions))
    assert facing(np.array([[0.0, np.nan, 0.0]])) is None


def test_notebook_form() -> None:
    html = view(molecule("CCO"))._repr_html_()
    assert html.startswith("<iframe srcdoc=") and 'sandbox="allow-scripts"' in html
    assert "<script" not in html  # escaped inside the attribute
    assert view([molecule("CCO"), molecule("C")]).page().startswith("<!doctype html>")


def test_nothing_to_show() -> None:
    with pytest.raises(DataError, match="none of 2"):
        viewer_html([Chem.MolFromSmiles("C"), None])


def test_it_draws_in_a_browser(tmp_path: Path) -> None:
    """Loads the page in a headless browser: the script runs, the hostile name does not."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser on this machine")
    page = tmp_path / "view.html"
    page.write_text(view([molecule("CC=O", HOSTILE), molecule("c1ccccc1")]).page())
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'p'}"]
    dump = subprocess.run(
        [browser, *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout
    assert "<title>Molecules</title>" in dump
    assert "(1 of 2)" in dump and re.search(r"<canvas[^>]* width=\"\d+\"", dump)
