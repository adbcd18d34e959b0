"""EQGAT-diff: an equivariant graph attention network for dense batches of molecules.

Le, Cremer, Noe, Clevert, Schuett 2024, "Navigating the design space of equivariant diffusion-based
generative models for de novo 3D molecule generation" (ICLR). Node scalars, node vectors, positions
and pair states are updated over all ordered pairs. Written for dense tensors: pair inputs that
depend on one atom only are computed per atom and broadcast, and contractions over neighbours are
matrix products.

Shapes: B molecules, N atoms, S scalar, V vector, E pair channels, H hidden channels of the pair
network.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class EqgatConfig:
    """Size of the network.

    Attributes:
        layers: message-passing layers.
        scalars: scalar channels of a node, S.
        vectors: vector channels of a node, V.
        pairs: channels of a pair, E.
        hidden: hidden channels of the pair network, H.
        heads: attention heads; ``heads == scalars`` is the per-channel attention of the paper.
        radial: Gaussian radial basis functions of the distance, beside the distance itself; the
            paper has none.
        reach: radius up to which they are spread, in units of the positions.
        residual: False is the paper's layer: features are replaced by their normalised values
            before every update, and the mean length of a layer's position steps is a learned
            constant. True keeps residual streams and normalises only what an update reads, and
            position steps are proportional to the noise level (see docs/molecules.md).
        cross: add the cross product of the vectors of a pair, which sees chirality.
    """

    layers: int = 12
    scalars: int = 256
    vectors: int = 256
    pairs: int = 128
    hidden: int = 256
    heads: int = 256
    radial: int = 0
    reach: float = 4.0
    residual: bool = False
    cross: bool = False


PAPER = EqgatConfig()
"""12 layers, 256 scalars, 256 vectors, 128 pair channels: 12.5 M parameters (published: 12.3 M)."""

SMALL = EqgatConfig(
    layers=6, scalars=256, vectors=16, pairs=32, hidden=64, heads=16, radial=16, residual=True
)
"""A CPU-sized network of the same code."""


def _gate(x: Tensor, mask: Tensor) -> Tensor:
    return x * mask.reshape(mask.shape + (1,) * (x.dim() - mask.dim()))


class MoleculeNorm(nn.Module):
    """Per-molecule layer norm of scalars [B, N, S], root-mean-square norm of vectors [B,N,3,V]."""

    def __init__(self, scalars: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(scalars))
        self.bias = nn.Parameter(torch.zeros(scalars))
        self.eps = eps

    def forward(self, s: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise; ``mask`` [B, N] is a float mask."""
        count = mask.sum(1).clamp_min(1).reshape(-1, 1, 1)
        mean = _gate(s, mask).sum(1, keepdim=True).mean(-1, keepdim=True) / count
        s = s - mean
        var = _gate(s * s, mask).sum(1, keepdim=True).mean(-1, keepdim=True) / count
        s = s * torch.rsqrt(var + self.eps) * self.weight + self.bias
        square = _gate(v.pow(2).sum(2).mean(-1), mask).sum(1).reshape(-1, 1, 1, 1)
        return s, v * torch.rsqrt(square / count.unsqueeze(-1) + self.eps)


