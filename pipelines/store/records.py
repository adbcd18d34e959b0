"""What is written to a store and read from it: candidates, evaluations, failures, generations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from diffcore.errors import ConfigError, DataError, OutputError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipelines.store.database import Database

CHUNK = 500
"""Keys of one query."""


@dataclass(frozen=True)
class Candidate:
    """Something that was proposed.

    Attributes:
        form: what the content is: a name in `pipelines.design.forms.FORMS`.
        content: all of it, as text.
        origin: how it was made: seed, index, parents.
    """

    form: str
    content: str
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def key(self) -> str:
        """Hash of the content."""
        return digest(self.form, self.content)


@dataclass(frozen=True)
class Outcome:
    """A finished evaluation: a value, or the reason why there is none.

    Attributes:
        key: see `evaluation_key`.
        candidate: key of the candidate.
        evaluator: its name in the campaign.
        value: finite, in the evaluator's unit; None if it failed.
        reason: why it failed; empty otherwise.
        seconds: wall time.
    """

    key: str
    candidate: str
    evaluator: str
    value: float | None
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Generation:
    """What is known of a generation.

    Attributes:
        number: counted from 0.
        notes: counts of what was drawn and left out, reference of the hypervolume, and the like.
        seconds: wall time; None while it is in work.
        hypervolume: of all candidates up to here; None while it is in work or without a reference.
    """

    number: int
    notes: Mapping[str, Any]
    seconds: float | None = None
    hypervolume: float | None = None


def digest(*parts: str) -> str:
    """Hash of texts, 32 hexadecimal digits: each part with its length, so that none run together.

    The chance that two of a billion texts meet is below 1e-20.
    """
    whole = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        whole.update(len(raw).to_bytes(8, "big"))
        whole.update(raw)
    return whole.hexdigest()[:32]


def to_json(value: Any) -> str:
    """Text of a plain value, the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _tables() -> Any:
    from pipelines.store import tables

    return tables


# ----------------------------------------------------------------------------------- campaigns


@dataclass(frozen=True)
class CampaignRow:
    """A campaign as it stands in a store; `versions` and `weights` are those of its start."""

    id: int
    name: str
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    weights: dict[str, str]
    created: str
    status: str


def open_campaign(
    database: Database,
    name: str,
    settings: Mapping[str, Any],
    seed: int,
    about: tuple[Mapping[str, str], Mapping[str, str]],
    resume: bool,
) -> CampaignRow:
    """Starts a campaign, or finds the one to go on with.

    Args:
        database: open for writing.
        name: of the campaign.
        settings: all that decides which candidates are proposed and how they are scored.
        seed: of the campaign.
        about: versions of packages, hashes of weights.
        resume: go on with the campaign of this name if there is one.

    Raises:
        OutputError: it is there and `resume` is not given, or it was another one.
    """
    plain = json.loads(to_json(settings))
    found = next((row for row in list_campaigns(database) if row.name == name), None)
    if found is None:
        versions, weights = about
        row = {
            "name": name,
            "settings": to_json(settings),
            "seed": seed,
            "versions": to_json(versions),
            "weights": to_json(weights),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "status": "running",
        }
        table = _tables().campaigns
        database.transact(lambda c: database.insert(c, table, [row]))
        return find_campaign(database, name)
    if not resume:
        raise OutputError(
            f"{database.name} holds a campaign {name!r}: give --resume to go on with it, or "
            "another name or store"
        )
    _check_same(found, plain, about[1])
    set_status(database, found.id, "running")
    return found


def _check_same(
    found: CampaignRow, settings: Mapping[str, Any], weights: Mapping[str, str]
) -> None:
    keys = sorted(set(settings) | set(found.settings))
    wrong = [key for key in keys if settings.get(key) != found.settings.get(key)]
    if wrong:
        raise OutputError(
            f"campaign {found.name!r} was started with another {wrong[0]!r}: give this one "
            "another name, or undo the change"
        )
    if dict(weights) != found.weights:
        raise OutputError(
            f"campaign {found.name!r} was started with other weights: the same seeds would not "
            "give the same candidates"
        )


def list_campaigns(database: Database) -> list[CampaignRow]:
    """All campaigns of a store, in the order they were started."""
    from sqlalchemy import select

    table = _tables().campaigns

    def work(connection: Connection) -> list[CampaignRow]:
        rows = connection.execute(select(table).order_by(table.c.id)).mappings()
        return [_campaign(row) for row in rows]

    return database.transact(work)


def _campaign(row: Any) -> CampaignRow:
    plain = {key: json.loads(row[key]) for key in ("settings", "versions", "weights")}
    return CampaignRow(**{**row, **plain})


