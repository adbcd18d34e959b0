"""Ring systems, scaffolds and functional groups; of molecules that sanitise.

Cells are texts: the names of what was found, each with its count, as `name*2 other*1`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd
from rdkit import Chem
from rdkit.Chem import Fragments
from rdkit.Chem.Scaffolds import MurckoScaffold

from molgen.evaluate.metric import Counted
from molgen.evaluate.prepared import Prepared

if TYPE_CHECKING:
    from molgen.datasets.reference import Reference


def _cell(counts: Mapping[str, int]) -> str:
    return " ".join(f"{name}*{counts[name]}" for name in sorted(counts))


def parse_counts(cell: str) -> dict[str, int]:
    """Name -> count of a cell."""
    parts = (part.rpartition("*") for part in cell.split(" ") if part)
    return {name: int(count) for name, _, count in parts}


def ring_systems(prepared: Prepared) -> str | None:
    """Ring systems as SMILES: rings that share an atom belong to one system (spiro included)."""
    return None if prepared.heavy is None else _cell(Counter(ring_systems_of(prepared.heavy)))


def ring_systems_of(mol: Chem.Mol) -> Iterable[str]:
    """SMILES of the ring systems of a sanitised molecule without explicit hydrogens."""
    owner: dict[int, int] = {}
    members: dict[int, tuple[set[int], set[int]]] = {}
    for number, (atoms, bonds) in enumerate(
        zip(mol.GetRingInfo().AtomRings(), mol.GetRingInfo().BondRings(), strict=True)
    ):
        joined_atoms, joined_bonds = set(atoms), set(bonds)
        for other in {owner[atom] for atom in atoms if atom in owner}:
            more_atoms, more_bonds = members.pop(other)
            joined_atoms |= more_atoms
            joined_bonds |= more_bonds
        members[number] = joined_atoms, joined_bonds
        owner |= dict.fromkeys(joined_atoms, number)
    for atoms_, bonds_ in members.values():
        yield Chem.MolFragmentToSmiles(
            mol, sorted(atoms_), bondsToUse=sorted(bonds_), isomericSmiles=False
        )


def scaffold(prepared: Prepared) -> str | None:
    """Bemis-Murcko scaffold (rings and what joins them) as SMILES; empty without a ring."""
    if prepared.heavy is None:
        return None
    return str(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(prepared.heavy)))


@lru_cache(maxsize=1)
def _groups() -> tuple[tuple[str, Callable[[Chem.Mol], int]], ...]:
    names = sorted(name for name in vars(Fragments) if name.startswith("fr_"))
    return tuple((name[3:], getattr(Fragments, name)) for name in names)


def functional_groups(prepared: Prepared) -> str | None:
    """Functional groups by the names of RDKit's `Fragments` (85 patterns), with counts."""
    if prepared.heavy is None:
        return None
    found = {name: int(count(prepared.heavy)) for name, count in _groups()}
    return _cell({name: count for name, count in found.items() if count})


# ------------------------------------------------------------------------------------- of a set


def _valid(table: pd.DataFrame, column: str) -> list[str]:
    return [c for c in table.loc[table["strict_valid"], column].tolist() if isinstance(c, str)]


def scaffold_diversity(table: pd.DataFrame) -> Counted:
    """Different scaffolds over strictly valid molecules that have one."""
    found = [cell for cell in _valid(table, "scaffold") if cell]
    return (len(set(found)) / len(found), len(found)) if found else (math.nan, 0)


def unseen_ring_systems(table: pd.DataFrame, reference: Reference) -> Counted:
    """Strictly valid molecules with a ring system that the reference lacks, over all with rings."""
    cells = [cell for cell in _valid(table, "ring_systems") if cell]
    if not cells or not reference.ring_systems:
        return math.nan, 0
    unseen = sum(any(n not in reference.ring_systems for n in parse_counts(c)) for c in cells)
    return unseen / len(cells), len(cells)


def ring_system_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Total variation of the frequencies of ring systems in strictly valid molecules."""
    return _distance(_valid(table, "ring_systems"), reference.ring_systems)


def functional_group_distance(table: pd.DataFrame, reference: Reference) -> Counted:
    """Total variation of the frequencies of functional groups in strictly valid molecules."""
    return _distance(_valid(table, "functional_groups"), reference.functional_groups)


def _distance(cells: list[str], known: Mapping[str, int]) -> Counted:
    made: Counter[str] = Counter()
    for cell in cells:
        made.update(parse_counts(cell))
    return total_variation(made, known), sum(made.values())


def total_variation(made: Mapping[str, float], known: Mapping[str, float]) -> float:
    """Half the sum of the differences of two normalised histograms: 0 the same, 1 disjoint."""
    total, other = sum(made.values()), sum(known.values())
    if not total or not other:
        return math.nan
    names = {*made, *known}
    return 0.5 * sum(abs(made.get(n, 0) / total - known.get(n, 0) / other) for n in names)