class GatedUpdate(nn.Module):
    """Gated equivariant feed-forward of scalars and vectors (Schuett et al. 2021, PaiNN)."""

    def __init__(self, scalars: int, vectors: int) -> None:
        super().__init__()
        self.mix = nn.Linear(vectors, 2 * vectors, bias=False)
        self.inner = nn.Linear(scalars + vectors, scalars)
        self.outer = nn.Linear(scalars, scalars + vectors)
        self.out = nn.Linear(vectors, vectors, bias=False)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Updates to add to s [B, N, S] and v [B, N, 3, V]."""
        for_norm, value = self.mix(v).chunk(2, -1)
        squares = for_norm.pow(2).sum(2)
        norm = torch.sqrt(squares + 1e-6)
        hidden = self.outer(F.silu(self.inner(torch.cat([s, norm], -1))))
        scalar, gate = hidden.split([s.shape[-1], v.shape[-1]], -1)
        return scalar, self.out(gate.unsqueeze(2) * value)


@dataclass(frozen=True)
class Geometry:
    """Invariants and directions of all ordered pairs (i target, j source).

    Attributes:
        invariants: [B, N, N, 2] distance and dot product, Angstrom and Angstrom^2.
        norms: [B, N, 1] distance of an atom from the centre, Angstrom.
        direction: [B, N, N, 3] (p_i - p_j) / (1 + d).
    """

    invariants: Tensor
    norms: Tensor
    direction: Tensor

    @classmethod
    def of(cls, p: Tensor) -> "Geometry":
        """From positions [B, N, 3]."""
        difference = p.unsqueeze(2) - p.unsqueeze(1)
        distance = torch.sqrt(difference.pow(2).sum(-1, keepdim=True) + 1e-6)
        dot = (p.unsqueeze(2) * p.unsqueeze(1)).sum(-1, keepdim=True)
        norms = torch.sqrt(p.pow(2).sum(-1, keepdim=True) + 1e-6)
        return cls(torch.cat([distance, dot], -1), norms, difference / (1 + distance))


def radial_basis(invariants: Tensor, config: EqgatConfig) -> Tensor:
    """Append Gaussians of the distance: [..., 2] -> [..., 2 + radial]."""
    if not config.radial:
        return invariants
    width = config.reach / config.radial
    centres = width * torch.arange(config.radial, device=invariants.device, dtype=invariants.dtype)
    basis = torch.exp(-0.5 * ((invariants[..., :1] - centres) / width) ** 2)
    return torch.cat([invariants, basis], -1)


class EqgatLayer(nn.Module):
    """One message-passing layer over all ordered pairs."""

    def __init__(self, config: EqgatConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        gates = 2 + c.cross
        self.sizes = [c.heads, c.pairs, 1, *([c.vectors] * gates)]
        self.norm = MoleculeNorm(c.scalars)
        self.norm_update = MoleculeNorm(c.scalars) if c.residual else None
        self.edge_in = nn.Linear(c.pairs, c.pairs)
        self.target = nn.Linear(c.scalars + 1, c.hidden)
        self.source = nn.Linear(c.scalars + 1, c.hidden, bias=False)
        self.pair = nn.Linear(c.pairs + 2 + c.radial, c.hidden, bias=False)
        self.messages = nn.Linear(c.hidden, sum(self.sizes))
        self.edge_out = nn.Linear(c.pairs, c.pairs)
        self.value = nn.Linear(c.scalars, c.scalars)
        self.vector = nn.Linear(c.vectors, c.vectors, bias=False)
        self.step = None if c.residual else nn.Parameter(torch.ones(()))
        self.update = GatedUpdate(c.scalars, c.vectors)

    def forward(
        self,
        s: Tensor,
        v: Tensor,
        p: Tensor,
        e: Tensor,
        masks: tuple[Tensor, Tensor, Tensor],
        level: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One update of scalars [B,N,S], vectors [B,N,3,V], positions [B,N,3] and pairs [B,N,N,E].

        ``masks``: nodes [B, N], pairs without the diagonal [B, N, N], both float, and 1 /
        neighbours [B]. ``level``: noise level of the positions [B, 1, 1].
        """
        node, pair, inverse = masks
        geometry = Geometry.of(p)
        invariants = radial_basis(geometry.invariants, self.config).to(e.dtype)
        before = s, v, e
        s, v = self.norm(s, v, node)
        e = self.edge_in(e)
        s_norm = torch.cat([s, geometry.norms], -1)
        hidden = self.pair(torch.cat([e, invariants], -1))
        hidden = hidden + self.target(s_norm).unsqueeze(2) + self.source(s_norm).unsqueeze(1)
        logits, edge, along, *gates = self.messages(F.silu(hidden)).split(self.sizes, -1)

        direction = geometry.direction * pair.unsqueeze(-1)
        mean = inverse.reshape(-1, 1, 1)
        moved = (direction * along).sum(2) * mean
        moved = moved * level if self.step is None else self.step * self._unit(moved, node)
        has_neighbours = (node.sum(1) > 1).to(s.dtype)
        ds = self._attend(logits, self.value(s), pair) * has_neighbours.reshape(-1, 1, 1)
        dv = self._vectors(gates, direction, v, pair) * mean.unsqueeze(-1)
        e = self.edge_out(F.silu(edge + e))
        if self.norm_update is None:
            s, v = s + ds, v + dv
            ds, dv = self.update(s, v)
        else:
            s, v, e = before[0] + ds, before[1] + dv, before[2] + e
            ds, dv = self.update(*self.norm_update(s, v, node))
        return _gate(s + ds, node), _gate(v + dv, node), p + _gate(moved, node), e

    def _attend(self, logits: Tensor, value: Tensor, pair: Tensor) -> Tensor:
        """Softmax over sources j, per head; [B,N,N,heads] and [B,N,S] -> [B,N,S]."""
        b, n, size = value.shape
        off = (pair - 1).unsqueeze(1).to(logits.dtype) * 1e9
        weights = torch.softmax(logits.permute(0, 3, 1, 2) + off, -1).to(value.dtype)
        value = value.reshape(b, n, self.config.heads, -1).permute(0, 2, 1, 3)
        return torch.matmul(weights, value).permute(0, 2, 1, 3).reshape(b, n, size)

    def _vectors(self, gates: list[Tensor], direction: Tensor, v: Tensor, pair: Tensor) -> Tensor:
        """Sum over sources of gated directions, source vectors and cross products: [B,N,3,V]."""
        along = torch.matmul(direction.transpose(2, 3), gates[0])
        mask = pair.unsqueeze(-1).to(gates[1].dtype)
        channels_first = self.vector(v).permute(0, 3, 1, 2)
        carried = torch.matmul((gates[1] * mask).permute(0, 3, 1, 2), channels_first)
        out = along + carried.permute(0, 2, 3, 1)
        if self.config.cross:
            summed = torch.matmul((gates[2] * mask).permute(0, 3, 1, 2), v.permute(0, 3, 1, 2))
            out = out + torch.linalg.cross(v, summed.permute(0, 2, 3, 1), dim=2)
        return out

    def _unit(self, moved: Tensor, node: Tensor) -> Tensor:
        """The paper's position norm: the mean length of a molecule's steps becomes one."""
        length = torch.sqrt(moved.pow(2).sum(-1, keepdim=True) + 1e-12)
        count = node.sum(1).clamp_min(1).reshape(-1, 1, 1)
        return moved / (_gate(length, node).sum(1, keepdim=True) / count + 1e-2)


