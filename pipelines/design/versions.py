"""Versions of what a campaign runs with, for its record."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("designloom", "torch", "numpy", "rdkit", "scikit-learn", "tblite", "sqlalchemy")


def rdkit_version() -> str:
    """Version of RDKit; empty where it is missing."""
    return _version("rdkit")


def versions() -> dict[str, str]:
    """Python and the packages that decide results; those that are missing are left out."""
    found = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | {k: v for k, v in found.items() if v}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
