"""Network weights as a diffusion task: one field of latents, and the data set as its condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffcore.domains import Nodes
from diffcore.errors import ConfigError, reading
from diffcore.objective import Term
from diffcore.processes import Gaussian, Process
from diffcore.schedules import Cosine
from diffcore.state import State, Times
from structgen.netweights.denoiser import Size, WeightDenoiser, WeightNetwork
from structgen.netweights.networks import Perceptron, architecture
from structgen.netweights.probes import probe, unrolled
from structgen.netweights.vae import ChunkCoder

ENCODINGS = ("components", "pixels")
"""How features become inputs: `encoding.fit_encoding`, or pixels from 0 to 16 as they are."""


@dataclass(frozen=True)
class WeightTask:
    """What a model of weights is made of.

    Attributes:
        net: the architecture of the networks that are generated.
        encoding: one of `ENCODINGS`.
        size: of the model's own networks.
        skill: mean and standard deviation of the accuracies in training.
        start: seed of the zoo's common starting point, where the probe begins.
    """

    net: Perceptron
    encoding: str
    size: Size = field(default_factory=Size)
    skill: tuple[float, float] = (0.0, 1.0)
    start: int = 0

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ConfigError(f"unknown encoding {self.encoding!r}; known: {', '.join(ENCODINGS)}")

    @property
    def chunks(self) -> int:
        """Hidden units and the last biases."""
        return self.net.hidden + 1

    def processes(self) -> dict[str, Process]:
        """DDPM in continuous time on the latents."""
        return {"z": Gaussian(Cosine(), Nodes((self.size.latent,)))}

    def build(self) -> Parts:
        """Fresh networks."""
        return Parts(
            ChunkCoder(self.net.token, self.size.latent),
            WeightNetwork(self.size, self.net.inputs, self.net.classes, self.chunks),
        )

    def asked(
        self, rows: int, accuracy: float | Tensor | None, sparsity: float | Tensor | None
    ) -> Tensor:
        """The conditions [rows, 2] that a network is told, NaN for what is not asked."""
        out = torch.full((rows, 2), torch.nan)
        if accuracy is not None:
            out[:, 0] = (torch.as_tensor(accuracy) - self.skill[0]) / self.skill[1]
        if sparsity is not None:
            out[:, 1] = 2 * torch.as_tensor(sparsity)
        return out

    def path(self, x: Tensor, y: Tensor, present: Tensor) -> Tensor:
        """Weights of the probe after each of its steps on rows [B, S, D]; see `unrolled`."""
        size = self.size
        return unrolled(
            self.net, x, y, present, steps=size.probes, start=self.start, newton=size.newton
        )

    def probed(self, x: Tensor, y: Tensor, present: Tensor) -> dict[str, Tensor]:
        """The field ``probed`` [B, N, ...] of rows [B, S, D], if the model wants it."""
        if not self.size.probes:
            return {}
        return {"probed": probe(self.net, self.path(x, y, present), present)}

    def denoiser(
        self, network: WeightNetwork, coder: ChunkCoder, processes: Mapping[str, Process]
    ) -> WeightDenoiser:
        """The network as the samplers and the trainer know it."""
        return WeightDenoiser(network, processes, coder if self.size.newton else None)

    def decode(self, coder: ChunkCoder, latent: Tensor, present: Tensor) -> Tensor:
        """Networks [B, P] of latents [B, N, Z]; what belongs to absent classes is zero."""
        w1, b1, w2, b2 = self.net.parts(self.net.from_tokens(coder.from_latent(latent)))
        return self.net.join(w1, b1, w2 * present.unsqueeze(2), b2 * present)

    def answers(self, coder: ChunkCoder) -> Term:
        """Cross-entropy of the decoded networks on rows ``judged_x`` [B, R, D].

        Their classes ``judged_y`` [B, R] are -1 where there is no row. The loss in the latents
        does not know which of a network's errors its answers feel; this one does.
        """

        def loss(predicted: State, clean: State, times: Times) -> Tensor:
            flat = self.decode(coder, predicted["z"], clean["present"])
            logits = self.net.logits(flat, clean["judged_x"], clean["present"])
            y = clean["judged_y"]
            each = F.cross_entropy(logits.transpose(1, 2), y, ignore_index=-1, reduction="none")
            return each.sum(1) / (y >= 0).sum(1).clamp_min(1)

        return loss

    def state(self, latent: Tensor, told: Mapping[str, Tensor]) -> State:
        """Latents [B, N, Z] with the fields that the denoiser reads."""
        mask = torch.ones(latent.shape[:2], dtype=torch.bool)
        return State({"z": latent, **told}, mask)

    def to_json(self) -> dict[str, Any]:
        """A value for the model's card."""
        return asdict(self) | {"net": self.net.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WeightTask:
        """The task of a model's card.

        Raises:
            ConfigError: keys are missing or unknown, or an architecture that is not known.
        """
        with reading("a task of network weights"):
            first, second = value["skill"]
            return cls(
                architecture(value["net"]),
                str(value["encoding"]),
                Size(**value["size"]),
                (float(first), float(second)),
                int(value["start"]),
            )


class Parts(nn.Module):
    """Everything of a model that has weights."""

    def __init__(self, coder: ChunkCoder, network: WeightNetwork) -> None:
        super().__init__()
        self.coder, self.network = coder, network
