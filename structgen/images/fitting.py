"""Train a digits network once and keep its weights in the user's cache."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from diffcore import random
from diffcore.checkpoint import fill_module, load_card, load_weights, save_weights
from diffcore.errors import ConfigError
from diffcore.objective import Objective
from diffcore.state import State
from structgen.images.digits import NETWORKS, DigitDenoiser, batches, load, processes

STEPS = {"perceptron": 6000, "unet": 1500}
"""Training steps of each network: two to four minutes of one CPU core."""

RATES = {"perceptron": 2e-3, "unet": 2e-3}
BATCH = 128
DROP = 0.15
"""Share of rows that are trained without their label."""

HOUR = 3600.0


def cache_folder() -> Path:
    """Where weights are kept: the user's cache, or the folder DESIGNLOOM_CACHE names."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("DESIGNLOOM_CACHE") or user_cache_dir("designloom")) / "digits"


class _Endless(IterableDataset[State]):
    def __init__(self, train: State, seed: int) -> None:
        self.train, self.seed = train, seed

    def __iter__(self) -> Iterator[State]:
        return batches(self.train, BATCH, self.seed)


def fitted(
    name: str = "perceptron",
    *,
    steps: int | None = None,
    seed: int = 0,
    folder: Path | None = None,
    progress: bool = True,
) -> DigitDenoiser:
    """A trained denoiser: from the cache, or trained now.

    Args:
        name: a network of `NETWORKS`.
        steps: training steps; by default those of `STEPS`.
        seed: of weights, order and noise.
        folder: where weights are kept; the user's cache by default.
        progress: show a bar while training.

    Raises:
        ConfigError: an unknown network, or a package that it needs is missing.
        OutputError: the folder cannot be written.
    """
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    steps = STEPS[name] if steps is None else steps
    if steps < 1:
        raise ConfigError(f"steps: expected at least 1, got {steps}")
    path = (folder or cache_folder()) / f"{name}-{steps}-{seed}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(seed).get_state())
        network = NETWORKS[name]()
        if not path.exists():
            _train(network, name, steps, seed, progress, path)
    fill_module(network, load_weights(path, load_card(path)), path)
    return DigitDenoiser(network.eval().requires_grad_(False))


def _train(
    network: torch.nn.Module, name: str, steps: int, seed: int, progress: bool, path: Path
) -> None:
    from diffcore.training import Budget, Diffusion, Optimisation, Run, describe, fit

    objective = Objective(
        weighting="clipped_snr",
        bounds=(1.0, 5.0),
        self_condition=0.0,
        independent=0.0,
        align=False,
        condition_drop=DROP,
    )
    optimisation = Optimisation(lr=RATES[name], warmup=200, weight_decay=1e-2, seed=seed)
    budget = Budget(HOUR, steps)
    module = Diffusion(network, DigitDenoiser, processes(), objective, optimisation, budget)
    loader = DataLoader(_Endless(load()[0], seed), batch_size=None, collate_fn=_same)
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        run = Run(Path(work), HOUR, checkpoint_every=HOUR, curve_every=HOUR, progress=progress)
        fit(module, loader, run)
    card = {"name": f"digits {name}", "steps": steps, "seed": seed, "batch": BATCH}
    recipe = describe(objective, optimisation)
    save_weights(path, module.averaged.state_dict(), card | {"recipe": recipe}, torch.float32)


def _same(batch: Any) -> Any:
    return batch
