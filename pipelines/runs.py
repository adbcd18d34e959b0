"""What every training command does the same: its time, its folder, its network, its card."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diffcore.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from diffcore.training import Budget, Diffusion, Run

T = TypeVar("T")


def seconds(text: str) -> float:
    """Seconds of ``HH:MM:SS`` or ``DD:HH:MM:SS``.

    Raises:
        ConfigError: another form, or no time at all.
    """
    if not re.fullmatch(r"(\d+:)?\d+:\d\d:\d\d", text):
        raise ConfigError(f"expected a time as HH:MM:SS, got {text!r}")
    total = 0.0
    for part, unit in zip(reversed(text.split(":")), (1, 60, 3600, 86400), strict=False):
        total += int(part) * unit
    if total <= 0:
        raise ConfigError(f"expected a time above zero, got {text!r}")
    return total


def folder_for(out: str | Path, resume: bool) -> Path:
    """The folder of a run, which holds none yet, or one that goes on.

    Raises:
        OutputError: it holds a run, and ``resume`` was not asked for.
    """
    folder = Path(out)
    if (folder / "last.ckpt").exists() and not resume:
        raise OutputError(
            f"{folder} holds a training run already; give --resume to go on or another --out"
        )
    return folder


def seeded(build: Callable[[], T], seed: int) -> T:
    """What ``build`` makes with torch's own generator at a seed; the generator stays as it was."""
    import torch

    from diffcore import random

    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(seed).get_state())
        return build()


def loader_of(batches: Iterable[Any], seed: int) -> DataLoader[Any]:
    """A loader that hands whole batches through."""
    import torch

    from diffcore import random

    return torch.utils.data.DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=lambda state: state,
        generator=random.generator(seed, 1),
    )


def rank_of(devices: int, nodes: int) -> int:
    """This process's rank before Lightning has set up (from the launcher's environment)."""
    if devices * nodes == 1:
        return 0
    node = int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", 0)))
    return int(os.environ.get("RANK", node * devices + int(os.environ.get("LOCAL_RANK", 0))))


def effort(budget: Budget, module: Diffusion, run: Run) -> dict[str, Any]:
    """Minutes, steps and machine of a run, for the card."""
    import platform

    import torch

    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU {platform.machine()}"
    )
    return {
        "minutes": round(budget.elapsed / 60, 1),
        "steps": module.global_step,
        "device": device,
        "devices": run.devices * run.nodes,
        "threads": torch.get_num_threads(),
    }


def plot_curve(table: Path, picture: Path) -> None:
    """Draw losses and probe results over time."""
    import pandas as pd
    from matplotlib.figure import Figure

    rows = pd.read_csv(table)
    losses = [c for c in rows if c not in ("minutes", "steps", "strict_valid")]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for name in losses:
        axes[0].plot(rows["minutes"], rows[name], label=name)
    axes[0].set(xlabel="minutes of training", ylabel="mean loss", yscale="log")
    axes[0].legend(frameon=False, fontsize=8)
    if "strict_valid" in rows:
        axes[1].plot(rows["minutes"], rows["strict_valid"], marker="o")
    axes[1].set(xlabel="minutes of training", ylabel="strictly valid / %", ylim=(0, 101))
    figure.savefig(picture, dpi=120)
