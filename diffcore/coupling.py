"""Pairing noise with data: straighter paths from the prior to the data.

Permuting and rotating isotropic noise leaves its distribution unchanged; choosing both so that the
noise lies close to its sample is the equivariant optimal transport of Klein et al. 2023 and Song et
al. 2023 (EquiFM).
"""

import torch
from torch import Tensor


def rotation_onto(x: Tensor, target: Tensor) -> Tensor:
    """Rotations R [B, 3, 3] that minimise |x R^T - target| (Kabsch 1976).

    Args:
        x: centred points [B, N, 3].
        target: centred points [B, N, 3].
    """
    u, _, vt = torch.linalg.svd(torch.einsum("bni,bnj->bij", target, x))
    sign = torch.det(u @ vt)
    ones = torch.ones(*sign.shape, x.shape[-1] - 1, dtype=x.dtype, device=x.device)
    rotation: Tensor = u @ torch.diag_embed(torch.cat([ones, sign.unsqueeze(-1)], -1)) @ vt
    return rotation


def align_noise(noise: Tensor, target: Tensor, mask: Tensor, rounds: int = 1) -> Tensor:
    """Permute, then rotate, every row's noise [B, N, 3] towards the target [B, N, 3].

    Args:
        noise: centred noise, zero where ``mask`` [B, N] is false.
        target: centred positions.
        mask: real nodes; they come first in every row.
        rounds: how often the assignment and the rotation alternate.

    Returns:
        Noise of the same shape and distribution.
    """
    from scipy.optimize import linear_sum_assignment

    counts = mask.sum(1).tolist()
    for _ in range(rounds):
        cost = -torch.einsum("bik,bjk->bij", target, noise).detach().cpu().numpy()
        order = torch.arange(noise.shape[1]).repeat(noise.shape[0], 1)
        for row, n in enumerate(counts):
            order[row, :n] = torch.from_numpy(linear_sum_assignment(cost[row, :n, :n])[1])
        index = order.to(noise.device).unsqueeze(-1).expand_as(noise)
        noise = noise.gather(1, index)
        noise = noise @ rotation_onto(noise, target).transpose(1, 2)
    return noise
