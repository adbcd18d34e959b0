"""Reading a trained denoiser: a bound on the log-likelihood, and the diffusion classifier.

Both measure how well the denoiser undoes noise. The bound is that of the chain which `ancestral`
sampling runs on a time grid with K intervals: a valid bound for every K, and for many intervals the
continuous-time one (Kingma et al. 2021, VDM; Campbell et al. 2022 for classes). Intervals are
drawn, so that its cost does not depend on K.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffcore.denoisers import Context, Denoiser
from diffcore.errors import ConfigError
from diffcore.evidence import PARTS, Reading, dimensions_of, log_snr_grid
from diffcore.processes import Categorical, Gaussian, Process
from diffcore.state import State


@dataclass(frozen=True)
class Bound:
    """A lower bound on log p(x) of every row, estimated with random noise.

    Attributes:
        nats: the bound [B], nats; an unbiased estimate.
        error: its standard error [B] over independent repeats.
        fields: each field's share of ``nats`` [B].
        parts: ``prior`` (what the last noise level still tells), ``diffusion`` (the steps between)
            and ``decoder`` (the last step to the data) [B] each, summed over fields.
        dimensions: independent numbers and classes in a row [B].
    """

    nats: Tensor
    error: Tensor
    fields: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]
    dimensions: Tensor

    @property
    def bits_per_dim(self) -> Tensor:
        """-log2 p(x) a dimension, at most; [B]."""
        return -self.nats / (math.log(2) * self.dimensions)

    @property
    def bits_error(self) -> Tensor:
        """Standard error of `bits_per_dim` [B]."""
        return self.error / (math.log(2) * self.dimensions)


def bound(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    clean: State,
    rng: torch.Generator,
    *,
    draws: int = 8,
    repeats: int = 4,
    grid: Tensor | None = None,
    bins: Mapping[str, float] | None = None,
    given: tuple[str, ...] = (),
    context: Context | None = None,
    batch: int = 256,
) -> Bound:
    """Evidence lower bound of clean rows, log p(x) >= nats.

    Every row needs ``repeats * (draws + 1)`` network evaluations. Parts:

    - prior: -KL(q(x_1 | x_0) || prior).
    - diffusion: -sum_k KL(q(x_s | x_t, x_0) || p(x_s | x_t)) over the grid's intervals, in which t
      is stratified (one random offset for all strata of a repeat; VDM, appendix I.1).
    - decoder: at the grid's last time. A Gaussian field has the density
      N(x_0; x0_hat, (sigma / alpha)^2) on its degrees of freedom, in its own units; with ``bins``
      the probability of a bin around x_0 under it. A categorical field has log p(x_0 | x_t), the
      reverse step to time 0.

    Self-conditioning is switched off: the chain that is bounded has none.

    Args:
        denoiser: ``(state, times, context) -> clean state``.
        processes: one per field, `Gaussian` or `Categorical`.
        clean: the data; fields without a process are conditions.
        rng: one generator.
        draws: strata of a repeat.
        repeats: independent repeats, from which the standard error comes.
        grid: times from 1 down to a last one above 0, for all fields; `log_snr_grid` by default.
            With as many draws as intervals every interval is taken once: the full sum.
        bins: width of the bins of a continuous field whose data are discrete (levels of grey).
        given: clean fields whose likelihood is not asked for: log p(rest | given).
        context: what else the denoiser is told; one value for all rows.
        batch: rows of a network call.

    Raises:
        ConfigError: an option is outside what is allowed, or a field of another kind of process.
    """
    free = _free(processes, given)
    grid = log_snr_grid(free) if grid is None else grid.double()
    _check_grid(grid, draws, repeats, batch)
    reading = Reading(denoiser, processes, free, grid, dict(bins or {}), dict(context or {}))
    totals = [reading.once(clean, rng, draws, batch) for _ in range(repeats)]
    fields = {n: torch.stack([one.sum(1)[:, k] for one in totals]) for k, n in enumerate(free)}
    each = torch.stack([one.sum((1, 2)) for one in totals])
    spread = (
        each.std(0) / math.sqrt(repeats) if repeats > 1 else torch.full_like(each[0], torch.nan)
    )
    mean = torch.stack(totals).mean(0)
    parts = {name: mean[:, k].sum(1) for k, name in enumerate(PARTS)}
    dimensions = torch.stack([dimensions_of(p, clean.mask) for p in free.values()]).sum(0)
    return Bound(each.mean(0), spread, {n: x.mean(0) for n, x in fields.items()}, parts, dimensions)


def classify(
    denoiser: Denoiser,
    processes: Mapping[str, Process],
    clean: State,
    hypotheses: Sequence[Mapping[str, Tensor]],
    rng: torch.Generator,
    *,
    draws: int = 16,
    grid: Tensor | None = None,
    log_prior: Tensor | None = None,
    weighting: str = "bound",
    context: Context | None = None,
    batch: int = 256,
) -> Tensor:
    """Which hypothesis explains a row best: the diffusion classifier (Li et al. 2023).

    A conditional denoiser is asked to undo the same noise under every hypothesis; the same times
    and noise for all of them, so that only differences count. Needs ``draws`` evaluations a row and
    hypothesis.

    Args:
        denoiser: conditional.
        processes: one per field.
        clean: the data [B].
        hypotheses: C mappings of field -> value [1, ...], which are put into every row: conditions,
            or clean fields with a process (their own likelihood is then not part of the evidence).
        rng: one generator.
        draws: noisy copies of a row, times stratified.
        grid: as for `bound`.
        log_prior: of the hypotheses [C]; equal by default.
        weighting: ``bound``: differences of the evidence lower bound, an estimate of Bayes'
            posterior; ``uniform``: the mean loss of the noise or of the classes over times even in
            log-SNR, times the number of dimensions (their eq. 6).
        context: what else the denoiser is told.
        batch: rows of a network call.

    Returns:
        Log-posterior [B, C].

    Raises:
        ConfigError: an option is outside what is allowed.
    """
    if not hypotheses or weighting not in ("bound", "uniform"):
        raise ConfigError(
            "expected one hypothesis or more and the weighting bound or uniform, "
            f"got {len(hypotheses)} and {weighting!r}"
        )
    given = tuple(n for n in hypotheses[0] if n in processes)
    free = _free(processes, given)
    grid = log_snr_grid(free) if grid is None else grid.double()
    _check_grid(grid, draws, 1, batch)
    reading = Reading(denoiser, processes, free, grid, {}, dict(context or {}))
    told = [_tell(clean, one, hypotheses[0]) for one in hypotheses]
    log_prior = torch.zeros(len(told)) if log_prior is None else log_prior
    if log_prior.shape != (len(told),):
        raise ConfigError(f"log_prior: expected {len(told)} numbers, got {tuple(log_prior.shape)}")
    evidence = reading.compare(told, rng, draws, batch, weighting == "uniform")
    return (evidence + log_prior.to(evidence)).log_softmax(-1)


def _tell(clean: State, fields: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> State:
    if set(fields) != set(first):
        raise ConfigError(f"hypotheses: expected fields {sorted(first)}, got {sorted(fields)}")
    for name, value in fields.items():
        if value.dim() < 1 or value.shape[0] != 1:
            raise ConfigError(f"hypothesis {name!r}: expected [1, ...], got {tuple(value.shape)}")
    device = clean.mask.device
    return clean.replace(
        **{n: v.to(device).expand(clean.rows, *v.shape[1:]) for n, v in fields.items()}
    )


def _free(processes: Mapping[str, Process], given: tuple[str, ...]) -> dict[str, Process]:
    free = {n: p for n, p in processes.items() if n not in given}
    if not free or set(given) - set(processes):
        known = ", ".join(processes)
        raise ConfigError(f"given fields: expected some of {known}, not all, got {list(given)}")
    for name, process in free.items():
        if not isinstance(process, Gaussian | Categorical):
            kind = type(process).__name__
            raise ConfigError(f"{name}: no bound for a {kind}, only for Gaussian and Categorical")
    return free


def _check_grid(grid: Tensor, draws: int, repeats: int, batch: int) -> None:
    falls = grid.dim() == 1 and len(grid) > 1 and bool((grid.diff() < 0).all())
    if not falls or float(grid[0]) != 1 or not float(grid[-1]) > 0:
        raise ConfigError("expected a time grid that falls from 1 to a last time above 0")
    if min(draws, repeats, batch) < 1:
        raise ConfigError(
            f"expected draws, repeats and batch of at least 1, got {draws}, {repeats}, {batch}"
        )
