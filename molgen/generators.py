"""Conformer generators of either kind by name: conformers alone, or poses in a pocket."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from diffcore.checkpoint import load_card
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.conformers import ConformerGenerator
    from molgen.docking.pocket import Pocket
    from molgen.sidegen.generator import CartesianGenerator


class Generator(Protocol):
    """What makes the conformers of one molecule."""

    def sample(self, mol: Chem.Mol, n: int, *, seed: int) -> Chem.Mol:
        """The molecule with ranked conformers, each with confidence and overlap."""
        ...

    def poses(
        self, mol: Chem.Mol, n: int, *, pocket: Pocket, seed: int, exhaustiveness: int
    ) -> Chem.Mol:
        """The molecule with ranked poses; see `molgen.docking.ensemble.posed`."""
        ...


@dataclass(frozen=True)
class Torsional:
    """A torsional generator."""

    generator: ConformerGenerator

    def sample(self, mol: Chem.Mol, n: int, *, seed: int) -> Chem.Mol:
        """See `ConformerGenerator.sample`."""
        return self.generator.sample(mol, n, seed=seed)

    def poses(
        self, mol: Chem.Mol, n: int, *, pocket: Pocket, seed: int, exhaustiveness: int
    ) -> Chem.Mol:
        """See `ConformerGenerator.sample`."""
        return self.generator.sample(
            mol, n, seed=seed, pocket=pocket, exhaustiveness=exhaustiveness
        )


@dataclass(frozen=True)
class Cartesian:
    """A Cartesian generator with its number of steps."""

    generator: CartesianGenerator
    steps: int

    def sample(self, mol: Chem.Mol, n: int, *, seed: int) -> Chem.Mol:
        """See `CartesianGenerator.sample`."""
        return self.generator.sample(mol, n, steps=self.steps, seed=seed)

    def poses(
        self, mol: Chem.Mol, n: int, *, pocket: Pocket, seed: int, exhaustiveness: int
    ) -> Chem.Mol:
        """See `molgen.sidegen.poses.poses`."""
        from molgen.sidegen.poses import poses

        return poses(
            self.generator,
            mol,
            n,
            pocket=pocket,
            steps=self.steps,
            seed=seed,
            exhaustiveness=exhaustiveness,
        )


def load_generator(model: str | Path, steps: int | None = None) -> Generator:
    """The generator of a model, torsional or Cartesian.

    Args:
        model: name of a shipped model, or path of a model file.
        steps: evaluations of the network; the model's own number if left out.

    Raises:
        ModelFileError: the model is unknown, its files are broken, or it makes no conformers.
    """
    if load_card(find_model(model)).get("kind") == "cartesian-conformers":
        from molgen.sidegen.generator import STEPS, CartesianGenerator

        return Cartesian(CartesianGenerator.from_pretrained(model), steps or STEPS)
    from molgen.conformers import ConformerGenerator

    found = ConformerGenerator.from_pretrained(model)
    if steps is not None:
        own = dataclasses.replace(found.sampling, steps=steps)
        found = dataclasses.replace(found, sampling=own)
    return Torsional(found)
