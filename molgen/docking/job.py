"""One ligand and its pocket in, checked poses out: what a worker process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rdkit import Chem

from diffcore.errors import ConfigError, DataError
from molgen.docking.pocket import Pocket, read_pocket

if TYPE_CHECKING:
    from molgen.docking.pocket import Point
    from molgen.generators import Generator

_ALL = Chem.PropertyPickleOptions.AllProps | Chem.PropertyPickleOptions.CoordsAsDouble


@dataclass(frozen=True)
class Place:
    """A pocket by its files, so that it can be told from others and read once.

    Attributes:
        protein: PDB file.
        reference_ligand: file of a ligand that sits there, or None.
        centre: middle of the box, Angstrom, or None.
        box: edges of the box, Angstrom, or None.
    """

    protein: Path
    reference_ligand: Path | None = None
    centre: Point | None = None
    box: Point | None = None

    def read(self) -> Pocket:
        """The pocket; remembered.

        Raises:
            ConfigError: the place is not said.
            DataError: a file cannot be read, or the place is outside the protein.
        """
        return _read(self)


@lru_cache(maxsize=4)
def _read(place: Place) -> Pocket:
    return read_pocket(place.protein, place.reference_ligand, centre=place.centre, box=place.box)


@dataclass(frozen=True)
class PoseJob:
    """A ligand to place.

    Attributes:
        number: in the input, from 0.
        name: of the record.
        mol: RDKit's binary form of the molecule, empty where there is none.
        reason: why there is none.
        place: where to put it.
    """

    number: int
    name: str
    mol: bytes
    reason: str
    place: Place


@dataclass(frozen=True)
class PoseSettings:
    """How poses are made; the same for a whole file.

    Attributes:
        model: name or path.
        n: poses at most.
        seed: of all random numbers.
        steps: of the model's sampler, or None for its own.
        exhaustiveness: searches of Vina.
        threads: of the tensor library.
    """

    model: str = "bound"
    n: int = 20
    seed: int = 0
    steps: int | None = None
    exhaustiveness: int = 8
    threads: int = 1


@dataclass(frozen=True)
class PosesMade:
    """What became of a job.

    Attributes:
        mol: RDKit's binary form of the molecule with its poses, empty where there are none.
        properties: of every pose, in order: confidence, overlap, vina_score, vina_min, the model's
            costs, strain (None where MMFF94s has no parameters), pb_valid, pb_failed.
        reason: why there are no poses, in one line.
        seconds: CPU seconds.
        notes: what was left out of the protein or is missing there.
    """

    mol: bytes = b""
    properties: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    seconds: float = 0.0
    notes: str = ""


def packed(mol: Chem.Mol | None) -> bytes:
    """RDKit's binary form with all properties and full precision."""
    return b"" if mol is None else bytes(mol.ToBinary(_ALL))


def unpacked(binary: bytes) -> Chem.Mol:
    """The molecule of `packed`."""
    make: Any = Chem.Mol  # RDKit's annotations know text only
    mol: Chem.Mol = make(binary)
    return mol


def pose(job: PoseJob, tell: Callable[[Any], None], settings: PoseSettings) -> PosesMade:
    """The poses of one ligand with their checks; what goes wrong becomes the reason."""
    start = time.process_time()
    if not job.mol:
        return PosesMade(reason=job.reason or "no molecule")
    try:
        pocket = job.place.read()
        made = generator(settings).poses(
            unpacked(job.mol),
            settings.n,
            seed=settings.seed,
            pocket=pocket,
            exhaustiveness=settings.exhaustiveness,
        )
        tell(None)
        rows = tuple(checked(made, pocket, settings.seed))
    except (DataError, ConfigError) as error:
        return PosesMade(reason=" ".join(str(error).split()), seconds=time.process_time() - start)
    seconds = time.process_time() - start
    return PosesMade(packed(made), rows, "", seconds, "; ".join(pocket.notes))


def checked(mol: Chem.Mol, pocket: Pocket, seed: int) -> list[dict[str, Any]]:
    """Properties of every conformer of a molecule with poses, strain and PoseBusters included."""
    from molgen.docking.checks import checked_pose
    from molgen.embedding import with_conformers
    from molgen.evaluate.strain import conformations, free_conformers

    try:
        free = free_conformers(mol, seed=seed)
    except DataError:
        free = None
    rows = []
    for conformer in mol.GetConformers():
        one = with_conformers(mol, np.asarray(conformer.GetPositions())[None])
        failed = checked_pose(one, pocket).failed
        rows.append(
            conformer.GetPropsAsDict()
            | {
                "strain": None if free is None else conformations(one, free=free).strain,
                "pb_valid": not failed,
                "pb_failed": "; ".join(failed),
            }
        )
    return rows


@lru_cache(maxsize=1)
def generator(settings: PoseSettings) -> Generator:
    """The model, loaded once in a process.

    Raises:
        ModelFileError: it is unknown, its files are broken, or it makes no conformers.
    """
    import torch

    from molgen.generators import load_generator

    torch.set_num_threads(settings.threads)
    return load_generator(settings.model, settings.steps)
