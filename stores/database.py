"""Engines and transactions: SQLite by default, PostgreSQL by URL.

SQLite's defaults under SQLAlchemy are wrong for a registry: foreign keys off, a rollback journal,
DDL outside transactions, and a transaction that first reads and then writes fails at once with
"locked" whatever the busy timeout. Hence the pragmas, and BEGIN IMMEDIATE for writers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from peer_cl.errors import BusyError, DamageError, InputError, StateError, UnsupportedError

BUSY_SECONDS = 20
_CROSSED = ("40001", "40P01", "55P03")
"""SQLSTATEs of a transaction that a server stopped for another's sake: serialization_failure,
deadlock_detected, lock_not_available."""
_NOT_ALLOWED = "42501"
"""SQLSTATE insufficient_privilege."""
_SEEN = "seen"
"""In a connection's info: a file that was opened as one that does not change, and its state."""
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
        is_read_only: It is opened to be read alone: its disk, or this user, can do no more.
    """

    def __init__(self, engine: Engine, name: str, *, is_read_only: bool = False) -> None:
        self.engine = engine
        self.name = name
        self.is_read_only = is_read_only
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
        """Yield a session that sees one state of the registry, whatever others commit.

        Raises: BusyError: when a file that was opened as one that does not change did.
        """
        with translated_errors(self.name), Session(self._reader, autoflush=False) as session:
            try:
                yield session
            except DatabaseError:
                self._check_unchanged(session)  # else what was written meanwhile looks like damage
                raise
            self._check_unchanged(session)

    def _check_unchanged(self, session: Session) -> None:
        """Raise a BusyError where the file changed under a reader that was told it does not.

        SQLite looks at no log and no lock then, and may have read half of the old and of the new.
        """
        if not self.is_read_only or not session.in_transaction():
            return
        path, seen = session.connection().info.get(_SEEN, (None, None))
        if path is not None and _fingerprint(path) != seen:
            raise BusyError(f"{self.name} was written to while it was read; try again")

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Yield a session whose transaction commits at the end, or is undone on any error.

        Raises: StateError: when the registry is read-only here.
        """
        self.check_writable()
        with translated_errors(self.name), Session(self._writer) as session, session.begin():
            yield session

    def check_writable(self) -> None:
        """Raise a StateError where the registry can only be read."""
        if self.is_read_only:
            raise StateError(
                f"this store is read-only here: {self.name}, or its folder, cannot be written; "
                "change it where it can be, or work on a copy"
            )

    def compact(self) -> None:
        """Rewrite a SQLite file so that nothing deleted is left in it, and empty its log.

        Raises: StateError: when a reader keeps the old pages alive, or the file cannot be
            rewritten: it is busy, or the disk is full.
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
            except sqlite3.Error as error:  # the driver's own: SQLAlchemy does not see it
                raise StateError(
                    f"what was deleted is out of the registry, but {self.name} is not rewritten "
                    f"yet ({error}), and may hold its bytes; do the same again"
                ) from error
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


def read_only_database(path: Path) -> Database:
    """Return the database in a SQLite file that cannot be written, or beside which nothing can.

    Each transaction has a connection of its own. Where nobody writes just then it opens the file as
    one that does not change, since all else would make files beside it; where somebody does, it
    reads their log with them.

    Raises: StateError: at use, where a log was left by a crash, which only a writer can work in.
    """
    log, shared = (path.with_name(f"{path.name}-{end}") for end in ("wal", "shm"))

    def connect(record: ConnectionPoolEntry) -> sqlite3.Connection:
        seen = _fingerprint(path)
        has_log = log.exists() and log.stat().st_size > 0
        if has_log and not shared.exists():
            raise StateError(
                f"{log} was left by a crash, and this store is read-only here: open it once where "
                "it can be written"
            )
        mode = "mode=ro"
        if not has_log:
            mode, record.info[_SEEN] = "mode=ro&immutable=1", (path, seen)
        address = f"{path.absolute().as_uri()}?{mode}"
        return sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin)
    return Database(engine, str(path), is_read_only=True)


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


def _fingerprint(path: Path) -> tuple[int, int, int]:
    """Return what changes when a SQLite file is written to: whoever writes ends in the file."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def translated_errors(name: str) -> Iterator[None]:
    """Turn the driver's errors into ours, in one line."""
    try:
        yield
    except OperationalError as error:
        words = " ".join(str(error.orig).split())
        if getattr(error.orig, "sqlstate", None) in _CROSSED:
            raise BusyError(
                f"{name}: another process wrote the same at the same time, and the server stopped "
                "this one; try again"
            ) from error
        if isinstance(error.orig, sqlite3.Error) and ("locked" in words or "busy" in words):
            raise BusyError(
                f"{name} has been busy for {BUSY_SECONDS} s; try again later"
            ) from error
        if isinstance(error.orig, sqlite3.Error) and "full" in words:
            raise StateError(
                f"the registry {name} cannot be written: {words}; make room on the disk and do the "
                "same again; the store is as it was"
            ) from error
        raise StateError(f"the registry {name} cannot be used: {words}") from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != _NOT_ALLOWED:
            raise
        words = str(error.orig).partition("\n")[0]
        raise StateError(
            f"{name}: {words}; have its administrator grant your user SELECT, INSERT, UPDATE and "
            "DELETE on a store's tables and USAGE on its sequences, and CREATE on the schema where "
            "it is made or upgraded"
        ) from error
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