class Eqgat(nn.Module):
    """The network: embeddings, layers and heads.

    Args:
        config: the size.
        nodes: channels of each categorical node field, e.g. ``{"atom": 5, "charge": 3}``.
        pairs: channels of each categorical pair field, e.g. ``{"bond": 4}``.
        times: names of the fields whose time the network sees.
        conditions: numbers given for the whole molecule, P; NaN for one that is not given.
    """

    def __init__(
        self,
        config: EqgatConfig,
        nodes: Mapping[str, int],
        pairs: Mapping[str, int],
        times: tuple[str, ...],
        conditions: int = 0,
    ) -> None:
        super().__init__()
        c = config
        self.config, self.nodes, self.pairs, self.times = c, dict(nodes), dict(pairs), tuple(times)
        n_node, n_pair = sum(self.nodes.values()), sum(self.pairs.values())
        features = 4 * len(self.times)
        self.embed_node = nn.Sequential(
            nn.Linear(2 * n_node + features + 1, c.scalars),
            nn.SiLU(),
            nn.Linear(c.scalars, c.scalars),
        )
        self.embed_condition = _condition_network(conditions, c.scalars) if conditions else None
        self.embed_pair = nn.Sequential(
            nn.Linear(2 * n_pair + features + 2 + c.radial, c.pairs),
            nn.SiLU(),
            nn.Linear(c.pairs, c.pairs),
        )
        self.embed_vector = nn.Linear(1, c.vectors, bias=False)
        self.layers = nn.ModuleList(EqgatLayer(c) for _ in range(c.layers))
        self.final_norm = MoleculeNorm(c.scalars)
        self.head_position = nn.Linear(c.vectors, 1, bias=False)
        self.head_node = nn.Sequential(
            nn.Linear(c.scalars, c.scalars), nn.SiLU(), nn.Linear(c.scalars, n_node)
        )
        self.head_sum = nn.Linear(c.scalars, c.pairs)
        self.head_pair = nn.Sequential(
            nn.Linear(c.pairs + 1 + c.radial, c.pairs), nn.SiLU(), nn.Linear(c.pairs, n_pair)
        )

    def forward(
        self,
        fields: Mapping[str, Tensor],
        pos: Tensor,
        times: Mapping[str, Tensor],
        mask: Tensor,
        previous: Mapping[str, Tensor] | None = None,
        level: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Predict every field.

        Args:
            fields: categorical fields as one-hot or probabilities: [B, N, K] and, symmetric, [B, N,
                N, K].
            pos: positions [B, N, 3], Angstrom, centred.
            times: [B] per field.
            mask: [B, N] bool.
            previous: last prediction of every field (``pos`` included) for self-conditioning, or
                None.
            level: noise level of the positions in [0, 1], [B]; one by default.
            condition: [B, P], NaN where nothing is given; None for nothing at all.

        Returns:
            ``pos`` [B, N, 3] (not yet centred) and logits of every categorical field.
        """
        b, n = mask.shape
        node = mask.to(pos.dtype)
        eye = torch.eye(n, device=pos.device, dtype=pos.dtype)
        pair = node.unsqueeze(1) * node.unsqueeze(2) * (1 - eye)
        masks = (node, pair, 1 / (node.sum(1) - 1).clamp_min(1))
        t = torch.stack([times[name] for name in self.times], -1).to(pos.dtype)
        t = torch.cat(
            [t, torch.sin(torch.pi * t), torch.cos(torch.pi * t), torch.log(t + 1e-3)], -1
        )
        level = torch.ones_like(t[:, 0]) if level is None else level.to(pos.dtype)
        level = level.reshape(-1, 1, 1)

        last_pos = pos if previous is None else previous["pos"]
        last = {k: torch.zeros_like(v) for k, v in fields.items()} if previous is None else previous
        size = (node.sum(1) / 30).reshape(b, 1, 1).expand(b, n, 1)
        s = self.embed_node(
            torch.cat(
                [
                    *(fields[k] for k in self.nodes),
                    *(last[k] for k in self.nodes),
                    _spread(t, (b, n)),
                    size,
                ],
                -1,
            )
        )
        if self.embed_condition is not None and condition is not None:
            given = ~condition.isnan()
            told = torch.cat([condition.nan_to_num(0.0), given.to(s.dtype)], -1)
            # nothing given is exactly nothing added: the unconditional network stays as it is
            s = s + _spread(self.embed_condition(told) * given.any(-1, keepdim=True), (b, n))
        invariants = radial_basis(Geometry.of(last_pos).invariants, self.config)
        inputs = [*(fields[k] for k in self.pairs), *(last[k] for k in self.pairs)]
        e = self.embed_pair(torch.cat([*inputs, _spread(t, (b, n, n)), invariants], -1))
        v = self.embed_vector((last_pos - pos).unsqueeze(-1))
        p = pos
        for layer in self.layers:
            s, v, p, e = layer(s, v, p, e, masks, level)

        s, v = self.final_norm(s, v, node)
        last_move = self.head_position(v).squeeze(-1)
        out = {"pos": p + (last_move * level if self.config.residual else last_move)}
        classes = self.head_node(s).split(list(self.nodes.values()), -1)
        out |= dict(zip(self.nodes, classes, strict=True))
        shared = self.head_sum(s)
        symmetric = 0.5 * (e + e.transpose(1, 2)) + shared.unsqueeze(1) + shared.unsqueeze(2)
        distance = radial_basis(Geometry.of(out["pos"]).invariants, self.config)
        distance = torch.cat([distance[..., :1], distance[..., 2:]], -1)
        bonds = self.head_pair(torch.cat([F.silu(symmetric), distance], -1))
        bonds = bonds.split(list(self.pairs.values()), -1)
        return out | dict(zip(self.pairs, bonds, strict=True))


def _condition_network(conditions: int, scalars: int) -> nn.Sequential:
    """2 P -> S, zero at the start: a network that was trained without conditions is unchanged."""
    last = nn.Linear(scalars, scalars)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(2 * conditions, scalars), nn.SiLU(), last)


def _spread(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[B, F] -> [*shape, F]."""
    return t.reshape(t.shape[0], *([1] * (len(shape) - 1)), t.shape[-1]).expand(*shape, t.shape[-1])
