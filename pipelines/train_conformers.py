"""Training of conformer models from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from diffcore.denoisers import Denoiser
    from molgen.datasets.torsions import TorsionTable
    from molgen.tasks.conformers import ConformerTask

VALIDATION = 256
"""Molecules of the validation split on which every point of the learning curve is measured."""


def train_conformers(
    recipe: str = "bound",
    max_time: str = "00:30:00",
    out: str = "runs/conformers",
    resume: bool = False,
    data: Path | None = None,
    exclude: list[Path] | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    threads: int = 0,
    seed: int = 0,
    precision: str = "32-true",
    curve_every: float = 120.0,
) -> Path:
    """Train a conformer generator and write its weights, card and learning curve.

    Args:
        recipe: Name of a recipe.
        max_time: Time budget of this run, HH:MM:SS.
        out: Folder of the checkpoint, the curve, the torsion table and the weights.
        resume: Continue from the folder's checkpoint, with the folder's torsion table.
        data: Torsion table made by an earlier run (its folder's torsions.safetensors); by default
            it is made from the component dictionary.
        exclude: Files or folders of test sets: ligands whose InChIKey skeleton occurs in them are
            not trained on.
        accelerator: cpu, gpu or auto.
        devices: Processes or devices a node.
        nodes: Number of nodes.
        threads: Threads a process, 0 for torch's own choice.
        seed: Of weights, order and noise.
        precision: 32-true or bf16-mixed.
        curve_every: Seconds between points of the learning curve.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: A file cannot be read.
        OutputError: The folder holds a training run already.
    """
    import torch

    from diffcore import training
    from molgen.models.torsion import TorsionNetwork
    from molgen.recipes_conformers import recipe as find
    from molgen.tasks.conformers import ConformerDenoiser, TorsionBatches
    from molgen.weights.files import write_model
    from pipelines.runs import effort, folder_for, loader_of, plot_curve, rank_of, seconds, seeded

    chosen, budget = find(recipe), training.Budget(seconds(max_time))
    _check(accelerator, devices, nodes, threads)
    folder = folder_for(out, resume)
    if threads:
        torch.set_num_threads(threads)
    table = torsion_table(folder, data, exclude or [], resume)
    task = chosen.task
    process = task.process()
    network = seeded(task.build, seed)
    module = training.Diffusion(
        network,
        lambda net: ConformerDenoiser(cast(TorsionNetwork, net), process),
        task.processes(),
        chosen.objective,
        training.Optimisation(**chosen.optimisation, seed=seed),
        budget,
    )
    batches = TorsionBatches(
        table,
        table.split_indices("train"),
        task,
        chosen.batch,
        seed,
        rank_of(devices, nodes),
        devices * nodes,
        start=lambda: module.global_step,
    )
    loader = loader_of(batches, seed)
    run = training.Run(
        folder,
        budget.seconds,
        resume,
        accelerator,
        devices,
        nodes,
        precision,
        curve_every=curve_every,
    )
    training.fit(module, loader, run, probe(task, table, seed))
    card = {
        "kind": "conformers",
        "name": recipe,
        "data": table.card,
        "recipe": {
            "name": recipe,
            "batch": chosen.batch,
            **training.describe(chosen.objective, module.optimisation),
        },
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    path = folder / f"{recipe}.safetensors"
    if module.global_rank == 0:
        write_model(path, module.averaged.state_dict(), card)
        plot_curve(folder / "curve.csv", folder / "curve.png")
    return path


def _check(accelerator: str, devices: int, nodes: int, threads: int) -> None:
    if accelerator not in ("cpu", "gpu", "auto"):
        raise ConfigError(f"accelerator: expected one of cpu, gpu, auto, got {accelerator!r}")
    for name, value, low in (("devices", devices, 1), ("nodes", nodes, 1), ("threads", threads, 0)):
        if value < low:
            raise ConfigError(f"{name}: expected {low} or more, got {value}")


def torsion_table(
    folder: Path, data: Path | None, exclude: list[Path], resume: bool = False
) -> TorsionTable:
    """The run's torsion table: the given one, the folder's own, or a new one made there."""
    from molgen.datasets import components, torsions
    from molgen.datasets.exclusion import skeletons_in

    own = folder / "torsions.safetensors"
    if data is not None:
        return torsions.TorsionTable.load(data)
    if resume and own.exists():
        return torsions.TorsionTable.load(own)
    test = skeletons_in(exclude)
    table = torsions.build(components.excluded(components.load(), set(test.skeletons)))
    table.card["excluded_from"] = [
        {"path": "/".join(path.parts[-2:]), "molecules": n, "unreadable": bad}
        for path, n, bad in test.counts
    ]
    table.save(own)
    return table


def probe(
    task: ConformerTask, table: TorsionTable, seed: int
) -> Callable[[Denoiser], dict[str, float]] | None:
    """Cross-entropy of validation torsions in nats, above the uniform density's, at three times."""
    import math

    import torch

    from diffcore import random
    from diffcore.state import State

    rows = table.split_indices("validation")[:VALIDATION]
    if not len(rows):
        return None
    process = task.process()
    clean = task.encode(table.batch(rows))

    def score(denoiser: Denoiser) -> dict[str, float]:
        found: dict[str, Any] = {}
        for t in (1.0, 0.7, 0.4):
            times = torch.full((clean.rows,), t)
            noisy = process.forward(
                clean["torsion"], times, clean.mask, random.generator(seed, 2, int(10 * t))
            )
            with torch.inference_mode():
                state = State({**clean.fields, "torsion": noisy}, clean.mask)
                predicted = denoiser(state, {"torsion": times}, {})
            loss = process.loss(predicted["torsion"], clean["torsion"], clean.mask)
            found[f"validation_{t}"] = float(loss.mean()) - math.log(process.bins)
        return found

    return score
