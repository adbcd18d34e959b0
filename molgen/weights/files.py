"""Finding, reading and writing model files."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcore.shelf import find_in, models_in


def shipped() -> dict[str, Path]:
    """Models that come with the package, by name."""
    return models_in("molgen.weights")


def find_model(name_or_path: str | Path) -> Path:
    """A shipped model by name, or a weights file by path.

    Raises:
        ModelFileError: neither.
    """
    return find_in("molgen.weights", name_or_path)


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
