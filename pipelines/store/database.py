"""`Database`: an open store. SQLite (write-ahead log, one writer) by path, others by URL.

A lost connection is opened again and its transaction repeated: every write is either a whole one or
none, and writing the same rows twice leaves them there once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diffcore.errors import ConfigError, DataError, OutputError
from pipelines.store.lock import WriterLock

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

T = TypeVar("T")

ATTEMPTS = 5
"""How often a transaction is tried when its connection is lost."""

LOCK_NUMBER = 0x64_6C_6F_6F_6D
"""Number of the advisory lock of a PostgreSQL store."""

_LOST = ("closed", "not open", "terminat", "lost", "broken pipe", "reset by peer")
"""In the messages of drivers when a connection has gone."""


class Database:
    """A store that is open.

    Args:
        where: path of an SQLite file, or a URL such as ``postgresql://user@host/name``.
        write: take the writer's lock, make or migrate the tables; otherwise nothing is changed.

    Raises:
        ConfigError: SQLAlchemy or the driver is not installed, or the URL is none.
        DataError: it is no store, one of a newer version, or it is not there to be read.
        OutputError: another run writes to it, or it cannot be written.
    """

    def __init__(self, where: str | Path, write: bool = False) -> None:
        """See the class."""
        self.where = str(where)
        self.path = None if "://" in self.where else Path(where)
        self.writes = write
        self._lock: WriterLock | None = None
        self._holder: Connection | None = None
        self.engine = _engine(self.where, self.path, write)
        try:
            if write and self.path is not None:
                self._lock = WriterLock(self.path.with_name(self.path.name + ".lock"))
            self._check()
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The path, or the URL without its password."""
        return self.engine.url.render_as_string() if self.path is None else str(self.path)

    def _check(self) -> None:
        if self.path is None and self.writes:
            self._advisory()
        if self.writes:
            self.transact(self._prepare)
            return
        version = self.transact(self._version)
        if version is None:
            raise DataError(f"{self.name} is no store of campaigns")
        if version < _tables().VERSION:
            raise DataError(
                f"{self.name} is a store of version {version}, older than {_tables().VERSION}: "
                "resume its campaign once to bring it up to date"
            )

    def _version(self, connection: Connection) -> int | None:
        try:
            version: int | None = _tables().found_version(connection)
        except ValueError:
            raise DataError(f"{self.name} is no store of campaigns") from None
        if version is not None and version > _tables().VERSION:
            raise DataError(
                f"{self.name} is a store of version {version}, newer than {_tables().VERSION}, "
                "which this designloom knows: use the designloom that wrote it"
            )
        return version

    def _prepare(self, connection: Connection) -> None:
        from sqlalchemy import inspect

        tables = _tables()
        version = self._version(connection)
        if version is None:
            if inspect(connection).get_table_names():
                raise DataError(f"{self.name} is a database of something else: expected a store")
            tables.metadata.create_all(connection)
            self.insert(connection, tables.about, [{"name": "version", "value": tables.VERSION}])
        elif version < tables.VERSION:
            tables.migrate(connection, version)

    def _advisory(self) -> None:
        """The lock of a server's store: it lives as long as this connection."""
        from sqlalchemy import func, select
        from sqlalchemy.exc import SQLAlchemyError

        if self.engine.dialect.name != "postgresql":
            raise ConfigError(
                f"{self.name}: expected a path (SQLite) or a URL postgresql://..., got a "
                f"{self.engine.dialect.name} one"
            )
        try:
            self._holder = self.engine.connect()
            free = self._holder.scalar(select(func.pg_try_advisory_lock(LOCK_NUMBER)))
            self._holder.commit()
        except SQLAlchemyError as error:
            raise OutputError(f"cannot open {self.name}: {_said(error)}") from error
        if not free:
            raise OutputError(f"another run writes to {self.name}: wait for it")

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Do work in one transaction, again if the connection is lost on the way.

        Raises:
            OutputError: the database refuses: full disk, read-only, no server.
            DataError: the file is no database.
        """
        from sqlalchemy.exc import SQLAlchemyError

        for attempt in range(ATTEMPTS):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if attempt + 1 < ATTEMPTS and _is_lost(error):
                    self.engine.dispose()
                    time.sleep(0.05 * 2**attempt)
                    continue
                raise self._refused(error) from error
        raise AssertionError("unreachable")

    def _refused(self, error: Exception) -> OutputError | DataError:
        said = _said(error)
        if "not a database" in said or "malformed" in said:
            return DataError(f"{self.name} is no store: {said}")
        verb = "write" if self.writes else "read"
        return OutputError(f"cannot {verb} {self.name}: {said}")

    def insert(
        self, connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add rows; those whose key is there already are left as they are."""
        if not rows:
            return
        from importlib import import_module

        dialect = import_module(f"sqlalchemy.dialects.{self.engine.dialect.name}")
        connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))

    def close(self) -> None:
        """Closes the connections and lets others write."""
        if self._holder is not None:
            self._holder.close()
        self.engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Database:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes."""
        self.close()


def _tables() -> Any:
    from pipelines.store import tables

    return tables


def _engine(where: str, path: Path | None, write: bool) -> Engine:
    try:
        import sqlalchemy
    except ImportError as error:
        raise ConfigError(
            'campaigns are kept by SQLAlchemy: pip install "designloom[loops]"'
        ) from error
    if path is None:
        try:
            return sqlalchemy.create_engine(where, pool_pre_ping=True)
        except (sqlalchemy.exc.ArgumentError, ImportError, ValueError) as error:
            raise ConfigError(f"store: cannot use this URL: {_said(error)}") from error
    if not write and not path.is_file():
        raise DataError(f"{path} does not exist: expected the store of a campaign")
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    engine = sqlalchemy.create_engine(url, connect_args={"timeout": 60})

    @sqlalchemy.event.listens_for(engine, "connect")
    def settings(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=60000")
        if write:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


def _said(error: BaseException) -> str:
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip().splitlines() or [type(origin).__name__])[0]


def _is_lost(error: Exception) -> bool:
    if getattr(error, "connection_invalidated", False):
        return True
    said = _said(error).lower()
    return any(word in said for word in _LOST)
