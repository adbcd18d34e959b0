"""Readers of published tables of eutectic mixtures; the tables themselves are not shipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

LIQUIDUS = {
    "Component#1": "name_1",
    "Smiles#1": "smiles_1",
    "H#1": "fusion_1",
    "T#1": "melting_1",
    "Component#2": "name_2",
    "Smiles#2": "smiles_2",
    "H#2": "fusion_2",
    "T#2": "melting_2",
    "X#1": "x_1",
    "T_EP": "temperature",
    "PD": "measured",
    "Type": "kind",
}


def read_liquidus(path: Path) -> pd.DataFrame:
    """Liquidus temperatures of binary mixtures (Lavrinenko et al. 2023).

    Units: K, kJ/mol; ``x_1`` is the mole fraction of the first component, ``system`` the pair in
    either order, ``measured`` whether the row is part of a phase diagram.

    Raises:
        DataError: missing, or columns are missing.
    """
    from molgen.solvents.components import canonical

    table = _read(path, tuple(LIQUIDUS)).rename(columns=LIQUIDUS)[list(LIQUIDUS.values())]
    for side in ("1", "2"):
        unique = {s: canonical(s) for s in table[f"smiles_{side}"].unique()}
        table[f"smiles_{side}"] = table[f"smiles_{side}"].map(unique)
    pairs = zip(table["smiles_1"], table["smiles_2"], strict=True)
    table["system"] = [" + ".join(sorted(pair)) for pair in pairs]
    table["measured"] = table["measured"] == "Yes"
    numbers = ["fusion_1", "fusion_2", "melting_1", "melting_2", "temperature"]
    return table.dropna(subset=numbers).reset_index(drop=True)


def read_fusion(path: Path, smiles: str, value: str) -> pd.DataFrame:
    """Pure substances and one value: columns ``smiles`` (canonical) and ``value``.

    Args:
        path: .csv file.
        smiles: name of its column of SMILES.
        value: name of its column of values.

    Raises:
        DataError: missing, or columns are missing.
    """
    from molgen.solvents.components import canonical

    table = _read(path, (smiles, value))[[smiles, value]].dropna()
    table.columns = ["smiles", "value"]
    found = []
    for text in table["smiles"]:
        try:
            found.append(canonical(text))
        except DataError:
            found.append("")
    table = table.assign(smiles=found)
    return table[table["smiles"] != ""].groupby("smiles", as_index=False).mean()


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataError(f"{path}: expected a table, {reason}") from None
    if missing := [c for c in columns if c not in table]:
        raise DataError(f"{path}: expected columns {', '.join(columns)}; lacks {missing}")
    return table
