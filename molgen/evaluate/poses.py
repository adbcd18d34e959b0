"""PoseBusters' checks of a molecule without its surroundings: its configuration `mol`.

Buttenschoen, Morris and Deane 2024, Chem. Sci. 15, 3130. Two things are kept as PoseBusters has
them, and should be known: the checks fill in missing hydrogens, and a check that cannot be made
(mostly the energy's, for strained cages) is not failed.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
import rdkit
from rdkit import Chem, rdBase

from diffcore.errors import ConfigError
from molgen.evaluate.metric import Counted
from molgen.evaluate.prepared import Prepared

ENERGY = "internal_energy"
"""The one check that compares energies: with 50 conformers that it makes and relaxes by UFF."""


@dataclass(frozen=True)
class Checks:
    """Outcome of the checks.

    Attributes:
        failed: Names of those that failed.
        unchecked: Names of those that could not be made.
    """

    failed: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def checked(prepared: Prepared) -> Checks:
    """Runs the checks.

    Raises:
        ConfigError: PoseBusters is not installed.
    """
    with _quiet():
        buster = _buster()
    if prepared.positions is None:
        return Checks(failed=("no 3D conformer",))
    mol = prepared.mol if prepared.sanitised is None else prepared.sanitised
    with _quiet():
        report = buster.bust(Chem.Mol(mol), None, None, full_report=False).iloc[0]
    failed, unchecked = [], []
    for name, value in report.items():
        if pd.isna(value):
            unchecked.append(str(name))
        elif not value:
            failed.append(str(name))
    if prepared.sanitised is None and not failed:
        failed.append("sanitization")
    return Checks(tuple(failed), tuple(unchecked))


@lru_cache(maxsize=1)
def _buster() -> Any:
    try:
        from posebusters import PoseBusters
    except ImportError as error:
        raise ConfigError(
            f'PoseBusters needs the package {error.name}: pip install "designloom[trust]"'
        ) from None
    config = PoseBusters(config="mol").config
    # The energies are listed twice, once without an output; threads are the caller's business.
    modules = [m for m in config["modules"] if m.get("chosen_binary_test_output")]
    for module in modules:
        if module["function"] == "energy_ratio":
            module["parameters"] = {**module["parameters"], "num_threads": 1}
    return PoseBusters(config={**config, "modules": modules}, max_workers=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """No log of what the report says anyway.

    PoseBusters sends RDKit's log through Python's, and switches it on when it is imported and
    after it has checked the sanitisation: the rest of the row would be heard too, so the switches
    are set back as they were. It also flushes the stream of RDKit's log, which a notebook or a test
    may have closed since; checks would fail by that.
    """
    rdkit.log_handler.stream = sys.stderr
    loggers = [logging.getLogger(name) for name in ("posebusters", "rdkit")]
    levels = [logger.level for logger in loggers]
    heard = _heard()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name in _heard() - heard:
            rdBase.DisableLog(name)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _heard() -> set[str]:
    """Names of RDKit's logs that are switched on."""
    states = (line.rsplit(":", 1) for line in rdBase.LogStatus().splitlines())
    return {name for name, state in states if state == "enabled"}


def pb_valid(prepared: Prepared) -> bool:
    """No check failed."""
    return not prepared.posebusters.failed


def pb_valid_no_energy(prepared: Prepared) -> bool:
    """No check but that of the energy failed."""
    return not set(prepared.posebusters.failed) - {ENERGY}


def pb_failed(prepared: Prepared) -> str:
    """Names of the failed checks, joined by `; `."""
    return "; ".join(prepared.posebusters.failed)


def pb_unchecked(prepared: Prepared) -> str:
    """Names of the checks that could not be made, joined by `; `."""
    return "; ".join(prepared.posebusters.unchecked)


# ------------------------------------------------------------------------------------- of a set


def share(table: pd.DataFrame, column: str) -> Counted:
    """Share of rows that hold; a row without a value does not. NaN where no row has one."""
    if column not in table or table[column].isna().all():
        return math.nan, 0
    held = sum(bool(value) for value in table[column] if not pd.isna(value))
    return held / len(table), len(table)


def without_energy(table: pd.DataFrame) -> Counted:
    """Share of the checked molecules whose energy check could not be made."""
    if "pb_unchecked" not in table:
        return math.nan, 0
    cells = [cell for cell in table["pb_unchecked"] if isinstance(cell, str)]
    found = sum(ENERGY in cell.split("; ") for cell in cells)
    return (found / len(cells), len(cells)) if cells else (math.nan, 0)
