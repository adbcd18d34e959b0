"""Melting points and enthalpies of fusion that no table has: predicted, and marked as such."""

from __future__ import annotations

from molgen.solvents.components import PREDICTED, Known
from molgen.solvents.descriptors import descriptors

LEAST_ENTROPY = 0.005
"""kJ/(mol K); no predicted entropy of fusion is below."""


def predicted_fusion(smiles: str, melting: float | None = None) -> tuple[Known, Known]:
    """Melting point (K) and enthalpy of fusion (kJ/mol) of a component.

    The enthalpy is the predicted entropy of fusion times the melting point.

    Args:
        smiles: canonical SMILES.
        melting: melting point in K, if known.
    """
    from molgen.solvents.model import LiquidusModel

    model = LiquidusModel.from_pretrained()
    row = descriptors(smiles)[None]
    found = melting if melting is not None else float(model.melting.mean(row)[0])
    errors = model.errors
    entropy = max(float(model.entropy.mean(row)[0]), LEAST_ENTROPY)
    return (
        Known(found, PREDICTED, errors["melting point"]),
        Known(entropy * found, PREDICTED, errors["entropy of fusion"] * found),
    )
