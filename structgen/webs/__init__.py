"""Spider webs: data, generators, equilibrium, mechanics, assembly and printing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structgen.webs.web import Web as Web

_PUBLIC = {
    "Web": "structgen.webs.web",
    "make_web": "structgen.webs.web",
    "from_networkx": "structgen.webs.web",
    "from_pyg": "structgen.webs.web",
    "read_web": "structgen.webs.io",
    "write_web": "structgen.webs.io",
    "deposit": "structgen.webs.deposition",
    "relax": "structgen.webs.equilibrium",
    "pull": "structgen.webs.mechanics",
    "measure": "structgen.webs.measures",
    "assemble": "structgen.webs.assembly",
    "to_solid": "structgen.webs.solid",
    "WebGenerator": "structgen.webs.generator",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: scipy and numba take a second."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'structgen.webs' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
