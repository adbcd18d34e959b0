"""A campaign as a table: for notebooks while it runs, and as CSV, Parquet and SDF files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, OutputError
from diffcore.files import whole
from pipelines.store.database import Database
from pipelines.store.records import find_campaign

if TYPE_CHECKING:
    import pandas as pd

EXPORTS = (".csv", ".parquet", ".sdf")


def campaign_frame(where: str | Path, name: str = "") -> pd.DataFrame:
    """One row a candidate of a campaign, finished or not; it may be running.

    Args:
        where: path or URL of the store.
        name: of the campaign; may be left out if the store holds one only.

    Returns:
        generation, position, key, smiles (of molecules), a column for each evaluator (NaN where
        there is no value), failure (reasons, empty if none), pending (evaluations that are neither
        finished nor failed may follow), form, content, origin.

    Raises:
        ConfigError: no such campaign.
        DataError: there is no store.
    """
    with Database(where) as database:
        return frame(database, find_campaign(database, name).id)


def frame(database: Database, campaign: int) -> pd.DataFrame:
    """The same of an open store."""
    import pandas as pd
    from sqlalchemy import select

    from pipelines.store import tables
    from pipelines.store.records import list_campaigns

    settings = next(row for row in list_campaigns(database) if row.id == campaign).settings
    wanted: dict[str, str] = settings.get("evaluations", {})  # evaluator -> hash of its settings
    here = tables.candidates.c.campaign == campaign
    order = (tables.candidates.c.generation, tables.candidates.c.position)

    def work(connection: Any) -> pd.DataFrame:
        made = pd.read_sql(select(tables.candidates).where(here).order_by(*order), connection)
        keys = select(tables.candidates.c.key).where(here)
        parts = []
        for table in (tables.evaluations, tables.failures):
            query = select(table).where(table.c.candidate.in_(keys))
            parts.append(pd.read_sql(query, connection))
        return _joined(made, parts[0], parts[1], wanted)

    return database.transact(work)


def _joined(
    made: pd.DataFrame, values: pd.DataFrame, failed: pd.DataFrame, wanted: dict[str, str]
) -> pd.DataFrame:
    from pipelines.store.records import digest

    table = made[["generation", "position", "key"]].copy()
    value_of = dict(zip(values["key"], values["value"], strict=True))
    reason_of = dict(zip(failed["key"], failed["reason"], strict=True))
    told: list[list[str]] = [[] for _ in range(len(made))]
    left = [False] * len(made)
    for name, identity in wanted.items():
        keys = [digest(key, identity) for key in made["key"]]
        table[name] = [value_of.get(key, float("nan")) for key in keys]
        for row, key in enumerate(keys):
            if key in reason_of:
                told[row].append(f"{name}: {reason_of[key]}")
            elif key not in value_of:
                left[row] = True
    table["failure"] = ["; ".join(reasons) for reasons in told]
    table["pending"] = [a and not b for a, b in zip(left, table["failure"], strict=True)]
    origin = [json.loads(text) for text in made["origin"]]
    table.insert(3, "smiles", [str(one.get("smiles", "")) for one in origin])
    return table.assign(form=made["form"], content=made["content"], origin=made["origin"])


def export(where: str | Path, target: Path, name: str = "", force: bool = False) -> int:
    """Writes a campaign to a .csv, .parquet or .sdf file, whole or not at all.

    An .sdf file holds the molecules with their scores as properties.

    Returns:
        How many rows.

    Raises:
        ConfigError: another suffix, a missing package, or molecules asked of a campaign of
            something else.
        OutputError: the file exists without `force`, or cannot be written.
    """
    if target.suffix not in EXPORTS:
        raise ConfigError(f"cannot write {target.name!r}: expected {', '.join(EXPORTS)}")
    if target.exists() and not force:
        raise OutputError(f"{target} exists: give --force to overwrite it")
    table = campaign_frame(where, name)
    writers: dict[str, Callable[[pd.DataFrame, Path], int]] = {
        ".csv": _csv,
        ".parquet": _parquet,
        ".sdf": _sdf,
    }
    with whole(target) as beside:
        return writers[target.suffix](table, beside)


def _csv(table: pd.DataFrame, path: Path) -> int:
    table.drop(columns=["content"]).to_csv(path, index=False)
    return len(table)


def _parquet(table: pd.DataFrame, path: Path) -> int:
    try:
        table.to_parquet(path, index=False)
    except ImportError as error:
        raise ConfigError('Parquet needs pyarrow: pip install "designloom[loops]"') from error
    return len(table)


def _sdf(table: pd.DataFrame, path: Path) -> int:
    from molgen.writer import MoleculeWriter
    from pipelines.design.forms import FORMS

    scores = [c for c in table.columns if c not in ("form", "content", "origin", "pending")]
    count = 0
    with MoleculeWriter(path, force=True) as writer:
        for row in table.to_dict("records"):
            if row["form"] not in ("molecule", "smiles"):
                raise ConfigError(f"expected a campaign of molecules, got {row['form']!r} in it")
            mol = FORMS[row["form"]].decode(row["content"])
            for column in scores:
                mol.SetProp(column, str(row[column]))
            writer.write(mol)
            count += 1
    return count
