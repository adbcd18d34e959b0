"""Tables of the store, and the steps from one version of them to the next.

Every statement is built from these tables by SQLAlchemy, so that values only ever travel as
parameters.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import (
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
    text,
)

VERSION = 2
"""Version of the tables that this code writes."""

metadata = MetaData()

about = Table(
    "about",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the store is: its version."""

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("settings", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("versions", Text, nullable=False),
    Column("weights", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("status", String(16), nullable=False),
)
"""One row a campaign: settings, versions of the packages and hashes of the weights, as JSON."""

generations = Table(
    "generations",
    metadata,
    Column("campaign", ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("notes", Text, nullable=False),
    Column("seconds", Float),
    Column("hypervolume", Float),
)
"""One row a generation; `seconds` and `hypervolume` are there once all of it is evaluated."""

candidates = Table(
    "candidates",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign", ForeignKey("campaigns.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("key", String(64), nullable=False),
    Column("form", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("origin", Text, nullable=False),
    UniqueConstraint("campaign", "generation", "position"),
)
"""What was proposed, in order. `key` is the hash of the content; `origin` says how it was made."""

evaluations = Table(
    "evaluations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("candidate", String(64), nullable=False),
    Column("evaluator", String(100), nullable=False),
    Column("value", Float, nullable=False),
    Column("seconds", Float, nullable=False),
)
"""Finished evaluations, each once: `key` is the hash of candidate, evaluator, version, settings."""

failures = Table(
    "failures",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("candidate", String(64), nullable=False),
    Column("evaluator", String(100), nullable=False),
    Column("reason", Text, nullable=False),
    Column("seconds", Float, nullable=False),
)
"""Evaluations that gave no value, and why; the same keys."""

Index("candidates_key", candidates.c.key)
Index("evaluations_candidate", evaluations.c.candidate)
Index("failures_candidate", failures.c.candidate)


def _from_1(connection: Connection) -> None:
    """Version 2 keeps the hypervolume of a generation and finds candidates by key."""
    found = {column["name"] for column in inspect(connection).get_columns("generations")}
    if "hypervolume" not in found:
        connection.execute(text("ALTER TABLE generations ADD COLUMN hypervolume FLOAT"))
    for index in candidates.indexes:
        index.create(connection, checkfirst=True)


MIGRATIONS: dict[int, Callable[[Connection], None]] = {1: _from_1}
"""Version -> step to the next one; each may be done twice."""


def found_version(connection: Connection) -> int | None:
    """Version of the tables in a database; None if it holds none of ours.

    Raises:
        ValueError: the version is no number.
    """
    if not inspect(connection).has_table("about"):
        return None
    value = connection.scalar(select(about.c.value).where(about.c.name == "version"))
    return None if value is None else int(value)


def migrate(connection: Connection, version: int) -> None:
    """Bring older tables to `VERSION`, step by step."""
    for number in range(version, VERSION):
        MIGRATIONS[number](connection)
    connection.execute(about.update().where(about.c.name == "version").values(value=str(VERSION)))
