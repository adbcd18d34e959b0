"""AutoDock Vina: score a pose, minimise it, dock a ligand (Eberhardt et al. 2021, JCIM 61, 3891).

Energies in kcal/mol, positions in Angstrom. Nothing given is changed. Vina itself cannot be
stopped: give it work through `molgen.evaluate.workers` where a time limit is needed.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from diffcore.errors import ConfigError, DataError
from molgen.docking.ligand import LigandFile, ligand_pdbqt, pdbqt_models, placed
from molgen.docking.pocket import Box, Pocket, heavy_positions
from molgen.docking.receptor import receptor_pdbqt
from molgen.embedding import with_conformers

Floats = NDArray[np.float64]
MARGIN = 5.0
"""The grid around a pose that is scored or minimised reaches this much further, Angstrom."""

MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Pose:
    """A ligand in a pocket.

    Attributes:
        mol: copy of the ligand with one conformer, in the protein's frame; atoms in its order.
        energy: Vina's estimate of the free energy of binding, kcal/mol.
    """

    mol: Chem.Mol
    energy: float


def score(mol: Chem.Mol, pocket: Pocket, conformer: int = -1) -> float:
    """Vina's energy (kcal/mol) of a ligand as it stands.

    Args:
        mol: ligand with explicit hydrogens and a conformer in the protein's frame.
        pocket: its box does not matter here, the grid is laid around the pose.
        conformer: which conformer.

    Raises:
        ConfigError: Vina or Open Babel is not installed.
        DataError: the ligand cannot be written for Vina, or is far from the receptor.
    """
    file = ligand_pdbqt(mol, conformer)
    engine = _around(pocket, heavy_positions(mol, conformer))
    with _quiet("score"):
        engine.set_ligand_from_string(file.text)
        return _finite(engine.score()[0])


def minimise(mol: Chem.Mol, pocket: Pocket, conformer: int = -1) -> Pose:
    """The next minimum of Vina's energy: the ligand moves, turns and twists, rings stay.

    Args and errors: as in `score`.
    """
    return scored_and_minimised(mol, pocket, conformer)[1]


def scored_and_minimised(mol: Chem.Mol, pocket: Pocket, conformer: int = -1) -> tuple[float, Pose]:
    """`score` and `minimise` at once: to give Vina a large ligand takes longer than either.

    Args and errors: as in `score`.
    """
    file = ligand_pdbqt(mol, conformer)
    engine = _around(pocket, heavy_positions(mol, conformer))
    with _quiet("minimise"):
        engine.set_ligand_from_string(file.text)
        before = _finite(engine.score()[0])
        energy = _finite(engine.optimize()[0])
        text = _written(engine)
    return before, Pose(_posed(mol, file, pdbqt_models(text)[0]), energy)


def dock(
    mol: Chem.Mol,
    pocket: Pocket,
    *,
    exhaustiveness: int = 8,
    n_poses: int = 9,
    seed: int = 0,
    conformer: int = -1,
    energy_range: float = 3.0,
) -> list[Pose]:
    """Poses of a ligand in the pocket's box, the best energy first.

    Torsions, place and orientation are searched from random starts; bond lengths, angles and rings
    are those of the conformer given, its place and torsions do not matter.

    Args:
        mol: ligand with explicit hydrogens and a conformer.
        pocket: where to dock.
        exhaustiveness: independent searches; time grows with it.
        n_poses: poses at most, at least 1 Angstrom apart.
        seed: of the searches, 0 or more.
        conformer: which conformer.
        energy_range: poses reach so far above the best, kcal/mol.

    Raises:
        ConfigError: an option is outside what is allowed, or Vina or Open Babel is missing.
        DataError: the ligand cannot be written for Vina or no pose was found.
    """
    for name, value in (("exhaustiveness", exhaustiveness), ("n_poses", n_poses)):
        if value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}")
    if not 0 <= seed < MAX_SEED:
        raise ConfigError(f"seed: expected 0 to {MAX_SEED - 1}, got {seed}")
    file = ligand_pdbqt(mol, conformer)
    # Vina draws a seed of its own for 0
    engine = _mapped(receptor_pdbqt(pocket.structure, pocket.box), pocket.box, seed + 1)
    with _quiet("dock"):
        engine.set_ligand_from_string(file.text)
        engine.dock(exhaustiveness=exhaustiveness, n_poses=n_poses)
        energies = np.atleast_2d(engine.energies(n_poses=n_poses, energy_range=energy_range))
        models = pdbqt_models(engine.poses(n_poses=n_poses, energy_range=energy_range))
    found = zip(models, energies[:, 0].tolist(), strict=False)
    poses = [Pose(_posed(mol, file, model), energy) for model, energy in found]
    if not poses:
        raise DataError("Vina found no pose in the box")
    return poses


def _posed(mol: Chem.Mol, file: LigandFile, pose: Floats) -> Chem.Mol:
    return with_conformers(mol, placed(mol, file, pose)[None])


def _around(pocket: Pocket, positions: Floats) -> Any:
    """An engine with a grid around positions, remembered: poses of one pocket share it."""
    box = pocket.box
    low, high = box.corners()
    if not ((positions >= low + 1) & (positions <= high - 1)).all():
        box = Box.around(positions, MARGIN)
    elif (high - low).max() > 40:
        box = Box.around(positions, MARGIN)
    return _mapped(receptor_pdbqt(pocket.structure, box), box)


@lru_cache(maxsize=2)
def _mapped(text: str, box: Box, seed: int = 1) -> Any:
    """An engine with its grids for all types of atoms; a search leaves nothing behind in it."""
    engine = _engine(text, seed)
    with _quiet("grid"):
        engine.compute_vina_maps(list(box.centre), list(box.size))
    return engine


def check_installed() -> None:
    """Whether Vina and Open Babel can be had, before any work.

    Raises:
        ConfigError: one is not installed.
    """
    from importlib.util import find_spec

    for name, hint in (("vina", " (Python 3.12 or older)"), ("openbabel", "")):
        if find_spec(name) is None:
            raise ConfigError(
                f'docking needs the package {name}{hint}: pip install "designloom[docking]"'
            )


def _engine(text: str, seed: int) -> Any:
    check_installed()
    from vina import Vina

    engine = Vina(sf_name="vina", cpu=1, seed=seed, verbosity=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "receptor.pdbqt"
        path.write_text(text, encoding="utf-8")
        with _quiet("receptor"):
            engine.set_receptor(str(path))
    return engine


def _written(engine: Any) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pose.pdbqt"
        engine.write_pose(str(path), overwrite=True)
        return path.read_text(encoding="utf-8")


def _finite(energy: Any) -> float:
    value = float(energy)
    if not math.isfinite(value):
        raise DataError(f"Vina gave no finite energy: {value}")
    return value


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Vina's own errors as ours, its chatter on the standard output nowhere."""
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(1)
        try:
            os.dup2(nowhere.fileno(), 1)
            yield
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"Vina cannot {what}: {_line(error)}") from None
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
