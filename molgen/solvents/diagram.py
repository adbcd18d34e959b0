"""Phase diagrams: the liquidus over the composition, and its lowest point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffcore.errors import ConfigError
from molgen.solvents.components import Component, component
from molgen.solvents.liquidus import Floats
from molgen.solvents.model import LiquidusModel, Prediction

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PhaseDiagram:
    """Liquidus of a mixture on a grid of compositions.

    Attributes:
        components: two or three.
        x: mole fractions, [m, n].
        liquidus: temperatures with intervals, K, [m].
    """

    components: tuple[Component, ...]
    x: Floats
    liquidus: Prediction

    @property
    def eutectic(self) -> tuple[Floats, float]:
        """Mole fractions [n] and temperature (K) of the lowest point of the grid."""
        lowest = int(np.argmin(self.liquidus.temperature))
        return self.x[lowest], float(self.liquidus.temperature[lowest])

    def table(self) -> pd.DataFrame:
        """One row a composition: mole fractions, temperature, lower, upper (K)."""
        import pandas as pd

        columns = {f"x_{c.name}": self.x[:, i] for i, c in enumerate(self.components)}
        names = ("temperature", "lower", "upper")
        return pd.DataFrame(columns | {name: getattr(self.liquidus, name) for name in names})

    def plot(self, path: Path, measured: Floats | None = None) -> Path:
        """Draw a binary diagram.

        Args:
            path: .png file to write.
            measured: mole fraction of the first component and temperature (K), [k, 2].

        Raises:
            ConfigError: three components.
        """
        if len(self.components) != 2:
            raise ConfigError("plot: expected a mixture of two components, got three")
        from matplotlib.figure import Figure

        first, second = self.components
        figure = Figure(figsize=(5, 3.6), layout="constrained")
        axes = figure.subplots()
        x, found = self.x[:, 0], self.liquidus
        method = found.method.partition(" ")[0]
        axes.fill_between(x, found.lower, found.upper, alpha=0.2, label="90 % interval")
        axes.plot(x, found.temperature, label=f"liquidus ({method})")
        if measured is not None:
            axes.plot(measured[:, 0], measured[:, 1], "ko", ms=4, label="measured")
        axes.set(xlabel=f"mole fraction of {first.name}", ylabel="temperature, K", xlim=(0, 1))
        axes.set_title(f"{first.name} + {second.name}")
        figure.legend(fontsize="small", loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(path, dpi=110)
        return path


def phase_diagram(*names: str | Component, points: int = 99) -> PhaseDiagram:
    """Phase diagram of two or three components.

    Args:
        names: name, CAS number or SMILES of each, or components.
        points: steps of the composition less one; compositions lie strictly between 0 and 1.

    Raises:
        DataError: an unknown component, identical ones, or not two or three.
        ConfigError: fewer than 3 points.
    """
    if points < 3:
        raise ConfigError(f"points: expected at least 3, got {points}")
    found = tuple(component(n) if isinstance(n, str) else n for n in names)
    x = _grid(len(found), points if len(found) == 2 else min(points, 24))
    return PhaseDiagram(found, x, LiquidusModel.from_pretrained().predict(found, x))


def _grid(n: int, points: int) -> Floats:
    inner = np.arange(1, points + 1) / (points + 1)
    if n != 3:
        return np.column_stack([inner, 1 - inner])
    rows = [(a, b, 1 - a - b) for a in inner for b in inner if a + b < 1 - 1e-9]
    return np.array(rows)
