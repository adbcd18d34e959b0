"""Density and viscosity of liquid mixtures against composition and temperature.

Both are straight lines, as physics has them over a span of some 100 K: the logarithm of the density
falls with the temperature (a constant coefficient of expansion), the logarithm of the viscosity
rises with its inverse (Andrade 1934). A forest knows the value at 313.15 K, another one the slope;
slopes learnt from have the right sign, and so have their means. The density is learnt as a share of
space: of the molar volume that McGowan's volumes fill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from diffcore.errors import ConfigError
from molgen.solvents.components import Component
from molgen.solvents.descriptors import descriptors
from molgen.solvents.forest import Forest
from molgen.solvents.liquidus import Floats, checked_composition
from molgen.solvents.volume import mcgowan

SHIPPED = Path(__file__).resolve().parent / "weights" / "liquid.safetensors"

REFERENCE = 313.15
"""K, where the forests of the values hold."""

RANGE = (253.15, 423.15)
"""K, asked for at least and at most; most measurements lie between 278 and 373 K."""

QUANTITIES: Mapping[str, str] = {"density": "g/cm^3", "viscosity": "mPa s"}

FLOORS: Mapping[str, float] = {"density": 0.005, "viscosity": 0.1}
"""Added to the spread of the trees, in logarithms, before it is scaled to an interval."""


@dataclass(frozen=True)
class LiquidPrediction:
    """Values with 90 % intervals.

    Attributes:
        value: [m], in the unit of the quantity.
        lower: [m].
        upper: [m].
    """

    value: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class LineModel:
    """Logarithm of a quantity: a value at the reference, and a slope.

    Attributes:
        quantity: one of `QUANTITIES`.
        value: forest of what `offset` does not know at the reference.
        slope: forest of the fall with `axis`, above 0.
        width: 90 % half width as a multiple of the spread.
    """

    quantity: str
    value: Forest
    slope: Forest
    width: float = 1.0

    def line(self, rows: Floats, known: Floats, along: Floats) -> tuple[Floats, Floats]:
        """Logarithm and its spread, [m] each.

        Args:
            rows: features, [m, features].
            known: of `offset`, [m].
            along: of `axis`, [m].
        """
        here, fall = self.value.trees(rows), self.slope.trees(rows)
        found = known + here.mean(0) + fall.mean(0) * along
        spread = np.hypot(here.std(0), fall.std(0) * along) + FLOORS[self.quantity]
        return found, spread


@dataclass(frozen=True)
class LiquidModel:
    """Density and viscosity of mixtures of two or three components.

    Attributes:
        lines: a model for each quantity.
    """

    lines: Mapping[str, LineModel]

    @classmethod
    def from_pretrained(cls, path: Path = SHIPPED) -> LiquidModel:
        """The shipped model, or another file of `designloom bench solvents --train`.

        Raises:
            ModelFileError: missing, broken, or of another kind.
        """
        return _loaded(path)

    def predict(
        self,
        quantity: str,
        components: Sequence[Component],
        x: Sequence[Sequence[float]] | Floats,
        temperature: float | Sequence[float] | Floats = 298.15,
    ) -> LiquidPrediction:
        """A quantity of a liquid mixture.

        Args:
            quantity: ``density`` (g/cm^3) or ``viscosity`` (mPa s).
            components: two or three of them, all different.
            x: mole fractions, [m, n].
            temperature: K, one for all or [m].

        Raises:
            ConfigError: an unknown quantity, a composition outside (0, 1), a temperature out of
                range.
            DataError: identical components, or another number of them.
        """
        from molgen.solvents.model import check_different

        if quantity not in self.lines:
            raise ConfigError(f"quantity: expected one of {', '.join(self.lines)}, got {quantity}")
        check_different(components)
        shares = np.array([checked_composition(row, len(components)) for row in x])
        hot = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(shares))
        if not ((hot >= RANGE[0]) & (hot <= RANGE[1])).all():
            low, high = RANGE
            wrong = hot[~((hot >= low) & (hot <= high))][0]
            raise ConfigError(f"temperature: expected {low} to {high} K, got {wrong:g}")
        smiles = [c.smiles for c in components]
        line = self.lines[quantity]
        rows = np.array([mixture(smiles, row) for row in shares])
        known = np.array([offset(quantity, smiles, row) for row in shares])
        found, spread = line.line(rows, known, axis(quantity, hot))
        half = line.width * spread
        return LiquidPrediction(np.exp(found), np.exp(found - half), np.exp(found + half))


def mixture(smiles: Sequence[str], x: Floats) -> Floats:
    """What the forests see of a mixture, [features]: the same for any order of the components.

    Means of the descriptors by mole fraction, their mean deviations from it, and the highest and
    lowest of any component.

    Args:
        smiles: canonical ones of the components, n.
        x: mole fractions, [n].
    """
    each = np.array([[*descriptors(s), mcgowan(s)] for s in smiles])
    mean = x @ each
    return np.concatenate([mean, x @ np.abs(each - mean), each.max(0), each.min(0)])


def offset(quantity: str, smiles: Sequence[str], x: Floats) -> float:
    """What is known of the logarithm beforehand: that of a liquid without free space, or nothing.

    Args:
        quantity: one of `QUANTITIES`.
        smiles: canonical ones of the components, n.
        x: mole fractions, [n].
    """
    if quantity != "density":
        return 0.0
    masses = [rdMolDescriptors._CalcMolWt(Chem.MolFromSmiles(s)) for s in smiles]
    return float(np.log(x @ masses) - np.log(x @ [mcgowan(s) for s in smiles]))


def axis(quantity: str, temperature: Floats) -> Floats:
    """Along which the logarithm is a rising straight line, 0 at `REFERENCE`, [m].

    Kelvin below the reference for the density, inverse kelvin above its inverse for the viscosity.
    """
    if quantity == "density":
        return np.asarray(REFERENCE - temperature)
    return np.asarray(1 / temperature - 1 / REFERENCE)


@lru_cache(maxsize=4)
def _loaded(path: Path) -> LiquidModel:
    from diffcore.checkpoint import load_card, load_weights
    from diffcore.errors import ModelFileError

    card = load_card(path)
    if card.get("kind") != "liquid":
        raise ModelFileError(f"{path}: expected a model of liquids, got {card.get('kind')!r}")
    arrays = {name: value.numpy() for name, value in load_weights(path, card).items()}
    return LiquidModel(
        {
            q: LineModel(
                q,
                Forest.from_arrays(arrays, f"{q}.value"),
                Forest.from_arrays(arrays, f"{q}.slope"),
                float(card["widths"][q]),
            )
            for q in QUANTITIES
        }
    )
