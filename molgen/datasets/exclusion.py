"""Which molecules a test set holds, so that they can be left out of training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diffcore.errors import DataError


@dataclass(frozen=True)
class TestSet:
    """InChIKey skeletons, and for every path given the molecules read and those not readable."""

    skeletons: frozenset[str]
    counts: tuple[tuple[Path, int, int], ...]


def skeletons_in(paths: Iterable[Path]) -> TestSet:
    """InChIKey skeletons of all molecules in files, or in the SDF and MOL files of folders.

    Raises:
        DataError: a path does not exist, or a folder holds no such file.
    """
    from molgen.chem import sanitised
    from molgen.datasets.component_rows import skeleton
    from molgen.io import read_molecules

    found: set[str] = set()
    counts = []
    for path in paths:
        good = bad = 0
        for file in _files(Path(path)):
            for entry in read_molecules(file):
                mol = None if entry.mol is None else sanitised(entry.mol)
                try:
                    if mol is None:
                        raise DataError("not readable")
                    found.add(skeleton(mol))
                    good += 1
                except DataError:
                    bad += 1
        counts.append((Path(path), good, bad))
    return TestSet(frozenset(found), tuple(counts))


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"no such file or folder: {path}")
    if not path.is_dir():
        return [path]
    files = [f for f in sorted(path.rglob("*")) if f.suffix.lower() in (".sdf", ".mol")]
    if not files:
        raise DataError(f"{path}: expected SDF or MOL files in this folder, found none")
    return files
