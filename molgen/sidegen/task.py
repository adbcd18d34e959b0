"""The Cartesian conformer as a diffusion task: isotropic noise, or a harmonic prior by whitening.

With the harmonic prior (Volk et al. 2023, Jing et al. 2023; ET-Flow, Hassan et al. 2024) atoms that
are bonded start near each other: the noise has the covariance of springs along the bonds. It is
made by a change of coordinates: with L the Laplacian of the bonds and y = L^(1/2) x, white noise in
y is harmonic noise in x, and both have zero centre of mass. So the process, its samplers and the
loss are those of the shared layer as they stand; the network sees x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from diffcore.denoisers import Context
from diffcore.domains import Points
from diffcore.errors import ConfigError, reading
from diffcore.processes import Gaussian, Process
from diffcore.schedules import Cosine, FlowTime, log_snr
from diffcore.state import State, Times, expand
from molgen.sidegen.network import PATHS, SideConfig, SideNetwork

FIELD = "pos"
ENCODED = "encoded"


@dataclass(frozen=True)
class SideTask:
    """What a model is made of.

    Attributes:
        network: size of the network.
        prior: ``isotropic`` (DDPM, cosine schedule) or ``harmonic`` (flow matching).
        scale: standard deviation of the clean field, in Angstrom (isotropic) or of whitened
            coordinates.
    """

    network: SideConfig = field(default_factory=SideConfig)
    prior: str = "isotropic"
    scale: float = 2.5

    def __post_init__(self) -> None:
        """Check the prior."""
        if self.prior not in ("isotropic", "harmonic"):
            raise ConfigError(f"prior: expected isotropic or harmonic, got {self.prior!r}")

    @property
    def harmonic(self) -> bool:
        """Whether coordinates are whitened."""
        return self.prior == "harmonic"

    def process(self) -> Gaussian:
        """The positions' process."""
        return Gaussian(FlowTime() if self.harmonic else Cosine(), Points(3))

    def processes(self) -> dict[str, Process]:
        """One process."""
        return {FIELD: self.process()}

    def build(self) -> SideNetwork:
        """A network with fresh weights."""
        return SideNetwork(self.network)

    def encode(self, batch: Mapping[str, Tensor]) -> State:
        """Clean state from a padded batch; graph and target go along as fields.

        Args:
            batch: see `molgen.sidegen.data.SideTable.batch`; ``pos`` centred, Angstrom.
        """
        mask = batch["mask"]
        fields = {n: x for n, x in batch.items() if n not in ("mask", FIELD)}
        fields["path"] = paths(batch["bond"])
        if self.harmonic:
            fields["whiten"], fields["unwhiten"] = whitening(batch["bond"], mask)
        centred = Points(3).project(batch[FIELD], mask)
        fields[FIELD] = self.from_angstrom(centred, fields)
        return State(fields, mask)

    def from_angstrom(self, x: Tensor, graph: Mapping[str, Tensor]) -> Tensor:
        """The field of positions [B, N, 3]."""
        return (graph["whiten"] @ x if self.harmonic else x) / self.scale

    def to_angstrom(self, y: Tensor, graph: Mapping[str, Tensor]) -> Tensor:
        """Positions [B, N, 3] of the field."""
        return (graph["unwhiten"] @ y if self.harmonic else y) * self.scale

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SideTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown.
        """
        with reading("a task of Cartesian conformers"):
            return cls(**{**value, "network": SideConfig(**value["network"])})


def paths(bond: Tensor) -> Tensor:
    """Number of bonds between atoms [B, N, N], at most PATHS - 1, of bond classes [B, N, N]."""
    near = (bond > 0).float()
    n = bond.shape[-1]
    reached = torch.eye(n, device=bond.device).expand(bond.shape).clone()
    out = torch.full_like(bond, PATHS - 1)
    out[reached > 0] = 0
    for k in range(1, PATHS - 1):
        further = ((reached @ near + reached) > 0).float()
        out[(further > 0) & (reached == 0)] = k
        reached = further
    return out


def whitening(bond: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """L^(1/2) and its pseudo-inverse [B, N, N], for the Laplacian L of the bonds.

    Fragments without a bond between them are joined by weak springs, so that only the translation
    of the whole has no force.
    """
    near = (bond > 0).double()
    real = (mask.unsqueeze(1) & mask.unsqueeze(2)).double()
    near = near + 1e-3 * real * (1 - torch.eye(bond.shape[-1], device=bond.device))
    laplacian = torch.diag_embed(near.sum(-1)) - near
    value, vector = torch.linalg.eigh(laplacian)
    keep = value > 1e-6
    root = value.clamp_min(1e-12).sqrt() * keep
    inverse = torch.where(keep, 1 / root.clamp_min(1e-6), torch.zeros_like(root))

    def matrix(diagonal: Tensor) -> Tensor:
        full: Tensor = (vector * diagonal.unsqueeze(-2)) @ vector.mT
        return full.float()

    return matrix(root), matrix(inverse)


@dataclass(frozen=True)
class SideDenoiser:
    """The network in the x0 convention, preconditioned as in EDM (Karras et al. 2022, eq. 7).

    The clean field has unit variance: x0 = alpha x / (alpha^2 + sigma^2) + sigma / (alpha^2 +
    sigma^2)^(1/2) F.
    """

    network: SideNetwork
    task: SideTask

    def features(self, state: State, times: Times, context: Context) -> tuple[Tensor, Tensor]:
        """What the network makes of the noisy state: shifts [B, N, 3] (the field), features."""
        encoded = context.get(ENCODED)
        if encoded is None:
            encoded = self.network.encode(state, state.mask)
        process, t = self.task.process(), times[FIELD]
        alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
        seen = state[FIELD] * expand((alpha**2 + sigma**2).rsqrt(), state[FIELD]).float()
        x = self.task.to_angstrom(seen, state)
        level = 0.25 * log_snr(process.schedule, t.clamp_min(1e-3)).float().clamp(-20, 20)
        moved, h = self.network(encoded, x, level, state, state.mask)
        return self.task.from_angstrom(moved - x, state), h

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean field."""
        process, t = self.task.process(), times[FIELD]
        alpha, sigma = process.schedule.alpha(t), process.schedule.sigma(t)
        total = alpha**2 + sigma**2
        shift, _ = self.features(state, times, context)
        x = state[FIELD]
        clean = (
            expand(alpha / total, x).float() * x + expand(sigma * total.rsqrt(), x).float() * shift
        )
        return State({FIELD: process.domain.project(clean, state.mask)}, state.mask)
