"""The notebooks: stripped in the repository, thin, and running from a folder of their own."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = (
    "01_generate_molecules.ipynb",
    "02_steer_molecules.ipynb",
    "03_conformers_and_docking.ipynb",
    "04_spider_webs.ipynb",
    "05_eutectic_solvents.ipynb",
    "06_network_weights.ipynb",
    "07_design_loop.ipynb",
)


def read(repository: Path, name: str) -> Any:
    return nbformat.read(repository / "notebooks" / name, as_version=4)


RUNNER = """
import sys
import jupyter_client, nbclient, nbformat
from jupyter_client.kernelspec import KernelSpecManager

# no installed kernel, of this environment or the user's, but this interpreter itself
specs = KernelSpecManager(kernel_dirs=[])
manager = jupyter_client.AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
notebook = nbformat.read(sys.argv[1], as_version=4)
client = nbclient.NotebookClient(notebook, km=manager, timeout=1200, startup_timeout=300)
client.execute()
nbformat.write(notebook, sys.argv[2])
"""


def execute(path: Path, repository: Path, folder: Path) -> Any:
    """Run all cells in a kernel of this interpreter, in an empty folder; outputs included.

    In a process of its own, because the sockets of Jupyter's client end with it.
    """
    for module in ("jupyter_client", "nbclient", "ipykernel"):
        pytest.importorskip(module)
    (folder / "cwd").mkdir()
    home = {"IPYTHONDIR": folder / "ipython", "JUPYTER_RUNTIME_DIR": folder / "runtime"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(path), str(folder / "done.ipynb")],
        cwd=folder / "cwd",
        env={**os.environ, "PYTHONPATH": str(repository)} | {k: str(v) for k, v in home.items()},
        capture_output=True,
        text=True,
        timeout=1400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(folder / "done.ipynb", as_version=4)


def outputs(notebook: Any, kind: str) -> list[str]:
    """All results of one MIME type."""
    return [
        output["data"][kind]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in output.get("data", {})
    ]


def test_every_notebook_is_listed_here(repository: Path) -> None:
    assert sorted(p.name for p in (repository / "notebooks").glob("*.ipynb")) == sorted(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_stripped_and_thin(repository: Path, name: str) -> None:
    notebook = read(repository, name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 10 and len(notebook.cells) <= 20
    for cell in code:
        assert cell.outputs == [] and cell.execution_count is None
        assert len(cell.source.splitlines()) <= 20, "a thin notebook calls the packages"


@pytest.mark.timeout(1500)
def test_the_first_notebook_runs_and_its_viewer_needs_no_network(
    repository: Path, tmp_path: Path
) -> None:
    from molgen.weights.files import shipped

    if "qm9" not in shipped():
        pytest.skip("the weights qm9 are not in this checkout")
    before = {p.name for p in (repository / "notebooks").iterdir()}
    done = execute(repository / "notebooks" / NOTEBOOKS[0], repository, tmp_path)

    kinds = [o.output_type for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert kinds and "error" not in kinds
    assert len(outputs(done, "image/png")) >= 1, "no 2D picture"
    viewers = [text for text in outputs(done, "text/html") if "mg-viewer" in text]
    assert len(viewers) == 1
    page = html.unescape(viewers[0])
    assert "molgenViewer(root," in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert not re.search(r"https?://(?!www\.w3\.org)", page)

    written = tmp_path / "cwd/demo/molecules.sdf"
    assert written.read_text("utf-8").count("$$$$") == 12
    assert {p.name for p in (repository / "notebooks").iterdir()} == before


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_second_notebook_shows_five_requests(repository: Path, tmp_path: Path) -> None:
    from molgen.weights.files import shipped

    if "qm9" not in shipped():
        pytest.skip("the weights qm9 are not in this checkout")
    done = execute(repository / "notebooks" / NOTEBOOKS[1], repository, tmp_path)
    kinds = [o.output_type for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert kinds and "error" not in kinds
    assert len(outputs(done, "image/png")) == 5
    assert len([text for text in outputs(done, "text/html") if "mg-viewer" in text]) == 1
    said = "".join(
        o.text for c in done.cells if c.cell_type == "code" for o in c.outputs if "text" in o
    )
    assert "largest shift of a kept atom: 0.0 Angstrom" in said
    assert re.search(r"evolution: best reward [-.\d]+ after 1[34]\d\d network evaluations", said)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_third_notebook_finds_the_known_pose_again(repository: Path, tmp_path: Path) -> None:
    from molgen.weights.files import shipped

    for module in ("vina", "openbabel", "meeko", "posebusters", "tblite"):
        pytest.importorskip(module)
    if "bound" not in shipped():
        pytest.skip("the weights bound are not in this checkout")
    done = execute(repository / "notebooks" / NOTEBOOKS[2], repository, tmp_path)
    kinds = [o.output_type for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert kinds and "error" not in kinds
    pages = [html.unescape(text) for text in outputs(done, "text/html")]
    assert sum("molgenComplex(root," in page for page in pages) == 1
    assert not any(re.search(r"https?://(?!www\.w3\.org)", page) for page in pages)
    shown = outputs(done, "text/plain")
    (table,) = [text for text in shown if re.match(r"\s*vina_min +torsion_cost", text)]
    first = dict(zip(table.splitlines()[0].split(), table.splitlines()[1].split()[1:], strict=True))
    assert float(first["rmsd"]) < 2 and float(first["vina_min"]) < -6


@pytest.mark.timeout(1500)
def test_the_notebook_of_design_loops_shows_a_front(repository: Path, tmp_path: Path) -> None:
    from molgen.weights.files import shipped

    for package in ("sqlalchemy", "sklearn", "tblite"):
        pytest.importorskip(package)
    if "qm9" not in shipped():
        pytest.skip("the weights qm9 are not in this checkout")
    done = execute(repository / "notebooks" / "07_design_loop.ipynb", repository, tmp_path)

    kinds = [o.output_type for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert kinds and "error" not in kinds
    assert len(outputs(done, "image/png")) == 2, "the front and its molecules"
    assert any("generation" in text for text in outputs(done, "text/html")), "no table"
    assert (tmp_path / "cwd/notebook.sqlite").is_file()


@pytest.mark.timeout(600)
def test_the_notebook_of_network_weights_saves_steps(repository: Path, tmp_path: Path) -> None:
    from structgen.netweights.weights import shipped as weights

    pytest.importorskip("sklearn")
    if not {"tabular-mlp", "digits-mlp"} <= set(weights()):
        pytest.skip("the weights tabular-mlp and digits-mlp are not in this checkout")
    done = execute(repository / "notebooks" / "06_network_weights.ipynb", repository, tmp_path)

    kinds = [o.output_type for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert kinds and "error" not in kinds
    assert len(outputs(done, "image/png")) == 1
    assert float(outputs(done, "text/plain")[1]) > 0.85, "guided networks of the wine data"
    said = "".join(
        o.text for c in done.cells if c.cell_type == "code" for o in c.outputs if "text" in o
    )
    right = [float(v) for v in re.findall(r"accuracy ([\d.]+)%", said)]
    assert len(right) == 2 and right[0] > 80


@pytest.mark.timeout(900)
def test_the_notebook_of_webs_goes_from_a_model_to_a_body(repository: Path, tmp_path: Path) -> None:
    from structgen.webs.weights import shipped as weights

    for package in ("numba", "manifold3d", "trimesh"):
        pytest.importorskip(package)
    if "orb" not in weights():
        pytest.skip("the weights orb are not in this checkout")
    done = execute(repository / "notebooks" / "04_spider_webs.ipynb", repository, tmp_path)
    kinds = [o.output_type for c in done.cells if c.cell_type == "code" for o in c.outputs]
    assert kinds and "error" not in kinds
    assert len(outputs(done, "image/png")) == 3, "webs, a pull test, the helix"
    said = "".join(
        o.text for c in done.cells if c.cell_type == "code" for o in c.outputs if "text" in o
    )
    assert "36 nodes" in said and "connected: True" in said
    assert "'watertight': 1.0" in outputs(done, "text/plain")[-1]


@pytest.mark.timeout(600)
def test_the_notebook_of_solvents_draws_diagrams_and_proposals(
    repository: Path, tmp_path: Path
) -> None:
    pytest.importorskip("chemicals")
    pytest.importorskip("ugropy")
    path = repository / "notebooks" / "05_eutectic_solvents.ipynb"
    done = execute(path, repository, tmp_path)
    said = "".join(
        o.text for c in done.cells if c.cell_type == "code" for o in c.outputs if "text" in o
    )
    assert re.search(r"eutectic at 0\.\d\d menthol, 2[4-9]\d K, by unifac", said)
    assert re.search(r"eutectic at 0\.\d\d choline chloride, [23]\d\d K, by learned", said)
    assert "(predicted)" in said
    assert len(outputs(done, "image/png")) == 4
    assert "acceptor" in "".join(outputs(done, "text/html"))
