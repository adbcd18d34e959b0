"""QM9 as a molecule table, converted once from the files of the `qm9pack` package.

Ramakrishnan, Dral, Rupp, von Lilienfeld, Scientific Data 1, 140022 (2014): molecules of up to nine
C, N, O, F atoms, geometries and properties at B3LYP/6-31G(2df,p). The package leaves out the 3,054
molecules that the authors call uncharacterised, so 130,831 remain.

The package has one of QM9's two SMILES columns, without stereo marks, and does not say which. A
molecule is kept when the bonds perceived from its geometry give the same canonical SMILES
(hydrogens implicit, no stereo marks).
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.columns import writable
from diffcore.errors import DataError, OutputError
from molgen.datasets.cache import cache_file, converted
from molgen.datasets.parallel import map_in_order
from molgen.datasets.qm9_rows import (
    COLUMNS,
    HARTREE_IN_EV,
    PROPERTIES,
    REASONS,
    Arrays,
    convert_rows,
)
from molgen.datasets.table import HYBRIDISATIONS, SPLITS, MoleculeTable

VERSION = 1
SHA256 = {
    "qm9_part1.csv": "19f0a5d595462d52cd82eef3370f3e9eb55a1f52cb14985657200349568deff3",
    "qm9_part2.csv": "2bca113fdc0b28a13563c80ed9b240e934f3da6c64c64fe74ddb4f0f36036e61",
    "qm9_part3.csv": "9c5efb5733d2af149db8d95d36ff198b4ffed12d9f7b344220a1e5877d5c6a43",
}
SOURCE = "QM9 (doi:10.1038/sdata.2014.22), csv files of qm9pack 1.0.3"
LICENCE = "qm9pack: MIT; original data: terms at doi:10.6084/m9.figshare.c.978904.v5, please cite"
_CHUNK = 512


def cache_path() -> Path:
    """Where the converted file lies: the user's cache, or the folder DESIGNLOOM_CACHE names."""
    return cache_file(f"qm9-v{VERSION}.safetensors")


def load(progress: bool = True) -> MoleculeTable:
    """The converted QM9; converts it first (about a minute) where that was not yet done.

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
    """Convert QM9 into one compact file; the same source gives the same bytes.

    Args:
        out: file to write; by default the one in the user's cache (DESIGNLOOM_CACHE names another
            folder), which is replaced.
        progress: show a bar with the time left.
        workers: processes; 1 converts in this process.
        source: folder with csv files in the format of qm9pack; the default is the installed
            package, whose files are checked by hash first.
        force: overwrite `out` if it exists.

    Returns:
        The path written. Nothing is written before the conversion is complete.

    Raises:
        DataError: the package is missing, or its files are damaged or truncated.
        OutputError: `out` cannot be written, or exists without `force`.
    """
    from tqdm import tqdm

    if out is not None and Path(out).exists() and not force:
        raise OutputError(f"{out} exists: expected --force to overwrite it")

    if importlib.util.find_spec("rdkit") is None:
        raise DataError(f"converting QM9 needs rdkit; or copy a converted file to {cache_path()}")
    out = writable(out if out is not None else cache_path())
    files = source_files() if source is None else sorted(Path(source).glob("*part*.csv"))
    if not files:
        raise DataError(f"expected files named *part*.csv in {source}, found none")
    hashes, total = _check_files(files, SHA256 if source is None else None)
    parts: list[Arrays] = []
    left_out: list[tuple[int, int]] = []
    chunks = _in_chunks(_rows(files), _CHUNK)
    with tqdm(total=total, unit="mol", desc="QM9", disable=not progress) as bar:
        for chunk, (arrays, dropped) in map_in_order(convert_rows, chunks, workers):
            parts.append(arrays)
            left_out += dropped
            bar.update(len(chunk))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    row = arrays.pop("row")
    arrays["split"] = standard_split(total)[row]
    table = _as_table(arrays, _card(hashes, total, left_out, arrays["split"]))
    table.save(out)
    return out


def _check_files(files: list[Path], expected: dict[str, str] | None) -> tuple[dict[str, str], int]:
    """Hashes of the files and their rows in all; DataError where a hash is not as expected."""
    hashes, total = {}, 0
    for file in files:
        hashes[file.name], lines = _hash_and_count(file)
        total += max(lines - 1, 0)
    if expected is not None and hashes != expected:
        bad = sorted(name for name in hashes if hashes[name] != expected.get(name))
        raise DataError(f"{files[0].parent}: {', '.join(bad)} is damaged or of another version")
    if total == 0:
        raise DataError(f"{files[0].parent}: expected molecules, found none")
    return hashes, total


def source_files() -> list[Path]:
    """The csv files of the installed `qm9pack`, found without importing it.

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        raise DataError('QM9 comes with the package qm9pack: pip install "designloom[qm9]"')
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    files = [folder / name for name in SHA256]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f"qm9pack is incomplete: {missing[0]} is missing; install it again")
    return files


