"""One training loop for every domain, on Lightning: CPU, GPU or several nodes unchanged.

Importing this module imports Lightning (seconds): import it only where training starts.
"""

import copy
import csv
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from tqdm import tqdm

from diffcore import random
from diffcore.denoisers import Denoiser
from diffcore.errors import ModelFileError
from diffcore.objective import Objective, Term, denoising_loss
from diffcore.processes import Process
from diffcore.state import State

Probe = Callable[[Denoiser], dict[str, float]]


@dataclass(frozen=True)
class Optimisation:
    """How weights are fitted.

    Attributes:
        lr: peak learning rate of AdamW.
        final: share of the peak that is left at the end of the time budget (cosine in elapsed
            time).
        warmup: steps of linear warm-up.
        weight_decay: of AdamW.
        clip: gradient norm limit.
        ema: decay of the averaged weights a step; ramps up as (1 + step) / (10 + step).
        seed: of the weights' noise, times and self-conditioning.
    """

    lr: float = 2e-3
    final: float = 0.02
    warmup: int = 300
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0


class Budget(Callback):
    """Ends training when the time is up, or a number of steps made; survives restarts.

    With ``steps`` the learning rate follows the steps, so that the weights do not depend on how
    fast the machine is.
    """

    def __init__(self, seconds: float, steps: int | None = None) -> None:
        self.seconds, self.steps, self.before = seconds, steps, 0.0
        self.start: float | None = None
        self.made = 0

    @property
    def elapsed(self) -> float:
        """Seconds trained, earlier runs included."""
        return self.before + (0.0 if self.start is None else time.monotonic() - self.start)

    @property
    def fraction(self) -> float:
        """Share of the whole budget (earlier runs and this one) that is used."""
        if self.steps:
            return min(1.0, self.made / self.steps)
        return min(1.0, self.elapsed / (self.before + self.seconds))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.start, self.made = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Stop on all ranks when the time is up or the steps are made."""
        self.made = trainer.global_step
        enough = self.steps is not None and self.made >= self.steps
        done = enough or self.elapsed - self.before >= self.seconds
        trainer.should_stop = bool(trainer.strategy.reduce_boolean_decision(done, all=False))

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the count."""
        self.before = float(state["elapsed"])


class Curve(Callback):
    """Appends a row of losses and probe results to a CSV file every few minutes."""

    def __init__(self, path: Path, budget: Budget, every: float, probe: Probe | None) -> None:
        self.path, self.budget, self.every, self.probe = path, budget, every, probe
        self.last: float | None = None
        self.sums: dict[str, Tensor | float] = {}
        self.count = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Collect losses; write a row when it is time."""
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()
        self.count += 1
        self.last = self.budget.elapsed if self.last is None else self.last
        if self.budget.elapsed - self.last >= self.every:
            self.write(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A last row."""
        if self.count:
            self.write(trainer, pl_module)

    def write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Probe the averaged weights and append the row."""
        self.last = self.budget.elapsed
        row: dict[str, float] = {
            "minutes": round(self.budget.elapsed / 60, 3),
            "steps": float(trainer.global_step),
        }
        row |= {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        if not trainer.is_global_zero:
            return
        if self.probe is not None and isinstance(pl_module, Diffusion):
            row |= self.probe(pl_module.make_denoiser(pl_module.averaged))
        names = list(row)
        if self.path.exists():
            with self.path.open(newline="") as stream:
                names = next(csv.reader(stream), names)
        with self.path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, fieldnames=names, restval="", extrasaction="ignore")
            if not stream.tell():
                writer.writeheader()
            writer.writerow(row)


class Diffusion(L.LightningModule):
    """A network, its moving average, and one loss."""

    def __init__(
        self,
        network: nn.Module,
        make_denoiser: Callable[[nn.Module], Denoiser],
        processes: Mapping[str, Process],
        objective: Objective,
        optimisation: Optimisation,
        budget: Budget,
        terms: Mapping[str, Term] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.make_denoiser, self.processes = make_denoiser, processes
        self.objective, self.optimisation, self.budget = objective, optimisation, budget
        self.terms = terms

    def training_step(self, batch: State, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch; its randomness is a function of seed, rank and step."""
        rng = random.generator(
            self.optimisation.seed, self.global_rank, self.global_step, device=self.device
        )
        denoiser = self.make_denoiser(self.network)
        loss, parts = denoising_loss(
            denoiser, self.processes, batch, self.objective, rng, terms=self.terms
        )
        return {"loss": loss, **parts}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        o = self.optimisation
        return torch.optim.AdamW(
            self.network.parameters(), lr=o.lr, weight_decay=o.weight_decay, betas=(0.9, 0.99)
        )

    def on_train_batch_start(self, batch: State, batch_idx: int) -> None:
        """Set the learning rate: warm-up in steps, cosine in time."""
        o = self.optimisation
        warm = min(1.0, (self.global_step + 1) / max(1, o.warmup))
        cosine = o.final + (1 - o.final) * 0.5 * (1 + math.cos(math.pi * self.budget.fraction))
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        for group in optimizer.param_groups:
            group["lr"] = o.lr * warm * cosine

    def on_train_batch_end(self, outputs: Any, batch: State, batch_idx: int) -> None:
        """Move the averaged weights."""
        decay = min(self.optimisation.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay
            )

    def transfer_batch_to_device(
        self, batch: State, device: torch.device, dataloader_idx: int
    ) -> State:
        """States move as a whole."""
        return batch.to(device)


