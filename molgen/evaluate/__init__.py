"""Scoring of molecule sets. The package is itself the function: `molgen.evaluate(mols)`.

`METRICS` (in `molgen.evaluate.table`) is the one table of everything that is measured. Importing
this package is cheap: RDKit and pandas load with the first use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molgen.evaluate.score import Evaluation

__all__ = ["METRICS", "Evaluation", "evaluate"]

_HOMES = {
    "METRICS": "molgen.evaluate.table",
    "Evaluation": "molgen.evaluate.score",
    "evaluate": "molgen.evaluate.score",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _CallableModule(ModuleType):
    """Makes `molgen.evaluate(...)` the same as `molgen.evaluate.evaluate(...)`."""

    def __call__(self, mols: Iterable[Any], reference: Any = "qm9", **options: Any) -> Evaluation:
        from molgen.evaluate.score import evaluate

        return evaluate(mols, reference, **options)


sys.modules[__name__].__class__ = _CallableModule
