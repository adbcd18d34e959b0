"""Ligands placed in pockets, into a file: poses, a summary, and a page to look at them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError
from diffcore.files import whole

if TYPE_CHECKING:
    from rdkit import Chem

    from molgen.docking.job import Place, PoseJob, PoseSettings, PosesMade

COLUMNS = (
    "number",
    "name",
    "smiles",
    "poses",
    "rotatable_bonds",
    "confidence",
    "vina_score",
    "vina_min",
    "torsion_cost",
    "contact_cost",
    "strain",
    "pb_valid",
    "seconds",
    "protein",
    "notes",
    "reason",
)
COSTS = ("torsion_cost", "contact_cost")
"""What models say of poses beside Vina's energy; not every model says all."""

NEEDED = ("name", "protein", "ligand")
SHOWN = 20
"""Ligands on the page at most."""


def place_of(
    pocket: Path, reference_ligand: Path | None, centre: str | None, box: str | None
) -> Place:
    """The place that options say.

    Raises:
        ConfigError: neither a reference ligand nor a centre is given, or they are no numbers.
    """
    from molgen.docking.job import Place
    from molgen.docking.pocket import numbers

    if reference_ligand is None and centre is None:
        raise ConfigError("--pocket: expected --reference-ligand or --centre beside it")
    middle = None if centre is None else numbers("centre", centre, (3,))
    edges = None if box is None else numbers("box", box, (1, 3))
    if edges is not None and len(edges) == 1:
        edges = edges * 3
    return Place(
        Path(pocket),
        reference_ligand,
        None if middle is None else (middle[0], middle[1], middle[2]),
        None if edges is None else (edges[0], edges[1], edges[2]),
    )


def jobs_of_file(ligands: Path, place: Place) -> tuple[Iterator[PoseJob], int]:
    """A job for every record of a molecule file, all for one pocket, and their number.

    Raises:
        ConfigError: unknown suffix, or see `read_pocket`.
        DataError: the file or the protein cannot be read.
    """
    from molgen.docking.job import PoseJob, packed
    from molgen.io import count_records, read_molecules

    place.read()  # a wrong pocket ends the run before any work
    entries, total = read_molecules(ligands), count_records(ligands)
    made = (PoseJob(e.number, e.name, packed(e.mol), e.reason, place) for e in entries)
    return made, total


def jobs_of_table(path: Path) -> list[PoseJob]:
    """A job for every row of a CSV of name, protein, ligand.

    Paths are relative to the table. `ligand` is a SMILES or a molecule file, whose first molecule
    counts; its own 3D pose says where the pocket is, unless the columns `reference_ligand`, or
    `centre` and `box`, do.

    Raises:
        DataError: the table is missing or empty, or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = [n.strip().lower() for n in reader.fieldnames or []]
        missing = [n for n in NEEDED if n not in names]
        if missing:
            raise DataError(
                f"{path}: expected the columns {', '.join(NEEDED)}, got no {missing[0]}"
            )
        rows = [
            {(k or "").strip().lower(): (v or "").strip() for k, v in row.items() if k}
            for row in reader
        ]
    if not rows:
        raise DataError(f"{path}: expected at least one row, got none")
    return [_job(number, row, path.parent) for number, row in enumerate(rows)]


def _job(number: int, row: dict[str, str], folder: Path) -> PoseJob:
    """A row's job; what is wrong with it becomes its reason."""
    from molgen.docking.job import Place, PoseJob, packed

    name = row["name"] or f"molecule-{number + 1}"
    place = Place(folder / row["protein"])
    try:
        mol, file = _ligand(row["ligand"], folder)
        known = folder / row["reference_ligand"] if row.get("reference_ligand") else file
        place = place_of(place.protein, known, row.get("centre") or None, row.get("box") or None)
    except (DataError, ConfigError) as error:
        return PoseJob(number, name, b"", " ".join(str(error).split()), place)
    return PoseJob(number, name, packed(mol), "", place)


def _ligand(text: str, folder: Path) -> tuple[Chem.Mol, Path | None]:
    """The molecule, and its file where it has a pose of its own."""
    from molgen.embedding import prepared
    from molgen.io import is_readable, read_molecules

    if not text:
        raise DataError("expected a ligand, got an empty cell")
    path = folder / text
    if not (path.is_file() or is_readable(path)):
        return prepared(text), None
    entry = next(iter(read_molecules(path)), None)
    if entry is None or entry.mol is None:
        raise DataError(f"{path}: {entry.reason if entry else 'no molecule'}")
    posed = entry.mol.GetNumConformers() and entry.mol.GetConformer().Is3D()
    return entry.mol, path if posed else None


