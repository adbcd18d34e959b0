"""Children of molecules by small changes of the graph, and by joining parts of two graphs.

Every operator draws from an explicit generator of random numbers and returns None where it finds
no valid child. Graphs have implicit hydrogens; `placed` adds them and a geometry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from diffcore.errors import DataError

Rng = np.random.Generator

ORDERS = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}

TRIES = 12
"""Operators that are tried until one gives a valid child."""


@dataclass(frozen=True)
class Alphabet:
    """What children may be made of.

    Attributes:
        elements: atomic numbers that are put in.
        max_heavy: heavy atoms at most.
        max_ring: atoms of a new ring at most.
    """

    elements: tuple[int, ...] = (6, 6, 6, 7, 8, 9)
    max_heavy: int = 9
    max_ring: int = 7


def child(
    parents: Sequence[Chem.Mol], rng: Rng, alphabet: Alphabet | None = None
) -> Chem.Mol | None:
    """A child of one molecule (mutation) or of two (crossover, and half the time a mutation).

    Args:
        parents: one or two molecules; their coordinates are not used.
        rng: source of all randomness.
        alphabet: what it may be made of.

    Returns:
        Its graph, hydrogens implicit, without coordinates (`placed` makes them); None if no valid
        child was found.
    """
    alphabet = alphabet or Alphabet()
    with rdBase.BlockLogs():
        graphs = [_bare(mol) for mol in parents]
        graph: Chem.Mol | None = graphs[0]
        if len(graphs) > 1:
            graph = crossover(graphs[0], graphs[1], rng, alphabet)
        if graph is not None and (len(graphs) == 1 or rng.random() < 0.5):
            graph = mutate(graph, rng, alphabet)
    return graph


def placed(graph: Chem.Mol, seed: int) -> Chem.Mol | None:
    """The molecule with hydrogens and a conformer of ETKDG; None if it cannot be embedded.

    It is relaxed by MMFF94s where that has parameters.
    """
    from rdkit.Chem import rdDistGeom

    from molgen.relax import relax_mmff

    mol = Chem.AddHs(graph)
    options: Any = rdDistGeom.ETKDGv3()
    options.randomSeed = seed
    options.maxIterations = 20
    with rdBase.BlockLogs():
        if rdDistGeom.EmbedMolecule(mol, options) != 0:
            return None
        try:
            return relax_mmff(mol).mol
        except DataError:
            return mol


def mutate(graph: Chem.Mol, rng: Rng, alphabet: Alphabet) -> Chem.Mol | None:
    """One small change: an atom more, less or another, a bond's order, a ring more or less."""
    for _ in range(TRIES):
        operator = _OPERATORS[int(rng.integers(len(_OPERATORS)))]
        changed = operator(Chem.RWMol(_kekulised(graph)), rng, alphabet)
        found = _checked(changed, alphabet)
        if found is not None and Chem.MolToSmiles(found) != Chem.MolToSmiles(graph):
            return found
    return None


def crossover(first: Chem.Mol, second: Chem.Mol, rng: Rng, alphabet: Alphabet) -> Chem.Mol | None:
    """A part of each, cut at a single bond that is in no ring, joined by a single bond."""
    for _ in range(TRIES):
        left, right = _part(first, rng), _part(second, rng)
        if left is None or right is None:
            continue
        (a, at), (b, bt) = left, right
        joined = Chem.RWMol(Chem.CombineMols(a, b))
        joined.AddBond(at, a.GetNumAtoms() + bt, ORDERS[1])
        found = _checked(joined, alphabet)
        if found is not None:
            return found
    return None


def _bare(mol: Chem.Mol) -> Chem.Mol:
    """The graph with implicit hydrogens, without coordinates and stereo."""
    return Chem.MolFromSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False))


def _kekulised(graph: Chem.Mol) -> Chem.Mol:
    copy = Chem.Mol(graph)
    Chem.Kekulize(copy, clearAromaticFlags=True)
    return copy


def _checked(changed: Chem.RWMol | None, alphabet: Alphabet) -> Chem.Mol | None:
    """The child if it is one neutral closed-shell molecule of the right size that sanitises."""
    if changed is None or not 0 < changed.GetNumHeavyAtoms() <= alphabet.max_heavy:
        return None
    for atom in changed.GetAtoms():
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
    try:
        smiles = Chem.MolToSmiles(Chem.RemoveHs(changed.GetMol()), isomericSmiles=False)
    except (ValueError, RuntimeError):
        return None
    found = None if "." in smiles else Chem.MolFromSmiles(smiles)
    if found is None or any(atom.GetNumRadicalElectrons() for atom in found.GetAtoms()):
        return None
    return found


