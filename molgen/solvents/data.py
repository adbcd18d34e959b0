"""Readers of published tables of eutectic mixtures; the tables themselves are not shipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from diffcore.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

LIQUIDUS_FILE = "lavrinenko2023_DES_init_update.csv"

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
    either order, ``measured`` whether the row is part of a phase diagram, ``trust`` the weight of
    the row in training.

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
    return table.dropna(subset=numbers).reset_index(drop=True).assign(trust=1.0)


FURTHER_FILE = "designsolvents2024_Melting_temperature.csv"

FURTHER = {
    "Component#1": "name_1",
    "Smiles#1": "smiles_1",
    "T#1": "melting_1",
    "Component#2": "name_2",
    "Smiles#2": "smiles_2",
    "T#2": "melting_2",
    "X#1 (molar fraction)": "x_1",
    "Tmelt, K": "temperature",
    "Phase diagram (Yes/No)": "measured",
    "Type of DES": "kind",
}

TRUST = {True: 0.3, False: 0.12}
"""Weight of further rows that are, or are not, part of a phase diagram."""

ORGANIC = frozenset("H B C N O F Si P S Cl Br I".split())


def read_further(
    path: Path, known: pd.DataFrame, fusion: Callable[[str, float], float]
) -> pd.DataFrame:
    """Liquidus temperatures of systems that a table lacks (DESignSolvents 2024), to learn from.

    Types III and V without metals. The table has no enthalpies of fusion. Components that ``known``
    has in another state of protonation (amino acids) are written as there.

    Args:
        path: .csv file.
        known: of `read_liquidus`; its systems are left out.
        fusion: enthalpy of fusion, kJ/mol, of a SMILES and a melting point in K.

    Raises:
        DataError: missing, or columns are missing.
    """
    from rdkit import Chem

    from molgen.solvents.components import canonical

    table = _read(path, tuple(FURTHER)).rename(columns=FURTHER)[list(FURTHER.values())]
    table["kind"] = table["kind"].astype(str).map({"3": "Type III", "5": "Type V"})
    table = table.dropna().reset_index(drop=True)
    as_known = {_skeleton(s): s for side in ("1", "2") for s in known[f"smiles_{side}"].unique()}
    for side in ("1", "2"):
        unique = {s: canonical(s) for s in table[f"smiles_{side}"].unique()}
        unique = {s: as_known.get(_skeleton(own), own) for s, own in unique.items()}
        table[f"smiles_{side}"] = table[f"smiles_{side}"].map(unique)
        pure = zip(table[f"smiles_{side}"], table[f"melting_{side}"], strict=True)
        table[f"fusion_{side}"] = [fusion(smiles, float(hot)) for smiles, hot in pure]
    pairs = list(zip(table["smiles_1"], table["smiles_2"], strict=True))
    table["system"] = [" + ".join(sorted(pair)) for pair in pairs]
    table["measured"] = table["measured"] == "Yes"
    table["trust"] = table["measured"].map(TRUST)

    def organic(smiles: str) -> bool:
        return all(atom.GetSymbol() in ORGANIC for atom in Chem.MolFromSmiles(smiles).GetAtoms())

    taken = set(known["system"])
    kept = [a != b and organic(a) and organic(b) for a, b in pairs]
    new = [k and s not in taken for k, s in zip(kept, table["system"], strict=True)]
    return table[new].reset_index(drop=True)


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


def _skeleton(smiles: str) -> str:
    """The same for a substance whichever atoms its protons are on: an InChIKey's first block."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        return str(Chem.MolToInchiKey(Chem.MolFromSmiles(smiles)))[:14]


LIQUIDS = {
    "density": (("designsolvents2024_Density.csv", "Density, g/cm^3"),),
    "viscosity": (
        ("designsolvents2024_Viscosity.csv", "Viscosity, cP"),
        ("viscosity_ono1025_Raw_dataset.csv", ""),
    ),
}
"""Files and columns of each quantity; the last file has columns of its own."""

