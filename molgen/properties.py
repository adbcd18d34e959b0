"""Predict properties of molecules that have a 3D conformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffcore.checkpoint import fill_module, load_card, load_weights
from diffcore.errors import ConfigError, DataError, ModelFileError
from molgen.tasks.molecules import MoleculeTask
from molgen.tasks.properties import PropertyDenoiser, build_property_network, physical
from molgen.weights.files import find_model

if TYPE_CHECKING:
    import pandas as pd
    from rdkit import Chem


@dataclass
class PropertyPredictor:
    """A trained predictor.

    Attributes:
        task: elements, scale and, as conditions, the properties with their moments.
        denoiser: the network.
        card: what is known of the model: data, recipe, quality.
    """

    task: MoleculeTask
    denoiser: PropertyDenoiser
    card: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "qm9-properties") -> PropertyPredictor:
        """Load a shipped model by name, or a .safetensors file with its card beside it.

        Raises:
            ModelFileError: the model is unknown, broken or of another kind.
        """
        path = find_model(name_or_path)
        card = load_card(path)
        if card.get("kind") != "properties":
            found = card.get("kind")
            raise ModelFileError(f"{path}: expected a model of properties, got {found!r}")
        try:
            task = MoleculeTask.from_json(card["task"])
        except (ConfigError, KeyError) as error:
            raise ModelFileError(f"{path.with_suffix('.json')}: {error}") from error
        network = build_property_network(task).requires_grad_(False).eval()
        fill_module(network, load_weights(path, card), path)
        return cls(task, PropertyDenoiser(network), card)

    @property
    def names(self) -> tuple[str, ...]:
        """The properties, in column order."""
        return tuple(self.task.conditions)

    def predict(self, mols: Sequence[Chem.Mol], batch_size: int = 128) -> pd.DataFrame:
        """Properties in the units of the data set (QM9: bohr^3, eV, D, cal/mol/K).

        Args:
            mols: molecules with explicit hydrogens and a 3D conformer in Angstrom, at geometries
                like those of the training data.
            batch_size: molecules of one size a call.

        Returns:
            One row a molecule, in order; NaN where it could not be read (no conformer, an element
            or charge that the model does not know).
        """
        import pandas as pd

        states = [self._arrays(mol) for mol in mols]
        values = torch.full((len(states), len(self.names)), torch.nan, dtype=torch.float64)
        sizes: dict[int, list[int]] = {}
        for i, arrays in enumerate(states):
            if arrays is not None:
                sizes.setdefault(len(arrays["pos"]), []).append(i)
        for rows in sizes.values():
            for at in range(0, len(rows), batch_size):
                part = rows[at : at + batch_size]
                values[part] = self._read([a for i in part if (a := states[i]) is not None])
        return pd.DataFrame(values.numpy(), columns=list(self.names))

    def _arrays(self, mol: Chem.Mol) -> dict[str, Tensor] | None:
        from molgen.chem import arrays_from_mol

        try:
            arrays = {k: torch.as_tensor(v) for k, v in arrays_from_mol(mol).items()}
        except DataError:
            return None
        known = torch.isin(arrays["atomic_number"], torch.tensor(self.task.elements)).all()
        known &= torch.isin(arrays["charge"], torch.tensor(self.task.charges)).all()
        return arrays if bool(known) and len(arrays["pos"]) > 1 else None

    def _read(self, parts: list[dict[str, Tensor]]) -> Tensor:
        batch = {name: torch.stack([one[name] for one in parts]) for name in parts[0]}
        pos = batch["pos"].float()
        batch["pos"] = pos - pos.mean(1, keepdim=True)
        batch["bond"] = batch.pop("bond_order")
        batch["mask"] = torch.ones(pos.shape[:2], dtype=torch.bool)
        with torch.inference_mode():
            state = self.task.encode(batch)
            return physical(self.task, self.denoiser.read(state, state.mask))