def write_poses(
    jobs: Iterable[PoseJob],
    total: int,
    output: Path,
    settings: PoseSettings,
    time_limit: float,
    force: bool,
) -> str:
    """Place every ligand; a record for every pose, a summary (.csv) and a page (.html) beside it.

    Raises:
        ConfigError: Vina or Open Babel is not installed.
        DataError: no ligand gave a pose.
        ModelFileError: the model is unknown or its file is broken.
        OutputError: a file exists without `force`, or cannot be written.
    """
    from tqdm import tqdm

    from molgen.docking.job import generator
    from molgen.docking.vina import check_installed
    from molgen.io import MoleculeWriter
    from pipelines.conformers import write_rows

    page = output.with_suffix(".html")
    if page.exists() and not force:
        raise OutputError(f"{page} exists: expected --force to overwrite it")
    check_installed()
    generator(settings)  # a wrong model ends the run before any work
    rows: list[dict[str, Any]] = []
    shown: list[tuple[PoseJob, list[Chem.Mol]]] = []
    with MoleculeWriter(output, force=force) as writer:
        try:
            with tqdm(total=total, desc="docking", unit="mol", delay=0.5) as bar:
                for job, made in placed(jobs, settings, time_limit):
                    mols = records(job, made, settings)
                    for mol in mols:
                        writer.write(mol)
                    if mols and len(shown) < SHOWN:
                        shown.append((job, mols))
                    rows.append(row(job, made, mols))
                    bar.update()
        finally:
            if rows:
                write_rows(output.with_suffix(".csv"), rows, COLUMNS)
        if not writer.count:
            reasons = "; ".join(dict.fromkeys(str(r["reason"]) for r in rows))
            raise DataError(f"no ligand gave a pose: {reasons}")
    _write_page(page, shown)
    failed = sum(bool(r["reason"]) for r in rows)
    found = f"{writer.count} poses of {len(rows) - failed} ligands written, {failed} failed"
    return f"{output}: {found}; see {output.with_suffix('.csv')} and {page}"


def placed(
    jobs: Iterable[PoseJob], settings: PoseSettings, time_limit: float
) -> Iterator[tuple[PoseJob, PosesMade]]:
    """Jobs and what became of them, in order, from a process that is ended where one hangs."""
    from molgen.docking.job import PosesMade, pose
    from molgen.evaluate.workers import Lost, map_supervised

    sent: list[PoseJob] = []

    def remembered() -> Iterator[PoseJob]:
        for job in jobs:
            sent.append(job)
            yield job

    task = partial(pose, settings=settings)
    results = map_supervised(task, remembered(), workers=1, time_limit=time_limit, lease=1)
    for k, result in enumerate(results):
        yield sent[k], PosesMade(reason=result.why) if isinstance(result, Lost) else result


def records(job: PoseJob, made: PosesMade, settings: PoseSettings) -> list[Chem.Mol]:
    """A molecule for every pose, with its properties."""
    from rdkit import Chem

    from molgen.docking.job import unpacked

    if not made.mol:
        return []
    mol = unpacked(made.mol)
    out = []
    for rank, (conformer, known) in enumerate(
        zip(mol.GetConformers(), made.properties, strict=True), 1
    ):
        one = Chem.Mol(mol, confId=conformer.GetId())
        one.SetProp("_Name", job.name or f"molecule-{job.number + 1}")
        one.SetProp("rank", str(rank))
        for name, value in written(known).items():
            one.SetProp(name, value)
        one.SetProp("placed_by", f"AutoDock Vina, exhaustiveness {settings.exhaustiveness}")
        out.append(one)
    return out


def written(properties: dict[str, Any]) -> dict[str, str]:
    """A pose's properties as text."""
    strain = properties["strain"]
    return {
        "confidence": f"{properties['confidence']:.4f}",
        "vina_score": f"{properties['vina_score']:.3f}",
        "vina_min": f"{properties['vina_min']:.3f}",
        **{name: f"{properties[name]:.3f}" for name in COSTS if name in properties},
        "strain": "" if strain is None else f"{strain:.2f}",
        "pb_valid": str(properties["pb_valid"]),
        "pb_failed": properties["pb_failed"],
        "overlap": f"{properties['overlap']:.2f}",
    }


def row(job: PoseJob, made: PosesMade, mols: list[Chem.Mol]) -> dict[str, Any]:
    """The ligand's line of the summary: figures of its first pose."""
    found: dict[str, Any] = {
        "number": job.number + 1,
        "name": job.name,
        "poses": len(mols),
        "seconds": f"{made.seconds:.1f}",
        "protein": str(job.place.protein),
        "notes": made.notes,
        "reason": " ".join(made.reason.split()),
    }
    if not mols:
        return found
    from rdkit import Chem

    from molgen.docking.redock import describe

    first = written(made.properties[0])
    wanted = ("confidence", "vina_score", "vina_min", *COSTS, "strain", "pb_valid")
    return found | {
        "smiles": Chem.MolToSmiles(Chem.RemoveHs(mols[0])),
        "rotatable_bonds": describe(mols[0])["rotatable_bonds"],
        **{name: first[name] for name in wanted if name in first},
    }


def _write_page(page: Path, shown: list[tuple[PoseJob, list[Chem.Mol]]]) -> None:
    from molgen.complex_viewer import complex_page

    complexes = [(job.name, job.place.read(), mols) for job, mols in shown]
    with whole(page) as beside:
        beside.write_text(complex_page(complexes), encoding="utf-8")
