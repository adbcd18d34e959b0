"""Training of Cartesian conformer models with side information from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffcore.errors import ConfigError

if TYPE_CHECKING:
    from diffcore.denoisers import Denoiser
    from molgen.datasets.complex_table import ComplexTable
    from molgen.docking.structure import Structure
    from molgen.sidegen.task import SideTask

VALIDATION = 64
PRIORS = {"sidegen": "isotropic", "flow": "harmonic"}
"""Recipe -> prior."""


def train_sidegen(
    recipe: str = "sidegen",
    complexes: Path | None = None,
    exclude: list[Path] | None = None,
    ligands: int = 10_000,
    pieces: int = 0,
    max_time: str = "00:20:00",
    out: str = "runs/sidegen",
    resume: bool = False,
    accelerator: str = "auto",
    threads: int = 0,
    batch: int = 32,
    seed: int = 0,
    curve_every: float = 120.0,
) -> Path:
    """Train a Cartesian conformer model on ligands, and on complexes for what it knows of targets.

    Converted data stay in the output folder and are used again by `resume` and by later runs there.

    Args:
        recipe: sidegen (diffusion, isotropic noise) or flow (flow matching, harmonic prior).
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand; without it the
            model never sees a target.
        exclude: Files or folders of test sets: ligands whose InChIKey skeleton occurs in them are
            not trained on, nor complexes of a protein that lies in such a folder.
        ligands: Molecules drawn from the component dictionary.
        pieces: Peptides taken out of every protein of `complexes` as further ligands of the rest.
        max_time: Time budget of this run, HH:MM:SS.
        out: Folder of the checkpoint, the curve, the converted data and the weights.
        resume: Continue from the folder's checkpoint.
        accelerator: cpu, gpu or auto.
        threads: Threads a process, 0 for torch's own choice.
        batch: Ligands a batch; complexes half as many.
        seed: Of weights, order and noise.
        curve_every: Seconds between points of the learning curve.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: A file cannot be read, or no ligand is left.
        OutputError: The folder holds a training run already.
    """
    import torch

    from diffcore import training
    from diffcore.objective import Objective
    from molgen.sidegen.batches import SideBatches
    from molgen.sidegen.network import SideNetwork
    from molgen.sidegen.task import SideDenoiser
    from molgen.weights.files import write_model
    from pipelines.runs import effort, folder_for, loader_of, plot_curve, seconds, seeded

    _check(recipe, accelerator, ligands, pieces, batch, threads)
    folder = folder_for(out, resume)
    budget = training.Budget(seconds(max_time))
    if threads:
        torch.set_num_threads(threads)
    alone, bound = tables(folder, complexes, exclude or [], ligands, pieces, seed)
    task = task_of(recipe)
    network = seeded(task.build, seed)
    objective = Objective(
        weighting="clipped_snr",
        bounds=(1.0, 20.0),
        self_condition=0.0,
        independent=0.0,
        align=False,
    )
    module = training.Diffusion(
        network,
        lambda net: SideDenoiser(cast(SideNetwork, net), task),
        task.processes(),
        objective,
        training.Optimisation(lr=2e-3, warmup=200, ema=0.998, seed=seed),
        budget,
    )
    batches = SideBatches(alone, bound, task, batch, seed=seed, start=lambda: module.global_step)
    loader = loader_of(batches, seed)
    run = training.Run(folder, budget.seconds, resume, accelerator, curve_every=curve_every)
    training.fit(module, loader, run, probe(task, alone, bound, seed))
    data = {"ligands": alone.card | {"molecules": len(alone)}}
    if bound is not None:
        data["complexes"] = bound.card | {"rows": len(bound)}
    card = {
        "kind": "cartesian-conformers",
        "name": recipe,
        "data": data,
        "recipe": {
            "name": recipe,
            "batch": batch,
            **training.describe(objective, module.optimisation),
        },
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    path = folder / f"{recipe}.safetensors"
    write_model(path, module.averaged.state_dict(), card)
    plot_curve(folder / "curve.csv", folder / "curve.png")
    return path


def _check(
    recipe: str, accelerator: str, ligands: int, pieces: int, batch: int, threads: int
) -> None:
    if recipe not in PRIORS:
        raise ConfigError(f"unknown recipe {recipe!r}; known: {', '.join(PRIORS)}")
    if accelerator not in ("cpu", "gpu", "auto"):
        raise ConfigError(f"accelerator: expected one of cpu, gpu, auto, got {accelerator!r}")
    least = (("ligands", ligands, 1), ("pieces", pieces, 0), ("batch", batch, 2))
    for name, value, low in (*least, ("threads", threads, 0)):
        if value < low:
            raise ConfigError(f"{name}: expected {low} or more, got {value}")


def task_of(recipe: str) -> SideTask:
    """The task of a recipe."""
    from molgen.sidegen.task import SideTask

    prior = PRIORS[recipe]
    # whitened bonds have unit length or so
    return SideTask(prior=prior, scale=1.0 if prior == "harmonic" else 2.5)


def tables(
    folder: Path,
    complexes: Path | None,
    exclude: list[Path],
    ligands: int,
    pieces: int,
    seed: int,
) -> tuple[ComplexTable, ComplexTable | None]:
    """The folder's converted data, or new ones made there: ligands, and complexes if asked for."""
    import torch

    from diffcore import random
    from molgen.datasets import components
    from molgen.datasets.complex_table import ComplexTable, of_complexes, of_molecules
    from molgen.datasets.complexes import find_complexes
    from molgen.datasets.exclusion import skeletons_in

    own, pairs = folder / "ligands.safetensors", folder / "complexes.safetensors"
    test = skeletons_in(exclude) if not (own.exists() and pairs.exists()) else None
    if own.exists():
        alone = ComplexTable.load(own)
    else:
        assert test is not None
        known = components.excluded(components.load(), set(test.skeletons))
        rows = known.split_indices("train")
        order = torch.randperm(len(rows), generator=random.generator(seed, 7))[:ligands]
        chosen = torch.cat([rows[order], known.split_indices("validation")[: 2 * VALIDATION]])
        alone = of_molecules(known.select(chosen))
        alone.save(own)
    if complexes is None:
        return alone, None
    if pairs.exists():
        return alone, ComplexTable.load(pairs)
    assert test is not None
    bound = of_complexes(
        find_complexes(complexes),
        exclude=test.skeletons,
        exclude_proteins=proteins_in(exclude),
        pieces=pieces,
        seed=seed,
    )
    bound.save(pairs)
    return alone, bound


