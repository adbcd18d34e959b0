"""Model files that come with a package: `*.safetensors` with a JSON card each."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from diffcore.errors import ModelFileError


def models_in(package: str) -> dict[str, Path]:
    """Models that lie in a package, by name."""
    folder = Path(str(files(package)))
    return {p.stem: p for p in sorted(folder.glob("*.safetensors"), key=lambda p: p.stem)}


def find_in(package: str, name_or_path: str | Path) -> Path:
    """A model of a package by name, or a weights file by path.

    Raises:
        ModelFileError: neither.
    """
    known = models_in(package)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    names = ", ".join(known) or "none"
    raise ModelFileError(
        f"unknown model {str(name_or_path)!r}: expected one of [{names}] or a .safetensors file"
    )
