"""Components of a mixture by name, CAS number or SMILES, with what their melting needs.

Melting points and enthalpies of fusion come, in this order, from what the caller gives, from the
small table of the project (`molgen/references/solvents.csv`: values typed in with their
literature), from the package `chemicals`, and else from a model, marked as predicted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from diffcore.errors import ConfigError, DataError

TABLE = Path(__file__).resolve().parent.parent / "references" / "solvents.csv"
NAMES = TABLE.with_name("solvent_names.csv")
"""Names as papers write them that `chemicals` does not know."""

PREDICTED = "predicted"
"""Source of a value that no experiment gave."""

_CAS = re.compile(r"\d{2,7}-\d{2}-\d")


@dataclass(frozen=True)
class Known:
    """A value, where it comes from and how far it may be off.

    Attributes:
        value: in the unit of the quantity.
        source: literature, package, ``given`` or ``predicted``.
        error: standard uncertainty in the same unit; 0 where the source states none.
    """

    value: float
    source: str
    error: float = 0.0


@dataclass(frozen=True)
class Component:
    """A pure substance that melts.

    Attributes:
        name: as asked for.
        smiles: canonical, without stereo; the ions of a salt in one string.
        melting: melting point, K.
        fusion: enthalpy of fusion at the melting point, kJ/mol.
    """

    name: str
    smiles: str
    melting: Known
    fusion: Known

    @property
    def is_ionic(self) -> bool:
        """Whether it is a salt or a zwitterion: group contributions know neither."""
        return has_charges(self.smiles)

    @property
    def is_predicted(self) -> bool:
        """Whether melting point or enthalpy come from a model."""
        return PREDICTED in (self.melting.source, self.fusion.source)


def canonical(smiles: str) -> str:
    """Canonical SMILES of a component, stereo left out.

    Raises:
        DataError: it cannot be read, is empty, or its charges do not add up to none.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise DataError(f"component: expected a SMILES string that RDKit reads, got {smiles!r}")
    if (charge := Chem.GetFormalCharge(mol)) != 0:
        raise DataError(
            f"component {smiles!r}: expected a neutral substance or a salt with all of its ions, "
            f"got charge {charge:+d}"
        )
    return str(Chem.MolToSmiles(mol, isomericSmiles=False))


@lru_cache(maxsize=65536)
def has_charges(smiles: str) -> bool:
    """Whether a substance has charges that no neighbour balances (those of a nitro group do)."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    return any(
        atom.GetFormalCharge()
        and not any(n.GetFormalCharge() * atom.GetFormalCharge() < 0 for n in atom.GetNeighbors())
        for atom in mol.GetAtoms()
    )


def component(
    identifier: str, melting_point: float | None = None, fusion_enthalpy: float | None = None
) -> Component:
    """Find a component.

    Args:
        identifier: name, CAS number or SMILES.
        melting_point: K, if known better.
        fusion_enthalpy: kJ/mol, if known better.

    Raises:
        DataError: unknown, charged, or without a value that could be found or predicted.
        ConfigError: a given value is not above 0.
    """
    for what, value in (("melting_point", melting_point), ("fusion_enthalpy", fusion_enthalpy)):
        if value is not None and not value > 0:
            raise ConfigError(f"{what} of {identifier!r}: expected a number above 0, got {value}")
    smiles, facts = _identified(identifier)
    melting = _given(melting_point) or facts.get("melting") or looked_up(smiles, "Tm")
    fusion = _given(fusion_enthalpy) or facts.get("fusion") or looked_up(smiles, "Hfus")
    if melting is None or fusion is None:
        from molgen.solvents.fusion import predicted_fusion

        guess = predicted_fusion(smiles, melting.value if melting else None)
        melting, fusion = melting or guess[0], fusion or guess[1]
    return Component(identifier, smiles, melting, fusion)


def _given(value: float | None) -> Known | None:
    return Known(value, "given") if value is not None else None


@lru_cache(maxsize=1)
def facts() -> Mapping[str, Mapping[str, str]]:
    """The project's own table: SMILES, names and CAS numbers -> its row."""
    found: dict[str, Mapping[str, str]] = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[canonical(row["smiles"])] = row
            for key in (row["cas"], *row["names"].split("|")):
                found[key.strip().lower()] = row
    return found


def _identified(identifier: str) -> tuple[str, dict[str, Known]]:
    """SMILES and the facts of the project's table."""
    text = " ".join(identifier.split())
    if not text:
        raise DataError("component: expected a name, a CAS number or a SMILES string, got nothing")
    row = facts().get(text.lower())
    smiles = canonical(row["smiles"]) if row else _resolved(text)
    row = row or facts().get(smiles)
    known: dict[str, Known] = {}
    if row is not None:
        known["melting"] = Known(float(row["melting_point"]), row["reference"])
        known["fusion"] = Known(float(row["fusion_enthalpy"]), row["reference"])
    return smiles, known


def _resolved(text: str) -> str:
    """SMILES of what the own table lacks: read as SMILES before names, which may be formulas."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        reads = not _CAS.fullmatch(text) and Chem.MolFromSmiles(text) is not None
    return canonical(text) if reads else _by_name(text) or canonical_or_unknown(text)


def canonical_or_unknown(text: str) -> str:
    """The canonical SMILES of what is in no table, or an error that says what was tried."""
    try:
        return canonical(text)
    except DataError as error:
        if "charge" in str(error):
            raise
        kind = "CAS number" if _CAS.fullmatch(text) else "name or SMILES string"
        raise DataError(
            f"component: expected a known name, CAS number or SMILES string; {text!r} is no {kind} "
            "that the tables or RDKit know"
        ) from None


def identified(identifier: str) -> str:
    """Canonical SMILES of a name, CAS number or SMILES.

    Raises:
        DataError: unknown or charged.
    """
    return _identified(identifier)[0]


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    """SMILES by name, from `NAMES`."""
    with NAMES.open(encoding="utf-8", newline="") as stream:
        return {row["name"]: row["smiles"] for row in csv.DictReader(stream)}


def _by_name(text: str) -> str | None:
    """SMILES from the own names, then from `chemicals`; None where neither knows the name."""
    if own := _names().get(" ".join(text.lower().split())):
        return canonical(own)
    chemicals = _chemicals()
    try:
        record = chemicals.search_chemical(text)
        return canonical(record.smiles) if record.smiles else None
    except (ValueError, DataError):
        return None


def looked_up(smiles: str, quantity: str) -> Known | None:
    """Melting point in K (Tm) or enthalpy of fusion in kJ/mol (Hfus) from `chemicals`, or None."""
    from rdkit import Chem

    chemicals = _chemicals()
    mol = Chem.MolFromSmiles(smiles)
    try:
        cas = chemicals.search_chemical(f"InChIKey={Chem.MolToInchiKey(mol)}").CASs
    except ValueError:
        return None
    value = getattr(chemicals, quantity)(cas)
    if value is None:
        return None
    return Known(float(value) / (1000.0 if quantity == "Hfus" else 1.0), "chemicals")


@lru_cache(maxsize=1)
def _chemicals() -> Any:
    try:
        import chemicals
    except ImportError:
        raise ConfigError(
            'solvents need the package chemicals: pip install "designloom[solvents]"'
        ) from None
    return chemicals
