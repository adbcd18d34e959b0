"""What an interrupted generation left in its files, so that it goes on as if it had not been."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from diffcore.errors import ConfigError, DataError
from diffcore.files import whole

ORIGIN = ("seed", "index", "demands", "request")
"""Properties of a molecule in a file."""


@dataclass(frozen=True)
class Made:
    """Origin of a molecule in a file: seed and index of its sequence, demands, request, graph.

    A request is None in a file whose format does not tell.
    """

    seed: str
    index: str
    demands: str
    request: str | None
    smiles: str


class Held(NamedTuple):
    """The delivered molecules of a file: indices, ascending, and canonical SMILES."""

    indices: list[int]
    smiles: list[str]


def made(path: Path) -> Iterator[Made]:
    """The molecules of an .sdf or .csv as `designloom generate` wrote them; none of other files."""
    if path.suffix.lower() == ".sdf":
        yield from _made_sdf(path)
    elif path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                names = ("seed", "index", "demands", "smiles")
                seed, index, demands, smiles = ((row.get(k) or "") for k in names)
                yield Made(seed, index, demands, row.get("request"), smiles)


def _made_sdf(path: Path) -> Iterator[Made]:
    from molgen.evaluate.prepared import Prepared
    from molgen.evaluate.validity import smiles
    from molgen.io import read_molecules

    for entry in read_molecules(path):
        if entry.mol is None:
            raise DataError(f"{path}: record {entry.number + 1} is broken: {entry.reason}")
        props = entry.mol.GetPropsAsDict(includePrivate=False, includeComputed=False)
        seed, index, demands, asked = (str(props.get(key, "")) for key in ORIGIN)
        yield Made(seed, index, demands, asked, smiles(Prepared(entry.mol)))


def check_origin(path: Path, one: Made, seed: int, demands: str, request: str = "") -> None:
    """Raise ConfigError unless a molecule is of this seed, demands and request."""
    if one.seed and one.seed != str(seed):
        raise ConfigError(f"{path} was made with --seed {one.seed}: expected the same, got {seed}")
    if one.index and one.demands != demands:
        had, got = one.demands or "no demands", demands or "none"
        raise ConfigError(f"{path} was made with {had!r}: expected the same, got {got!r}")
    if one.index and one.request is not None and one.request != request:
        had, got = one.request or "no request", request or "none"
        raise ConfigError(f"{path} was made with {had!r}: expected the same, got {got!r}")


def held(path: Path, seed: int, demands: str, request: str = "") -> Held:
    """What is in the file already.

    Raises:
        ConfigError: the file is of another seed or other demands, or of a format that does not
            tell.
        DataError: a record is broken.
    """
    from rdkit import Chem

    from molgen.chem import canonical_smiles

    if path.suffix.lower() not in (".sdf", ".csv"):
        raise ConfigError(f"--resume with demands: expected an .sdf or .csv file, got {path.name}")
    indices: list[int] = []
    smiles: list[str] = []
    for one in made(path):
        check_origin(path, one, seed, demands, request)
        if not one.index.isdigit() or (indices and int(one.index) <= indices[-1]):
            raise ConfigError(f"{path}: --resume expects molecules in the order of their index")
        indices.append(int(one.index))
        mol = Chem.MolFromSmiles(one.smiles) if path.suffix.lower() == ".csv" else None
        smiles.append(one.smiles if mol is None else canonical_smiles(mol))
    return Held(indices, smiles)


# ------------------------------------------------------------------------------ rejected molecules

REJECTED_COLUMNS = ("index", "reason", "smiles")


def read_rejected(path: Path | None, before: int) -> list[tuple[int, str, str]]:
    """Rows of a table of rejected molecules with an index below `before`; none without a file.

    Raises:
        DataError: the file is no such table.
    """
    if path is None or not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        try:
            found = [(int(row["index"]), row["reason"], row["smiles"]) for row in rows]
        except (KeyError, ValueError, TypeError, csv.Error) as error:
            columns = ", ".join(REJECTED_COLUMNS)
            raise DataError(f"{path}: expected a table with columns {columns}") from error
    return [row for row in found if row[0] < before]


def write_rejected(path: Path, rows: list[tuple[int, str, str]]) -> None:
    """Write the table, whole or not at all.

    Raises:
        OutputError: the disk refuses.
    """
    with whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(REJECTED_COLUMNS)
        table.writerows(rows)
