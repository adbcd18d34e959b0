"""Phase diagrams beside their measured points, by a model that has not seen the system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from molgen.solvents.forest import Forest

SYSTEMS: Mapping[str, tuple[str, str]] = {
    "solvent_menthol_thymol": ("menthol", "thymol"),
    "solvent_capric_menthol": ("capric acid", "menthol"),
    "solvent_lauric_menthol": ("lauric acid", "menthol"),
    "solvent_choline_urea": ("choline chloride", "urea"),
}
"""Names of pictures and components; no table has points of menthol and capric acid."""


def draw_held_out(
    folder: Path,
    table: pd.DataFrame,
    pure: Mapping[str, tuple[Forest, float]],
    widths: Mapping[str, float],
    trees: int,
) -> list[Path]:
    """Draw `SYSTEMS`, each by models that learnt from all other systems.

    Args:
        folder: where the .png files go.
        table: liquidus temperatures, further rows included.
        pure: forests of pure substances by quantity.
        widths: of the intervals, by route.
        trees: of the forests.
    """
    from molgen.solvents import training
    from molgen.solvents.components import component
    from molgen.solvents.diagram import PhaseDiagram
    from molgen.solvents.model import LiquidusModel

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    inner = np.arange(1, 100) / 100
    x = np.column_stack([inner, 1 - inner])
    for name, names in SYSTEMS.items():
        pair = component(names[0]), component(names[1])
        system = " + ".join(sorted(c.smiles for c in pair))
        forest, networks = training.learned_pair(table[table["system"] != system], trees)
        model = LiquidusModel(
            forest,
            networks,
            pure["melting point"][0],
            pure["entropy of fusion"][0],
            {quantity: error for quantity, (_, error) in pure.items()},
            widths,
        )
        known = table[(table["system"] == system) & (table["trust"] == 1)]
        share = np.where(known["smiles_1"] == pair[0].smiles, known["x_1"], 1 - known["x_1"])
        points = np.column_stack([share, known["temperature"]]) if len(known) else None
        diagram = PhaseDiagram(pair, x, model.predict(pair, x))
        made.append(diagram.plot(folder / f"{name}.png", points))
    return made
