"""Strict validity and stability, and the plain facts about a molecule.

The strict reading: a molecule is valid only as it stands. It is one fragment, RDKit accepts it,
nothing is added to it on the way (no implicit hydrogens, no radical electrons), its atoms, charges
and bonds are not changed, and every atom has a valency that occurs in the reference data.
"""

from __future__ import annotations

from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from molgen.chem import canonical_smiles
from molgen.evaluate.prepared import Prepared


def _atom_name(number: int, charge: int) -> str:
    symbol = Chem.GetPeriodicTable().GetElementSymbol(number) if number else "dummy atom"
    sign = "+" if charge > 0 else "-"
    return symbol + (sign if abs(charge) == 1 else f"{abs(charge)}{sign}" if charge else "")


def _unknown_valency(prepared: Prepared) -> str:
    """First atom whose element, charge or valency is not in the reference; empty if none."""
    if prepared.stable is None or all(prepared.stable):
        return ""
    known = prepared.valencies or {}
    worst = prepared.atoms[prepared.stable.index(False)]
    number, charge, aromatic, other = worst
    name = _atom_name(number, charge)
    if not any(z == number for z, _ in known):
        return f"element not in the reference: {_atom_name(number, 0)}"
    if (number, charge) not in known:
        return f"charge not in the reference: {name}"
    bonds = f"{aromatic} aromatic + {other}" if aromatic else f"{other}"
    return f"valency not in the reference: {name} with {bonds}"


def reason(prepared: Prepared) -> str:
    """Why a molecule is not strictly valid: the first check it fails; empty if it is valid."""
    if prepared.mol.GetNumAtoms() == 0:
        return "no atoms"
    if len(prepared.fragments) != 1:
        return f"fragments: {len(prepared.fragments)}"
    if prepared.sanitised is None:
        return f"does not sanitise: {prepared.refusal}"
    if prepared.change:
        return f"sanitisation changes its {prepared.change}"
    return prepared.added or _unknown_valency(prepared)


def strict_valid(prepared: Prepared) -> bool:
    """One fragment, sanitises, nothing added or changed, every valency in the reference."""
    return not reason(prepared)


def n_fragments(prepared: Prepared) -> int:
    """Connected components of the bond graph."""
    return len(prepared.fragments)


def connected(prepared: Prepared) -> bool:
    """The bond graph is one component."""
    return len(prepared.fragments) == 1


def atom_stability(prepared: Prepared) -> float | None:
    """Fraction of atoms whose (aromatic, other) valency is known for their element and charge."""
    stable = prepared.stable
    return sum(stable) / len(stable) if stable else None


def molecule_stability(prepared: Prepared) -> bool | None:
    """Every atom is stable."""
    return None if prepared.stable is None else bool(prepared.stable) and all(prepared.stable)


def has_3d(prepared: Prepared) -> bool:
    """A finite 3D conformer is there."""
    return prepared.positions is not None


def smiles(prepared: Prepared) -> str:
    """Canonical SMILES without hydrogens and stereo; as it stands if RDKit refuses the graph."""
    if prepared.sanitised is not None:
        return canonical_smiles(prepared.sanitised)
    return str(Chem.MolToSmiles(prepared.mol, isomericSmiles=False))


def formula(prepared: Prepared) -> str:
    """Molecular formula in Hill order, of the atoms that are there."""
    counts: dict[str, int] = {}
    for number in prepared.numbers.tolist():
        symbol = Chem.GetPeriodicTable().GetElementSymbol(number) if number else "*"
        counts[symbol] = counts.get(symbol, 0) + 1
    first = [s for s in ("C", "H") if s in counts and "C" in counts]
    order = first + sorted(s for s in counts if s not in first)
    return "".join(s + (str(counts[s]) if counts[s] > 1 else "") for s in order)


def n_atoms(prepared: Prepared) -> int:
    """Atoms, hydrogens included."""
    return int(prepared.mol.GetNumAtoms())


def charge(prepared: Prepared) -> int:
    """Sum of the formal charges, in units of e."""
    return int(Chem.GetFormalCharge(prepared.mol))


def molecular_weight(prepared: Prepared) -> float | None:
    """Average molecular weight in g/mol."""
    clean = prepared.sanitised
    return None if clean is None else float(rdMolDescriptors._CalcMolWt(clean))


def rings(prepared: Prepared) -> int | None:
    """Rings in the smallest set of smallest rings."""
    clean = prepared.sanitised
    return None if clean is None else int(rdMolDescriptors.CalcNumRings(clean))