def _part(graph: Chem.Mol, rng: Rng) -> tuple[Chem.Mol, int] | None:
    """One side of a cut, and the index of its atom at the cut."""
    copy = _kekulised(graph)
    single = [
        bond.GetIdx()
        for bond in copy.GetBonds()
        if bond.GetBondType() == ORDERS[1] and not bond.IsInRing()
    ]
    if not single:
        return None
    bond = copy.GetBondWithIdx(single[int(rng.integers(len(single)))])
    ends = (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    start = ends[int(rng.integers(2))]
    cut = Chem.RWMol(copy)
    cut.RemoveBond(*ends)
    for side in Chem.GetMolFrags(cut):
        if start in side:
            keep = set(side)
            for index in sorted(set(range(cut.GetNumAtoms())) - keep, reverse=True):
                cut.RemoveAtom(index)
            return cut.GetMol(), sorted(keep).index(start)
    return None


def _pick(count: int, rng: Rng) -> int:
    return int(rng.integers(count))


def _append(mol: Chem.RWMol, rng: Rng, alphabet: Alphabet) -> Chem.RWMol:
    at = _pick(mol.GetNumAtoms(), rng)
    new = mol.AddAtom(Chem.Atom(int(rng.choice(alphabet.elements))))
    mol.AddBond(at, new, ORDERS[1 + int(rng.random() < 0.2)])
    return mol


def _insert(mol: Chem.RWMol, rng: Rng, alphabet: Alphabet) -> Chem.RWMol | None:
    if not mol.GetNumBonds():
        return None
    bond = mol.GetBondWithIdx(_pick(mol.GetNumBonds(), rng))
    a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    new = mol.AddAtom(Chem.Atom(int(rng.choice(alphabet.elements))))
    mol.RemoveBond(a, b)
    mol.AddBond(a, new, ORDERS[1])
    mol.AddBond(new, b, ORDERS[1])
    return mol


def _remove(mol: Chem.RWMol, rng: Rng, _: Alphabet) -> Chem.RWMol | None:
    if mol.GetNumAtoms() < 2:
        return None
    at = _pick(mol.GetNumAtoms(), rng)
    around = [atom.GetIdx() for atom in mol.GetAtomWithIdx(at).GetNeighbors()]
    if len(around) > 2:
        return None
    if len(around) == 2 and mol.GetBondBetweenAtoms(*around) is None:
        mol.AddBond(around[0], around[1], ORDERS[1])
    mol.RemoveAtom(at)
    return mol


def _replace(mol: Chem.RWMol, rng: Rng, alphabet: Alphabet) -> Chem.RWMol:
    atom = mol.GetAtomWithIdx(_pick(mol.GetNumAtoms(), rng))
    atom.SetAtomicNum(int(rng.choice(alphabet.elements)))
    atom.SetFormalCharge(0)
    return mol


def _reorder(mol: Chem.RWMol, rng: Rng, _: Alphabet) -> Chem.RWMol | None:
    if not mol.GetNumBonds():
        return None
    bond = mol.GetBondWithIdx(_pick(mol.GetNumBonds(), rng))
    bond.SetBondType(ORDERS[1 + _pick(3, rng)])
    return mol


def _close(mol: Chem.RWMol, rng: Rng, alphabet: Alphabet) -> Chem.RWMol | None:
    distance = Chem.GetDistanceMatrix(mol)
    first, second = np.nonzero((distance >= 2) & (distance < alphabet.max_ring))
    if not len(first):
        return None
    pair = _pick(len(first), rng)
    mol.AddBond(int(first[pair]), int(second[pair]), ORDERS[1])
    return mol


def _open(mol: Chem.RWMol, rng: Rng, _: Alphabet) -> Chem.RWMol | None:
    Chem.FastFindRings(mol)
    ring = [bond for bond in mol.GetBonds() if bond.IsInRing()]
    if not ring:
        return None
    bond = ring[_pick(len(ring), rng)]
    mol.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    return mol


Operator = Callable[[Chem.RWMol, Rng, Alphabet], Chem.RWMol | None]

_OPERATORS: tuple[Operator, ...] = (_append, _insert, _remove, _replace, _reorder, _close, _open)
