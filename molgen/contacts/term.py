"""A trained contact potential: what a target says of poses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.errors import ConfigError, ModelFileError
from molgen.contacts.network import ContactPotential
from molgen.contacts.task import ContactTask

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.docking.structure import Structure

Floats = NDArray[np.float64]
WEIGHT = 0.1
"""kcal/mol of a nat where contacts are added to Vina's energy (`docs/conformers.md`)."""

CHUNK = 16
"""Poses that are looked at together: bounds the memory."""


@dataclass(frozen=True)
class Contacts:
    """A trained potential with its card.

    Attributes:
        potential: the pair potentials.
        card: what is known of it.
    """

    potential: ContactPotential
    card: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Contacts:
        """A weights file with its card.

        Raises:
            ModelFileError: the files are missing or broken, or of another kind.
        """
        card = load_card(path)
        if card.get("kind") != "contacts":
            raise ModelFileError(f"{path}: expected contacts, got {card.get('kind')!r}")
        try:
            task = ContactTask.from_json(card["task"])
        except (ConfigError, KeyError, TypeError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        potential = task.build().requires_grad_(False).eval()
        fill_module(potential, load_weights(path, card), path)
        return cls(potential, card)

    def nats(self, mol: Chem.Mol, positions: Floats, structure: Structure) -> Floats:
        """Energies [P] of poses in a target, in nats; 0 for a pose that touches nothing.

        Args:
            mol: the ligand, sanitised.
            positions: of all its atoms, [P, A, 3], Angstrom, in the target's frame.
            structure: the target.

        Raises:
            DataError: no pose is near the target.
        """
        from molgen.contacts.features import ligand_classes, surroundings

        heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
        poses = positions[:, heavy]
        around = surroundings(structure, poses.reshape(-1, 3), self.potential.config.cutoff)
        centre = poses.mean((0, 1))
        kinds, target = (
            torch.from_numpy(x).unsqueeze(0) for x in (ligand_classes(mol), around["target"])
        )
        # close to the origin, so that single precision does
        where, target_pos = (
            torch.from_numpy(x - centre).float().unsqueeze(0) for x in (poses, around["target_pos"])
        )
        axis = torch.from_numpy(around["target_axis"]).float().unsqueeze(0)
        with torch.inference_mode():
            table = self.potential.table()
            energies = [
                self.potential(part, kinds, target_pos, target, axis, table)[0]
                for part in where.split(CHUNK, 1)
            ]
        return np.asarray(torch.cat(energies).double().numpy())
