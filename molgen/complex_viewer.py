"""Poses in their pocket, in 3D and offline: backbone, residues near the ligand, poses to choose.

```python
from molgen.complex_viewer import view_complex
view_complex(mol, pocket)  # in a notebook: every conformer of the molecule is a pose
```
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from diffcore.errors import DataError
from molgen.viewer import MoleculeView, _json, _kekulised

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rdkit import Chem

    from molgen.docking.pocket import Pocket
    from molgen.docking.structure import Structure

    Floats = NDArray[np.float64]

NEAR = 5.0
"""Residues with an atom this near to a pose are drawn, Angstrom."""

BACKBONE = 18.0
"""The backbone is drawn this far from the poses."""

GAP = 4.6
"""Two CA atoms further apart are not joined."""

_STYLE = """
.mg-complex{font:14px/1.4 system-ui,sans-serif;color:#343a40;border:1px solid #dee2e6;
border-radius:10px;overflow:hidden;background:#fff;display:grid;
grid-template-columns:minmax(0,1fr) 15rem}
.mg-complex canvas{display:block;width:100%;touch-action:none;cursor:grab;background:#eef1f5}
.mg-complex canvas:focus-visible{outline:2px solid #4263eb;outline-offset:-2px}
.mg-complex [data-role=poses]{overflow-y:auto;border-left:1px solid #dee2e6;padding:.3rem}
.mg-complex [data-role=poses] button{display:block;width:100%;text-align:left;border:0;
border-radius:6px;background:none;padding:.3rem .5rem;font:inherit;color:inherit;cursor:pointer;
white-space:pre-line}
.mg-complex [data-role=poses] button[aria-pressed=true]{background:#fff4e6;
box-shadow:inset 3px 0 #e8590c}
.mg-complex .mg-bar{grid-column:1/-1;display:flex;flex-wrap:wrap;gap:.3rem 1rem;
align-items:center;padding:.4rem .6rem;border-top:1px solid #dee2e6}
.mg-complex .mg-bar i{font-style:normal;font-weight:600}
@media (max-width:560px){.mg-complex{grid-template-columns:1fr}
.mg-complex [data-role=poses]{border-left:0;max-height:9rem!important}}
"""

_SWITCHES = (
    ("backbone", "backbone", True),
    ("residues", "residues", True),
    ("contacts", "polar contacts", True),
    ("labels", "labels", True),
    ("reference", "reference ligand", True),
)


def complex_html(
    complexes: Iterable[tuple[str, Pocket, Sequence[Chem.Mol]]], height: int = 460
) -> str:
    """An HTML fragment that shows complexes; poses are chosen from a list.

    Args:
        complexes: (name, pocket, poses): each pose has one conformer in the protein's frame, its
            properties such as `vina_min` are shown.
        height: of the canvas in pixels.

    Returns:
        Self-contained HTML: style, markup, script and data.

    Raises:
        DataError: there is no pose.
    """
    data = [_record(name, pocket, poses) for name, pocket, poses in complexes if len(poses)]
    if not data:
        raise DataError("expected poses to show, got none")
    script = files("molgen").joinpath("assets/complex.js").read_text(encoding="utf-8")
    switches = "".join(
        f'<label><input type="checkbox" name="{name}"{" checked" if on else ""}> {text}</label>'
        for name, text, on in _SWITCHES
    )
    return (
        f"<style>{_STYLE}</style>"
        '<div class="mg-complex">'
        f'<canvas style="height:{int(height)}px" tabindex="0" role="img" '
        'aria-label="Poses in the pocket: drag or use the arrow keys to turn, wheel or + and - to '
        'zoom"></canvas>'
        f'<div data-role="poses" style="max-height:{int(height)}px"></div>'
        f'<div class="mg-bar"><select aria-label="complex"></select>{switches}</div>'
        f"<script>(function(){{const root=document.currentScript.parentElement;\n{script}\n"
        f"molgenComplex(root,{_json(data)});}})();</script></div>"
    )


def complex_page(
    complexes: Iterable[tuple[str, Pocket, Sequence[Chem.Mol]]], height: int = 620
) -> str:
    """A whole page with `complex_html`."""
    listed = list(complexes)
    title = html.escape(", ".join(name for name, _, _ in listed[:3] if name) or "Poses")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'</head><body style="margin:8px">{complex_html(listed, height)}</body></html>'
    )


def view_complex(mol: Chem.Mol, pocket: Pocket, height: int = 460) -> MoleculeView:
    """Every conformer of a molecule as a pose in its pocket; a notebook shows it.

    Raises:
        DataError: there is no conformer.
    """
    from rdkit import Chem

    poses = []
    for rank, conformer in enumerate(mol.GetConformers(), 1):
        one = Chem.Mol(mol, confId=conformer.GetId())
        one.SetProp("rank", str(rank))
        for name, value in conformer.GetPropsAsDict().items():
            one.SetProp(name, f"{value:.2f}" if isinstance(value, float) else str(value))
        poses.append(one)
    name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
    return MoleculeView(complex_html([(name, pocket, poses)], height), height)


def _record(name: str, pocket: Pocket, poses: Sequence[Chem.Mol]) -> dict[str, Any]:
    import numpy as np

    from molgen.docking.pocket import heavy_positions

    places = np.concatenate([heavy_positions(pose) for pose in poses])
    if not np.isfinite(places).all():
        raise DataError(f"{name}: expected finite positions of poses, got inf or nan")
    first = heavy_positions(poses[0])
    centre, axes = first.mean(0), _axes(first - first.mean(0))
    structure = pocket.structure
    heavy = structure.select(np.nonzero(structure.heavy)[0].tolist())
    near = heavy.near(places, NEAR)

    def moved(positions: Floats) -> Floats:
        return np.asarray((positions - centre) @ axes.T)

    return {
        "name": name,
        "trace": [_rounded(moved(part)) for part in _trace(heavy.near(places, BACKBONE))],
        "pocket": {
            "symbols": list(near.elements),
            "pos": _rounded(moved(near.positions)),
            "bonds": _bonds(near),
        },
        "labels": [
            {"text": text, "pos": _rounded(moved(pos[None]))[0]} for text, pos in _labels(near)
        ],
        "reference": None if pocket.reference is None else _mol(pocket.reference, moved),
        "poses": [_mol(pose, moved) | {"facts": _facts(pose)} for pose in poses],
    }


def _axes(centred: Floats) -> Floats:
    """A proper rotation [3, 3] that lays the flattest side of points towards the viewer."""
    import numpy as np

    axes = np.linalg.svd(np.vstack([centred, np.zeros((3, 3))]), full_matrices=True)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    return np.asarray(axes)


def _rounded(positions: Floats) -> list[list[float]]:
    found: list[list[float]] = positions.round(2).tolist()
    return found


def _mol(mol: Chem.Mol, moved: Any) -> dict[str, Any]:
    """Heavy atoms and hydrogens on nitrogen or oxygen."""
    drawn = [
        atom.GetIdx()
        for atom in mol.GetAtoms()
        if atom.GetAtomicNum() > 1
        or any(n.GetAtomicNum() in (7, 8, 16) for n in atom.GetNeighbors())
    ]
    place = {old: new for new, old in enumerate(drawn)}
    pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in _kekulised(mol).GetBonds()]
    return {
        "symbols": [mol.GetAtomWithIdx(k).GetSymbol() for k in drawn],
        "pos": _rounded(moved(mol.GetConformer().GetPositions()[drawn])),
        "bonds": [(place[i], place[j]) for i, j in pairs if i in place and j in place],
    }


_FACTS = (
    ("vina_min", "Vina {} kcal/mol"),
    ("strain", "strain {} kcal/mol"),
    ("confidence", "confidence {}"),
    ("pb_valid", "PoseBusters valid: {}"),
)


def _facts(mol: Chem.Mol) -> str:
    rank = mol.GetProp("rank") if mol.HasProp("rank") else ""
    known = [form.format(mol.GetProp(n)) for n, form in _FACTS if mol.HasProp(n) and mol.GetProp(n)]
    return "\n".join([f"pose {rank}".strip(), *known])


def _trace(structure: Structure) -> list[Floats]:
    """CA (or P) atoms of neighbouring residues, in pieces without gaps."""
    import numpy as np

    parts: list[list[Floats]] = []
    before: tuple[str, Floats] | None = None
    rows = zip(
        structure.names,
        structure.elements,
        structure.residues,
        structure.positions,
        structure.polymer.tolist(),
        strict=True,
    )
    for name, element, residue, position, polymer in rows:
        if not polymer or (name, element) not in (("CA", "C"), ("P", "P")):
            continue
        limit = GAP if element == "C" else 8.0
        joined = (
            before is not None
            and before[0] == residue.chain
            and float(np.linalg.norm(before[1] - position)) < limit
        )
        if not joined:
            parts.append([])
        parts[-1].append(position)
        before = (residue.chain, position)
    return [np.stack(part) for part in parts if len(part) > 1]


def _bonds(structure: Structure) -> list[tuple[int, int]]:
    """Pairs of atoms nearer than 1.9 Angstrom (2.2 with sulfur or phosphorus), no metals."""
    from scipy.spatial import cKDTree

    if not len(structure.positions):
        return []
    large, light = ("S", "P", "Se", "Cl", "Br"), ("C", "N", "O", "F", "B", "I", "H")
    pairs = cKDTree(structure.positions).query_pairs(2.2)
    out = []
    for i, j in sorted(pairs):
        a, b = structure.elements[i], structure.elements[j]
        distance = float(((structure.positions[i] - structure.positions[j]) ** 2).sum() ** 0.5)
        covalent = all(e in large or e in light for e in (a, b))
        if covalent and (distance < 1.9 or a in large or b in large):
            out.append((int(i), int(j)))
    return out


def _labels(structure: Structure) -> list[tuple[str, Floats]]:
    """Name and number of every residue, at its atom furthest along the side chain."""
    last: dict[Any, Floats] = {}
    for residue, position in zip(structure.residues, structure.positions, strict=True):
        last[residue] = position
    return [(f"{r.name.capitalize()}{r.number}", position) for r, position in last.items()]
