"""QM9 as tokens: texts of its molecules, their properties and which part they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore import random
from diffcore.state import State
from molgen.datasets.table import MoleculeTable
from molgen.tokens.task import TokenTask
from molgen.tokens.vocabulary import END, Vocabulary, split, vocabulary_of, written

PARITIES = ("even", "odd")
"""Readers are trained on molecules with an even number in the source, writers on odd ones: the
reader is an independent judge of the writer (Hoogeboom et al. 2022, EDM, section 5.2)."""


@dataclass(frozen=True)
class TokenTable:
    """Molecules as tokens.

    Attributes:
        vocabulary: of the tokens.
        tokens: classes [V, M, L] uint8 of V texts of each molecule; the first is the canonical one.
        properties: [M, P] float64, physical units.
        names: of the properties.
    """

    vocabulary: Vocabulary
    tokens: Tensor
    properties: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of molecules."""
        return self.tokens.shape[1]

    @property
    def moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each property."""
        mean, std = self.properties.mean(0).tolist(), self.properties.std(0).tolist()
        return {n: (a, b) for n, a, b in zip(self.names, mean, std, strict=True)}

    def batches(self, task: TokenTask, size: int, seed: int, start: int = 0) -> Iterator[State]:
        """Endless batches in an order set by the seed; ``start`` were seen before."""
        step = start
        per = max(1, len(self) // size)
        while True:
            rng = random.generator(seed, 1, step // per)
            order = torch.randperm(len(self), generator=rng)
            for part in order.split(size)[step % per : per]:
                which = torch.randint(len(self.tokens), part.shape, generator=rng)
                yield task.encode(self.tokens[which, part].long(), self.properties[part])
                step += 1


def choose(table: MoleculeTable, split_name: str, parity: str | None = None) -> MoleculeTable:
    """The molecules of one part of QM9's split, of one parity of their number in the source."""
    rows = table.split_indices(split_name)
    if parity is not None:
        rows = rows[table.source_id[rows] % 2 == PARITIES.index(parity)]
    return table.select(rows)


def token_table(
    table: MoleculeTable,
    notation: str,
    texts: int = 1,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
) -> TokenTable:
    """Tokens of a molecule table.

    Args:
        table: the molecules.
        notation: one of `vocabulary.NOTATIONS`.
        texts: of each molecule: beside the canonical one, random orders of its atoms.
        seed: of the orders.
        vocabulary: to use; by default the one of these texts.
    """
    smiles = table.smiles()
    found = [[split(written(s, notation), notation) for s in smiles]]
    for k in range(1, texts):
        shuffled = disordered(smiles, seed + k)
        found.append([split(written(s, notation), notation) for s in shuffled])
    v = vocabulary or vocabulary_of((f for part in found for f in part), notation)
    tokens = torch.full((texts, len(smiles), v.length), END, dtype=torch.uint8)
    for part, rows in zip(tokens, found, strict=True):
        for row, symbols in zip(part, rows, strict=True):
            row[: len(symbols)] = torch.tensor([v.places[s] for s in symbols], dtype=torch.uint8)
    return TokenTable(v, tokens, table.properties, table.property_names)


def disordered(smiles: Sequence[str], seed: int) -> list[str]:
    """A SMILES of each molecule that begins and branches at random."""
    from rdkit import Chem

    found = []
    for k, one in enumerate(smiles):
        texts = Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(one), 1, randomSeed=seed * 10**6 + k)
        found.append(str(texts[0]))
    return found
