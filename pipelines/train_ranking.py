"""Training of a ranking of conformers from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from molgen.datasets.table import MoleculeTable


def train_ranking(
    model: str = "bound",
    exclude: list[Path] | None = None,
    molecules: int = 12000,
    max_time: str = "00:10:00",
    out: str = "runs/ranking",
    resume: bool = False,
    workers: int = 2,
    threads: int = 0,
    seed: int = 0,
) -> Path:
    """Train what ranks a torsional model's conformers, on ligands of the component dictionary.

    Args:
        model: The model whose conformers are ranked, by name or path.
        exclude: Files or folders of test sets: their ligands are not trained on.
        molecules: Ligands; the model draws conformers of each, ten ligands a second and core.
        max_time: Time budget of the training, HH:MM:SS, without that of the conformers.
        out: Folder of the conformers, the checkpoint, the curve and the weights.
        resume: Continue from the folder's checkpoint. Conformers are always gone on with.
        workers: Processes that draw conformers.
        threads: Threads of the tensor library, 0 for torch's own choice.
        seed: Of the choice of ligands, of weights, order and noise.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: A file cannot be read.
        OutputError: The folder holds a training run already.
    """
    import torch

    from diffcore import training
    from diffcore.objective import Objective
    from molgen.conformers import ConformerGenerator
    from molgen.datasets import pools
    from molgen.models.ranking import PairRanking
    from molgen.ranking import RankingDenoiser, RankingTask, stream
    from molgen.weights.files import write_model
    from pipelines.runs import effort, folder_for, plot_curve, seconds, seeded

    for name, value, low in (("molecules", molecules, 10), ("workers", workers, 1)):
        if value < low:
            raise ConfigError(f"--{name}: expected {low} or more, got {value}")
    budget = training.Budget(seconds(max_time))
    folder = folder_for(out, resume)
    generator = ConformerGenerator.from_pretrained(model)
    if threads:
        torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    table = pools.build(ligands(exclude or [], seed), model, folder, molecules, workers)
    task = RankingTask()
    network = generator.denoiser.network
    objective = Objective(weighting="uniform", self_condition=0.0, independent=0.0, align=False)
    module = training.Diffusion(
        seeded(task.build, seed),
        lambda net: RankingDenoiser(cast(PairRanking, net), network),
        task.processes(),
        objective,
        training.Optimisation(lr=2e-3, warmup=100, weight_decay=1e-2, ema=0.99, seed=seed),
        budget,
    )
    run = training.Run(folder, budget.seconds, resume, accelerator="cpu", curve_every=30.0)
    training.fit(module, stream(table, task, seed), run)
    card = {
        "kind": "ranking",
        "name": f"{generator.card.get('name', 'unnamed')}-ranking",
        "of": generator.card.get("sha256"),
        "data": table.card,
        "recipe": training.describe(objective, module.optimisation),
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    plot_curve(folder / "curve.csv", folder / "curve.png")
    return write_model(folder / "ranking.safetensors", module.averaged.state_dict(), card)


def ligands(exclude: list[Path], seed: int) -> MoleculeTable:
    """Ligands of the dictionary's training part in a random order, without those of test sets."""
    import torch

    from diffcore import random
    from molgen.datasets import components
    from molgen.datasets.exclusion import skeletons_in

    known = components.excluded(components.load(), set(skeletons_in(exclude).skeletons))
    rows = known.split_indices("train")
    return known.select(rows[torch.randperm(len(rows), generator=random.generator(seed, 9))])
