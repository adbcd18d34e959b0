"""Screening a library: the command `designloom screen`.

Molecules are read one by one, so that memory does not grow with the library. A portion is written
down before it is evaluated; results of a molecule that the store knows are not made again, whatever
library it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, OutputError
from diffcore.files import whole
from pipelines.design.names import unknown

if TYPE_CHECKING:
    from pipelines.design.evaluators import Evaluator
    from pipelines.design.objectives import Objective
    from pipelines.store.database import Database

PORTION = 500
"""Molecules that are read, written down and evaluated together."""

STORE = "screen.sqlite"
TABLE = "results.csv"


def screen(
    library: Path,
    evaluators: str = "",
    output: Path = Path("results"),
    where: str = "",
    pocket: Path | None = None,
    ligand: Path | None = None,
    executor: str = "pool",
    workers: int = 0,
    time_limit: float = 600.0,
    limit: int | None = None,
    resume: bool = False,
) -> str:
    """Score a library of any size, cheap evaluators first; dear ones where the filters hold.

    Args:
        library: .smi, .sdf or another molecule file, also with .gz.
        evaluators: Names with commas, such as qed,sa,posebusters,vina.
        output: Folder for the store and results.csv.
        where: Filters with commas, such as 'qed >= 0.5, sa <= 4'; what fails a cheap one is spared
            the dear evaluators.
        pocket: PDB file of the protein, for vina.
        ligand: Molecule file that shows where the pocket is, for vina.
        executor: Where evaluations run: process, pool or ray.
        workers: Processes; 0 for one a core.
        time_limit: Wall seconds for a molecule.
        limit: Molecules to read at most.
        resume: Go on with an interrupted run, or add another library to the same folder.

    Returns:
        Counts, in lines.

    Raises:
        ConfigError: An evaluator, filter or option is unknown or out of range.
        DataError: The library is missing, empty or no molecule file.
        OutputError: The folder holds a screening and --resume is not given, or cannot be written.
    """
    from pipelines.design.executors import make_executor
    from pipelines.store.database import Database

    plan = prepare(library, evaluators, where, pocket, ligand, limit)
    options: dict[str, Any] = {"time_limit": time_limit}
    if executor != "process":
        options["workers"] = workers
    crew = make_executor(executor, options)
    with closing(crew):
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
        with Database(output / STORE, write=True) as database:
            try:
                return _screen(plan, database, crew, output, resume)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    "interrupted: what was evaluated is in the store; --resume continues"
                ) from None


@dataclass(frozen=True)
class Plan:
    """What to screen.

    Attributes:
        library: the file.
        total: its records.
        evaluators: cheap ones first.
        filters: as constraints.
        settings: what must be the same for a run to go on.
    """

    library: Path
    total: int
    evaluators: tuple[Evaluator, ...]
    filters: tuple[Objective, ...]
    settings: Mapping[str, Any]

    def refused(self, values: Mapping[str, float]) -> bool:
        """Whether a filter is known to fail."""
        return any(o.evaluator in values and not o.met(values[o.evaluator]) for o in self.filters)

    def passed(self, values: Mapping[str, float]) -> bool:
        """Whether all filters are known to hold."""
        return all(o.evaluator in values and o.met(values[o.evaluator]) for o in self.filters)


def prepare(
    library: Path,
    evaluators: str,
    where: str,
    pocket: Path | None,
    ligand: Path | None,
    limit: int | None,
) -> Plan:
    """Checks everything before any work."""
    from molgen.io import count_records, read_records
    from pipelines.design.evaluators import make_evaluator

    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: expected at least 1, got {limit}")
    names = [name.strip() for name in evaluators.split(",") if name.strip()]
    given = {"pocket": pocket, "ligand": ligand}
    files = {key: str(path) for key, path in given.items() if path is not None}
    wanted = dict.fromkeys([*names, *(name for name, _, _ in split_filters(where))])
    if not wanted:
        raise ConfigError("--evaluators: expected names with commas, got none")
    made = [make_evaluator(name, files if name == "vina" else {}) for name in wanted]
    made.sort(key=lambda one: one.dear)
    filters = parse_filters(where, {one.name: one.unit for one in made})
    read_records(library)
    total = count_records(library)
    settings = {
        "generator": ["library", {}, library_identity(library)],
        "strategy": ["screen", {}],
        "evaluations": {one.name: one.identity for one in made},
        "where": where,
    }
    return Plan(library, min(total, limit or total), tuple(made), filters, settings)


def library_identity(path: Path) -> dict[str, Any]:
    """Size and hash of the first megabyte: a library may be too large to be hashed."""
    import hashlib

    with path.open("rb") as file:
        beginning = hashlib.sha256(file.read(1 << 20)).hexdigest()
    return {"bytes": path.stat().st_size, "beginning": beginning}


_FILTER = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*(<=|>=|<|>|=)\s*(\S.*?)\s*")


def split_filters(text: str) -> list[tuple[str, str, str]]:
    """(evaluator, comparison, value) of each filter.

    Raises:
        ConfigError: a part is no filter.
    """
    found = []
    for part in text.split(","):
        if not part.strip():
            continue
        match = _FILTER.fullmatch(part)
        if match is None or match[2] not in ("<=", ">="):
            raise ConfigError(f"--where: expected filters such as 'qed >= 0.5', got {part!r}")
        found.append((match[1], match[2], match[3]))
    return found


def parse_filters(text: str, units: Mapping[str, str]) -> tuple[Objective, ...]:
    """Filters as constraints."""
    from pipelines.design.objectives import parse_objective

    keys = {"<=": "at_most", ">=": "at_least"}
    made = []
    for name, sign, value in split_filters(text):
        if name not in units:
            raise unknown("evaluator of a filter", name, units)
        given = {"evaluator": name, "goal": "constraint", keys[sign]: value}
        made.append(parse_objective(given, units))
    return tuple(made)


def _screen(plan: Plan, database: Database, crew: Any, output: Path, resume: bool) -> str:
    from tqdm import tqdm

    from pipelines.design.scoring import Scorer
    from pipelines.design.versions import versions
    from pipelines.store.records import (
        add_generation,
        finish_generation,
        open_campaign,
        read_candidates,
        read_generations,
        set_status,
    )

    name = plan.library.name
    row = open_campaign(database, name, plan.settings, 0, (versions(), {}), resume)
    past = read_generations(database, row.id)
    read = sum(one.notes["read"] for one in past)
    passed = 0
    bar = tqdm(
        total=plan.total, initial=read, unit="mol", desc="screening", delay=2.0, disable=None
    )
    with bar:

        def say(count: int) -> None:
            bar.update(count)
            bar.set_postfix_str(f"{passed} passed" if plan.filters else "", refresh=False)

        scorer = Scorer(database, crew, plan.evaluators, plan.refused, say)
        for one in past:
            if one.seconds is None:  # written down, not evaluated to the end
                scorer.score(read_candidates(database, row.id, one.number))
                finish_generation(database, row.id, one.number, 0.0, None)
        number = len(past)
        for portion in portions(plan, read, database, row.id):
            add_generation(database, row.id, number, portion.candidates, portion.notes)
            values = scorer.score(portion.candidates)
            passed += sum(plan.passed(found) for found in values)
            finish_generation(database, row.id, number, 0.0, None)
            bar.update(portion.notes["read"] - len(portion.candidates))
            number += 1
    set_status(database, row.id, "done")
    written, hits = write_table(plan, database, row.id, output / TABLE)
    notes = [one.notes for one in read_generations(database, row.id)]
    counts = {key: sum(n[key] for n in notes) for key in ("read", "duplicates", "unreadable")}
    lines = [
        f"{name}: {counts['read']} read, {counts['duplicates']} duplicates, "
        f"{counts['unreadable']} unreadable, {written} different molecules",
        f"evaluations: {scorer.evaluated} made, {scorer.known} known before",
    ]
    if plan.filters:
        lines.append(f"passed the filters: {hits}")
    return "\n".join([*lines, f"written: {output / TABLE}"])


@dataclass(frozen=True)
class Portion:
    """New molecules, and how many records they came from."""

    candidates: list[Any]
    notes: dict[str, Any]


def portions(plan: Plan, start: int, database: Database, campaign: int) -> Iterator[Portion]:
    """The library from a record on, in portions without duplicates."""
    from molgen.io import read_records

    records = islice(read_records(plan.library), start, plan.total)
    while True:
        some = list(islice(records, PORTION))
        if not some:
            return
        yield portion(some, lambda keys: _there(database, campaign, keys))


def portion(records: Sequence[Any], there: Callable[[Sequence[str]], set[str]]) -> Portion:
    """Records as candidates; those that are there already are counted and left out."""
    from diffcore.errors import DataError
    from molgen.io import parse
    from pipelines.design.forms import encode

    made: dict[str, Any] = {}
    reasons: list[list[Any]] = []
    for record in records:
        entry = parse(record)
        try:
            if entry.mol is None:
                raise DataError(entry.reason)
            one = encode(_lean(entry.mol), {"name": entry.name, "record": record.number})
        except DataError as error:
            reasons.append([record.number, entry.name, str(error)])
            continue
        made.setdefault(one.key, one)
    known = there(list(made))
    fresh = [one for key, one in made.items() if key not in known]
    duplicates = len(records) - len(reasons) - len(fresh)
    notes: dict[str, Any] = {"read": len(records), "duplicates": duplicates}
    return Portion(fresh, notes | {"unreadable": len(reasons), "reasons": reasons[:20]})


def _lean(mol: Any) -> Any:
    """A molecule without 3D coordinates as a graph, stereo kept: its SMILES is the candidate."""
    if mol.GetNumConformers() and mol.GetConformer().Is3D():
        return mol
    from rdkit import Chem, rdBase

    from diffcore.errors import DataError

    with rdBase.BlockLogs():
        flat = Chem.Mol(mol)
        flat.RemoveAllConformers()
        try:
            Chem.SanitizeMol(flat)
        except (ValueError, RuntimeError) as error:
            line = str(error).strip().splitlines()[0]
            raise DataError(f"RDKit refuses the molecule: {line}") from None
    return flat


def _there(database: Database, campaign: int, keys: Sequence[str]) -> set[str]:
    """Those of the keys that the campaign has already."""
    from sqlalchemy import select

    from pipelines.store.tables import candidates

    mine = candidates.c.campaign == campaign
    query = select(candidates.c.key).where(mine & candidates.c.key.in_(list(keys)))
    return database.transact(lambda c: set(c.scalars(query)))


def write_table(plan: Plan, database: Database, campaign: int, path: Path) -> tuple[int, int]:
    """Writes a row for each molecule, portion by portion; how many, and how many passed."""
    import csv

    from pipelines.store.records import known_outcomes, read_candidates, read_generations

    names = [one.name for one in plan.evaluators]
    count = hits = 0
    with whole(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "smiles", *names, "passed", "failure"])
        for one in read_generations(database, campaign):
            some = read_candidates(database, campaign, one.number)
            keys = [e.key(c.key) for c in some for e in plan.evaluators]
            found = known_outcomes(database, keys)
            for candidate in some:
                outcomes = [found.get(e.key(candidate.key)) for e in plan.evaluators]
                row, passed = _row(plan, candidate, outcomes)
                writer.writerow(row)
                count, hits = count + 1, hits + passed
    return count, hits


def _row(plan: Plan, candidate: Any, outcomes: Sequence[Any]) -> tuple[list[Any], bool]:
    names = [e.name for e in plan.evaluators]
    by_name = dict(zip(names, outcomes, strict=True))
    values = {n: o.value for n, o in by_name.items() if o is not None and o.value is not None}
    failed = [f"{n}: {o.reason}" for n, o in by_name.items() if o is not None and o.value is None]
    passed = plan.passed(values)
    scores = [values.get(name, "") for name in names]
    origin = candidate.origin
    smiles = candidate.content if candidate.form == "smiles" else origin.get("smiles", "")
    return [origin.get("name", ""), smiles, *scores, int(passed), "; ".join(failed)], passed
