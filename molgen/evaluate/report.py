"""One page about a scored set: figures beside the reference, pictures, 3D, what was rejected."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import DataError, OutputError
from diffcore.files import whole

if TYPE_CHECKING:
    import pandas as pd
    from rdkit import Chem

    from molgen.evaluate.gallery import Group
    from molgen.evaluate.score import Evaluation

DASH = "–"

HEADLINES = {
    "strict_valid": "Strictly valid",
    "pb_valid": "Accepted by PoseBusters",
    "uniqueness": "Unique, of the valid",
    "novelty": "Novel, of the unique",
    "xtb_energy": "Relaxation, GFN2-xTB",
    "mmff_strain": "Relaxation, MMFF94s",
}
"""Metrics shown large at the top, by what name: the first five of those that were measured."""

FAMILIES = {
    "strict": ("Strict metrics", "The figures to judge the set by."),
    "description": ("Properties and cost", "Plain facts; means over the molecules counted."),
    "legacy": (
        "Legacy metrics",
        "The definitions of the papers, flaws included: for comparison with published rows only.",
    ),
}

Molecules = Sequence["Chem.Mol | None"] | Mapping[int, "Chem.Mol | None"]


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
    if digits and value and abs(value) < 0.095:
        return f"{value:.2g}"
    return f"{value:,.0f}" if value == int(value) and digits == 0 else f"{value:,.{digits}f}"


@dataclass(frozen=True)
class Report:
    """A page; a notebook shows it as it is, without a network.

    Attributes:
        page: The HTML.
        height: Pixels of the window onto it in a notebook.
    """

    page: str
    height: int = 720

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Writes the page, which needs no other file.

        Raises:
            OutputError: The file exists and `force` is not given, or it cannot be written.
        """
        path = Path(path)
        if path.exists() and not force:
            raise OutputError(f"{path} exists: give force (--force) to overwrite it")
        with whole(path) as beside:
            beside.write_text(self.page, encoding="utf-8")
        return path

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page, quote=True)}" title="Report" '
            f'style="width:100%;height:{self.height}px;border:1px solid #8884;border-radius:10px" '
            'sandbox="allow-scripts"></iframe>'
        )


def report(
    evaluation: Evaluation,
    title: str = "Molecules",
    mols: Molecules | None = None,
    run: Mapping[str, Any] | None = None,
) -> Report:
    """The report of an evaluation.

    Args:
        evaluation: What `molgen.evaluate` gave.
        title: Heading.
        mols: The molecules, in the order of the table or by row number; those that the evaluation
            kept if left out. Without them there is nothing in 3D, and pictures are drawn from
            SMILES.
        run: How the set was made, shown as it is; the evaluation's own if left out.

    Raises:
        DataError: `mols` is a list of another length than the table.
    """
    given: Molecules = evaluation.mols if mols is None else mols
    if isinstance(given, Mapping):
        known: Mapping[int, Any] = given
    else:
        rows = len(evaluation.table)
        if len(given) not in (0, rows):
            raise DataError(f"expected the {rows} molecules that were scored, got {len(given)}")
        known = dict(enumerate(given))
    return Report(_render(evaluation, title, known, evaluation.run if run is None else run))


def summary_html(evaluation: Evaluation) -> str:
    """The summary as tables for a notebook, one a family of metrics; `report` shows all."""
    parts = [
        f"<p><b>{len(evaluation.table):,} molecules</b>; rows: <code>.table</code>, "
        "pictures: <code>.report()</code></p>"
    ]
    for family, title, _, rows in _families(evaluation.summary):
        lines = "".join(_summary_line(row) for row in rows)
        heads = "".join(
            f'<th style="text-align:{"left" if i in (0, 5) else "right"}">{head}</th>'
            for i, head in enumerate(("metric", "value", "±", "reference", "n", "definition"))
        )
        opened = " open" if family == "strict" else ""
        parts.append(
            f"<details{opened}><summary><b>{title}</b></summary>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></details>"
        )
    return "".join(parts)


def _summary_line(row: Mapping[str, Any]) -> str:
    value = f"{number(row['value'])} {row['unit'] if row['value'] == row['value'] else ''}"
    cells = (value, number(row["std"]), number(row["reference"]), number(row["n"], 0))
    figures = "".join(
        f'<td style="text-align:right;white-space:nowrap">{html.escape(cell.strip())}</td>'
        for cell in cells
    )
    left = '<td style="text-align:left">'
    return (
        f"<tr>{left}{html.escape(row['metric'])}</td>{figures}"
        f"{left}{html.escape(row['definition'])}</td></tr>"
    )


