"""Ligands with crystal coordinates: the wwPDB Chemical Component Dictionary, as a molecule table.

Westbrook et al., Bioinformatics 31, 1274 (2015). The dictionary comes with the package `biotite`
(``biotite/structure/info/components.bcif``, CC0): one record for every kind of residue or ligand in
the PDB, with the coordinates of one crystal structure, its PDB code and the date of entry.

The converted file holds what RDKit accepts. Component names, PDB codes and InChIKey skeletons (the
first 14 characters: the graph without stereo, isotopes and protonation) stand in the card, in the
order of the dictionary's records; a molecule's `source_id` is its place there.
"""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.columns import writable
from diffcore.errors import DataError, OutputError
from molgen.datasets.cache import cache_file, converted
from molgen.datasets.component_rows import REASONS, Record, convert_records
from molgen.datasets.parallel import map_in_order
from molgen.datasets.table import HYBRIDISATIONS, SPLITS, MoleculeTable

VERSION = 1
SOURCE = "wwPDB Chemical Component Dictionary, components.bcif of biotite {version}"
LICENCE = "CC0 1.0"
VALIDATION_FROM = 20_250_101
"""Components that entered the dictionary from this day on (YYYYMMDD) are the validation split."""
_CHUNK = 256


def cache_path() -> Path:
    """Where the converted file lies: the user's cache, or the folder DESIGNLOOM_CACHE names."""
    return cache_file(f"components-v{VERSION}.safetensors")


def source_file() -> Path:
    """The dictionary of the installed `biotite`, found without importing it.

    Raises:
        DataError: the package is not installed, or has no dictionary.
    """
    spec = importlib.util.find_spec("biotite")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            'the component dictionary comes with biotite: pip install "designloom[conformers]"'
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "structure/info/components.bcif"
    if not path.is_file():
        raise DataError(f"biotite is incomplete: {path} is missing; install it again")
    return path


def load(progress: bool = True) -> MoleculeTable:
    """The converted dictionary; converts it first (some minutes) where that was not yet done.

    Raises:
        DataError: the source package is missing, or the converted file is broken.
    """
    return converted(cache_path(), lambda path: convert(path, progress=progress))


