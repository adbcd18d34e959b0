"""What candidates are made of, and their text: molecules, SMILES, numbers, JSON values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from diffcore.errors import DataError
from pipelines.store.records import Candidate, to_json


@dataclass(frozen=True)
class Form:
    """One kind of candidate.

    Attributes:
        encode: object -> its text; raises `DataError` for what cannot be a candidate.
        decode: text -> the object that evaluators get.
    """

    encode: Callable[[Any], str]
    decode: Callable[[str], Any]


def _molecule_text(mol: Any) -> str:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(Chem.Mol(mol))
            copy = Chem.Mol(mol)
            copy.SetProp("_Name", "")
            return str(Chem.MolToMolBlock(copy))
        except (ValueError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0]
            raise DataError(f"RDKit refuses the molecule: {line}") from None


def _molecule(text: str) -> Any:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock(text, removeHs=False)
    if mol is None:
        raise DataError("RDKit refuses the molecule")
    return mol


def _smiles_text(thing: Any) -> str:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(thing) if isinstance(thing, str) else thing
    if mol is None or mol.GetNumAtoms() == 0:
        raise DataError(f"expected a SMILES that RDKit reads, got {thing!r}")
    return str(Chem.MolToSmiles(Chem.RemoveHs(mol)))


def _from_smiles(text: str) -> Any:
    from rdkit import Chem

    return Chem.AddHs(Chem.MolFromSmiles(text))


def _vector_text(thing: Any) -> str:
    numbers = [float(x) for x in thing]
    if not all(map(math.isfinite, numbers)):
        raise DataError("expected finite numbers")
    return to_json(numbers)


FORMS: dict[str, Form] = {
    "molecule": Form(_molecule_text, _molecule),
    "smiles": Form(_smiles_text, _from_smiles),
    "vector": Form(_vector_text, json.loads),
    "json": Form(to_json, json.loads),
}
"""Molecules keep hydrogens and coordinates (Angstrom, 4 decimals); `smiles` are graphs alone."""


def form_of(thing: Any) -> str:
    """The form of an object that a generator made, by its type.

    Raises:
        DataError: no form holds it.
    """
    if hasattr(thing, "GetNumConformers"):
        return "molecule" if thing.GetNumConformers() else "smiles"
    if isinstance(thing, str):
        return "smiles"
    if isinstance(thing, Mapping):
        return "json"
    if isinstance(thing, list | tuple) or hasattr(thing, "__array__"):
        return "vector"
    raise DataError(f"expected a molecule, a SMILES, numbers or a mapping, got {_type(thing)}")


def _type(thing: Any) -> str:
    return type(thing).__name__


def encode(thing: Any, origin: Mapping[str, Any]) -> Candidate:
    """The candidate of an object; a molecule's SMILES (no stereo, no hydrogens) goes into `origin`.

    Raises:
        DataError: it cannot be a candidate.
    """
    form = form_of(thing)
    try:
        content = FORMS[form].encode(thing)
    except (TypeError, ValueError) as error:
        raise DataError(str(error)) from None
    if form in ("molecule", "smiles"):
        origin = {**origin, "smiles": _label(thing, content)}
    return Candidate(form, content, dict(origin))


def _label(thing: Any, content: str) -> str:
    if isinstance(thing, str):
        return content
    from molgen.chem import canonical_smiles

    return canonical_smiles(thing)


def decode(candidate: Candidate) -> Any:
    """The object of a candidate, as evaluators get it."""
    return FORMS[candidate.form].decode(candidate.content)


def label(candidate: Candidate) -> str:
    """By which candidates count as the same: a molecule's SMILES, anything else's content."""
    return str(candidate.origin.get("smiles") or candidate.key)
