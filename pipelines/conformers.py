"""Conformers into a file: every molecule's are on disk as soon as they are made."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError
from diffcore.files import whole
from pipelines.generate import MAX_SEED

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.generators import Generator
    from molgen.io import Entry

COLUMNS = (
    "number",
    "name",
    "smiles",
    "conformers",
    "rotatable_bonds",
    "confidence",
    "overlap",
    "seconds",
    "reason",
)


@dataclass(frozen=True)
class Made:
    """One molecule of the input: its conformers, or the reason why there are none."""

    entry: Entry
    mol: Chem.Mol | None
    reason: str
    seconds: float


def generate_conformers(
    ligands: Path,
    number: int = 20,
    output: Path = Path("poses.sdf"),
    model: str = "bound",
    seed: int = 0,
    steps: int | None = None,
    force: bool = False,
    threads: int = 1,
    pocket: Path | None = None,
    reference_ligand: Path | None = None,
    centre: str | None = None,
    box: str | None = None,
    exhaustiveness: int = 8,
    time_limit: float = 900.0,
) -> str:
    """Generate ranked 3D conformers of the molecules in a file, or poses in a pocket.

    Molecules come out in the order of the input; hydrogens, names and marked stereo are kept. What
    cannot be read or embedded costs its own line: the summary (a .csv beside the output) has one
    for every molecule, with the reason of a failure. Every molecule is made with the same seed, so
    that its conformers do not depend on what else is in the file.

    With a pocket, conformers of the model are docked into the protein by AutoDock Vina, in a
    process that is ended where a ligand takes too long; an .html page beside the output shows the
    poses.

    Args:
        ligands: .smi, .sdf, .mol or .xyz file, also with .gz; or a .csv of name, protein, ligand.
        number: Conformers, or poses, of each molecule.
        output: .sdf file to write: a record for every conformer, with its rank, confidence, seed
            and model.
        model: Name of a shipped model, or path of a model file.
        seed: Seed of the random numbers.
        steps: Steps of the sampler; the model's own number if left out.
        force: Overwrite the output if it exists.
        threads: Threads of the tensor library; more than one seldom pays.
        pocket: PDB file of the protein that the ligands are placed in.
        reference_ligand: With a pocket: SDF file of a ligand that sits in it, for the box.
        centre: With a pocket: middle of the box as x,y,z in Angstrom.
        box: With a pocket: edge of the box, or three as x,y,z, in Angstrom.
        exhaustiveness: With a pocket: searches of Vina for each ligand.
        time_limit: With a pocket: wall seconds for a ligand.

    Returns:
        One line that says what was written.

    Raises:
        ConfigError: An option is outside what is allowed.
        DataError: The input is missing, empty or of another format.
        ModelFileError: The model is unknown or its file is broken.
        OutputError: The output exists without `force`, or cannot be written.
    """
    _check_numbers({"number": number, "threads": threads, "steps": steps}, seed)
    summary = _check_output(output, force)
    given = {"reference-ligand": reference_ligand, "centre": centre, "box": box}
    if pocket is not None or ligands.suffix.lower() == ".csv":
        settings = (model, number, seed, steps, exhaustiveness, threads)
        return _poses(ligands, output, pocket, given, settings, time_limit, force)
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--{name}: expected --pocket beside it")

    import torch
    from tqdm import tqdm

    from molgen.generators import load_generator
    from molgen.io import MoleculeWriter, count_records, read_molecules

    entries, total = read_molecules(ligands), count_records(ligands)
    torch.set_num_threads(threads)
    generator = load_generator(model, steps)
    rows: list[dict[str, Any]] = []
    with MoleculeWriter(output, force=force) as writer:
        try:
            with tqdm(total=total, desc="conformers", unit="mol", delay=0.5) as bar:
                for made in make(generator, entries, number, seed):
                    for mol in records(made):
                        writer.write(mol)
                    rows.append(row(made))
                    bar.update()
        finally:
            if rows:
                write_rows(summary, rows)
        if not writer.count:
            reasons = "; ".join(dict.fromkeys(str(r["reason"]) for r in rows))
            raise DataError(f"{ligands}: no molecule gave a conformer: {reasons}")
    failed = sum(bool(r["reason"]) for r in rows)
    found = f"{writer.count} conformers of {len(rows) - failed} molecules written"
    return f"{output}: {found}, {failed} molecules failed; see {summary}"


def _poses(
    ligands: Path,
    output: Path,
    pocket: Path | None,
    given: dict[str, Any],
    settings: tuple[Any, ...],
    time_limit: float,
    force: bool,
) -> str:
    """Poses of the ligands of a file in one pocket, or of a table of complexes."""
    from molgen.docking.job import PoseSettings
    from molgen.docking.vina import check_installed
    from pipelines.poses import jobs_of_file, jobs_of_table, place_of, write_poses

    if not (math.isfinite(time_limit) and time_limit > 0):
        raise ConfigError(f"--time-limit: expected seconds above 0, got {time_limit}")
    chosen = PoseSettings(*settings)
    _check_numbers({"exhaustiveness": chosen.exhaustiveness}, chosen.seed)
    check_installed()
    if ligands.suffix.lower() != ".csv":
        assert pocket is not None
        place = place_of(pocket, *given.values())
        jobs, total = jobs_of_file(ligands, place)
        return write_poses(jobs, total, output, chosen, time_limit, force)
    for name, value in {"pocket": pocket, **given}.items():
        if value is not None:
            raise ConfigError(f"--{name}: {ligands} says where each ligand goes; leave it out")
    if ligands.resolve() == output.with_suffix(".csv").resolve():
        raise ConfigError(f"--output: its summary would overwrite {ligands}")
    table = jobs_of_table(ligands)
    return write_poses(table, len(table), output, chosen, time_limit, force)


def _check_numbers(least_one: dict[str, int | None], seed: int) -> None:
    for name, value in least_one.items():
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"--seed: expected 0 to {MAX_SEED}, got {seed}")


def _check_output(output: Path, force: bool) -> Path:
    """The summary's path, both files free to be written."""
    if output.suffix.lower() != ".sdf":
        raise ConfigError(f"--output: expected an .sdf file, got {output}")
    summary = output.with_suffix(".csv")
    for path in (output, summary):
        if path.exists() and not force:
            raise OutputError(f"{path} exists: expected --force to overwrite it")
    return summary


