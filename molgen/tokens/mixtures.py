"""Binary mixtures as tokens, beside QM9's molecules: one table for a model of every task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffcore.errors import DataError
from diffcore.state import State
from molgen.tokens.tables import TokenTable
from molgen.tokens.task import TokenTask
from molgen.tokens.vocabulary import END, MIXED, Vocabulary, split

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 64
"""Symbols of a mixture that is learnt from, at most."""

NUMBERS = ("mixture", "x_1", "temperature", "liquidus", "log_density", "log_viscosity")
"""Beside QM9's properties: 1 for a mixture and 0 for a molecule; mole fraction of the component
that is written first; K; K; natural logarithms of g/cm^3 and mPa s."""

TARGETS = {"liquidus": "liquidus", "log_density": "density", "log_viscosity": "viscosity"}

EVERY = 4
"""One batch in so many is of mixtures."""


def mixture_rows(folder: Path) -> pd.DataFrame:
    """Measured binary mixtures: ``first``, ``second`` (SMILES), ``system`` and `NUMBERS`.

    Args:
        folder: of the published tables, see `molgen.solvents.data`.

    Raises:
        DataError: the tables are missing.
    """
    import pandas as pd

    from molgen.solvents.data import LIQUIDUS_FILE, read_liquid, read_liquidus

    table = read_liquidus(folder / LIQUIDUS_FILE)
    parts = [
        pd.DataFrame(
            {
                "first": table["smiles_1"],
                "second": table["smiles_2"],
                "x_1": table["x_1"],
                "liquidus": table["temperature"],
            }
        )
    ]
    for name in ("log_density", "log_viscosity"):
        liquid = read_liquid(folder, TARGETS[name])
        liquid = liquid[liquid["smiles"].map(len) == 2]
        parts.append(
            pd.DataFrame(
                {
                    "first": liquid["smiles"].str[0],
                    "second": liquid["smiles"].str[1],
                    "x_1": liquid["x"].str[0],
                    "temperature": liquid["temperature"],
                    name: np.log(liquid["value"]),
                }
            )
        )
    rows = pd.concat(parts, ignore_index=True)
    rows["mixture"] = 1.0
    rows["system"] = [
        " + ".join(sorted(pair)) for pair in zip(rows["first"], rows["second"], strict=True)
    ]
    return rows


def held_out(rows: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Whether a row is for tests: one system in five, the same for all three quantities."""
    from molgen.solvents.training import folds_of

    return np.asarray(folds_of(rows["system"].tolist(), seed=seed) == 0)


def texts(rows: pd.DataFrame) -> list[str]:
    """Both components of each row, in their order."""
    return [f"{a}{MIXED}{b}" for a, b in zip(rows["first"], rows["second"], strict=True)]


def turned(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with the second component first."""
    return rows.assign(first=rows["second"], second=rows["first"], x_1=1 - rows["x_1"])


@dataclass(frozen=True)
class JointTable:
    """Molecules and mixtures.

    Attributes:
        vocabulary: of both.
        names: QM9's properties, then `NUMBERS`.
        molecules: tokens [V, M, L] uint8 and numbers [M, P].
        mixtures: tokens [1, M', L'] uint8 and numbers [M', P].
    """

    vocabulary: Vocabulary
    names: tuple[str, ...]
    molecules: TokenTable
    mixtures: TokenTable

    def __len__(self) -> int:
        """Rows of both."""
        return len(self.molecules) + len(self.mixtures)

    @property
    def moments(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each number, over the rows that know it."""
        found = {}
        for k, name in enumerate(self.names):
            both = torch.cat([self.molecules.properties[:, k], self.mixtures.properties[:, k]])
            known = both[~both.isnan()]
            found[name] = (float(known.mean()), float(known.std().clamp_min(1e-6)))
        return found

    def batches(self, task: TokenTask, size: int, seed: int, start: int = 0) -> Iterator[State]:
        """Endless batches: mixtures one time in `EVERY`, molecules else."""
        molecules = self.molecules.batches(task, size, seed, start - start // EVERY)
        mixtures = self.mixtures.batches(task, size, seed + 1, start // EVERY)
        step = start
        while True:
            yield next(mixtures if step % EVERY == EVERY - 1 else molecules)
            step += 1


def joint_table(molecules: TokenTable, rows: pd.DataFrame) -> JointTable:
    """Molecules and mixtures in one vocabulary.

    Args:
        molecules: SMILES of QM9.
        rows: of `mixture_rows` to learn from.

    Raises:
        DataError: another notation than SMILES, or no mixture is short enough.
    """
    import pandas as pd

    if molecules.vocabulary.notation != "smiles":
        raise DataError("mixtures are written as SMILES, got SELFIES")
    both = pd.concat([rows, turned(rows)], ignore_index=True)
    found = [split(text, "smiles") for text in texts(both)]
    short = [k for k, one in enumerate(found) if len(one) <= LONGEST]
    if not short:
        raise DataError(f"mixtures: expected some of {LONGEST} symbols or less, got none")
    symbols = {s for k in short for s in found[k]} | set(molecules.vocabulary.symbols)
    v = Vocabulary("smiles", tuple(sorted(symbols)), LONGEST + 1)
    length = molecules.tokens.shape[2] + 1
    new = torch.tensor([END, *(v.places[s] for s in molecules.vocabulary.symbols)])
    tokens = new[molecules.tokens.long()].to(torch.uint8)
    pad = torch.full((*tokens.shape[:2], 1), END, dtype=torch.uint8)
    own, extra = molecules.properties, len(NUMBERS)
    numbers = torch.cat([own, torch.full((len(own), extra), torch.nan)], 1)
    names = (*molecules.names, *NUMBERS)
    numbers[:, names.index("mixture")] = 0.0
    written = torch.full((1, len(short), v.length), END, dtype=torch.uint8)
    for row, k in zip(written[0], short, strict=True):
        row[: len(found[k])] = torch.tensor([v.places[s] for s in found[k]], dtype=torch.uint8)
    trimmed = Vocabulary("smiles", v.symbols, length)
    return JointTable(
        v,
        names,
        TokenTable(trimmed, torch.cat([tokens, pad], 2), numbers, names),
        TokenTable(v, written, numbers_of(both.iloc[short], names), names),
    )


def numbers_of(rows: pd.DataFrame, names: tuple[str, ...]) -> Tensor:
    """Numbers [M, P] float64 of mixtures, NaN where a row or its table has none."""
    found = np.full((len(rows), len(names)), np.nan)
    for k, name in enumerate(names):
        if name in rows:
            found[:, k] = rows[name].to_numpy(np.float64)
    return torch.from_numpy(found)
