"""One self-contained HTML file about a scored set: figures, pictures, 3D, what was rejected."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import DataError, OutputError

if TYPE_CHECKING:
    import pandas as pd
    from rdkit import Chem

    from molgen.datasets.reference import Reference
    from molgen.evaluate.score import Evaluation

DASH = "–"
PICTURES = 24
IN_3D = 12

HEADLINES = ("strict_valid", "molecule_stability", "uniqueness", "novelty")
"""Metrics shown large at the top."""

HISTOGRAMS = {
    "n_atoms": "Atoms in a molecule",
    "molecular_weight": "Molecular weight (g/mol)",
    "rings": "Rings",
    "logp": "logP (Crippen)",
    "qed": "Drug-likeness (QED)",
}
"""Column of the row table -> title; whole numbers get a bar each, the rest 30 bins."""


def number(value: Any, digits: int = 2) -> str:
    """A number for people; None, NaN and infinities become a dash."""
    if value is None or isinstance(value, str):
        return value or DASH
    try:
        value = float(value)
    except (TypeError, ValueError):
        return DASH
    if not math.isfinite(value):
        return DASH
    return f"{value:,.0f}" if value == int(value) and digits == 0 else f"{value:,.{digits}f}"


def write_report(
    mols: Sequence[Chem.Mol | None],
    evaluation: Evaluation,
    path: str | Path,
    title: str = "Molecules",
    run: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Writes the report; the file needs no network and no other file.

    Args:
        mols: The scored molecules, in the order of `evaluation.table`.
        evaluation: What `molgen.evaluate` gave for them.
        path: Output file.
        title: Heading.
        run: How the set was made (model, seed, steps, seconds, ...), shown as it is.
        force: Overwrite an existing file.

    Returns:
        The path written.

    Raises:
        DataError: `mols` and the table differ in length.
        OutputError: The file exists and `force` is not given, or it cannot be written.
    """
    path = Path(path)
    if len(mols) != len(evaluation.table):
        rows = len(evaluation.table)
        raise DataError(f"expected the {rows} molecules that were scored, got {len(mols)}")
    check_output(path, force)
    page = render(mols, evaluation, title, run or {})
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def check_output(path: Path, force: bool) -> None:
    """Raises OutputError early if `path` exists without `force` or its folder is missing."""
    if path.exists() and not force:
        raise OutputError(f"{path} exists: give force (--force) to overwrite it")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise OutputError(f"cannot write {path}: expected a file in an existing folder")


def render(
    mols: Sequence[Chem.Mol | None],
    evaluation: Evaluation,
    title: str,
    run: Mapping[str, Any],
) -> str:
    """The report as HTML text; see `write_report`."""
    from jinja2 import Environment
    from markupsafe import Markup

    table, reference = evaluation.table, evaluation.reference
    valid = table.index[table["strict_valid"]].tolist()
    rejected = table.index[~table["strict_valid"]].tolist()
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    source = files("pipelines").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=title,
        n=len(table),
        headlines=_headlines(evaluation),
        families=_families(evaluation.summary),
        reasons=evaluation.reasons(),
        n_errors=int((table["error"].fillna("") != "").sum()),
        valid=_cards(mols, table, valid[:PICTURES]),
        n_valid=len(valid),
        rejected=_cards(mols, table, rejected[:PICTURES]),
        n_rejected=len(rejected),
        viewer=Markup(_viewer(mols, table, valid, rejected)),
        charts=_charts(table, reference),
        reference="" if reference is None else reference.name,
        run={key: _run_value(value) for key, value in run.items()},
        versions=_versions(),
    )


