"""Named recipes of conformer models: plain values, no code of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffcore.errors import ConfigError
from diffcore.objective import Objective
from molgen.tasks.conformers import ConformerTask


@dataclass(frozen=True)
class ConformerRecipe:
    """What to train and how.

    Attributes:
        task: the process and the network's size.
        objective: the loss; cross-entropy of the clean torsion needs no weight over time.
        optimisation: options of `diffcore.training.Optimisation`.
        batch: molecules a batch and process.
    """

    task: ConformerTask = field(default_factory=ConformerTask)
    objective: Objective = field(
        default_factory=lambda: Objective(
            weighting="uniform", self_condition=0.0, independent=0.0, align=False
        )
    )
    optimisation: dict[str, Any] = field(default_factory=lambda: {"lr": 3e-3, "ema": 0.998})
    batch: int = 64


RECIPES: dict[str, ConformerRecipe] = {
    # the shipped weights: torsions of ligands as they are bound in crystal structures
    "bound": ConformerRecipe(),
}


def recipe(name: str) -> ConformerRecipe:
    """Look a recipe up.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]
