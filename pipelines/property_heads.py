"""QM9's properties as data sets of small heads: what a molecule's formula says of its level.

Sixteen plain descriptors of a molecule (RDKit) are the features; the class is the third of all
molecules, low, middle or high, in which a property lies. Networks on them are the property heads
of this workbench in the smallest form, and data sets that no model of weights was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from structgen.netweights.tables import Table

LEVELS = ("low", "middle", "high")

COUNTS = ("H", "C", "N", "O", "F")

DESCRIPTORS = (
    "CalcNumRings",
    "CalcNumAromaticRings",
    "CalcNumHeterocycles",
    "CalcNumRotatableBonds",
    "CalcNumHBD",
    "CalcNumHBA",
    "CalcFractionCSP3",
    "CalcTPSA",
    "CalcLabuteASA",
    "CalcKappa3",
    "CalcPhi",
)
"""Functions of `rdkit.Chem.rdMolDescriptors`; with the counts of five elements sixteen features."""


def property_tables(data: Path | None = None, molecules: int = 2000, seed: int = 0) -> list[Table]:
    """A table of rows and classes for each of QM9's properties, on the same test molecules.

    Args:
        data: converted data file; by default QM9 from the cache.
        molecules: rows.
        seed: of the choice of molecules.

    Raises:
        ConfigError: fewer than 30 molecules.
        DataError: QM9 is not here.
    """
    import numpy as np

    from molgen.datasets import qm9
    from molgen.datasets.table import MoleculeTable
    from pipelines.tokens import drawn_for_test
    from structgen.netweights.tables import Table

    if molecules < 30:
        raise ConfigError(f"expected at least 30 molecules, got {molecules}")
    test = drawn_for_test(MoleculeTable.load(data) if data else qm9.load(), molecules, seed)
    x = np.array([described(smiles) for smiles in test.smiles()])
    columns = (*COUNTS, *DESCRIPTORS)
    made = []
    for k, name in enumerate(test.property_names):
        values = test.properties[:, k].numpy()
        cuts = np.quantile(values, [1 / 3, 2 / 3])
        made.append(Table(f"qm9 {name}", x, np.searchsorted(cuts, values), LEVELS, columns))
    return made


def described(smiles: str) -> list[float]:
    """The sixteen features of a molecule."""
    from rdkit import Chem
    from rdkit.Chem import rdMolDescriptors

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    symbols = [atom.GetSymbol() for atom in mol.GetAtoms()]
    functions: list[Callable[[Any], float]] = [getattr(rdMolDescriptors, d) for d in DESCRIPTORS]
    return [float(symbols.count(s)) for s in COUNTS] + [float(f(mol)) for f in functions]
