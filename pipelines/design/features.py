"""What the surrogate sees of a candidate: counts of fragments and a few descriptors, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError
from pipelines.design.forms import decode
from pipelines.store.records import Candidate

BITS = 1024
RADIUS = 2

DESCRIPTORS = (
    "MolWt",
    "HeavyAtomCount",
    "MolLogP",
    "TPSA",
    "NumHDonors",
    "NumHAcceptors",
    "NumRotatableBonds",
    "RingCount",
    "NumAromaticRings",
    "FractionCSP3",
    "NumHeteroatoms",
    "NumAliphaticRings",
    "NumSpiroAtoms",
    "NumBridgeheadAtoms",
    "NumUnspecifiedAtomStereoCenters",
    "LabuteASA",
    "Chi1v",
    "Kappa2",
    "BalabanJ",
)
"""Descriptors of RDKit, hydrogens implicit."""


def features(candidates: Sequence[Candidate]) -> NDArray[np.float32]:
    """Rows of numbers, [N, F].

    Raises:
        ConfigError: candidates of a form that has no features.
    """
    rows = [features_of(one) for one in candidates]
    return np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)


def features_of(candidate: Candidate) -> NDArray[np.float32]:
    """The numbers of one candidate, [F]."""
    if candidate.form == "vector":
        return np.asarray(decode(candidate), dtype=np.float32)
    if candidate.form == "json":
        return _numbers(decode(candidate))
    if candidate.form not in ("molecule", "smiles"):
        raise ConfigError(
            f"the strategy surrogate does not learn from {candidate.form!r}: expected another one"
        )
    return _molecule(str(candidate.origin["smiles"]))


def _numbers(mapping: Any) -> NDArray[np.float32]:
    """The values of a flat mapping, by the order of its keys."""
    if not isinstance(mapping, dict) or not all(
        isinstance(value, int | float) for value in mapping.values()
    ):
        raise ConfigError(
            "the strategy surrogate learns from molecules, vectors and flat mappings of numbers: "
            "expected another strategy such as genetic"
        )
    return np.array([float(mapping[key]) for key in sorted(mapping)], dtype=np.float32)


def _molecule(smiles: str) -> NDArray[np.float32]:
    """Hashed counts of circular fragments (Morgan, radius 2), SMARTS-free, and `DESCRIPTORS`."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import Descriptors

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            return np.zeros(BITS + len(DESCRIPTORS) + 3, dtype=np.float32)
        counts = _fingerprint().GetCountFingerprintAsNumPy(mol).astype(np.float32)
        values = [float(getattr(Descriptors, name)(mol)) for name in DESCRIPTORS]
        double, triple, conjugated = _bonds(mol)
    extra = np.nan_to_num(np.array([*values, double, triple, conjugated], dtype=np.float32))
    row: NDArray[np.float32] = np.concatenate([counts, extra])
    return row


def _bonds(mol: Any) -> tuple[int, int, int]:
    orders = [bond.GetBondTypeAsDouble() for bond in mol.GetBonds()]
    conjugated = sum(bond.GetIsConjugated() for bond in mol.GetBonds())
    return sum(order == 2 for order in orders), sum(order == 3 for order in orders), conjugated


def _fingerprint() -> Any:
    from rdkit.Chem import rdFingerprintGenerator

    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
