"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffcore.errors import OutputError


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside ``path`` to write to, with its ending; moved there when the block ends well.

    Raises:
        OutputError: the disk refuses.
    """
    path = Path(path)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        beside.chmod(0o644)
        os.replace(beside, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write a text (UTF-8) or bytes; the folder is made where it is missing.

    Raises:
        OutputError: the disk refuses.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    with whole(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
