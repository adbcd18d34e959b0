"""Molecules: generators, data sets, networks and evaluators.

``MoleculeGenerator``, ``ConformerGenerator`` and ``evaluate`` are loaded at their first use, so
that importing the package stays quick.
"""

from importlib import import_module
from typing import Any

__all__ = ["ConformerGenerator", "MoleculeGenerator", "evaluate"]


def __getattr__(name: str) -> Any:
    if name == "MoleculeGenerator":
        return import_module("molgen.generate").MoleculeGenerator
    if name == "ConformerGenerator":
        return import_module("molgen.conformers").ConformerGenerator
    if name == "evaluate":
        return import_module("molgen.evaluate")
    raise AttributeError(f"module 'molgen' has no attribute {name!r}")
