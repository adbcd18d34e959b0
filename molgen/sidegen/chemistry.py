"""Scalar chemical features of noisy conformers, and guidance by their gradient.

As SIDEGEN's energy models: a network reads off a noisy conformer C_t what GFN2-xTB says of the
clean one: its SCF energy (less what its composition explains), HOMO-LUMO gap and partial charges.
The gradient of the energy with respect to C_t then guides the reverse step.

Training is a denoising task: the features are the fields, pure noise that the network does not
look at, and their posterior means are the regression.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffcore.denoisers import Context
from diffcore.domains import Grid, Nodes
from diffcore.errors import DataError, ModelFileError
from diffcore.guidance import Energy
from diffcore.processes import Gaussian, Process
from diffcore.schedules import FlowTime
from diffcore.state import State, Times
from molgen.sidegen.network import SideNetwork
from molgen.sidegen.task import FIELD, SideDenoiser, SideTask
from molgen.weights.files import find_model

if TYPE_CHECKING:
    from rdkit import Chem

ENERGY, GAP = 0, 1


@dataclass(frozen=True)
class ScalarFeatures:
    """What GFN2-xTB says of a conformer in vacuo.

    Attributes:
        energy: SCF energy, eV.
        gap: HOMO-LUMO gap, eV.
        charges: partial charges of the heavy atoms, hydrogens added to them, e, [N].
    """

    energy: float
    gap: float
    charges: NDArray[np.float64]


def scalar_features(mol: Chem.Mol) -> ScalarFeatures:
    """A single point of GFN2-xTB (Bannwarth et al. 2019, JCTC 15, 1652).

    Args:
        mol: explicit hydrogens and a conformer.

    Raises:
        ConfigError: tblite is not installed.
        DataError: the wave function does not converge, or there are unpaired electrons.
    """
    from molgen.orbitals import HARTREE_EV, _gap, _singlepoint

    result = _singlepoint(mol, "")
    charge = np.asarray(result["charges"], np.float64)
    heavy = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1]
    own = {index: charge[index] for index in heavy}
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 1 and atom.GetDegree():
            owner = atom.GetNeighbors()[0].GetIdx()
            own[owner] = own.get(owner, 0.0) + charge[atom.GetIdx()]
    values = np.array([own[k] for k in heavy])
    if not np.isfinite(values).all():
        raise DataError("GFN2-xTB: the charges are not finite")
    return ScalarFeatures(float(result["energy"]) * HARTREE_EV, _gap(result), values)


def standardised(
    found: list[ScalarFeatures], composition: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Features [M, 2] with mean 0 and deviation 1: energy beyond the composition's, and gap.

    Args:
        found: M molecules.
        composition: numbers of atoms of every kind, [M, K]; the energy is explained by them in the
            least-squares sense first.
    """
    energy = np.array([one.energy for one in found])
    fit, *_ = np.linalg.lstsq(composition, energy, rcond=None)
    table = np.stack([energy - composition @ fit, np.array([one.gap for one in found])], 1)
    return np.asarray((table - table.mean(0)) / table.std(0).clip(1e-9))


class ChemicalNetwork(nn.Module):
    """The trunk of a conformer network with heads for features."""

    def __init__(self, task: SideTask) -> None:
        super().__init__()
        self.trunk: SideNetwork = task.build()
        width = task.network.width
        self.scalar = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 2))
        self.charge = nn.Linear(width, 1)


def chemical_processes(task: SideTask) -> dict[str, Process]:
    """Positions as in the conformer task, features as pure noise."""
    return {
        **task.processes(),
        "feature": Gaussian(FlowTime(), Grid((2,))),
        "charge": Gaussian(FlowTime(), Nodes((1,))),
    }


@dataclass(frozen=True)
class ChemicalDenoiser:
    """E[features of the clean conformer | noisy conformer]; positions are passed through."""

    network: ChemicalNetwork
    task: SideTask

    def read(self, state: State, times: Times) -> tuple[Tensor, Tensor]:
        """Standardised features [B, 2] and charges [B, N, 1] of noisy positions."""
        _, h = SideDenoiser(self.network.trunk, self.task).features(state, times, {})
        real = state.mask.unsqueeze(-1).to(h.dtype)
        total = h.sum(1)
        mean = total / real.sum(1).clamp_min(1)
        scalars: Tensor = self.network.scalar(torch.cat([mean, total / 25], -1))
        return scalars, self.network.charge(h) * real

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict."""
        feature, charge = self.read(state, times)
        return State({FIELD: state[FIELD], "feature": feature, "charge": charge}, state.mask)


def read_chemistry(path: str | Path) -> ChemicalDenoiser:
    """A shipped energy model by name, or a .safetensors file with its card beside it.

    Raises:
        ModelFileError: a file is missing or broken, or of another kind.
    """
    from diffcore.checkpoint import fill_module, load_card, load_weights

    path = find_model(path)
    card = load_card(path)
    if card.get("kind") != "chemistry":
        raise ModelFileError(f"{path}: expected an energy model, got {card.get('kind')!r}")
    task = SideTask.from_json(card["task"])
    network = ChemicalNetwork(task).requires_grad_(False).eval()
    fill_module(network, load_weights(path, card), path)
    return ChemicalDenoiser(network, task)


def chemical_energy(
    denoiser: ChemicalDenoiser, weights: Mapping[int, float] | None = None
) -> Energy:
    """Energy [B] of a noisy state: low SCF energy, wide gap.

    Args:
        denoiser: trained on features.
        weights: factor of `ENERGY` and `GAP`.
    """
    w = {ENERGY: 1.0, GAP: -0.5} if weights is None else dict(weights)

    def energy(state: State, times: Times) -> Tensor:
        feature, _ = denoiser.read(state, times)
        return sum((factor * feature[:, k] for k, factor in w.items()), start=feature[:, 0] * 0)

    return energy
