"""The settings of a draw, and the finished molecule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from diffcore.errors import ConfigError
from diffcore.samplers import solver

if TYPE_CHECKING:
    from rdkit import Chem


@dataclass(frozen=True)
class Sampling:
    """How molecules are drawn; a model's card holds its own.

    Attributes:
        steps: evaluations of the network (Heun makes about twice as many).
        sampler: name in `diffcore.samplers.SOLVERS`.
        temperature: of the predicted class probabilities; lower is safer and less diverse.
        power: exponent of the time grid; above 1 there are more steps near the data.
    """

    steps: int = 45
    sampler: str = "renoise"
    temperature: float = 0.5
    power: float = 1.3

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.steps < 1:
            raise ConfigError(f"steps: expected at least 1, got {self.steps}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature: expected a number above 0, got {self.temperature}")
        if not (math.isfinite(self.power) and self.power > 0):
            raise ConfigError(f"power: expected a number above 0, got {self.power}")
        solver(self.sampler)

    def changed(
        self, steps: int | None, sampler: str | None, temperature: float | None
    ) -> Sampling:
        """The same with what is given in place of the model's own."""
        return Sampling(
            self.steps if steps is None else steps,
            self.sampler if sampler is None else sampler,
            self.temperature if temperature is None else temperature,
            self.power,
        )


def named_molecule(
    arrays: Mapping[str, NDArray[Any]], model: str, seed: int, index: int
) -> Chem.Mol:
    """A molecule from arrays (see `molgen.chem.mol_from_arrays`), with its origin as properties.

    Sanitised where RDKit accepts it and adds no radicals, as the model made it otherwise.
    """
    from rdkit import Chem, rdBase

    from molgen.chem import mol_from_arrays

    raw = mol_from_arrays(**arrays)
    mol = Chem.Mol(raw)
    with rdBase.BlockLogs():
        refused = Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE
    if refused or any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        mol = raw
    mol.SetProp("_Name", f"{model}-{seed}-{index}")
    for key, value in (("seed", seed), ("index", index), ("n_atoms", mol.GetNumAtoms())):
        mol.SetProp(key, str(value))
    mol.SetProp("model", model)
    return mol
