"""Whether a molecule is what was asked for, atom by atom, and where it lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molgen.steer.fragments import Fragment
from molgen.steer.request import Request

Arrays = Mapping[str, NDArray[Any]]
"""Of one molecule, as in `molgen.chem.arrays_from_mol`; the kept atoms come first."""


def unmet(request: Request, arrays: Arrays) -> str:
    """What a molecule lacks of the request, in a few words; empty if nothing."""
    if request.formula is not None:
        found, counts = np.unique(arrays["atomic_number"], return_counts=True)
        if dict(zip(found.tolist(), counts.tolist(), strict=True)) != dict(request.formula):
            return "another formula"
    if request.charge is not None and int(arrays["charge"].sum()) != request.charge:
        return "another total charge"
    return "" if request.fragment is None else _unmet_fragment(request.fragment, arrays)


def _unmet_fragment(part: Fragment, arrays: Arrays) -> str:
    m, orders = len(part), np.asarray(arrays["bond_order"])
    same = (
        np.array_equal(arrays["atomic_number"][:m], part.atomic_number)
        and np.array_equal(arrays["charge"][:m], part.charge)
        and np.array_equal(orders[:m, :m], part.bond_order)
    )
    if not same:
        return f"{part.what} changed"
    outward = orders[:m, m:]
    if not np.array_equal(outward.sum(1), part.open):
        return "open sites not filled"
    hydrogens = ((outward > 0) & (np.asarray(arrays["atomic_number"])[m:] == 1)).sum(1)
    if not np.array_equal(hydrogens[part.hydrogens >= 0], part.hydrogens[part.hydrogens >= 0]):
        return "hydrogen at a marked site, or something else in a hydrogen's place"
    if part.pieces > 1 and len(set(_components(orders)[:m].tolist())) > 1:
        return "pieces not joined"
    return ""


def _components(orders: NDArray[np.int64]) -> NDArray[np.int64]:
    from scipy.sparse.csgraph import connected_components

    return np.asarray(connected_components(orders > 0, directed=False)[1])


def placed(request: Request, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The molecule in the frame of the fragment, whose atoms are exactly where they were given."""
    part = request.fragment
    if part is None or not part.placed.any():
        return dict(arrays)
    at = np.zeros(len(arrays["pos"]), dtype=bool)
    at[: len(part)] = part.placed
    given = part.pos[part.placed]
    pos = np.array(arrays["pos"], dtype=np.float64)
    pos += (given - pos[at]).mean(0)
    pos[at] = given
    return {**arrays, "pos": pos}


def hopeless(request: Request, made: int, failed: Counter[str]) -> str:
    """Why a request is given up: what was drawn, and what it lacked."""
    tried = made + failed.total()
    why = ", ".join(f"{reason} ({count})" for reason, count in failed.most_common(3))
    return (
        f"hopeless: {made} of {tried} molecules that were drawn have {request}; the others have "
        f"failed: {why}"
    )
