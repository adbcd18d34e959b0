"""Pictures of molecules in 2D as SVG, also of graphs that RDKit refuses."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdkit import Chem

MAX_ATOMS = 200
"""Larger molecules are not drawn: a layout could take minutes."""


def data_uri(content: bytes | str, kind: str = "image/svg+xml") -> str:
    """Content for the src of an image: it cannot run anything in the page."""
    raw = content.encode() if isinstance(content, str) else content
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}"


def depict(mol: Chem.Mol | None, width: int = 220, height: int = 160) -> str:
    """SVG of a molecule in 2D; empty if it cannot be drawn."""
    from rdkit import rdBase
    from rdkit.Chem.Draw import rdMolDraw2D

    if mol is None or not 0 < mol.GetNumAtoms() <= MAX_ATOMS:
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
