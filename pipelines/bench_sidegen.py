"""What side information is worth: one network with and without its target, messages, guidance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError
from pipelines.streamed import StreamedTable, check_output, finished

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.datasets.complexes import ComplexFiles
    from molgen.docking.pocket import Pocket
    from molgen.sidegen.generator import CartesianGenerator

Draw = Callable[["Chem.Mol", "Pocket", int, int], "Chem.Mol"]
"""(prepared molecule, pocket, conformers, seed) -> molecule with conformers."""

FIGURES = ("first", "mean", "best", "in place", "returned")
"""Of every variant: aligned RMSD of the first, the mean and the best conformer, RMSD of the first
in place, Angstrom, and the share of conformers that could be drawn with the marked stereo."""


def bench_sidegen(
    complexes: Path,
    model: str = "sidegen",
    chemistry: str | None = None,
    number: int | None = None,
    conformers: int = 5,
    steps: int = 25,
    scale: float = 1.0,
    place: bool = False,
    exhaustiveness: int = 4,
    seed: int = 0,
    output: Path = Path("sidegen.csv"),
    resume: bool = False,
    force: bool = False,
    threads: int = 1,
) -> str:
    """Compare a Cartesian model with itself without target, messages or guidance, and with ETKDG.

    All variants are the same weights: the network was trained to do without what it is not shown. A
    complex for which one variant fails counts for none, and is listed. Every finished complex is in
    the table at once, with its figures or the reason why there are none.

    Args:
        complexes: Folder of PDB and SDF files, or a .csv of name, protein, ligand.
        model: Name of a shipped model, or path of a model file.
        chemistry: Energy model for the guided variants: a name (sidegen-energy) or a file.
        number: Only so many complexes, evenly spread.
        conformers: Of each ligand and variant.
        steps: Evaluations of the network for a conformer.
        scale: Factor of the energy's gradient.
        place: Add variants that are relaxed by MMFF94s, and docked from there by AutoDock Vina.
        exhaustiveness: Searches of Vina, with `place`.
        seed: Of all conformers.
        output: .csv file of the figures of every complex.
        resume: Go on with an interrupted run.
        force: Overwrite `output`.
        threads: Threads of the tensor library.

    Returns:
        A table: median over complexes of the aligned RMSD of the first conformer, of the mean and
        the smallest of all, and of the first one's RMSD in place.

    Raises:
        ConfigError: An option is outside what is allowed, or Vina is not installed.
        DataError: There is no complex, or none could be judged.
        OutputError: `output` exists without `force` or `resume`, or cannot be written.
    """
    import torch
    from tqdm import tqdm

    from molgen.datasets.complexes import find_complexes
    from molgen.docking.vina import check_installed
    from molgen.sidegen.generator import CartesianGenerator
    from pipelines.bench_redocking import spread

    for name, value in (
        ("number", number),
        ("conformers", conformers),
        ("steps", steps),
        ("exhaustiveness", exhaustiveness),
    ):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    check_output(output, resume=resume, force=force)
    torch.set_num_threads(threads)
    generator = CartesianGenerator.from_pretrained(model)
    draws = variants(generator, chemistry, steps, scale)
    if place:
        check_installed()
        draws |= placed_variants(generator, steps, exhaustiveness)
    same = {
        "model": model,
        "chemistry": chemistry or "",
        "conformers": conformers,
        "steps": steps,
        "scale": scale,
        "place": place,
        "exhaustiveness": exhaustiveness,
        "seed": seed,
    }
    columns = ("name", *same, *(f"{name}: {what}" for name in draws for what in FIGURES), "reason")
    rows = finished(output, same, columns) if resume else []
    known = {row["name"] for row in rows}
    found = [one for one in spread(find_complexes(complexes), number) if one.name not in known]
    with StreamedTable(output, columns, append=bool(rows)) as file:
        for files in tqdm(found, desc="bench", unit="complex"):
            row = {"name": files.name, **same, "reason": ""}
            try:
                row |= measured(files, draws, conformers, seed)
            except DataError as error:
                row["reason"] = " ".join(str(error).split())
            rows.append(file.write(row))
    judged = [row for row in rows if not row["reason"]]
    left_out = [f"{row['name']}: {row['reason']}" for row in rows if row["reason"]]
    if not judged:
        raise DataError(f"{complexes}: no complex could be judged: {'; '.join(left_out[:3])}")
    return "\n".join([*table(judged, list(draws)), *left_out, f"written: {output}"])


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


def placed_variants(
    generator: CartesianGenerator, steps: int, exhaustiveness: int
) -> dict[str, Draw]:
    """Conformers relaxed, and docked after that: what a target is worth to place and torsions."""
    from molgen.docking.ensemble import posed
    from molgen.embedding import positions_of
    from molgen.sidegen.poses import DRAWN, poses, relaxed
    from pipelines.bench_conformers import etkdg

    def docked(sees: str) -> Draw:
        return lambda mol, pocket, n, seed: poses(
            generator,
            mol,
            n,
            pocket=pocket,
            sees=sees,
            steps=steps,
            seed=seed,
            exhaustiveness=exhaustiveness,
        )

    def etkdg_docked(mol: Chem.Mol, pocket: Pocket, n: int, seed: int) -> Chem.Mol:
        samples = positions_of(etkdg(mol, DRAWN, seed))
        return posed(mol, pocket, samples, n, exhaustiveness=exhaustiveness, seed=seed)

    return {
        "ETKDGv3, placed": etkdg_docked,
        "no target, relaxed": lambda mol, pocket, n, seed: relaxed(
            generator.sample(mol, n, pocket=pocket, sees="none", steps=steps, seed=seed)
        ),
        "no target, placed": docked("none"),
        "messages, placed": docked("messages"),
    }


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
            f"{name}: first": float(rmsd[0]),
            f"{name}: mean": float(rmsd.mean()),
            f"{name}: best": float(rmsd.min()),
            f"{name}: in place": float(in_place_rmsd(made, known)[0]),
            f"{name}: returned": min(1.0, made.GetNumConformers() / n),
        }
    return found


def table(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    """Medians over complexes, as a table of lines."""
    import numpy as np

    heads = ("variant", "aligned RMSD / A", "mean", "best", "in place / A", "returned")
    lines = [f"{len(rows)} complexes, medians", "| " + " | ".join(heads) + " |"]
    lines.append("| --- " * len(heads) + "|")
    for name in names:
        first, mean, best, place = (
            float(np.median([float(row[f"{name}: {what}"]) for row in rows]))
            for what in FIGURES[:4]
        )
        returned = float(np.mean([float(row[f"{name}: returned"]) for row in rows]))
        where = f"{place:.2f}" if _in_frame(name) else ""
        figures = f"{first:.3f} | {mean:.3f} | {best:.3f} | {where} | {100 * returned:.0f} %"
        lines.append(f"| {name} | {figures} |")
    return [*lines, *(_against(rows, name) for name in names if name.startswith("messages"))]


def _in_frame(name: str) -> bool:
    """Whether conformers of a variant lie in the target's frame on purpose."""
    return name.startswith("messages") or name.endswith("placed")


def _against(rows: list[dict[str, Any]], name: str) -> str:
    """The gain over the same network without its target, first conformers and means."""
    import numpy as np

    changes = []
    for what in ("first", "mean"):
        base, told = (
            float(np.median([float(row[f"{n}: {what}"]) for row in rows]))
            for n in ("no target", name)
        )
        changes.append(f"{what} {100 * (told / base - 1):+.1f} %")
    return f"{name} against no target, aligned RMSD: {', '.join(changes)}"
