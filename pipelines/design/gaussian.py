"""Gaussian processes and an acquisition of BoTorch for the strategy `surrogate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcore.errors import ConfigError
from pipelines.design.history import History, Scored

COMPONENTS = 12
"""Principal components that a process sees at most; also no more than a third of the rows."""

MAX_ROWS = 400
"""The processes learn from the latest, no more than so many: their cost grows with the cube."""

SAMPLES = 128
"""Of the quasi-Monte-Carlo estimate of the improvement."""

Rows = NDArray[np.float64]


def botorch_choice(
    rows: Sequence[Scored],
    seen: NDArray[np.float32],
    new: NDArray[np.float32],
    history: History,
    count: int,
    seed: int,
) -> list[int]:
    """New objects by log expected (hypervolume) improvement, one after the other.

    Each choice is believed at its mean before the next: the cost of choosing many at once grows
    with two to their number.

    One Gaussian process (Matern 5/2) for each loss on the leading principal components of the
    features; qLogEI for one goal, qLogEHVI for several (Ament et al. 2023, Daulton et al. 2020).
    Rows whose constraints do not hold teach nothing here.

    Args:
        rows: what was tried, with values.
        seen: their features, [N, F].
        new: features of the new objects, [P, F].
        history: of the campaign: its front and reference.
        count: how many are chosen.
        seed: of the quasi-random numbers.

    Returns:
        Indices of new objects, the best first.

    Raises:
        ConfigError: BoTorch is not installed.
    """
    try:
        import torch
        from botorch.sampling.normal import SobolQMCNormalSampler
    except ImportError as error:
        raise ConfigError(
            f'acquisition botorch needs the package {error.name}: pip install "designloom[botorch]"'
        ) from None
    able = [i for i, row in enumerate(rows) if row.losses is not None][-MAX_ROWS:]
    losses = np.array([rows[i].losses for i in able], dtype=np.float64)
    known, pool = components(seen[able].astype(np.float64), new.astype(np.float64))
    centre, scale = losses.mean(0), losses.std(0) + 1e-9
    gain = torch.as_tensor(-(losses - centre) / scale)  # BoTorch maximises
    worst = torch.as_tensor(-(np.asarray(history.reference) - centre) / scale)
    model, choices = _fitted(torch.as_tensor(known), gain), torch.as_tensor(pool)
    chosen: list[int] = []
    with torch.no_grad():
        expected = model.posterior(choices).mean
        for step in range(min(count, len(pool))):
            sampler = SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed + step)
            value = _acquisition(model, gain, worst, sampler)(choices.unsqueeze(1))
            value[chosen] = -torch.inf
            chosen.append(int(value.argmax()))
            gain = torch.cat([gain, expected[chosen[-1:]]])
    return chosen


def components(seen: Rows, new: Rows) -> tuple[Rows, Rows]:
    """Features of seen and new objects on the principal axes of the seen, scaled to [0, 1].

    Args:
        seen: [N, F], N at least 2.
        new: [P, F].

    Returns:
        [N, C] and [P, C], C at most `COMPONENTS` and N / 3; new objects may lie outside [0, 1].
    """
    mean, spread = seen.mean(0), seen.std(0)
    live = spread > 0
    if not live.any():
        return np.zeros((len(seen), 1)), np.zeros((len(new), 1))
    a, b = ((x[:, live] - mean[live]) / spread[live] for x in (seen, new))
    axes = np.linalg.svd(a, full_matrices=False)[2]
    axes = axes[: max(1, min(COMPONENTS, len(seen) // 3, len(axes)))]
    a, b = a @ axes.T, b @ axes.T
    low, size = a.min(0), np.ptp(a, 0) + 1e-9
    return (a - low) / size, (b - low) / size


def _fitted(known: Any, gain: Any) -> Any:
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.gp_regression import SingleTaskGP
    from botorch.models.model_list_gp_regression import ModelListGP
    from gpytorch.mlls import SumMarginalLogLikelihood

    models = [SingleTaskGP(known, gain[:, [k]]) for k in range(gain.shape[1])]
    model = ModelListGP(*models)
    fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
    return model


def _acquisition(model: Any, gain: Any, worst: Any, sampler: Any) -> Any:
    from botorch.acquisition.logei import qLogExpectedImprovement
    from botorch.acquisition.multi_objective.logei import qLogExpectedHypervolumeImprovement
    from botorch.utils.multi_objective.box_decompositions.non_dominated import (
        NondominatedPartitioning,
    )

    if gain.shape[1] == 1:
        return qLogExpectedImprovement(model, best_f=gain.max(), sampler=sampler)
    boxes = NondominatedPartitioning(ref_point=worst, Y=gain)
    return qLogExpectedHypervolumeImprovement(model, worst, boxes, sampler=sampler)