def standard_split(n: int) -> NDArray[np.uint8]:
    """0 train, 1 validation, 2 test for each of n molecules of the source, [n] uint8.

    The split of Cormorant (Anderson et al., 2019), used by EDM and its successors: a permutation
    seeded with 0; 100,000 train, the last tenth test, the rest validation. It is drawn before any
    molecule is left out. Sources too small for 100,000 keep a tenth for validation.
    """
    order = np.random.RandomState(0).permutation(n)  # noqa: NPY002 - the published split
    n_test = int(0.1 * n)
    n_train = min(100_000, n - 2 * n_test)
    split = np.ones(n, dtype=np.uint8)
    split[order[:n_train]] = 0
    split[order[n - n_test :]] = 2
    return split


def _rows(files: list[Path]) -> Iterator[tuple[int, list[str]]]:
    """Rows of all files in order: (row number, the cells of `COLUMNS`)."""
    number = 0
    for file in files:
        with file.open(newline="", encoding="utf-8") as handle:
            reader = csv.reader(handle)
            header = next(reader, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise DataError(f"{file}: expected a column {missing[0]}, found none")
            places = [header.index(name) for name in COLUMNS]
            for cells in reader:
                if len(cells) != len(header):
                    raise DataError(
                        f"{file} line {reader.line_num}: expected {len(header)} cells, got "
                        f"{len(cells)}; the file is truncated or damaged"
                    )
                yield number, [cells[place] for place in places]
                number += 1


def _in_chunks(rows: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Lists of up to `size` rows."""
    while chunk := list(islice(rows, size)):
        yield chunk


def _hash_and_count(path: Path) -> tuple[str, int]:
    """sha256 of a file and its number of lines, read in blocks."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.hexdigest(), lines + (last != b"\n")


def _card(
    hashes: dict[str, str], total: int, left_out: list[tuple[int, int]], split: NDArray[Any]
) -> dict[str, Any]:
    """What the file holds, for its header."""
    import rdkit

    by_reason = {
        reason: sorted(number for number, which in left_out if which == k)
        for k, reason in enumerate(REASONS)
    }
    return {
        "name": "qm9",
        "version": VERSION,
        "source": SOURCE,
        "licence": LICENCE,
        "sha256": hashes,
        "perception": "rdDetermineBonds, useVdw=True, covFactor=1.15, charge 0; rdkit "
        + rdkit.__version__,
        "kept_if": "perceived and given canonical SMILES agree (hydrogens implicit, no stereo)",
        "properties": {name: unit for name, (_, unit, _) in PROPERTIES.items()},
        "pos_unit": "Angstrom",
        "hartree_in_eV": HARTREE_IN_EV,
        "hybridisations": list(HYBRIDISATIONS),
        "split": "numpy RandomState(0).permutation of the source: 100,000 train, last 10 % test",
        "counts": {
            "source": total,
            "kept": len(split),
            **{name: int((split == k).sum()) for k, name in enumerate(SPLITS)},
        },
        "left_out": {reason: len(numbers) for reason, numbers in by_reason.items()},
        "left_out_ids": by_reason,
    }


def _as_table(arrays: Arrays, card: dict[str, Any]) -> MoleculeTable:
    """The table of these arrays."""
    import torch

    return MoleculeTable(**{name: torch.from_numpy(a) for name, a in arrays.items()}, card=card)
