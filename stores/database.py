"""Engines, transactions and the one writer's lock: SQLite by default, PostgreSQL by URL.

SQLite's defaults under SQLAlchemy are wrong for a registry: foreign keys off, a rollback journal,
DDL outside transactions, and a transaction that first reads and then writes fails at once with
"locked" whatever the busy timeout. Hence the pragmas, and BEGIN IMMEDIATE for writers.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import filelock
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from peer_cl.errors import (
    DamageError,
    InputError,
    StateError,
    StoreFormatError,
    StoreLockedError,
    UnsupportedError,
)

HEAD = "0001"
"""The newest revision among the migrations."""
MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_SECONDS = 20
_COMPACT_SECONDS = 2
_UPGRADE_LOCK = 20240704153
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",  # macOS only
    "foreign_keys = ON",
    "secure_delete = ON",  # purged titles must not linger in free pages
)
_T = TypeVar("_T")


def batches(items: Iterable[_T], size: int = 500) -> Iterator[list[_T]]:
    """Yield the items in lists of at most `size`: one SQL statement takes so many variables."""
    iterator = iter(items)
    while piece := list(islice(iterator, size)):
        yield piece


class Database:
    """A registry's database; `name` is what messages call it, without a password."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writer = engine.execution_options(begins_immediate=True)
        one_state = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = engine.execution_options(**one_state)

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

    def upgrade(self) -> None:
        """Bring the registry to the newest schema, in one transaction.

        Raises: StoreFormatError: when its revision is unknown, so of a newer version.
        """
        with translated_errors(self.name):
            if "alembic_version" in self.tables():
                with self.engine.connect() as connection:
                    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
                if found == HEAD:
                    return
            from alembic import command, util  # takes a tenth of a second, and is seldom needed
            from alembic.config import Config

            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            with self._writer.begin() as connection:
                if not self.is_sqlite:  # of two that begin at once the second finds it done
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
                config.attributes["connection"] = connection
                try:
                    command.upgrade(config, "head")
                except util.CommandError as error:
                    raise StoreFormatError(
                        f"the registry {self.name} is newer than revision {HEAD}, the last that "
                        f"this version knows ({error}): install a newer peer-cl"
                    ) from error

    def tables(self) -> list[str]:
        """Return the names of the tables that are there, sorted."""
        with translated_errors(self.name), self.engine.connect() as connection:
            return sorted(inspect(connection).get_table_names())

    def compact(self) -> None:
        """Rewrite a SQLite file so that nothing deleted is left in it, and empty its log.

        Raises: StateError: when a reader keeps the old pages alive, or the disk is full.
        """
        if not self.is_sqlite:
            return
        again = "close all readers, make room on the disk and run the same command again"
        raw = self.engine.raw_connection()
        try:
            cursor = raw.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {_COMPACT_SECONDS * 1000}")
            cursor.execute("VACUUM")
            is_busy = bool(cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        except sqlite3.Error as error:
            raise StateError(
                f"deleted rows may still be in {self.name}, which could not be rewritten "
                f"({error}); {again}"
            ) from error
        finally:
            raw.invalidate()  # its busy timeout is not the others'
            raw.close()
        if is_busy:
            raise StateError(f"a reader keeps deleted rows of {self.name} alive; {again}")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def sqlite_database(path: Path) -> Database:
    """Return the database in a SQLite file, which is made when it is missing."""
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return Database(engine, str(path))


def postgres_database(url: str) -> Database:
    """Return the PostgreSQL database at a URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(
            "the database URL cannot be read; write postgresql://user@host/name"
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise InputError(
            f"a registry lies in SQLite or PostgreSQL, not in {parsed.get_backend_name()!r}"
        )
    try:
        engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
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
        if isinstance(error.orig, sqlite3.Error) and ("locked" in words or "busy" in words):
            raise StoreLockedError(
                f"{name} has been busy for {_BUSY_SECONDS} s; try again later"
            ) from error
        raise StateError(
            f"the registry {name} cannot be used: {words}; check the disk, the connection and "
            "your rights, then try again"
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


_POLL_SECONDS = 0.1


class WriterLock:
    """Lets one thread of one process write a store at a time; that thread may nest it."""

    def __init__(self, database: Database, folder: Path, store_id: str) -> None:
        self._database = database
        self._thread = threading.RLock()
        self._is_held = False
        self._file = filelock.FileLock(folder / "writer.lock")
        self._holder = folder / "writer.txt"
        digest = hashlib.sha256(store_id.encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    @contextmanager
    def held(self, author: str, timeout_seconds: float) -> Iterator[None]:
        """Hold the lock.

        Raises: StoreLockedError: when another holds it for longer than the timeout.
        """
        if not self._thread.acquire(timeout=timeout_seconds):
            raise StoreLockedError(
                "another thread of this process is writing the store; wait for it and try again"
            )
        try:
            if self._is_held:
                yield
                return
            take = self._file_lock if self._database.is_sqlite else self._advisory_lock
            with take(author, timeout_seconds):
                self._is_held = True
                try:
                    yield
                finally:
                    self._is_held = False
        finally:
            self._thread.release()

    @contextmanager
    def _file_lock(self, author: str, timeout_seconds: float) -> Iterator[None]:
        try:
            self._file.acquire(timeout=timeout_seconds)
        except filelock.Timeout:
            raise self._locked() from None
        try:
            with suppress(OSError):  # on a full disk the lock holds, without a name
                holder = f"{author}, process {os.getpid()} on {socket.gethostname()}"
                self._holder.write_text(holder)
            yield
        finally:
            self._holder.unlink(missing_ok=True)
            self._file.release()

    @contextmanager
    def _advisory_lock(self, _author: str, timeout_seconds: float) -> Iterator[None]:
        until = time.monotonic() + timeout_seconds
        autocommit = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with translated_errors(self._database.name), autocommit.connect() as connection:
            try:
                while not connection.scalar(text(f"SELECT pg_try_advisory_lock({self._key})")):
                    if time.monotonic() > until:
                        raise self._locked()
                    time.sleep(_POLL_SECONDS)
                yield
            finally:
                connection.invalidate()  # the session ends, and its lock with it

    def _locked(self) -> StoreLockedError:
        holder = self._holder.read_text() if self._holder.exists() else ""  # a server tells nothing
        return StoreLockedError(
            f"the store is being written by {holder or 'another process'}; wait until that ends "
            "(see `peer-cl runs`) and try again"
        )
