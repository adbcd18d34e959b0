"""Molecules in blocks, each drawn again until it is what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from diffcore import random
from diffcore.errors import YieldError
from molgen.sampling import named_molecule
from molgen.steer.check import hopeless, placed, unmet
from molgen.steer.request import Request

if TYPE_CHECKING:
    from rdkit import Chem

BLOCK = 256
"""Molecules are made in blocks of this many, each handed out in order as soon as it is whole."""

ATTEMPTS = 1000
"""How often a molecule is drawn at most until it is what was asked for."""

HOPELESS = (300, 0.01)
"""A block is given up after so many draws, if so small a share of them was what was asked for."""

Drawn = Iterator[tuple[int, dict[str, NDArray[Any]]]]
"""Indices and the arrays of their molecules (see `molgen.chem.mol_from_arrays`)."""


def redrawn(
    draw: Callable[[Mapping[int, torch.Generator]], Drawn],
    wanted: range,
    request: Request,
    name: str,
    seed: int,
) -> Iterator[Chem.Mol]:
    """Molecules of a request, in order.

    Args:
        draw: one molecule for every index and its generator, as asked for or not.
        wanted: indices.
        request: what every molecule has to be.
        name: of the model.
        seed: of the generators; a molecule depends on it, its index and its attempt.

    Raises:
        YieldError: the request is hopeless.
    """
    for at in range(0, len(wanted), BLOCK):
        indices = wanted[at : at + BLOCK]
        made: dict[int, Chem.Mol] = {}
        failed: Counter[str] = Counter()
        for attempt in range(ATTEMPTS):
            left = [i for i in indices if i not in made]
            tried = len(made) + failed.total()
            if not left or (tried >= HOPELESS[0] and len(made) < HOPELESS[1] * tried):
                break
            path = (attempt,) if attempt else ()
            rngs = {i: random.generator(seed, *path, i) for i in left}
            for i, arrays in draw(rngs):
                lacks = unmet(request, arrays)
                if lacks:
                    failed[lacks] += 1
                else:
                    made[i] = named_molecule(placed(request, arrays), name, seed, i)
        if len(made) < len(indices):
            raise YieldError(hopeless(request, len(made), failed))
        yield from (made[i] for i in indices)
