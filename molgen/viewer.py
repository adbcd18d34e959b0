"""A small 3D viewer that works offline: ball and stick on a canvas, drag to turn, wheel to zoom.

```python
from molgen.viewer import view
view(mols)          # in a notebook: a widget; it stays alive in exported HTML
```
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from diffcore.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rdkit import Chem

_STYLE = """
.mg-viewer{font:14px/1.4 system-ui,sans-serif;color:#343a40;border:1px solid #dee2e6;
border-radius:10px;overflow:hidden;background:#fff}
.mg-viewer canvas{display:block;width:100%;touch-action:none;cursor:grab;
background:radial-gradient(circle at 50% 40%,#fff,#eef1f5)}
.mg-viewer canvas:focus-visible{outline:2px solid #4263eb;outline-offset:-2px}
.mg-bar{display:flex;gap:.5rem;align-items:center;padding:.4rem .6rem;border-top:1px solid #dee2e6}
.mg-bar [data-role=name]{flex:1;text-align:center;overflow:hidden;text-overflow:ellipsis;
white-space:nowrap}
.mg-bar button{border:1px solid #ced4da;background:#f8f9fa;border-radius:6px;padding:.25rem .75rem;
font:inherit;color:inherit;cursor:pointer}
@media (prefers-color-scheme:dark){
.mg-viewer{color:#e6e8ec;border-color:#30343c;background:#1d2026}
.mg-viewer canvas{background:radial-gradient(circle at 50% 40%,#434954,#23272e)}
.mg-bar{border-color:#30343c}
.mg-bar button{background:#282c34;border-color:#30343c}
}
"""


def _record(mol: Chem.Mol | None, name: str) -> dict[str, Any] | None:
    """What the viewer needs of a molecule; None without finite coordinates."""
    if mol is None or mol.GetNumConformers() == 0 or mol.GetNumAtoms() == 0:
        return None
    pos = facing(mol.GetConformer().GetPositions())
    if pos is None:
        return None
    bonds = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble())
        for bond in _kekulised(mol).GetBonds()
    ]
    title = name or (mol.GetProp("_Name") if mol.HasProp("_Name") else "")
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    return {"name": title, "symbols": symbols, "pos": pos.round(4).tolist(), "bonds": bonds}


def facing(positions: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Positions [N, 3], centred and turned so that the flattest side faces the viewer.

    A proper rotation: handedness is kept. None if a coordinate is not finite.
    """
    import numpy as np

    if not np.isfinite(positions).all():
        return None
    centred = positions - positions.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    axes[2] *= np.sign(np.linalg.det(axes))
    return np.asarray(centred @ axes.T)


def _kekulised(mol: Chem.Mol) -> Chem.Mol:
    """A copy without aromatic bonds, or the molecule itself if that cannot be."""
    from rdkit import Chem, rdBase

    copy = Chem.Mol(mol)
    with rdBase.BlockLogs():
        try:
            Chem.Kekulize(copy, clearAromaticFlags=True)
        except (ValueError, RuntimeError):
            return mol
    return copy


def _json(value: Any) -> str:
    """JSON that may stand inside a script element: no tag can end or open there."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def viewer_html(
    mols: Iterable[Chem.Mol | None], names: Iterable[str] = (), height: int = 380
) -> str:
    """An HTML fragment with one viewer that pages through the molecules.

    Args:
        mols: Molecules with a conformer (Angstrom); those without one are left out.
        names: Titles, in the same order; by default the molecules' own.
        height: Height of the canvas in pixels.

    Returns:
        Self-contained HTML: style, markup, script and data. Several may stand in one page.

    Raises:
        DataError: No molecule has coordinates.
    """
    titles = list(names)
    listed = list(mols)
    titles += [""] * (len(listed) - len(titles))
    found = [_record(mol, name) for mol, name in zip(listed, titles, strict=False)]
    data = [record for record in found if record is not None]
    if not data:
        raise DataError(f"none of {len(listed)} molecules has 3D coordinates to show")
    script = files("molgen").joinpath("assets/viewer.js").read_text(encoding="utf-8")
    return (
        f"<style>{_STYLE}</style>"
        '<div class="mg-viewer">'
        f'<canvas style="height:{int(height)}px" tabindex="0" role="img" '
        'aria-label="3D structure: drag or use the arrow keys to turn, wheel or + and - to zoom">'
        "</canvas>"
        '<div class="mg-bar"><button type="button" data-role="previous">&#8249; previous</button>'
        '<span data-role="name"></span>'
        '<button type="button" data-role="next">next &#8250;</button></div>'
        f"<script>(function(){{const root=document.currentScript.parentElement;\n{script}\n"
        f"molgenViewer(root,{_json(data)});}})();</script></div>"
    )


@dataclass(frozen=True)
class MoleculeView:
    """What `view` returns; a notebook shows it as a live 3D view.

    Attributes:
        fragment: HTML of the viewer.
        height: Height of the canvas in pixels.
    """

    fragment: str
    height: int

    def page(self) -> str:
        """A whole HTML page."""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Molecules</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'</head><body style="margin:0">{self.fragment}</body></html>'
        )

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.page(), quote=True)}" title="3D molecules" '
            f'style="width:100%;max-width:640px;height:{self.height + 56}px;border:0" '
            'sandbox="allow-scripts"></iframe>'
        )


def view(mols: Chem.Mol | Iterable[Chem.Mol | None], height: int = 380) -> MoleculeView:
    """Shows one molecule, or pages through several, in 3D; needs no network.

    Args:
        mols: A molecule with a conformer (Angstrom), or several.
        height: Height of the canvas in pixels.

    Returns:
        An object that a notebook displays.

    Raises:
        DataError: No molecule has coordinates.
    """
    listed = list(mols) if isinstance(mols, Iterable) else [mols]
    return MoleculeView(viewer_html(listed, height=height), height)
