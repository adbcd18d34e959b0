"""What each switch of the training recipe does: short trainings that differ in one switch each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from molgen.datasets.table import MoleculeTable
    from molgen.recipes import Recipe

Change = Callable[["Recipe"], "Recipe"]


def _objective(**options: Any) -> Change:
    return lambda recipe: dataclasses.replace(
        recipe, objective=dataclasses.replace(recipe.objective, **options)
    )


def _network(**options: Any) -> Change:
    return lambda recipe: dataclasses.replace(
        recipe, network=dataclasses.replace(recipe.network, **options)
    )


SWITCHES: dict[str, Change] = {
    "recipe": lambda recipe: recipe,
    "without self-conditioning": _objective(self_condition=0.0),
    "without aligned noise": _objective(align=False),
    "with distortion 0.1": _objective(distort=0.1),
    "with uniform weights": _objective(weighting="uniform", field_bounds={}),
    "with the paper's layers": _network(residual=False),
    "without radial basis": _network(radial=0),
}


def bench_switches(
    data: Path | None = None,
    steps: int = 400,
    number: int = 200,
    only: list[str] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> str:
    """Train the recipe for a few steps with one switch changed at a time, and score what comes out.

    Short trainings rank switches by how fast they learn, which is not the same as how far they get.

    Args:
        data: Converted data file; by default QM9 from the cache.
        steps: Training steps of every variant.
        number: Molecules generated and scored for every variant.
        only: Names of single switches.
        seed: Of weights, order, noise and molecules; the same for all variants.
        threads: Threads of the tensor library.

    Returns:
        A table: CPU seconds, atom stability, connected and strictly valid molecules in per cent.

    Raises:
        ConfigError: An unknown switch, or a number below 1.
    """
    import torch

    from molgen.datasets import qm9
    from molgen.datasets.table import MoleculeTable

    for name, value in (("steps", steps), ("number", number), ("threads", threads)):
        if value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    chosen = list(SWITCHES) if only is None else only
    for name in chosen:
        if name not in SWITCHES:
            raise ConfigError(f"unknown switch {name!r}; known: {', '.join(SWITCHES)}")
    torch.set_num_threads(threads)
    table = MoleculeTable.load(data) if data else qm9.load()
    lines = [f"| after {steps} steps | CPU s | atoms stable | connected | strictly valid |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name in chosen:
        row = _measure(name, SWITCHES[name], table, steps, number, seed)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _measure(
    name: str, change: Change, table: MoleculeTable, steps: int, number: int, seed: int
) -> list[str]:
    from molgen.evaluate import evaluate
    from molgen.generate import MoleculeGenerator
    from molgen.recipes import recipe, task_for
    from molgen.tasks.molecules import MoleculeDenoiser

    chosen = change(recipe("qm9"))
    task = task_for(chosen, table)
    network, seconds = _train(name, chosen, task, table, steps, seed)
    generator = MoleculeGenerator(task, MoleculeDenoiser(network, task.processes(), task.predicts))
    scored = evaluate(generator.sample(number, seed=seed, progress=False), progress=False)
    shares = ("atom_stability", "connected", "strict_valid")
    return [name, f"{seconds:.0f}", *(f"{scored.value(metric):.1f} %" for metric in shares)]


def _train(
    name: str, chosen: Recipe, task: Any, table: MoleculeTable, steps: int, seed: int
) -> tuple[Any, float]:
    import torch
    from tqdm import tqdm

    from diffcore import random
    from diffcore.objective import denoising_loss
    from molgen.tasks.batches import SizeBatches
    from molgen.tasks.molecules import MoleculeDenoiser

    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(random.generator(seed).get_state())
        network = task.build()
    processes = task.processes()
    denoiser = MoleculeDenoiser(network, processes, task.predicts)
    optimiser = torch.optim.AdamW(network.parameters(), lr=chosen.optimisation["lr"])
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, chosen.optimisation["lr"], total_steps=steps + 1, pct_start=0.2
    )
    batches = iter(SizeBatches(table, table.split_indices("train"), task, chosen.batch, seed))
    start = time.process_time()
    for step in tqdm(range(steps), desc=name):
        rng = random.generator(seed, step)
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = denoising_loss(denoiser, processes, next(batches), chosen.objective, rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        plan.step()
    return network.requires_grad_(False), time.process_time() - start