def _run_value(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(DASH if value is None else value)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("designloom", "rdkit", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _headlines(evaluation: Evaluation) -> list[dict[str, Any]]:
    rows = {row["metric"]: row for row in evaluation.summary.to_dict("records")}
    return [rows[name] for name in HEADLINES if name in rows]


def _families(summary: pd.DataFrame) -> list[tuple[str, str, list[dict[str, Any]]]]:
    titles = {
        "strict": ("Strict metrics", "The figures to judge the set by."),
        "description": ("Properties and cost", "Means over the molecules counted."),
        "legacy": (
            "Legacy metrics",
            "The definitions of the papers, flaws included: for comparison with published rows "
            "only.",
        ),
    }
    return [
        (*titles[family], summary[summary["family"] == family].to_dict("records"))
        for family in titles
        if (summary["family"] == family).any()
    ]


# ----------------------------------------------------------------------------------- pictures


def data_uri(content: bytes | str, kind: str = "image/svg+xml") -> str:
    """Content for the src of an image: it cannot run anything in the page."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def _flat(mol: Chem.Mol) -> Chem.Mol:
    """A copy with hydrogens folded away and 2D coordinates, also of graphs that do not sanitise."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    flat = Chem.Mol(mol)
    flat.RemoveAllConformers()
    try:
        Chem.SanitizeMol(flat)
        flat = Chem.RemoveHs(flat)
        Chem.Kekulize(flat, clearAromaticFlags=True)
    except (ValueError, RuntimeError):
        flat = Chem.Mol(mol)
        flat.RemoveAllConformers()
        flat.UpdatePropertyCache(strict=False)
        flat = Chem.RemoveHs(flat, sanitize=False)
        flat.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(flat)
    rdDepictor.Compute2DCoords(flat)
    return flat


def depict(mol: Chem.Mol | None, width: int = 220, height: int = 160) -> str:
    """SVG of a molecule in 2D; empty if it cannot be drawn."""
    from rdkit import rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    if mol is None or mol.GetNumAtoms() == 0:
        return ""
    with rdBase.BlockLogs():
        try:
            drawer = rdMolDraw2D.MolDraw2DSVG(width, height)
            options: Any = drawer.drawOptions()
            options.clearBackground = False
            options.prepareMolsBeforeDrawing = False
            options.maxFontSize = 18
            options.fixedBondLength = 38
            drawer.DrawMolecule(_flat(mol))
            drawer.FinishDrawing()
            return str(drawer.GetDrawingText())
        except (ValueError, RuntimeError):
            return ""


def _cards(
    mols: Sequence[Chem.Mol | None], table: pd.DataFrame, indices: Iterable[int]
) -> list[dict[str, Any]]:
    cards = []
    for index in indices:
        row = table.loc[index]
        svg = depict(mols[index])
        cards.append(
            {
                "index": index,
                "name": _text(row["name"]),
                "picture": data_uri(svg) if svg else "",
                "smiles": _text(row["smiles"]),
                "formula": _text(row["formula"]),
                "reason": _text(row["reason"]),
                "error": _text(row["error"]),
                "repeated": row["unique"] is False or str(row["unique"]) == "False",
                "known": str(row["novel"]) == "False",
            }
        )
    return cards


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _viewer(
    mols: Sequence[Chem.Mol | None], table: pd.DataFrame, valid: list[int], rejected: list[int]
) -> str:
    """The first valid molecules in 3D (rejected ones where there are none valid); may be empty."""
    from molgen.viewer import viewer_html

    chosen = [i for i in valid if table.loc[i, "has_3d"]] or [
        i for i in rejected if table.loc[i, "has_3d"]
    ]
    chosen = chosen[:IN_3D]
    if not chosen:
        return ""
    names = [f"{i}: {_text(table.loc[i, 'smiles'])}" for i in chosen]
    return viewer_html([mols[i] for i in chosen], names)


# ----------------------------------------------------------------------------------- charts


def _charts(table: pd.DataFrame, reference: Reference | None) -> list[dict[str, str]]:
    behind = {
        "n_atoms": None if reference is None else reference.n_atoms,
        "rings": None if reference is None else reference.rings_per_molecule,
    }
    charts = []
    for column, title in HISTOGRAMS.items():
        values = [float(v) for v in table[column].dropna().tolist() if math.isfinite(v)]
        if values:
            svg = _histogram(values, column in behind, behind.get(column))
            charts.append({"title": title, "picture": data_uri(svg)})
    return charts


def _histogram(values: list[float], whole: bool, behind: Mapping[int, int] | None) -> str:
    """A histogram as SVG; `behind` (value -> count of the reference) is drawn as an outline."""
    import numpy as np
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "designloom"}):
        figure = Figure(figsize=(3.6, 2.1), layout="constrained")
        axes = figure.add_subplot()
        if whole:
            edges = np.arange(min(values) - 0.5, max(values) + 1.0)
        else:
            edges = np.histogram_bin_edges(values, bins=30)
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, bins=edges.tolist(), weights=weights, color="#4c6ef5", rwidth=0.9)
        if behind:
            keys = np.array(sorted(behind))
            share = np.array([behind[k] for k in keys.tolist()]) * 100 / sum(behind.values())
            axes.plot(keys, share, color="#e8590c", marker="o", markersize=2.5, linewidth=1.2)
        axes.set_ylabel("% of molecules")
        axes.spines[["top", "right"]].set_visible(False)
        axes.locator_params(axis="x", nbins=7, integer=whole)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue().decode("utf-8")
