"""Eutectic solvents: components, liquidus, phase diagrams, density and viscosity.

Loaded at their first use, so that importing the package stays quick.
"""

from importlib import import_module
from typing import Any

__all__ = ["LiquidModel", "SolventDesigner", "component", "phase_diagram"]

_HOMES = {
    "LiquidModel": "liquid",
    "SolventDesigner": "designer",
    "component": "components",
    "phase_diagram": "diagram",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"molgen.solvents.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'molgen.solvents' has no attribute {name!r}")