def make(generator: Generator, entries: Iterator[Entry], number: int, seed: int) -> Iterator[Made]:
    """Conformers of every entry; what goes wrong with one costs that one."""
    for entry in entries:
        start = time.process_time()
        mol, reason = None, entry.reason
        if entry.mol is not None:
            try:
                mol = generator.sample(entry.mol, number, seed=seed)
            except DataError as error:
                reason = str(error)
            except (RuntimeError, ValueError, ArithmeticError) as error:
                # RDKit and torch on molecules that nobody thought of: the batch goes on
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
            if mol is not None and not mol.GetNumConformers():
                mol, reason = None, "no conformer has the marked stereo"
        yield Made(entry, mol, reason, time.process_time() - start)


def records(made: Made) -> Iterator[Chem.Mol]:
    """A molecule for every conformer, with its properties."""
    from rdkit import Chem

    if made.mol is None:
        return
    name = made.entry.name or f"molecule-{made.entry.number + 1}"
    for rank, conformer in enumerate(made.mol.GetConformers(), 1):
        one = Chem.Mol(made.mol, confId=conformer.GetId())
        one.SetProp("_Name", name)
        one.SetProp("rank", str(rank))
        one.SetProp("confidence", f"{conformer.GetDoubleProp('confidence'):.4f}")
        one.SetProp("overlap", f"{conformer.GetDoubleProp('overlap'):.2f}")
        yield one


def row(made: Made) -> dict[str, Any]:
    """The molecule's line of the summary."""
    found: dict[str, Any] = {
        "number": made.entry.number + 1,
        "name": made.entry.name,
        "conformers": 0,
        "seconds": f"{made.seconds:.2f}",
        "reason": " ".join(made.reason.split()),
    }
    if made.mol is None:
        return found
    from rdkit import Chem

    from molgen.torsions import torsion_graph

    first = made.mol.GetConformer(0)
    return found | {
        "smiles": Chem.MolToSmiles(Chem.RemoveHs(made.mol)),
        "conformers": made.mol.GetNumConformers(),
        "rotatable_bonds": len(torsion_graph(made.mol).quad),
        "confidence": f"{first.GetDoubleProp('confidence'):.4f}",
        "overlap": f"{first.GetDoubleProp('overlap'):.2f}",
    }


def write_rows(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write a table beside its place and move it there.

    Raises:
        OutputError: it cannot be written.
    """
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
