"""Molecules as tokens: SMILES split by the usual expression, SELFIES by their brackets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from diffcore.errors import ConfigError, DataError

NOTATIONS = ("smiles", "selfies")
END = 0
"""Class of the end and of everything after it."""

MIXED = "|"
"""Between the SMILES of the components of a mixture."""

_SMILES = re.compile(r"\[[^\]]+\]|Br|Cl|%\d\d|@@|[A-Za-z0-9@=#$:/\\+\-().~*|]")


def written(smiles: str, notation: str) -> str:
    """A SMILES in a notation.

    Raises:
        ConfigError: SELFIES are asked for and the package is missing.
        DataError: SELFIES cannot say it.
    """
    if notation == "smiles":
        return smiles
    selfies = _selfies()
    try:
        return str(selfies.encoder(smiles))
    except selfies.EncoderError as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(f"{smiles!r} cannot be written as SELFIES: {reason}") from None


def split(text: str, notation: str) -> list[str]:
    """The symbols of a text.

    Raises:
        DataError: a SMILES with a character that none has.
    """
    if notation == "selfies":
        return list(_selfies().split_selfies(text))
    found = _SMILES.findall(text)
    if sum(map(len, found)) != len(text):
        raise DataError(f"{text!r}: expected the characters of a SMILES")
    return found


def _selfies() -> Any:
    try:
        import selfies
    except ImportError:
        raise ConfigError('SELFIES need a package: pip install "designloom[tokens]"') from None
    return selfies


@dataclass(frozen=True)
class Vocabulary:
    """Symbols and their classes: `END`, the symbols from 1 on, and the mask as the last one.

    Attributes:
        notation: one of `NOTATIONS`.
        symbols: all that can be said, in class order.
        length: tokens of a row; shorter ones are filled with `END`.
    """

    notation: str
    symbols: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        """Check the notation."""
        if self.notation not in NOTATIONS:
            known = ", ".join(NOTATIONS)
            raise ConfigError(f"unknown notation {self.notation!r}; known: {known}")
        if self.length < 1 or len(set(self.symbols)) < max(len(self.symbols), 1):
            raise ConfigError("vocabulary: expected different symbols and a length of 1 or more")

    @property
    def classes(self) -> int:
        """End, symbols and mask."""
        return len(self.symbols) + 2

    @property
    def mask_class(self) -> int:
        """The class of what is not known; a causal model starts with it."""
        return self.classes - 1

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Class of each symbol."""
        return {symbol: k for k, symbol in enumerate(self.symbols, 1)}

    def encode(self, smiles: Sequence[str]) -> Tensor:
        """Classes [B, length] int64.

        Raises:
            DataError: a symbol that is not known, or a molecule that is too long.
        """
        rows = torch.full((len(smiles), self.length), END)
        for row, one in zip(rows, smiles, strict=True):
            found = split(written(one, self.notation), self.notation)
            unknown = sorted(set(found) - set(self.symbols))
            if unknown:
                raise DataError(f"{one!r}: the model does not know {', '.join(unknown)}")
            if len(found) > self.length:
                raise DataError(
                    f"{one!r}: expected {self.length} symbols or less, has {len(found)}"
                )
            row[: len(found)] = torch.tensor([self.places[s] for s in found])
        return rows

    def text(self, row: Sequence[int]) -> str:
        """The notation's text of a row of classes, up to the first `END`."""
        found = []
        for token in row:
            if token == END or token == self.mask_class:
                break
            found.append(self.symbols[token - 1])
        return "".join(found)

    def decode(self, tokens: Tensor) -> list[str | None]:
        """Canonical SMILES of tokens [B, length]; None where they say no molecule."""
        return [readable(self.text(row), self.notation) for row in tokens.tolist()]

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return {"notation": self.notation, "symbols": list(self.symbols), "length": self.length}


def readable(text: str, notation: str) -> str | None:
    """Canonical SMILES of a text, or None where RDKit reads no molecule."""
    from rdkit import Chem, rdBase

    if MIXED in text and notation == "smiles":
        parts = [readable(part, notation) for part in text.split(MIXED)]
        return MIXED.join(p for p in parts if p) if all(parts) else None
    if notation == "selfies":
        selfies = _selfies()
        try:
            text = selfies.decoder(text)
        except selfies.DecoderError:
            return None
    if not text:
        return None
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text)
    return None if mol is None else str(Chem.MolToSmiles(mol))


def plain(smiles: str) -> str:
    """Canonical SMILES without stereo marks, as the models were taught.

    Raises:
        DataError: RDKit reads no molecule.
    """
    from rdkit import Chem, rdBase

    from molgen.chem import canonical_smiles

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles else None
    if mol is None:
        raise DataError(f"{smiles!r}: expected the SMILES of a molecule")
    return canonical_smiles(mol)


def vocabulary_of(texts: Iterable[Sequence[str]], notation: str, room: int = 0) -> Vocabulary:
    """The vocabulary of split texts.

    Args:
        texts: symbols of each.
        notation: one of `NOTATIONS`.
        room: tokens beyond the longest.
    """
    symbols: set[str] = set()
    longest = 1
    for found in texts:
        symbols.update(found)
        longest = max(longest, len(found))
    return Vocabulary(notation, tuple(sorted(symbols)), longest + room)