def proteins_in(places: list[Path]) -> list[Structure]:
    """Proteins of the complexes in folders of test sets; other places hold none."""
    from molgen.datasets.complexes import find_complexes
    from molgen.docking.structure import read_pdb

    found = []
    for place in places:
        if place.is_dir() and any(place.rglob("*.pdb")):
            found += [read_pdb(files.protein) for files in find_complexes(place)]
    return found


def probe(
    task: SideTask, alone: ComplexTable, bound: ComplexTable | None, seed: int
) -> Callable[[Denoiser], dict[str, float]] | None:
    """Mean squared error of the clean field at three times, of validation ligands."""
    import torch

    from diffcore import random
    from molgen.sidegen import batches
    from molgen.sidegen.task import FIELD

    rows = alone.split_indices("validation")[:VALIDATION]
    if not len(rows):
        return None
    clean = task.encode(batches.alone(alone.batch(rows)))
    process = task.process()

    def score(denoiser: Denoiser) -> dict[str, float]:
        found: dict[str, Any] = {}
        for t in (0.8, 0.5, 0.2):
            times = torch.full((clean.rows,), t)
            rng = random.generator(seed, 2, int(10 * t))
            noisy = clean.replace(**{FIELD: process.forward(clean[FIELD], times, clean.mask, rng)})
            with torch.inference_mode():
                predicted = denoiser(noisy, {FIELD: times}, {})
            loss = process.loss(predicted[FIELD], clean[FIELD], clean.mask)
            found[f"validation_{t}"] = float(loss.mean())
        return found

    return score
