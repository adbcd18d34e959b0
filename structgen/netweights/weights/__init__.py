"""Shipped models of network weights: *.safetensors with a JSON card each."""

from __future__ import annotations

from pathlib import Path

from diffcore.shelf import find_in, models_in


def shipped() -> dict[str, Path]:
    """Models that come with the package, by name."""
    return models_in("structgen.netweights.weights")


def find_model(name_or_path: str | Path) -> Path:
    """A shipped model by name, or a weights file by path.

    Raises:
        ModelFileError: neither.
    """
    return find_in("structgen.netweights.weights", name_or_path)
