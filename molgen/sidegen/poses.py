"""Conformers of a Cartesian model as poses: relaxed by MMFF94s, then placed by AutoDock Vina.

A Cartesian model draws bond lengths, angles and rings with an error of their own, and docking keeps
what it is given of them. So they are relaxed first, each to the nearest minimum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffcore.errors import DataError
from molgen.embedding import keeps_stereo, positions_of, with_conformers
from molgen.sidegen.generator import STEPS

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.docking.pocket import Pocket
    from molgen.sidegen.generator import CartesianGenerator, Guidance

DRAWN = 8
"""Conformers drawn for every ligand, of which the most representative are docked."""

RELAXATION = 200
"""Steps of MMFF94s at most."""


def relaxed(mol: Chem.Mol, steps: int = RELAXATION) -> Chem.Mol:
    """A copy with its conformers relaxed by MMFF94s, each superposed on what it was.

    Conformers that lose the marked stereo on the way stay as they were, and so do those of
    molecules for which MMFF94s has no parameters.

    Args:
        mol: molecule with explicit hydrogens, stereo marks and conformers.
        steps: of the minimisation at most.
    """
    from molgen.relax import relax_mmff

    made = positions_of(mol)
    for k, pos in enumerate(made):
        try:
            found = positions_of(relax_mmff(with_conformers(mol, pos[None]), steps).mol)[0]
        except DataError:
            continue
        if keeps_stereo(mol, found):
            made[k] = found
    properties = [c.GetPropsAsDict() for c in mol.GetConformers()]
    return with_conformers(mol, made, properties)


def poses(
    generator: CartesianGenerator,
    mol: Chem.Mol | str,
    n: int = 9,
    *,
    pocket: Pocket,
    sees: str = "messages",
    steps: int = STEPS,
    seed: int = 0,
    exhaustiveness: int = 8,
    guidance: Guidance | None = None,
) -> Chem.Mol:
    """Up to n poses in a pocket, the lowest ``vina_min`` first.

    Args:
        generator: draws `DRAWN` conformers.
        mol: a molecule or its SMILES.
        n: poses at most.
        pocket: where to dock.
        sees: what the model sees of the target; see `CartesianGenerator.sample`.
        steps: evaluations of the network.
        seed: of all random numbers.
        exhaustiveness: searches of Vina altogether.
        guidance: an energy for the model to follow.

    Returns:
        The molecule with properties and conformers as `molgen.docking.ensemble.posed` gives them.

    Raises:
        ConfigError: an option is outside what is allowed, or Vina is not installed.
        DataError: the molecule cannot be read, embedded or docked.
    """
    from molgen.docking.ensemble import posed

    drawn = generator.sample(
        mol, DRAWN, pocket=pocket, sees=sees, steps=steps, seed=seed, guidance=guidance
    )
    samples = positions_of(relaxed(drawn))
    return posed(drawn, pocket, samples, n, exhaustiveness=exhaustiveness, seed=seed)
