"""Training from the command line: a recipe, a time budget, a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from diffcore.denoisers import Denoiser
    from molgen.tasks.molecules import MoleculeTask


def train_molecules(
    recipe: str = "qm9",
    max_time: str = "00:30:00",
    out: str = "runs/molecules",
    resume: bool = False,
    data: str | None = None,
    start_from: str | None = None,
    lr: float | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    threads: int = 0,
    seed: int = 0,
    precision: str = "32-true",
    curve_every: float = 300.0,
    probe: int = 100,
) -> Path:
    """Train a model of molecules and write its weights, card and learning curve.

    Args:
        recipe: name of a recipe.
        max_time: time budget of this run, HH:MM:SS.
        out: folder of the checkpoint, the curve and the weights.
        resume: continue from the folder's checkpoint.
        data: converted data file; by default the recipe's data set from the cache.
        start_from: model, by name or path, whose weights are trained further; what the recipe's
            network has beyond it starts fresh.
        lr: peak learning rate; the recipe's own if left out.
        accelerator: cpu, gpu or auto.
        devices: processes or devices a node.
        nodes: number of nodes.
        threads: threads a process, 0 for torch's own choice.
        seed: of weights, order and noise.
        precision: 32-true or bf16-mixed.
        curve_every: seconds between points of the learning curve.
        probe: molecules generated and scored for every point of the curve (0: losses only).

    Returns:
        Path of the weights file.
    """
    import torch

    from diffcore import training
    from molgen.datasets.table import MoleculeTable
    from molgen.recipes import parts_of, task_for, training_rows, with_labels
    from molgen.recipes import recipe as find
    from molgen.tasks.batches import SizeBatches
    from molgen.weights.files import write_model
    from pipelines.runs import effort, folder_for, loader_of, plot_curve, rank_of, seconds, seeded

    _check_options(accelerator, precision, {"devices": devices, "nodes": nodes}, threads, probe)
    chosen, budget = find(recipe), training.Budget(seconds(max_time))
    folder = folder_for(out, resume)
    if threads:
        torch.set_num_threads(threads)
    table = MoleculeTable.load(data) if data else _dataset(chosen.data)
    table = with_labels(table, chosen.labels)
    task = task_for(chosen, table)
    parts = parts_of(chosen, task)
    network = seeded(parts.build, seed)
    if start_from is not None:
        begin_with(network, start_from)
    settings = {**chosen.optimisation, **({} if lr is None else {"lr": lr}), "seed": seed}
    module = training.Diffusion(
        network,
        parts.denoiser,
        parts.processes,
        chosen.objective,
        training.Optimisation(**settings),
        budget,
    )
    batches = SizeBatches(
        table,
        training_rows(chosen, table),
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
    training.fit(module, loader, run, _probe(chosen.kind, task, probe, seed))
    card = {
        "kind": chosen.kind,
        "name": recipe,
        "data": {k: table.card.get(k) for k in ("name", "source", "licence", "counts")},
        "recipe": {
            "name": recipe,
            "batch": chosen.batch,
            "start_from": start_from,
            "labels": chosen.labels,
            **training.describe(chosen.objective, module.optimisation),
        },
        "seed": seed,
        "trained": effort(budget, module, run),
        "predictor": chosen.predictor,
        "task": task.to_json(),
    }
    path = folder / f"{recipe}.safetensors"
    if module.global_rank == 0:
        write_model(path, module.averaged.state_dict(), card)
        plot_curve(folder / "curve.csv", folder / "curve.png")
    return path


def begin_with(network: torch.nn.Module, name_or_path: str) -> None:
    """Fill a network with a model's weights; what only the network has stays as it is.

    Raises:
        ModelFileError: the model is unknown or broken, or has weights that do not fit.
    """
    from diffcore.checkpoint import fill_module, load_card, load_weights
    from molgen.weights.files import find_model

    path = find_model(name_or_path)
    fill_module(network, network.state_dict() | load_weights(path, load_card(path)), path)


def _check_options(
    accelerator: str, precision: str, counts: dict[str, int], threads: int, probe: int
) -> None:
    import torch

    for name, value, known in (
        ("accelerator", accelerator, ("cpu", "gpu", "auto")),
        ("precision", precision, ("32-true", "bf16-mixed")),
    ):
        if value not in known:
            raise ConfigError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
    if accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("accelerator: expected a GPU that torch can see, found none")
    for name, number in counts.items():
        if number < 1:
            raise ConfigError(f"{name}: expected at least 1, got {number}")
    for name, number in (("threads", threads), ("probe", probe)):
        if number < 0:
            raise ConfigError(f"{name}: expected 0 or more, got {number}")


def _dataset(name: str) -> Any:
    from molgen.datasets import qm9

    if name != "qm9":
        raise ConfigError(f"unknown data set {name!r}; known: qm9")
    return qm9.load()


def _probe(
    kind: str, task: MoleculeTask, number: int, seed: int
) -> Callable[[Denoiser], dict[str, float]] | None:
    """Validity of a few molecules for the learning curve, where rdkit is installed."""
    from importlib.util import find_spec

    if kind != "molecules" or not number or find_spec("rdkit") is None:
        return None

    def probe(denoiser: Denoiser) -> dict[str, float]:
        from molgen.evaluate import evaluate
        from molgen.generate import MoleculeGenerator

        generator = MoleculeGenerator(task, denoiser)
        mols = generator.sample(number, seed=seed)
        return {
            "strict_valid": evaluate(mols, reference="qm9", progress=False).value("strict_valid")
        }

    return probe