@dataclass(frozen=True)
class Run:
    """Where and how long to train.

    Attributes:
        folder: holds ``last.ckpt`` and ``curve.csv``.
        seconds: time budget of this run.
        resume: continue from ``last.ckpt`` of the folder.
        accelerator: Lightning's: ``cpu``, ``gpu``, ``auto``.
        devices: processes or devices a node.
        nodes: number of nodes.
        precision: Lightning's: ``32-true``, ``bf16-mixed``.
        checkpoint_every: seconds between checkpoints.
        curve_every: seconds between rows of the learning curve.
        progress: show a progress bar.
    """

    folder: Path
    seconds: float
    resume: bool = False
    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    precision: Any = "32-true"
    checkpoint_every: float = 120.0
    curve_every: float = 300.0
    progress: bool = True


class TimeBar(Callback):
    """The progress bar of a run that is limited by time: seconds done and left, steps and loss."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.bar: tqdm[Any] | None = None
        self.moved = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar on the first process."""
        if trainer.is_global_zero:
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
            self.bar = tqdm(total=self.budget.seconds, desc="train", bar_format=form, mininterval=1)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Move it."""
        if self.bar is None or time.monotonic() - self.moved < 1:
            return
        self.moved = time.monotonic()
        done = min(self.budget.seconds, self.budget.elapsed - self.budget.before)
        self.bar.set_postfix(
            steps=trainer.global_step, loss=f"{float(outputs['loss'].detach()):.3f}", refresh=False
        )
        self.bar.update(done - self.bar.n)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close it."""
        if self.bar is not None:
            self.bar.close()


class WholeFile(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: a kill leaves the old one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write and move."""
        part = Path(path).with_suffix(".part")
        super().save_checkpoint(checkpoint, part, storage_options)
        os.replace(part, path)


def _check_checkpoint(path: Path) -> Path:
    try:
        TorchCheckpointIO().load_checkpoint(path, weights_only=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelFileError(f"{path} is not a readable checkpoint: {reason}") from error
    return path


def fit(module: Diffusion, batches: Any, run: Run, probe: Probe | None = None) -> Path:
    """Train within the time budget and return the checkpoint's path.

    Args:
        module: what to train; its budget is the run's.
        batches: an iterable of clean `State` batches (a DataLoader).
        run: folder, time, hardware.
        probe: scores the averaged denoiser for the learning curve, on the first process.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(
            logging.WARNING
        )  # hints about other products, not progress
    run.folder.mkdir(parents=True, exist_ok=True)
    last = run.folder / "last.ckpt"
    saver = ModelCheckpoint(
        run.folder,
        filename="last",
        train_time_interval=timedelta(seconds=run.checkpoint_every),
        save_top_k=1,
        enable_version_counter=False,
    )
    curve = Curve(run.folder / "curve.csv", module.budget, run.curve_every, probe)
    trainer = L.Trainer(
        accelerator=run.accelerator,
        devices=run.devices,
        num_nodes=run.nodes,
        precision=run.precision,
        max_epochs=-1,
        gradient_clip_val=module.optimisation.clip,
        logger=False,
        enable_model_summary=False,
        callbacks=[
            module.budget,
            saver,
            curve,
            *([TimeBar(module.budget)] if run.progress else []),
        ],
        enable_progress_bar=False,
        use_distributed_sampler=False,
        plugins=[WholeFile()],
        strategy="ddp" if run.devices * run.nodes > 1 else "auto",
    )
    resumed = _check_checkpoint(last) if run.resume and last.exists() else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, batches, ckpt_path=resumed, weights_only=True if resumed else None)
    trainer.save_checkpoint(last)
    return last


def describe(objective: Objective, optimisation: Optimisation) -> dict[str, Any]:
    """The recipe as a value for the card."""
    return {"objective": asdict(objective), "optimisation": asdict(optimisation)}
