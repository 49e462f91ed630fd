"""Engines and transactions: SQLite by default, PostgreSQL by URL.

SQLite's defaults under SQLAlchemy are wrong for a registry: foreign keys off, a rollback journal,
DDL outside transactions, and a transaction that first reads and then writes fails at once with
"locked" whatever the busy timeout. Hence the pragmas, and BEGIN IMMEDIATE for writers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from peer_cl.errors import DamageError, InputError, StateError, StoreLockedError, UnsupportedError

BUSY_SECONDS = 20
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",  # macOS only
    "foreign_keys = ON",
    "secure_delete = ON",  # purged titles must not linger in free pages
)


class Database:
    """One registry database.

    Args:
        engine: From `sqlite_engine` or `url_engine`.
        name: What messages call it (a path, or a URL without its password).
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._writer = engine.execution_options(begins_immediate=True)
        self._reader = engine
        if engine.dialect.name == "postgresql":
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ")

    @property
    def is_sqlite(self) -> bool:
        """Whether the registry is a local SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that sees one state of the registry, whatever others commit."""
        with translated_errors(self.name), Session(self._reader, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session whose transaction commits at the end, or is undone on any error."""
        with translated_errors(self.name), Session(self._writer) as session, session.begin():
            yield session

    def compact(self) -> None:
        """Rewrite a SQLite file so that nothing deleted is left in it, and empty its log.

        Raises: StateError: when a reader keeps the old pages alive.
        """
        if not self.is_sqlite:
            return
        with translated_errors(self.name):
            raw = self.engine.raw_connection()
            try:
                cursor = raw.cursor()
                cursor.execute("VACUUM")
                is_busy = bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
                cursor.close()
            finally:
                raw.close()
        if is_busy:
            raise StateError(
                f"a reader keeps old pages of {self.name} alive; close all readers and run "
                "`peer-cl doctor --repair`"
            )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def sqlite_database(path: Path) -> Database:
    """Return the database in a SQLite file, which is made when it is missing."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS}
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return Database(engine, str(path))


def url_database(url: str) -> Database:
    """Return the PostgreSQL database at a URL.

    Raises:
        InputError: when the URL cannot be read or names another kind of database.
        UnsupportedError: when the driver is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number
        raise InputError("the database URL cannot be read; postgresql://user@host/name") from None
    if parsed.get_backend_name() != "postgresql":
        raise InputError(
            f"a registry lives in SQLite or PostgreSQL, not in {parsed.get_backend_name()!r}"
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(parsed, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise UnsupportedError(
            f'PostgreSQL needs a driver ({error}): pip install "psycopg[binary]"'
        ) from None
    return Database(engine, parsed.render_as_string(hide_password=True))


@contextmanager
def translated_errors(name: str) -> Iterator[None]:
    """Turn the driver's errors into ours, in one line."""
    try:
        yield
    except OperationalError as error:
        words = " ".join(str(error.orig).split())
        if "locked" in words or "busy" in words:
            raise StoreLockedError(
                f"{name} has been busy for {BUSY_SECONDS} s; try again later"
            ) from error
        raise StateError(f"the registry {name} cannot be used: {words}") from error
    except DatabaseError as error:
        words = " ".join(str(error.orig).split())
        if "malformed" in words or "not a database" in words:
            raise DamageError(f"{name} is damaged ({words}); restore it from a copy") from error
        raise


def _set_pragmas(connection: Any, _record: Any) -> None:
    """Prepare a new SQLite connection; transactions are begun by `_begin`, not by the driver."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin a transaction; a writer takes the lock at once instead of failing half-way."""
    is_writer = connection.get_execution_options().get("begins_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")
