"""Training of the energy models that guide SIDEGEN: chemical features of noisy conformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffcore.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from diffcore.state import State
    from molgen.datasets.chemical_table import ChemicalTable
    from molgen.sidegen.task import SideTask


def train_chemistry(
    exclude: list[Path] | None = None,
    molecules: int = 800,
    max_time: str = "00:05:00",
    out: str = "runs/chemistry",
    threads: int = 0,
    seed: int = 0,
) -> Path:
    """Train a reader of GFN2-xTB's SCF energy, gap and charges from noisy conformers.

    Args:
        exclude: Files or folders of test sets: their ligands are not trained on.
        molecules: Ligands of the component dictionary; each takes a single point of GFN2-xTB.
        max_time: Time budget of the training, HH:MM:SS.
        out: Folder of the features, the checkpoint, the curve and the weights.
        threads: Threads of the tensor library, 0 for torch's own choice.
        seed: Of weights, order and noise.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: An option is outside what is allowed, or tblite is not installed.
        DataError: A file cannot be read.
        OutputError: The folder holds a training run already.
    """
    import torch

    from diffcore import training
    from diffcore.objective import Objective
    from molgen.sidegen.chemistry import ChemicalDenoiser, ChemicalNetwork, chemical_processes
    from molgen.sidegen.task import FIELD, SideTask
    from molgen.weights.files import write_model
    from pipelines.runs import effort, seconds, seeded

    if molecules < 10:
        raise ConfigError(f"--molecules: expected 10 or more, got {molecules}")
    folder = Path(out)
    if (folder / "last.ckpt").exists():
        raise OutputError(f"{folder} holds a training run already; give another --out")
    budget = training.Budget(seconds(max_time))
    if threads:
        torch.set_num_threads(threads)
    table = features(folder, exclude or [], molecules, seed)
    task = SideTask()
    network = seeded(lambda: ChemicalNetwork(task), seed)
    objective = Objective(
        weights={FIELD: 0.0, "charge": 5.0},
        weighting="uniform",
        self_condition=0.0,
        independent=0.0,
        align=False,
    )
    module = training.Diffusion(
        network,
        lambda net: ChemicalDenoiser(cast(ChemicalNetwork, net), task),
        chemical_processes(task),
        objective,
        training.Optimisation(lr=2e-3, warmup=100, ema=0.99, seed=seed),
        budget,
    )
    run = training.Run(folder, budget.seconds, accelerator="cpu", curve_every=30.0)
    training.fit(module, stream(table, task, seed), run)
    card = {
        "kind": "chemistry",
        "name": "energy",
        "data": table.ligands.card | {"molecules": len(table.ligands)},
        "recipe": training.describe(objective, module.optimisation),
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    return write_model(folder / "energy.safetensors", module.averaged.state_dict(), card)


def features(folder: Path, exclude: list[Path], molecules: int, seed: int) -> ChemicalTable:
    """The folder's features, or new ones made there."""
    import torch

    from diffcore import random
    from molgen.datasets import components
    from molgen.datasets.chemical_table import ChemicalTable, chemical_table
    from molgen.datasets.exclusion import skeletons_in

    if (folder / "chemistry.safetensors").exists():
        return ChemicalTable.load(folder)
    test = skeletons_in(exclude)
    known = components.excluded(components.load(), set(test.skeletons))
    rows = known.split_indices("train")
    order = torch.randperm(len(rows), generator=random.generator(seed, 9))[: 4 * molecules]
    table = chemical_table(known.select(rows[order]), molecules)
    folder.mkdir(parents=True, exist_ok=True)
    table.save(folder)
    return table


def stream(table: ChemicalTable, task: SideTask, seed: int, size: int = 32) -> Iterator[State]:
    """Endless batches of random ligands."""
    import torch

    from diffcore import random
    from molgen.sidegen.batches import alone

    step = 0
    while True:
        rng = random.generator(seed, 3, step)
        rows = torch.randperm(len(table.ligands), generator=rng)[:size]
        yield task.encode(alone(table.batch(rows)))
        step += 1
