"""Properties of a whole molecule from atoms, bonds and positions: layers of EQGAT, pooled."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from molgen.models.eqgat import EqgatConfig, EqgatLayer, Geometry, MoleculeNorm, radial_basis

SMALL_PROPERTIES = EqgatConfig(
    layers=4, scalars=128, vectors=16, pairs=24, hidden=48, heads=8, radial=24, residual=True
)
"""About 0.5 M parameters."""


class InvariantNetwork(nn.Module):
    """Numbers that do not change when the molecule is moved, turned or mirrored.

    Args:
        config: the size; see `EqgatConfig`.
        nodes: classes of each categorical node field.
        pairs: classes of each categorical pair field.
        outputs: numbers a molecule, P.
    """

    def __init__(
        self,
        config: EqgatConfig,
        nodes: Mapping[str, int],
        pairs: Mapping[str, int],
        outputs: int,
    ) -> None:
        super().__init__()
        c = config
        self.config, self.nodes, self.pairs = c, dict(nodes), dict(pairs)
        self.embed_node = nn.Linear(sum(self.nodes.values()), c.scalars)
        self.embed_pair = nn.Sequential(
            nn.Linear(sum(self.pairs.values()) + 2 + c.radial, c.pairs),
            nn.SiLU(),
            nn.Linear(c.pairs, c.pairs),
        )
        self.layers = nn.ModuleList(EqgatLayer(c) for _ in range(c.layers))
        self.final_norm = MoleculeNorm(c.scalars)
        self.per_atom = nn.Sequential(nn.Linear(c.scalars, c.scalars), nn.SiLU())
        self.readout = nn.Sequential(
            nn.Linear(2 * c.scalars + 1, c.scalars), nn.SiLU(), nn.Linear(c.scalars, outputs)
        )

    def forward(self, fields: Mapping[str, Tensor], pos: Tensor, mask: Tensor) -> Tensor:
        """Predict.

        Args:
            fields: categorical fields, one-hot: [B, N, K] and, symmetric, [B, N, N, K].
            pos: centred positions [B, N, 3].
            mask: [B, N] bool.

        Returns:
            [B, P].
        """
        b, n = mask.shape
        node = mask.to(pos.dtype)
        eye = torch.eye(n, device=pos.device, dtype=pos.dtype)
        pair = node.unsqueeze(1) * node.unsqueeze(2) * (1 - eye)
        count = node.sum(1, keepdim=True)
        masks = (node, pair, 1 / (count.squeeze(1) - 1).clamp_min(1))
        still = pos.new_zeros(b, 1, 1)  # a noise level of zero: no layer moves an atom
        s = self.embed_node(torch.cat([fields[k] for k in self.nodes], -1)) * node.unsqueeze(-1)
        invariants = radial_basis(Geometry.of(pos).invariants, self.config)
        e = self.embed_pair(torch.cat([*(fields[k] for k in self.pairs), invariants], -1))
        v = pos.new_zeros(b, n, 3, self.config.vectors)
        for layer in self.layers:
            s, v, _, e = layer(s, v, pos, e, masks, still)
        s, v = self.final_norm(s, v, node)
        atoms = self.per_atom(s) * node.unsqueeze(-1)
        total = atoms.sum(1)
        whole = torch.cat([total / count.clamp_min(1), total / 18, count / 18], -1)
        out: Tensor = self.readout(whole)
        return out