def _render(
    evaluation: Evaluation, title: str, mols: Mapping[int, Any], run: Mapping[str, Any]
) -> str:
    from jinja2 import Environment
    from markupsafe import Markup

    from molgen.evaluate.charts import bond_charts, charts
    from molgen.evaluate.gallery import gallery

    table, reference, summary = evaluation.table, evaluation.reference, evaluation.summary
    n_valid = int(table["strict_valid"].sum())
    times = table.loc[table["strict_valid"], "smiles"].value_counts().to_dict()
    groups = [_shown(group, table, mols, times) for group in gallery(table)]
    viewer = _viewer(groups)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = number
    source = files("molgen").joinpath("assets/report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=title,
        n=len(table),
        n_valid=n_valid,
        n_rejected=len(table) - n_valid,
        headlines=_headlines(summary),
        families=_families(summary),
        groups=[group for group in groups if not group["rejected"]],
        rejected=next((group for group in groups if group["rejected"]), None),
        reasons=evaluation.reasons(),
        errors=evaluation.errors(),
        viewer=Markup(viewer),
        charts=charts(table, reference, _means(summary)),
        bonds=bond_charts(table, reference),
        reference="" if reference is None else reference.name,
        sampled=int(table["sampled"].sum()) if "sampled" in table else 0,
        run={key: _run_value(value) for key, value in run.items()},
        versions=_versions(),
    )


def _run_value(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(DASH if value is None else value)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("designloom", "rdkit"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _headlines(summary: pd.DataFrame) -> list[dict[str, Any]]:
    rows = {row["metric"]: row for row in summary.to_dict("records")}
    found = [rows[name] for name in HEADLINES if name in rows and rows[name]["n"]]
    return [row | {"label": HEADLINES[row["metric"]]} for row in found[:5]]


def _families(summary: pd.DataFrame) -> list[tuple[str, str, str, list[dict[str, Any]]]]:
    return [
        (family, title, remark, summary[summary["family"] == family].to_dict("records"))
        for family, (title, remark) in FAMILIES.items()
        if (summary["family"] == family).any()
    ]


def _means(summary: pd.DataFrame) -> dict[str, float]:
    return dict(zip(summary["metric"], summary["reference"], strict=True))


# ----------------------------------------------------------------------------------- molecules


def _shown(
    group: Group, table: pd.DataFrame, mols: Mapping[int, Any], times: Mapping[str, int]
) -> dict[str, Any]:
    """A group with its cards."""
    cards = [_card(index, table.loc[index], mols.get(index), group) for index in group.indices]
    for card in cards:
        card["times"] = times.get(card["smiles"], 1)
    first = table.loc[group.indices[0]]
    rejected = not bool(first["strict_valid"])
    return {"title": group.title, "note": group.note, "cards": cards, "rejected": rejected}


def _card(index: int, row: pd.Series, thing: Any, group: Group) -> dict[str, Any]:
    from molgen.evaluate.pictures import data_uri, depict

    mol = _molecule(thing)
    drawn = mol if mol is not None else _from_smiles(row["smiles"])
    svg = "" if _text(row["smiles"]) == "" else depict(drawn)
    value = f"{number(row[group.column], 1)} kcal/mol" if group.column else ""
    return {
        "index": index,
        "name": _text(row["name"]),
        "picture": data_uri(svg) if svg else "",
        "smiles": _text(row["smiles"]),
        "formula": _text(row["formula"]),
        "value": value,
        "reason": _text(row["reason"]),
        "error": _text(row["error"]),
        "poses": _text(row["pb_failed"]).replace("_", " ") if "pb_failed" in row else "",
        "known": str(row["novel"]) == "False",
        "mol": mol if bool(row["has_3d"]) else None,
        "place": None,
    }


def _molecule(thing: Any) -> Chem.Mol | None:
    from rdkit import Chem

    from molgen.io import Entry

    mol = thing.mol if isinstance(thing, Entry) else thing
    return mol if isinstance(mol, Chem.Mol) else None


def _from_smiles(smiles: Any) -> Chem.Mol | None:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles, sanitize=False) if isinstance(smiles, str) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _viewer(groups: list[dict[str, Any]]) -> str:
    """All shown molecules that have positions in one viewer; their cards learn their places."""
    from molgen.viewer import viewer_html

    mols: list[Chem.Mol] = []
    names: list[str] = []
    for group in groups:
        for card in group["cards"]:
            if card["mol"] is not None:
                card["place"] = len(mols)
                mols.append(card["mol"])
                what = card["value"] or card["reason"] or card["smiles"]
                names.append(f"{group['title']}: {card['index']}, {what}")
    return viewer_html(mols, names, height=420) if mols else ""