SANE = {"density": (0.6, 3.0), "viscosity": (0.3, 1e5)}
"""Lowest and highest value that is kept: the tables hold some in other units."""


def read_liquid(folder: Path, quantity: str) -> pd.DataFrame:
    """Densities (g/cm^3) or viscosities (mPa s) of mixtures (DESignSolvents 2024; ono1025 2023).

    One row a mixture, composition and temperature, doubles as their geometric mean. Columns:
    ``smiles`` and ``x``, tuples of canonical SMILES and mole fractions; ``temperature``, K;
    ``value``; ``system``, the components; ``mixture``, the components with their fractions. Rows
    whose components no table names, or whose fractions do not add up to 1, are left out.

    Raises:
        DataError: missing, or columns are missing.
    """
    import numpy as np
    import pandas as pd

    parts = [_liquid_rows(folder / name, column) for name, column in LIQUIDS[quantity]]
    table = pd.concat(parts, ignore_index=True)
    low, high = SANE[quantity]
    table = table[table["value"].between(low, high) & table["temperature"].between(250, 430)]
    table["system"] = [" + ".join(smiles) for smiles in table["smiles"]]
    shares = [" ".join(f"{v:.3f}" for v in x) for x in table["x"]]
    table["mixture"] = table["system"] + " @ " + pd.Series(shares, table.index)
    table["temperature"] = table["temperature"].round(1)
    table["value"] = np.log(table["value"])
    merged = table.groupby(["mixture", "temperature"], as_index=False).agg(
        {"smiles": "first", "x": "first", "value": "mean", "system": "first"}
    )
    merged["value"] = np.exp(merged["value"])
    return merged


def _liquid_rows(path: Path, column: str) -> pd.DataFrame:
    """``smiles``, ``x``, ``temperature`` and ``value`` of one file."""
    import pandas as pd

    if column:
        names = [f"Component#{i}" for i in (1, 2, 3)]
        shares = [f"X#{i} (molar fraction)" for i in (1, 2, 3)]
        table = _read(path, (*names, *shares, "Temperature, K", column))
        values, hot = table[column], table["Temperature, K"]
    else:
        names, shares = ["HBA_", "HBD_"], ["XHBA_", "XHBD_"]
        table = _read(path, (*names, *shares, "T/K_"))
        values, hot = table.iloc[:, -1], table["T/K_"]
    rows = []
    found = table[names].to_numpy(object), table[shares].to_numpy(float)
    for who, x, value, kelvin in zip(*found, values, hot, strict=True):
        mixed = _sorted_mixture(who, x)
        if mixed is not None:
            rows.append((*mixed, float(kelvin), float(value)))
    return pd.DataFrame(rows, columns=["smiles", "x", "temperature", "value"])


def _sorted_mixture(
    names: Sequence[object], x: Sequence[float]
) -> tuple[tuple[str, ...], tuple[float, ...]] | None:
    """Components in the order of their SMILES with their fractions; None if they are no mixture."""
    pairs = [(n, v) for n, v in zip(names, x, strict=True) if isinstance(n, str) and n.strip()]
    total = sum(v for _, v in pairs)
    if len(pairs) < 2 or not abs(total - 1) < 0.02 or not all(v > 0 for _, v in pairs):
        return None
    found = sorted((_named(n.strip()), v / total) for n, v in pairs)
    smiles = tuple(s for s, _ in found)
    if "" in smiles or len(set(smiles)) < len(smiles):
        return None
    return smiles, tuple(v for _, v in found)


@lru_cache(maxsize=4096)
def _named(name: str) -> str:
    """Canonical SMILES of a name, or nothing; a polymer has none."""
    from molgen.solvents.components import identified

    try:
        return "" if name.lower().startswith("poly") else identified(name)
    except DataError:
        return ""


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
