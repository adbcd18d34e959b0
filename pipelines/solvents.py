"""Liquidus temperatures, densities and viscosities of the mixtures in a file."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, DesignloomError, OutputError

if TYPE_CHECKING:
    from molgen.solvents.components import Component

ALIASES: Mapping[str, tuple[str, ...]] = {
    "component": ("component_{}", "smiles_{}", "Smiles#{}", "Component#{}", "name_{}"),
    "x": ("x_{}", "X#{}", "X#{} (molar fraction)"),
    "melting": ("melting_{}", "T#{}"),
    "fusion": ("fusion_{}", "H#{}"),
    "at": ("at", "Temperature, K"),
}
"""Names of the columns, {} the component's number; the first that is filled counts."""

COLUMNS = (
    "number",
    "mixture",
    "x",
    "temperature",
    "lower",
    "upper",
    "method",
    "predicted",
    "at",
    "density",
    "density_lower",
    "density_upper",
    "viscosity",
    "viscosity_lower",
    "viscosity_upper",
    "reason",
)


def predict_solvents(
    systems: Path, output: Path = Path("liquidus.csv"), force: bool = False
) -> str:
    """Predict liquidus, density and viscosity of the mixtures in a file, with 90 % intervals.

    Columns of the file: component_1, component_2 (and component_3) as name, CAS number or SMILES;
    x_1 (and x_2), mole fractions; where known better, melting_1 in K and fusion_1 in kJ/mol, and
    so on; at, the temperature in K of density (g/cm^3) and viscosity (mPa s), by default 298.15:
    those of the liquid, supercooled below the liquidus. Without x_1, the eutectic point is
    predicted. A row that cannot be predicted keeps its line, with the reason.

    Args:
        systems: .csv file.
        output: .csv file to write.
        force: Overwrite the output if it exists.

    Returns:
        One line that says what was written.

    Raises:
        DataError: The file is missing or empty, or names no components.
        OutputError: The output exists without `force`, or cannot be written.
    """
    from tqdm import tqdm

    from pipelines.conformers import write_rows

    if output.exists() and not force:
        raise OutputError(f"{output} exists: expected --force to overwrite it")
    rows = list(_read(systems))
    made = [
        _answer(number, row)
        for number, row in enumerate(tqdm(rows, desc="mixtures", unit="row", delay=2), 1)
    ]
    write_rows(output, made, COLUMNS)
    failed = sum(bool(row.get("reason")) for row in made)
    return f"{output}: {len(made) - failed} mixtures predicted, {failed} failed"


def _read(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [
                {k: v or "" for k, v in row.items() if k is not None}
                for row in csv.DictReader(stream)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: expected a .csv file, {reason}") from None
    if not rows:
        raise DataError(f"{path}: expected at least one row below the header, got none")
    if not any(name.format(1) in rows[0] for name in ALIASES["component"]):
        raise DataError(f"{path}: expected columns component_1, component_2, x_1; got {[*rows[0]]}")
    yield from rows


def _field(row: Mapping[str, str], kind: str, number: int) -> str:
    found = (row.get(name.format(number), "").strip() for name in ALIASES[kind])
    return next((text for text in found if text), "")


def _number(row: Mapping[str, str], kind: str, number: int) -> float | None:
    text = _field(row, kind, number)
    if not text or text.lower() == "nan":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{kind}_{number}: expected a number, got {text!r}")
    return value


def _composition(row: Mapping[str, str], n: int) -> list[float] | None:
    """Mole fractions; the last may be left out. None where none is given."""
    found = [_number(row, "x", i + 1) for i in range(n)]
    if all(value is None for value in found):
        return None
    first = [value for value in found[:-1] if value is not None]
    if len(first) < n - 1:
        raise ConfigError(f"composition: expected mole fractions x_1 to x_{n - 1}, got {found}")
    last = found[-1] if found[-1] is not None else 1 - sum(first)
    return [*first, last]


def _answer(number: int, row: Mapping[str, str]) -> dict[str, Any]:
    """The line of one mixture; what goes wrong with it costs that line."""
    names = [name for i in (1, 2, 3) if (name := _field(row, "component", i))]
    answer: dict[str, Any] = {"number": number, "mixture": " + ".join(names)}
    try:
        return answer | _predicted(row, names)
    except DesignloomError as error:
        reason = str(error)
    except (RuntimeError, ValueError, ArithmeticError, KeyError, IndexError) as error:
        # what RDKit and the group methods say to substances that nobody thought of
        reason = f"{type(error).__name__}: {error}"
    return answer | {"reason": " ".join(reason.split())}


def _predicted(row: Mapping[str, str], names: list[str]) -> dict[str, Any]:
    from molgen.solvents.components import component
    from molgen.solvents.diagram import phase_diagram
    from molgen.solvents.model import LiquidusModel, check_different

    parts = [
        component(name, _number(row, "melting", i), _number(row, "fusion", i))
        for i, name in enumerate(names, 1)
    ]
    check_different(parts)
    x = _composition(row, len(parts))
    if x is None:
        diagram = phase_diagram(*parts, points=49)
        found, at = diagram.liquidus, int(diagram.liquidus.temperature.argmin())
        x = [float(v) for v in diagram.x[at]]
    else:
        found, at = LiquidusModel.from_pretrained().predict(parts, [x]), 0
    return {
        "x": " ".join(f"{v:.4g}" for v in x),
        "temperature": f"{found.temperature[at]:.2f}",
        "lower": f"{found.lower[at]:.2f}",
        "upper": f"{found.upper[at]:.2f}",
        "method": found.method,
        "predicted": "; ".join(c.name for c in parts if c.is_predicted),
    } | _liquid(parts, x, _number(row, "at", 0))


def _liquid(parts: Sequence[Component], x: Sequence[float], at: float | None) -> dict[str, str]:
    """Density and viscosity."""
    from molgen.solvents.liquid import QUANTITIES, LiquidModel

    model, kelvin = LiquidModel.from_pretrained(), 298.15 if at is None else at
    found = {"at": f"{kelvin:g}"}
    for quantity in QUANTITIES:
        one = model.predict(quantity, parts, [list(x)], kelvin)
        found[quantity] = f"{one.value[0]:.4g}"
        found[f"{quantity}_lower"] = f"{one.lower[0]:.4g}"
        found[f"{quantity}_upper"] = f"{one.upper[0]:.4g}"
    return found
