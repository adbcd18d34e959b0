"""Tables of tensors in one safetensors file, with a note as JSON; nothing in it can execute."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffcore.errors import DataError, OutputError
from diffcore.files import whole


def writable(path: str | os.PathLike[str]) -> Path:
    """The path, its folder made where it was missing.

    Raises:
        OutputError: the folder cannot be made or written, or the path is a folder.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"cannot write {path}: expected a file in a writable folder")
    return path


def save_columns(
    path: str | os.PathLike[str],
    columns: Mapping[str, Tensor],
    note: Mapping[str, Any],
    key: str = "card",
) -> Path:
    """Write a table; ``path`` holds either the old or the whole new file at any moment.

    Args:
        path: file name.
        columns: tensors by name.
        note: what the file holds, as JSON.
        key: under which the note stands in the file.

    Raises:
        OutputError: it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = writable(path)
    stored = {name: column.contiguous().cpu() for name, column in columns.items()}
    try:
        with whole(path) as beside:
            save_file(stored, str(beside), metadata={key: json.dumps(note)})
    except SafetensorError as error:
        raise OutputError(f"cannot write {path}: {str(error).partition(chr(10))[0]}") from error
    return path


def load_columns(
    path: str | os.PathLike[str], what: str, needed: tuple[str, ...] = (), key: str = "card"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the note of a table.

    Args:
        path: file name.
        what: the file should be, for messages.
        needed: names that it must have.
        key: under which the note stands in the file.

    Raises:
        DataError: the file is missing, broken, or lacks its note or a needed tensor.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            note = json.loads((file.metadata() or {}).get(key, "null"))
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"no {what} at {path}") from None
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable {what}: {reason}") from error
    lacking = [name for name in needed if name not in columns]
    if lacking or not isinstance(note, dict):
        raise DataError(f"{path} is not a {what}: it has no {lacking[0] if lacking else key}")
    return columns, note
