"""The definitions of the papers, under their own names, flaws included, for comparison only.

They are re-implemented from their published descriptions and mostly flatter: EDM's read the bonds
from distances and know no charges, MiDi's let an unknown charge count as charge 0, and validity
without a look at what sanitisation added accepts radicals and missing hydrogens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molgen.evaluate.prepared import Prepared, kekulised

# Typical bond lengths in picometres (wiredchemist.com, bond energies and lengths), the table of
# EDM (Hoogeboom et al. 2022, appendix), with its margins: shorter than length + margin counts.
SINGLE_LENGTHS = """
H-H 74, H-C 109, H-N 101, H-O 96, H-F 92, H-B 119, H-Si 148, H-P 144, H-As 152, H-S 134, H-Cl 127,
H-Br 141, H-I 161, C-C 154, C-N 147, C-O 143, C-F 135, C-Si 185, C-P 184, C-S 182, C-Cl 177,
C-Br 194, C-I 214, N-N 145, N-O 140, N-F 136, N-Cl 175, N-Br 214, N-S 168, N-I 222, N-P 177,
O-O 148, O-F 142, O-Br 172, O-S 151, O-P 163, O-Si 163, O-Cl 164, O-I 194, F-F 142, F-S 158,
F-Si 160, F-Cl 166, F-Br 178, F-P 156, F-I 187, B-Cl 175, Si-Si 233, Si-S 200, Si-Cl 202,
Si-Br 215, Si-I 243, Cl-Cl 199, Cl-P 203, Cl-S 207, Cl-Br 214, S-S 204, S-Br 225, S-P 210,
S-I 234, Br-Br 228, Br-P 222, P-P 221, I-I 266
"""
DOUBLE_LENGTHS = """
C-C 134, C-N 129, C-O 120, C-S 160, N-N 125, N-O 121, O-O 121, O-P 150, P-S 186
"""
TRIPLE_LENGTHS = "C-C 120, C-N 116, C-O 113, N-N 110"
MARGINS = (10, 5, 3)

# Bonds that a neutral atom has (EDM).
EDM_VALENCES: dict[str, tuple[int, ...]] = {
    "H": (1,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "B": (3,), "Al": (3,), "Si": (4,),
    "P": (3, 5), "S": (4,), "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2),
    "Bi": (3, 5),
}  # fmt: skip

# Bonds that an atom of a given charge has (MiDi, Vignac et al. 2023, and its public code).
MIDI_VALENCES: dict[str, dict[int, tuple[int, ...]]] = {
    "H": {0: (1,), 1: (0,), -1: (0,)},
    "C": {0: (3, 4), 1: (3,), -1: (3,)},
    "N": {0: (2, 3), 1: (2, 3, 4), -1: (2,)},
    "O": {0: (2,), 1: (3,), -1: (1,)},
    "F": {0: (1,), -1: (0,)},
    "P": {0: (3, 5), 1: (4,)},
    "S": {0: (2, 6), 1: (2, 3), 2: (4,), 3: (5,), -1: (3,)},
    "Br": {0: (1,), 1: (2,)},
    "B": {0: (3,)}, "Al": {0: (3,)}, "Si": {0: (4,)}, "Cl": {0: (1,)}, "As": {0: (3,)},
    "I": {0: (1,)}, "Hg": {0: (1, 2)}, "Bi": {0: (3, 5)}, "Se": {0: (2, 4, 6)},
}  # fmt: skip


def _number(symbol: str) -> int:
    return int(Chem.GetPeriodicTable().GetAtomicNumber(symbol))


def _thresholds(text: str, margin: float) -> NDArray[np.float64]:
    """Longest bond [119, 119] in Angstrom by atomic numbers; -1 where the table has none."""
    table = np.full((119, 119), -1.0)
    for item in text.replace("\n", " ").split(","):
        pair, length = item.split()
        i, j = (_number(symbol) for symbol in pair.split("-"))
        table[i, j] = table[j, i] = (float(length) + margin) / 100
    return table


_LONGEST = np.stack(
    [
        _thresholds(text, margin)
        for text, margin in zip(
            (SINGLE_LENGTHS, DOUBLE_LENGTHS, TRIPLE_LENGTHS), MARGINS, strict=True
        )
    ]
)


def edm_bond_orders(
    numbers: NDArray[np.int64], positions: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Bond orders [N, N] that EDM reads from positions [N, 3] in Angstrom; 0 for no bond.

    A pair that its table does not hold has no bond.
    """
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    shorter = distance < _LONGEST[:, numbers[:, None], numbers[None]]  # [3, N, N]
    order = np.cumprod(shorter, axis=0).sum(axis=0)  # a double bond must also be a single one
    np.fill_diagonal(order, 0)
    return np.asarray(order, dtype=np.int64)


def _edm_stable(prepared: Prepared) -> NDArray[np.bool_] | None:
    if prepared.positions is None:
        return None
    valence = edm_bond_orders(prepared.numbers, prepared.positions).sum(axis=1)
    allowed = [EDM_VALENCES.get(atom.GetSymbol(), ()) for atom in prepared.mol.GetAtoms()]
    return np.array([v in a for v, a in zip(valence.tolist(), allowed, strict=True)], dtype=bool)


