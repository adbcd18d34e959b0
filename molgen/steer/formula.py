"""Molecular formulas: read, written, and refused where no molecule can have them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from diffcore.errors import ConfigError

Formula = Mapping[int, int]
"""Atomic number -> number of atoms, above 0."""

_TERM = re.compile(r"([A-Z][a-z]?)(\d*)")

VALENCES = {1: 1, 5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: 3, 16: 2, 17: 1, 35: 1, 53: 1}
"""Usual valence of a neutral atom. A positive charge on N, O, P, S adds one, a negative takes one
away; P and S can have two or four more, and are not checked."""

_EXPANDABLE = (15, 16)


def parse_formula(text: str) -> dict[int, int]:
    """Read ``C7H10O2`` (elements in any order, repeated ones add up).

    Raises:
        ConfigError: anything but element symbols and numbers, or no atoms.
    """
    from rdkit import Chem

    given = text.strip() if isinstance(text, str) else ""
    if not re.fullmatch(rf"(?:{_TERM.pattern})+", given):
        extra = "; give the charge separately" if re.search(r"[+-]", given) else ""
        raise ConfigError(f"formula: expected one like C7H10O2, got {text!r}{extra}")
    table = Chem.GetPeriodicTable()
    known = {table.GetElementSymbol(z): z for z in range(1, 119)}
    counts: Counter[int] = Counter()
    for symbol, number in _TERM.findall(given):
        if symbol not in known:  # asking RDKit for it would write a stack trace to its log
            raise ConfigError(f"formula: {symbol!r} in {given!r} is no element")
        counts[known[symbol]] += int(number or 1)
    counts = +counts
    if not counts:
        raise ConfigError(f"formula: expected at least one atom, got {given!r}")
    return dict(counts)


def write_formula(formula: Formula) -> str:
    """Hill order: carbon, hydrogen, then by symbol; all by symbol without carbon."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    named = {table.GetElementSymbol(z): k for z, k in formula.items() if k}
    first = [s for s in ("C", "H") if s in named and "C" in named]
    order = first + sorted(s for s in named if s not in first)
    return "".join(s + (str(named[s]) if named[s] > 1 else "") for s in order)


def check_formula(formula: Formula, charge: int, elements: Sequence[int]) -> None:
    """Refuse what no connected molecule without radicals can be.

    Args:
        formula: of the whole molecule.
        charge: total charge in e.
        elements: atomic numbers that the model knows.

    Raises:
        ConfigError: an element the model does not know, an odd number of electrons, or more
            hydrogens than the other atoms can carry.
    """
    name = write_formula(formula)
    unknown = [z for z in formula if z not in elements]
    if unknown:
        known = ", ".join(write_formula({z: 1}) for z in elements)
        raise ConfigError(
            f"formula: the model knows {known}, got {write_formula({unknown[0]: 1})} in {name}"
        )
    at_charge = f" at charge {charge:+d}" if charge else ""
    electrons = sum(z * k for z, k in formula.items()) - charge
    if electrons % 2:
        raise ConfigError(
            f"formula: {name}{at_charge} has an odd number of electrons ({electrons}): no molecule "
            f"without a radical has it"
        )
    if any(z in _EXPANDABLE or z not in VALENCES for z in formula):
        return
    n = sum(formula.values())
    excess = 2 * (n - 1) - sum(VALENCES[z] * k for z, k in formula.items()) - charge
    if excess > 0:
        raise ConfigError(
            f"formula: {name}{at_charge} is impossible: its atoms have {excess} bond ends too few "
            f"to be one molecule (too many hydrogens or halogens)"
        )