def convert(
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
    workers: int = 2,
    source: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Path:
    """Convert the component dictionary into one compact file.

    Args:
        out: file to write; by default the one in the user's cache (DESIGNLOOM_CACHE names another
            folder), which is replaced.
        progress: show a bar with the time left.
        workers: processes; 1 converts in this process.
        source: a dictionary in BinaryCIF format; by default that of the installed biotite.
        force: overwrite `out` if it exists.

    Returns:
        The path written. Nothing is written before the conversion is complete.

    Raises:
        DataError: the package is missing, or the dictionary is damaged.
        OutputError: `out` cannot be written, or exists without `force`.
    """
    from tqdm import tqdm

    if out is not None and Path(out).exists() and not force:
        raise OutputError(f"{out} exists: expected --force to overwrite it")
    out = writable(out if out is not None else cache_path())
    path = source_file() if source is None else Path(source)
    columns = _read(path)
    total = len(columns["id"])
    parts: list[dict[str, NDArray[Any]]] = []
    labels: dict[int, tuple[str, str, str]] = {}
    left_out: Counter[str] = Counter()
    with tqdm(total=total, unit="mol", desc="components", disable=not progress) as bar:
        for chunk, made in map_in_order(convert_records, _chunks(columns), workers):
            if made.arrays:
                parts.append(made.arrays)
            labels.update(made.labels)
            left_out.update(made.left_out)
            bar.update(len(chunk))
    if not parts:
        raise DataError(f"{path}: expected ligands with coordinates, found none")
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays["split"] = (arrays["properties"][:, 0] >= VALIDATION_FROM).astype(np.uint8)
    _as_table(arrays, _card(path, total, labels, left_out, arrays["split"])).save(out)
    return out


def excluded(table: MoleculeTable, skeletons: set[str]) -> MoleculeTable:
    """The table without molecules of these InChIKey skeletons; its card counts what went."""
    known = table.card["skeletons"]
    keep = [k for k, i in enumerate(table.source_id.tolist()) if known[i] not in skeletons]
    kept = table.select(keep)
    kept.card = {**table.card, "excluded": len(table) - len(kept)}
    return kept


def names(table: MoleculeTable) -> list[str]:
    """Component identifier of every molecule of the table."""
    known = table.card["components"]
    return [known[i] for i in table.source_id.tolist()]


# ------------------------------------------------------------------------------ the dictionary

_COLUMNS = {
    "chem_comp": (
        "id",
        "pdbx_initial_date",
        "pdbx_model_coordinates_db_code",
        "pdbx_release_status",
    ),
    "chem_comp_atom": (
        "comp_id",
        "atom_id",
        "type_symbol",
        "charge",
        "model_Cartn_x",
        "model_Cartn_y",
        "model_Cartn_z",
    ),
    "chem_comp_bond": ("comp_id", "atom_id_1", "atom_id_2", "value_order"),
}


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The columns needed, decoded; the others stay packed."""
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    try:
        from biotite.structure.io.pdbx import BinaryCIFFile
    except ImportError as error:
        raise DataError(
            'reading the component dictionary needs biotite: pip install "designloom[conformers]"'
        ) from error
    try:
        block = BinaryCIFFile.read(str(path)).block
        columns = {}
        for category, wanted in _COLUMNS.items():
            for name in wanted:
                column = block[category][name]
                values = column.as_array()
                if column.mask is not None and np.issubdtype(values.dtype, np.floating):
                    values = np.where(column.mask.array == 0, values, np.nan)
                columns[name if category == "chem_comp" else f"{category}.{name}"] = values
    except Exception as error:  # msgpack and biotite raise many kinds on a torn file
        raise DataError(
            f"{path} is not a readable component dictionary: {str(error) or type(error).__name__}"
        ) from error
    return columns


def _chunks(columns: dict[str, NDArray[Any]]) -> Iterator[list[Record]]:
    """Records of the dictionary in order, some hundreds at a time."""
    ids = columns["id"]
    atoms = _spans(columns["chem_comp_atom.comp_id"])
    bonds = _spans(columns["chem_comp_bond.comp_id"])
    chunk: list[Record] = []
    for number, name in enumerate(ids.tolist()):
        a, b = slice(*atoms.get(name, (0, 0))), slice(*bonds.get(name, (0, 0)))
        chunk.append(
            Record(
                number=number,
                name=name,
                pdb=str(columns["pdbx_model_coordinates_db_code"][number]),
                date=str(columns["pdbx_initial_date"][number]),
                status=str(columns["pdbx_release_status"][number]),
                atom_names=columns["chem_comp_atom.atom_id"][a].tolist(),
                elements=columns["chem_comp_atom.type_symbol"][a].tolist(),
                charges=columns["chem_comp_atom.charge"][a].tolist(),
                positions=np.stack(
                    [columns[f"chem_comp_atom.model_Cartn_{axis}"][a] for axis in "xyz"], 1
                ),
                bonds=list(
                    zip(
                        *(
                            columns[f"chem_comp_bond.{key}"][b].tolist()
                            for key in ("atom_id_1", "atom_id_2", "value_order")
                        ),
                        strict=True,
                    )
                ),
            )
        )
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _spans(owner: NDArray[Any]) -> dict[str, tuple[int, int]]:
    """First row and end of every owner in a column in which each owner's rows are adjacent."""
    if not len(owner):
        return {}
    starts = np.concatenate([[0], np.nonzero(owner[1:] != owner[:-1])[0] + 1, [len(owner)]])
    return {
        str(owner[first]): (int(first), int(end))
        for first, end in zip(starts[:-1], starts[1:], strict=True)
    }


def _card(
    path: Path,
    total: int,
    labels: dict[int, tuple[str, str, str]],
    left_out: Counter[str],
    split: NDArray[Any],
) -> dict[str, Any]:
    """What the file holds, for its header."""
    import rdkit
    from biotite import __version__ as version

    columns = list(zip(*(labels.get(k, ("", "", "")) for k in range(total)), strict=True))
    return {
        "name": "components",
        "version": VERSION,
        "source": SOURCE.format(version=version) if "biotite" in path.parts else path.name,
        "licence": LICENCE,
        "kept_if": "released, with coordinates of all heavy atoms, accepted by RDKit "
        + rdkit.__version__,
        "properties": {"date": "YYYYMMDD"},
        "pos_unit": "Angstrom",
        "hybridisations": list(HYBRIDISATIONS),
        "split": f"by date of entry: validation from {VALIDATION_FROM}",
        "counts": {
            "source": total,
            "kept": len(split),
            **{name: int((split == k).sum()) for k, name in enumerate(SPLITS)},
        },
        "left_out": {reason: left_out.get(reason, 0) for reason in REASONS},
        "components": columns[0],
        "pdb": columns[1],
        "skeletons": columns[2],
    }


def _as_table(arrays: dict[str, NDArray[Any]], card: dict[str, Any]) -> MoleculeTable:
    """The table of these arrays."""
    import torch

    return MoleculeTable(**{name: torch.from_numpy(a) for name, a in arrays.items()}, card=card)
