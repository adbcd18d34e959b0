"""Steering towards properties by a predictor: its gradient while drawing, its word in choosing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffcore.composition import Range
from diffcore.denoisers import Context, Denoiser
from diffcore.guidance import energy_guided
from diffcore.processes import Process
from diffcore.state import State, Times
from molgen.targets import Target

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.properties import PropertyPredictor

WIDTH = 0.55
"""Deviation that costs an energy of one half, in standard deviations of the training data."""

NOISE = (0.02, 0.9)
"""Times in which the gradient acts: before, the prediction is a blur; after, nothing can move."""

SPREAD, LIMIT = 0.3, 0.1
"""See `diffcore.guidance.energy_guided`; positions in units of the task's scale."""


def with_predictor(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    predictor: PropertyPredictor,
    names: tuple[str, ...],
    strength: float = 1.0,
) -> Denoiser:
    """Shift predictions along the gradient of a predictor of properties.

    The energy of a row is half the sum of its squared deviations from the state's ``property``
    field, in units of `WIDTH`; a property that is not told (NaN) has none. Positions are shifted
    and class probabilities tilted (plug-and-play guidance at the prediction: `energy_guided`).

    Args:
        denoiser: what is steered.
        processes: one per field.
        predictor: reads properties off a clean state; its elements, charges and scale have to be
            those of the denoiser's task.
        names: of the columns of ``property``; those that the predictor lacks are left alone.
        strength: factor of the energy.
    """
    columns = [names.index(n) for n in predictor.names if n in names]
    read = [predictor.names.index(names[k]) for k in columns]

    def wrapped(state: State, times: Times, context: Context) -> State:
        asked = state["property"][:, columns]

        def energy(clean: State, at: Times) -> Tensor:
            found = predictor.denoiser.read(clean, clean.mask)[:, read]
            miss = torch.where(asked.isnan(), torch.zeros_like(found), found - asked)
            return 0.5 * (miss / WIDTH).pow(2).sum(-1)

        guided = energy_guided(
            denoiser,
            processes,
            energy,
            strength,
            within=Range(*NOISE),
            spread=SPREAD,
            limit=LIMIT,
        )
        return guided(state, times, context)

    return wrapped


def best_of(
    source: Callable[[int, int, Callable[[float], object] | None], Iterator[Chem.Mol]],
    candidates: int,
    miss: Callable[[list[Chem.Mol]], Tensor],
) -> Callable[[int, int, Callable[[float], object] | None], Iterator[Chem.Mol]]:
    """Of every ``candidates`` molecules of a source in a row, the one that misses least.

    Args:
        source: ``source(start, count, done)``; see `molgen.deliver.Source`.
        candidates: molecules made for each one handed out.
        miss: distances from what is asked for, [M]; NaN for what cannot be read.
    """

    def chosen(
        start: int, count: int, done: Callable[[float], object] | None
    ) -> Iterator[Chem.Mol]:
        def share(work: float) -> None:
            if done is not None:
                done(work / candidates)

        made: list[Chem.Mol] = []
        for mol in source(start * candidates, count * candidates, share):
            made.append(mol)
            if len(made) == candidates:
                yield made[int(miss(made).nan_to_num(torch.inf).argmin())]
                made = []

    return chosen


def predicted_miss(
    predictor: PropertyPredictor, targets: tuple[Target, ...]
) -> Callable[[list[Chem.Mol]], Tensor]:
    """Root of the summed squared misses of molecules, [M]; NaN where RDKit refuses the molecule."""

    def miss(mols: list[Chem.Mol]) -> Tensor:
        from molgen.evaluate.prepared import Prepared
        from molgen.evaluate.validity import strict_valid

        table = predictor.predict(mols)
        squares = torch.zeros(len(mols), dtype=torch.float64)
        for target in targets:
            squares += target.miss(torch.tensor(table[target.name].to_numpy())).pow(2)
        sound = torch.tensor([bool(strict_valid(Prepared(mol))) for mol in mols])
        return torch.where(sound, squares.sqrt(), torch.nan)

    return miss
