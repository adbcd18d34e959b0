"""Shipped models of network weights: *.safetensors with a JSON card each."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from diffcore.errors import ModelFileError


def shipped() -> dict[str, Path]:
    """Models that come with the package, by name."""
    folder = Path(str(files("structgen.netweights.weights")))
    return {p.stem: p for p in sorted(folder.glob("*.safetensors"))}


def find_model(name_or_path: str | Path) -> Path:
    """A shipped model by name, or a weights file by path.

    Raises:
        ModelFileError: neither.
    """
    known = shipped()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix == ".safetensors" and path.is_file():
        return path
    names = ", ".join(known) or "none"
    raise ModelFileError(
        f"unknown model {str(name_or_path)!r}: expected one of [{names}] or a .safetensors file"
    )
