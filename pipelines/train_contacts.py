"""Training of a contact potential from the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diffcore.errors import ConfigError

SHOWN = {
    "salt bridge": ("N cation", "O acid"),
    "hydrogen bond to the backbone": ("O carbonyl", "N backbone"),
    "hydroxyl to the backbone": ("O hydroxyl", "O backbone"),
    "aromatic to aromatic": ("C aromatic", "C aromatic"),
    "aliphatic to aliphatic": ("C sp3", "C aliphatic"),
    "like charges": ("O acid", "O acid"),
}
"""Pairs of kinds that are drawn: what chemists would look at first."""

if TYPE_CHECKING:
    from molgen.conformers import ConformerGenerator
    from molgen.contacts.network import ContactPotential
    from molgen.datasets.contact_table import ContactTable


def train_contacts(
    complexes: Path,
    model: str = "bound",
    exclude: list[Path] | None = None,
    pieces: int = 150,
    max_time: str = "00:10:00",
    out: str = "runs/contacts",
    resume: bool = False,
    threads: int = 0,
    batch: int = 32,
    seed: int = 0,
) -> Path:
    """Train what tells a torsional model of a target: potentials of ligand and target atoms.

    Converted data stay in the output folder and are used again by later runs there.

    Args:
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand.
        model: The torsional model, by name or path.
        exclude: Files or folders of test sets: ligands whose InChIKey skeleton occurs in them are
            not trained on, nor complexes of a protein that lies in such a folder.
        pieces: Peptides taken out of every protein as further ligands of the rest.
        max_time: Time budget of the training, HH:MM:SS, without that of the conversion.
        out: Folder of the converted data, the checkpoint, the curve, a picture of some of the
            functions, and the weights.
        resume: Continue from the folder's checkpoint.
        threads: Threads of the tensor library, 0 for torch's own choice.
        batch: Ligands a batch.
        seed: Of the choice of pieces, of order and moves.

    Returns:
        Path of the weights file.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: A file cannot be read, or no complex is left.
        ModelFileError: The model is unknown, or its files are broken.
        OutputError: The folder holds a training run already.
    """
    import torch

    from diffcore import training
    from diffcore.objective import Objective
    from molgen.conformers import ConformerGenerator
    from molgen.contacts.task import ContactDenoiser, ContactTask, stream
    from molgen.weights.files import write_model
    from pipelines.runs import effort, folder_for, plot_curve, seconds, seeded

    for name, value, low in (("pieces", pieces, 0), ("batch", batch, 2), ("threads", threads, 0)):
        if value < low:
            raise ConfigError(f"--{name}: expected {low} or more, got {value}")
    budget = training.Budget(seconds(max_time))
    folder = folder_for(out, resume)
    generator = ConformerGenerator.from_pretrained(model)
    if threads:
        torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(folder, generator, complexes, exclude or [], pieces, seed)
    task = ContactTask()
    objective = Objective(weighting="uniform", self_condition=0.0, independent=0.0, align=False)
    module = training.Diffusion(
        seeded(task.build, seed),
        lambda net: ContactDenoiser(cast("ContactPotential", net)),
        task.processes(),
        objective,
        training.Optimisation(lr=2e-2, warmup=20, weight_decay=0.2, ema=0.99, seed=seed),
        budget,
    )
    run = training.Run(folder, budget.seconds, resume, accelerator="cpu", curve_every=30.0)
    training.fit(module, stream(table, task, seed, batch), run)
    card = {
        "kind": "contacts",
        "name": f"{generator.card.get('name', 'unnamed')}-contacts",
        "of": generator.card.get("sha256"),
        "data": table.card | {"rows": len(table)},
        "recipe": training.describe(objective, module.optimisation) | {"batch": batch},
        "seed": seed,
        "trained": effort(budget, module, run),
        "task": task.to_json(),
    }
    plot_curve(folder / "curve.csv", folder / "curve.png")
    plot_functions(cast("ContactPotential", module.averaged), folder / "contacts.png")
    return write_model(folder / "contacts.safetensors", module.averaged.state_dict(), card)


def plot_functions(potential: ContactPotential, picture: Path) -> None:
    """Draw the functions of the pairs `SHOWN`, where a target atom points and beside that."""
    import torch
    from matplotlib.figure import Figure

    from molgen.contacts.network import LIGAND, TARGET

    r = torch.linspace(2.0, potential.config.cutoff, 301)
    with torch.inference_mode():
        functions = potential.functions(r)
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    for axes, (name, (ligand, target)) in zip(
        figure.subplots(2, 3, sharex=True, sharey=True).flat, SHOWN.items(), strict=True
    ):
        powers = functions[:, LIGAND.index(ligand), TARGET.index(target)]
        axes.axhline(0, color="0.8", linewidth=0.8)
        for degrees, style in ((0, "-"), (60, "--"), (90, ":")):
            cos = math.cos(math.radians(degrees))
            values = sum(part * cos**k for k, part in enumerate(powers))
            axes.plot(r, values, style, color="C0", label=f"{degrees} degrees")
        axes.set(title=name, ylim=(-2, 2), xlim=(2, potential.config.cutoff))
        axes.set_xlabel(f"{ligand} to {target} / Angstrom", fontsize=8)
        axes.set_ylabel("nats", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, title="from where it points", title_fontsize=8)
    figure.savefig(picture, dpi=120)


def _table(
    folder: Path,
    generator: ConformerGenerator,
    complexes: Path,
    exclude: list[Path],
    pieces: int,
    seed: int,
) -> ContactTable:
    """The folder's converted data, or new ones made there."""
    from molgen.datasets.complexes import find_complexes
    from molgen.datasets.contact_table import ContactTable, of_complexes
    from molgen.datasets.exclusion import skeletons_in
    from pipelines.train_sidegen import proteins_in

    path = folder / "contacts-data.safetensors"
    if path.exists():
        return ContactTable.load(path)
    table = of_complexes(
        generator,
        find_complexes(complexes),
        exclude=frozenset(skeletons_in(exclude).skeletons),
        exclude_proteins=proteins_in(exclude),
        pieces=pieces,
        seed=seed,
    )
    table.save(path)
    return table