def find_campaign(database: Database, name: str = "") -> CampaignRow:
    """A campaign by name; the only one if no name is given.

    Raises:
        ConfigError: there is none of the name, or several and no name is given.
        DataError: there is none at all.
    """
    rows = list_campaigns(database)
    if not rows:
        raise DataError(f"{database.name} holds no campaign")
    names = ", ".join(row.name for row in rows)
    if not name and len(rows) > 1:
        raise ConfigError(f"{database.name} holds several campaigns: name one of {names}")
    found = next((row for row in rows if row.name == name or not name), None)
    if found is None:
        raise ConfigError(f"no campaign {name!r} in {database.name}: expected one of {names}")
    return found


def set_status(database: Database, campaign: int, status: str) -> None:
    """Says whether a campaign is running, done, or stopped."""
    table = _tables().campaigns
    change = table.update().where(table.c.id == campaign).values(status=status)
    database.transact(lambda c: c.execute(change))


# --------------------------------------------------------------------------------- generations


def add_generation(
    database: Database,
    campaign: int,
    number: int,
    candidates: Sequence[Candidate],
    notes: Mapping[str, Any],
) -> None:
    """Writes what a generation proposes, all of it or nothing."""
    tables = _tables()
    head = {"campaign": campaign, "number": number, "notes": to_json(notes)}
    rows = [
        {
            "campaign": campaign,
            "generation": number,
            "position": position,
            "key": one.key,
            "form": one.form,
            "content": one.content,
            "origin": to_json(one.origin),
        }
        for position, one in enumerate(candidates)
    ]

    def work(connection: Connection) -> None:
        database.insert(connection, tables.candidates, rows)
        database.insert(connection, tables.generations, [head])

    database.transact(work)


def finish_generation(
    database: Database, campaign: int, number: int, seconds: float, hypervolume: float | None
) -> None:
    """Notes that all of a generation is evaluated."""
    table = _tables().generations
    here = (table.c.campaign == campaign) & (table.c.number == number)
    change = table.update().where(here).values(seconds=seconds, hypervolume=hypervolume)
    database.transact(lambda c: c.execute(change))


def read_generations(database: Database, campaign: int) -> list[Generation]:
    """The generations of a campaign in order."""
    from sqlalchemy import select

    table = _tables().generations
    query = select(table).where(table.c.campaign == campaign).order_by(table.c.number)

    def work(connection: Connection) -> list[Generation]:
        return [
            Generation(row["number"], json.loads(row["notes"]), row["seconds"], row["hypervolume"])
            for row in connection.execute(query).mappings()
        ]

    return database.transact(work)


def read_candidates(database: Database, campaign: int, number: int) -> list[Candidate]:
    """What a generation proposed, in order."""
    from sqlalchemy import select

    table = _tables().candidates
    here = (table.c.campaign == campaign) & (table.c.generation == number)
    columns = (table.c.form, table.c.content, table.c.origin)
    query = select(*columns).where(here).order_by(table.c.position)

    def work(connection: Connection) -> list[Candidate]:
        rows = connection.execute(query)
        return [Candidate(form, content, json.loads(origin)) for form, content, origin in rows]

    return database.transact(work)


# --------------------------------------------------------------------------------- evaluations


def add_outcomes(database: Database, outcomes: Iterable[Outcome]) -> None:
    """Writes finished evaluations; what is there already stays as it is."""
    tables = _tables()
    values: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for one in outcomes:
        row = {"key": one.key, "candidate": one.candidate, "evaluator": one.evaluator}
        if one.value is None:
            failed.append(row | {"reason": one.reason, "seconds": one.seconds})
        else:
            values.append(row | {"value": one.value, "seconds": one.seconds})

    def work(connection: Connection) -> None:
        database.insert(connection, tables.evaluations, values)
        database.insert(connection, tables.failures, failed)

    if values or failed:
        database.transact(work)


def known_outcomes(database: Database, keys: Sequence[str]) -> dict[str, Outcome]:
    """Those of the evaluations that are finished, by key."""
    from sqlalchemy import select

    tables = _tables()
    found: dict[str, Outcome] = {}

    def work(connection: Connection) -> None:
        for chunk in chunks(keys, CHUNK):
            table = tables.evaluations
            for row in connection.execute(select(table).where(table.c.key.in_(chunk))).mappings():
                found[row["key"]] = Outcome(**row)
            table = tables.failures
            for row in connection.execute(select(table).where(table.c.key.in_(chunk))).mappings():
                found.setdefault(row["key"], Outcome(**row, value=None))

    database.transact(work)
    return found


def chunks(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The items, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
