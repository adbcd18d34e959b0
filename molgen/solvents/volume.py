"""McGowan volumes: what a molecule takes up, from its atoms and bonds alone."""

from __future__ import annotations

from functools import lru_cache

from rdkit import Chem

ATOMS = {
    "H": 8.71,
    "B": 18.32,
    "C": 16.35,
    "N": 14.39,
    "O": 12.43,
    "F": 10.48,
    "Si": 26.83,
    "P": 24.87,
    "S": 22.91,
    "Cl": 20.95,
    "Br": 26.21,
    "I": 34.53,
}
"""cm^3/mol (Abraham and McGowan 1987, Chromatographia 23, 243, table 1)."""

METAL = 25.0
"""cm^3/mol for an element that the table lacks; a guess, the learned model makes up for it."""

BOND = 6.56
"""cm^3/mol that each bond takes away, whatever its order."""


@lru_cache(maxsize=65536)
def mcgowan(smiles: str) -> float:
    """McGowan's characteristic volume, cm^3/mol (Abraham and McGowan 1987, equation 1)."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    atoms = sum(ATOMS.get(a.GetSymbol(), METAL) for a in mol.GetAtoms())
    return float(atoms - BOND * mol.GetNumBonds())
