"""Finding, reading and writing model files."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from diffcore.errors import ModelFileError


def shipped() -> dict[str, Path]:
    """Models that come with the package, by name."""
    folder = Path(str(files("molgen.weights")))
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


def write_model(path: Path, weights: Mapping[str, Any], card: Mapping[str, Any]) -> Path:
    """Write weights and card, with the commit they were made at."""
    from diffcore.checkpoint import save_weights

    return save_weights(path, weights, {"commit": _commit(), **card})


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
