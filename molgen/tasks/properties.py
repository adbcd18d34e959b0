"""Reading properties off a molecule, as a denoising task whose one noisy field is the property.

The molecule is given (fields without a process are conditions), the property is pure noise, and its
posterior mean is the regression. So the shared objective and training loop serve unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffcore.denoisers import Context
from diffcore.domains import Grid
from diffcore.processes import Gaussian, Process
from diffcore.schedules import FlowTime
from diffcore.state import State, Times
from molgen.models.invariant import InvariantNetwork
from molgen.tasks.molecules import MoleculeTask


def property_processes(task: MoleculeTask) -> dict[str, Process]:
    """One field: the task's conditions, standardised, [B, P]."""
    return {"property": Gaussian(FlowTime(), Grid((len(task.conditions),)))}


def build_property_network(task: MoleculeTask) -> InvariantNetwork:
    """A network with fresh weights for the task's conditions; ``task.network`` is its size."""
    return InvariantNetwork(
        task.network, task.node_classes, task.pair_classes, len(task.conditions)
    )


@dataclass(frozen=True)
class PropertyDenoiser:
    """E[property | molecule]; the noisy property and its time say nothing that is not known."""

    network: InvariantNetwork

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the standardised properties of clean molecules."""
        return State({"property": self.read(state, state.mask)}, state.mask)

    def read(self, fields: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Standardised properties [B, P].

        Args:
            fields: ``pos`` and every categorical field, as classes or as probabilities.
            mask: [B, N] bool.
        """
        sizes = self.network.nodes | self.network.pairs
        pos = fields["pos"]
        told = {
            name: x.to(pos.dtype) if x.is_floating_point() else F.one_hot(x, k).to(pos.dtype)
            for name, k in sizes.items()
            for x in (fields[name],)
        }
        values: Tensor = self.network(told, pos, mask)
        return values


def physical(task: MoleculeTask, standardised: Tensor) -> Tensor:
    """Standardised properties [B, P] in the units of the data set."""
    moments = torch.tensor(list(task.conditions.values()), device=standardised.device)
    return standardised.double() * moments[:, 1].double() + moments[:, 0].double()