def edm_atom_stability(prepared: Prepared) -> float | None:
    """Fraction of atoms with a neutral valence, bonds read from distances; None without 3D."""
    stable = _edm_stable(prepared)
    return None if stable is None or not len(stable) else float(stable.mean())


def edm_molecule_stability(prepared: Prepared) -> bool | None:
    """Every atom is stable by `edm_atom_stability`; None without 3D."""
    stable = _edm_stable(prepared)
    return None if stable is None else bool(stable.all())


def edm_validity(prepared: Prepared) -> bool | None:
    """The neutral graph read from distances sanitises, whatever is added; None without 3D."""
    if prepared.positions is None:
        return None
    orders = edm_bond_orders(prepared.numbers, prepared.positions)
    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    mol = Chem.RWMol()
    for number in prepared.numbers.tolist():
        mol.AddAtom(Chem.Atom(number))
    for i, j in np.argwhere(np.triu(orders)).tolist():
        mol.AddBond(i, j, kinds[int(orders[i, j])])
    return _sanitises(mol)


def _sanitises(mol: Chem.Mol) -> bool:
    """Whether RDKit accepts `mol`, which is changed."""
    try:
        Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError):
        return False
    return True


def _sum_of_orders(atom: Chem.Atom) -> int:
    return int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))


def _midi_stable(prepared: Prepared) -> list[bool]:
    try:
        mol = kekulised(prepared.mol)
    except (ValueError, RuntimeError):
        mol = prepared.mol  # its aromatic bonds count 1.5 and the sum is cut, as published
    stable = []
    for atom in mol.GetAtoms():
        allowed = MIDI_VALENCES.get(atom.GetSymbol(), {})
        permitted = allowed.get(atom.GetFormalCharge(), allowed.get(0, ()))
        stable.append(_sum_of_orders(atom) in permitted)
    return stable


def midi_atom_stability(prepared: Prepared) -> float | None:
    """Fraction of atoms with a valence allowed for their charge; unknown charges count as 0."""
    stable = _midi_stable(prepared)
    return sum(stable) / len(stable) if stable else None


def midi_molecule_stability(prepared: Prepared) -> bool:
    """Every atom is stable by `midi_atom_stability`."""
    stable = _midi_stable(prepared)
    return bool(stable) and all(stable)


def midi_validity(prepared: Prepared) -> bool:
    """The largest fragment sanitises; hydrogens or radicals may be added, the rest is dropped."""
    if not prepared.fragments:
        return False
    if len(prepared.fragments) == 1:
        return prepared.sanitised is not None
    pieces = Chem.GetMolFrags(prepared.mol, asMols=True, sanitizeFrags=False)
    return _sanitises(max(pieces, key=lambda piece: piece.GetNumAtoms()))


def connected_validity(prepared: Prepared) -> bool:
    """One fragment that sanitises; hydrogens or radicals may be added."""
    return len(prepared.fragments) == 1 and prepared.sanitised is not None


def _semlaflow_stable(prepared: Prepared) -> list[bool] | None:
    """MiDi's table, but an unknown charge is unstable; None where it does not sanitise."""
    if prepared.sanitised is None:
        return None
    mol = kekulised(prepared.sanitised)
    stable = []
    for atom in mol.GetAtoms():
        allowed = MIDI_VALENCES.get(atom.GetSymbol(), {})
        if set(allowed) == {0}:  # elements that it lists without charges take any
            charge = 0
        else:
            charge = atom.GetFormalCharge()
        stable.append(_sum_of_orders(atom) in allowed.get(charge, ()))
    return stable


def semlaflow_atom_stability(prepared: Prepared) -> float | None:
    """Fraction of atoms with a valence allowed for their charge; unknown charges are unstable."""
    stable = _semlaflow_stable(prepared)
    return sum(stable) / len(stable) if stable else None


def semlaflow_molecule_stability(prepared: Prepared) -> bool:
    """Every atom is stable by `semlaflow_atom_stability`; False where it does not sanitise."""
    stable = _semlaflow_stable(prepared)
    return bool(stable) and all(stable or ())


def semlaflow_validity(prepared: Prepared) -> bool:
    """It sanitises; fragments, radicals and missing hydrogens pass."""
    return prepared.sanitised is not None and prepared.mol.GetNumAtoms() > 0


def truncated_molecule_stability(prepared: Prepared) -> bool:
    """MiDi's rule with aromatic bonds of 1.5 stored as the integer 1, as in its published code.

    Molecules that are given with single and double bonds get their aromatic bonds perceived first,
    as its data have them.
    """
    stable = []
    for atom in prepared.perceived.GetAtoms():
        allowed = MIDI_VALENCES.get(atom.GetSymbol(), {})
        valence = sum(
            1 if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble())
            for bond in atom.GetBonds()
        )
        stable.append(valence in allowed.get(atom.GetFormalCharge(), allowed.get(0, ())))
    return bool(stable) and all(stable)
