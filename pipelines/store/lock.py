"""One writer a store: a lock that the system takes back when its holder ends, however it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from diffcore.errors import OutputError


class WriterLock:
    """Holds a file beside the store locked until `release`.

    Raises:
        OutputError: another run holds it, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        """See the class."""
        try:
            self._file: IO[bytes] | None = path.open("a+b")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            _lock(self._file)
        except OSError:
            self._file.seek(0)
            holder = self._file.read(100).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise OutputError(
                f"another run writes to {path.with_suffix('')} (process {holder}): wait for it, or "
                "give this campaign a store of its own"
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())
        self._file.flush()

    def release(self) -> None:
        """Lets others write."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(1 << 30)  # beyond the text: a locked byte cannot be read there
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
