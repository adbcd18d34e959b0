"""What side information is worth: one network with and without its target, messages, guidance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.datasets.complexes import ComplexFiles
    from molgen.docking.pocket import Pocket
    from molgen.sidegen.generator import CartesianGenerator

Draw = Callable[["Chem.Mol", "Pocket", int, int], "Chem.Mol"]
"""(prepared molecule, pocket, conformers, seed) -> molecule with conformers."""


def bench_sidegen(
    complexes: Path,
    model: str = "sidegen",
    chemistry: str | None = None,
    number: int | None = None,
    conformers: int = 5,
    steps: int = 25,
    scale: float = 1.0,
    seed: int = 0,
    output: Path | None = None,
    force: bool = False,
    threads: int = 1,
) -> str:
    """Compare a Cartesian model with itself without target, messages or guidance, and with ETKDG.

    All variants are the same weights: the network was trained to do without what it is not shown. A
    complex for which one variant fails counts for none, and is listed.

    Args:
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand.
        model: Name of a shipped model, or path of a model file.
        chemistry: Energy model for the guided variants: a name (sidegen-energy) or a file.
        number: Only so many complexes, evenly spread.
        conformers: Of each ligand and variant.
        steps: Evaluations of the network for a conformer.
        scale: Factor of the energy's gradient.
        seed: Of all conformers.
        output: .csv file of the figures of every complex.
        force: Overwrite `output`.
        threads: Threads of the tensor library.

    Returns:
        A table: median over complexes of the mean and of the smallest aligned RMSD, and of the mean
        RMSD in place.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: There is no complex, or none could be judged.
        OutputError: `output` exists without `force`.
    """
    import torch
    from tqdm import tqdm

    from molgen.datasets.complexes import find_complexes
    from molgen.sidegen.generator import CartesianGenerator
    from pipelines.bench_redocking import _spread
    from pipelines.conformers import write_rows

    for name, value in (("number", number), ("conformers", conformers), ("steps", steps)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if output is not None and output.exists() and not force:
        raise OutputError(f"{output} exists: expected --force to overwrite it")
    torch.set_num_threads(threads)
    draws = variants(CartesianGenerator.from_pretrained(model), chemistry, steps, scale)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for files in tqdm(_spread(find_complexes(complexes), number), desc="bench", unit="complex"):
        try:
            rows.append({"name": files.name, **measured(files, draws, conformers, seed)})
        except DataError as error:
            left_out.append(f"{files.name}: {error}")
    if not rows:
        raise DataError(f"{complexes}: no complex could be judged: {'; '.join(left_out[:3])}")
    if output is not None:
        write_rows(output, rows, tuple(rows[0]))
    return "\n".join([*table(rows, list(draws)), *left_out])


def variants(
    generator: CartesianGenerator, chemistry: str | None, steps: int, scale: float
) -> dict[str, Draw]:
    """The ways to draw, by name."""
    from molgen.sidegen.generator import Guidance
    from pipelines.bench_conformers import etkdg

    def draw(sees: str, guidance: Guidance | None = None) -> Draw:
        return lambda mol, pocket, n, seed: generator.sample(
            mol, n, pocket=pocket, sees=sees, steps=steps, seed=seed, guidance=guidance
        )

    found: dict[str, Draw] = {"ETKDGv3": lambda mol, pocket, n, seed: etkdg(mol, n, seed)}
    found |= {
        "no target": draw("none"),
        "no messages": draw("pooled"),
        "messages": draw("messages"),
    }
    if chemistry is not None:
        from molgen.sidegen.chemistry import chemical_energy, read_chemistry

        energy = chemical_energy(read_chemistry(chemistry))
        found["messages and guidance"] = draw("messages", Guidance(energy, scale))
        found["guidance, no target"] = draw("none", Guidance(energy, scale))
    return found


def measured(files: ComplexFiles, draws: dict[str, Draw], n: int, seed: int) -> dict[str, float]:
    """RMSD of all variants for one complex, and what share of conformers had the marked stereo."""
    from rdkit import rdBase

    from molgen.docking.pocket import read_pocket
    from molgen.embedding import prepared
    from molgen.evaluate.rmsd import aligned_rmsd, in_place_rmsd

    pocket = read_pocket(files.protein, files.ligand)
    known = pocket.reference
    assert known is not None
    fresh = prepared(known)
    found: dict[str, float] = {}
    for name, draw in draws.items():
        with rdBase.BlockLogs():
            made = draw(fresh, pocket, n, seed)
        rmsd = aligned_rmsd(made, known)
        found |= {
            f"{name}: mean": float(rmsd.mean()),
            f"{name}: best": float(rmsd.min()),
            f"{name}: in place": float(in_place_rmsd(made, known).mean()),
            f"{name}: stereo": made.GetNumConformers() / n,
        }
    return found


def table(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    """Medians over complexes, as a table of lines."""
    import numpy as np

    heads = ("variant", "aligned RMSD / A", "best / A", "in place / A", "with marked stereo")
    lines = [f"{len(rows)} complexes, medians", "| " + " | ".join(heads) + " |"]
    lines.append("| --- " * len(heads) + "|")
    for name in names:
        mean, best, place = (
            float(np.median([row[f"{name}: {what}"] for row in rows]))
            for what in ("mean", "best", "in place")
        )
        stereo = float(np.mean([row[f"{name}: stereo"] for row in rows]))
        where = "" if name == "ETKDGv3" else f"{place:.2f}"
        lines.append(f"| {name} | {mean:.3f} | {best:.3f} | {where} | {100 * stereo:.0f} % |")
    base, told = (np.median([r[f"{n}: mean"] for r in rows]) for n in ("no target", "messages"))
    lines.append(f"messages against no target, aligned RMSD: {100 * (told / base - 1):+.1f} %")
    return lines
