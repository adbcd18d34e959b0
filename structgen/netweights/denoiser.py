"""The third stage: a transformer over the latents of a network's chunks, told a data set.

Without positions the chunks' order means nothing and the denoiser is equivariant to permutations of
hidden units (the alternative to alignment); with positions it knows which unit is which, for zoos
that are aligned or that started from one point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffcore.denoisers import Context, as_clean
from diffcore.processes import Process
from diffcore.state import State, Times, expand
from structgen.netweights.encoder import Attention, Feed, SetEncoder
from structgen.netweights.vae import ChunkCoder

TOLD = ("accuracy", "sparsity")
"""What may be asked of a network beside its data set."""


@dataclass(frozen=True)
class Size:
    """Size of the networks.

    Attributes:
        latent: numbers a chunk.
        width: channels of a token.
        layers: transformer layers.
        heads: of the attention.
        seeds: tokens a class.
        positions: whether hidden units are told apart.
        probes: steps of the probe, see `probes`; 0 leaves it out.
        newton: whether they are Gauss-Newton steps; the diffusion then draws how a network differs
            from where they end.
    """

    latent: int = 24
    width: int = 96
    layers: int = 3
    heads: int = 4
    seeds: int = 1
    positions: bool = True
    probes: int = 3
    newton: bool = False


class Layer(nn.Module):
    """Attention among chunks, attention to the data set, and a feed-forward network."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.own = Attention(size.width, size.width, size.heads)
        self.data = Attention(size.width, size.width, size.heads)
        self.feed = Feed(size.width, 4)
        self.shift = nn.Linear(size.width, 2 * size.width)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    def forward(self, h: Tensor, code: Tensor, mask: Tensor, told: Tensor) -> Tensor:
        """``told`` [B, E] holds the time and the conditions."""
        scale, shift = self.shift(told).unsqueeze(1).chunk(2, -1)
        h = h * (1 + scale) + shift
        h = self.own(h, h)
        h = self.data(h, code, mask.unsqueeze(1))
        out: Tensor = self.feed(h)
        return out


class WeightNetwork(nn.Module):
    """Data-set encoder and transformer.

    Args:
        size: of the networks.
        inputs: D of the weights' architecture.
        classes: C.
        chunks: N.
    """

    probe_scale: Tensor

    def __init__(self, size: Size, inputs: int, classes: int, chunks: int) -> None:
        super().__init__()
        self.size = size
        self.encoder = SetEncoder(inputs, classes, size.width, seeds=size.seeds)
        self.embed = nn.Linear(size.latent, size.width)
        probed = (size.probes + 1) * (inputs + 1 + classes) if size.probes else 0
        self.register_buffer("probe_scale", torch.ones(probed))
        self.probe: nn.Module = nn.Identity()
        if probed:
            self.probe = nn.Sequential(
                nn.Linear(probed, size.width), nn.SiLU(), nn.Linear(size.width, size.width)
            )
        own = chunks if size.positions else 2
        self.place = nn.Parameter(torch.randn(own, size.width) * 0.5)
        self.told = nn.Sequential(
            nn.Linear(9 + 2 * len(TOLD), size.width),
            nn.SiLU(),
            nn.Linear(size.width, size.width),
        )
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.latent)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def places(self, chunks: int) -> Tensor:
        """[N, E]: a row for each chunk; without positions one for all units, one for the last."""
        if self.size.positions:
            return self.place
        return torch.cat([self.place[:1].expand(chunks - 1, -1), self.place[1:]])

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        code: Tensor,
        present: Tensor,
        asked: Tensor,
        probed: Tensor | None = None,
    ) -> Tensor:
        """Velocity [B, N, Z] of noisy latents z at times t [B].

        Args:
            z: [B, N, Z].
            t: [B].
            code: of the data set [B, T, E].
            present: classes that it has [B, C].
            asked: see `TOLD` [B, 2]; NaN for what is not asked.
            probed: what the probe says of each chunk [B, N, (probes + 1) W].
        """
        t = t.to(z.dtype).unsqueeze(-1)
        waves = [torch.sin(torch.pi * k * t) for k in (0.5, 1, 2, 4)]
        waves += [torch.cos(torch.pi * k * t) for k in (0.5, 1, 2, 4)]
        given = ~asked.isnan()
        known = [asked.nan_to_num(0.0), given.to(z.dtype)]
        told = self.told(torch.cat([t, *waves, *known], -1))
        h = self.embed(z) + self.places(z.shape[1]) + told.unsqueeze(1)
        if probed is not None and self.size.probes:
            h = h + self.probe(probed / self.probe_scale)
        mask = self.encoder.token_mask(present)
        for layer in self.layers:
            h = layer(h, code, mask, told)
        out: Tensor = self.head(self.norm(h))
        return out


@dataclass(frozen=True)
class WeightDenoiser:
    """The network in the x0 convention: latents ``z``.

    The state also holds ``present`` and, as conditions, ``asked``, ``probed`` and either the rows
    ``x`` and ``y`` or their ``code``, which does not depend on the time. With a ``coder`` it
    speaks of latents relative to those of the probe's end: z - a(t) hint.
    """

    network: WeightNetwork
    processes: Mapping[str, Process]
    coder: ChunkCoder | None = None

    def __call__(self, state: State, times: Times, context: Context) -> State:
        """Predict the clean latents."""
        present = state["present"]
        code = state.get("code")
        if code is None:
            code = self.network.encoder(state["x"], state["y"], present)
        z, t, probed = state["z"], times["z"], state.get("probed")
        process = self.processes["z"]
        hint = torch.zeros_like(z)
        if self.coder is not None and probed is not None:
            hint = self.coder.end(probed).detach()
            z = z - expand(process.schedule.alpha(t), z) * hint
        raw = self.network(z, t, code, present, state["asked"], probed)
        clean = as_clean(raw.float(), z, t, process, state.mask, "v")
        return State({"z": clean + hint}, state.mask)
