"""Where converted data sets lie, and how they come there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from diffcore.errors import DataError
from molgen.datasets.table import MoleculeTable


def cache_file(name: str) -> Path:
    """A file of the user's cache, or of the folder that DESIGNLOOM_CACHE names."""
    from platformdirs import user_cache_dir

    folder = os.environ.get("DESIGNLOOM_CACHE") or user_cache_dir("designloom")
    return Path(folder).expanduser() / name


def converted(path: Path, convert: Callable[[Path], object]) -> MoleculeTable:
    """The table at a path, which is converted first where that was not yet done.

    Raises:
        DataError: the source is missing, or the converted file is broken.
    """
    if not path.exists():
        convert(path)
    try:
        return MoleculeTable.load(path)
    except DataError as error:
        raise DataError(f"{error}; delete the file to convert it again") from error
