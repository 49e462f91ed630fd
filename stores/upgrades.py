"""Bringing a registry to the newest schema by the numbered migrations.

A SQLite registry is copied first. The migration itself is one transaction with foreign keys off
(SQLite alters a table by remaking it, which would cascade), checked before it commits.
"""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from peer_cl.durable import sync_descriptor, sync_folder
from peer_cl.errors import DamageError, StateError, StoreFormatError
from stores.database import Database, translated_errors

HEAD = "0006"
MIGRATIONS = Path(__file__).parent / "migrations"
COPY_MARK = ".before-"
_UPGRADE_LOCK = 20240704153


def revision(database: Database) -> str | None:
    """Return the revision of a registry, or None when it has no tables yet."""
    with translated_errors(database.name), database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def upgrade(
    database: Database, path: Path | None, *, head: str = HEAD, migrations: Path = MIGRATIONS
) -> bool:
    """Bring a registry to `head` and return whether there was anything to do.

    Args:
        database: The registry.
        path: Its SQLite file, copied before an old registry is changed; None for a server.
        head: The newest revision.
        migrations: The folder of the migrations.

    Raises: StoreFormatError: when the registry is of a newer revision; both are named.
    """
    found = revision(database)
    if found == head:
        return False
    _check_known(database, found, head, migrations)
    copy = None
    if found is not None and path is not None:
        copy = copy_sqlite(path, path.with_name(f"{path.name}{COPY_MARK}{head}"), found)
    try:
        with translated_errors(database.name):
            _run(database, migrations)
    except BaseException:
        if copy is not None:  # the registry is as it was: each try would leave one more
            copy.unlink(missing_ok=True)
        raise
    return True


def check_current(database: Database) -> None:
    """Make sure that a registry that cannot be written has the newest schema already.

    Raises: StoreFormatError: when it is of another revision; both are named.
    """
    found = revision(database)
    if found == HEAD:
        return
    _check_known(database, found, HEAD, MIGRATIONS)
    raise StoreFormatError(
        f"the registry {database.name} has revision {found}, and {HEAD} is needed: this store is "
        "read-only here; open it once where it can be written"
    )


def _check_known(database: Database, found: str | None, head: str, migrations: Path) -> None:
    """Refuse a registry of a newer revision."""
    if found is not None and found not in _known_revisions(migrations):
        raise StoreFormatError(
            f"the registry {database.name} has revision {found}; this version knows up to {head}: "
            "install a newer peer-cl"
        )


def copy_sqlite(source: Path, target: Path, expected: str) -> Path | None:
    """Copy a SQLite registry, WAL included, by SQLite's own backup, durably.

    A copy that is there already is left alone: it may be the only one of before. Numbers go on
    after its name.

    Args:
        source: the registry.
        target: where the copy is to lie.
        expected: the revision that is to be copied.

    Returns: where it lies; None: another process has brought the registry forward meanwhile.

    Raises:
        DamageError: when the copy does not pass SQLite's check.
        StateError: when it cannot be written: the disk is full, or the registry is busy.
    """
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        reader, writer = sqlite3.connect(source), sqlite3.connect(temporary)
        try:
            reader.backup(writer)
            verdict = writer.execute("PRAGMA integrity_check").fetchone()[0]
            copied = writer.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        finally:
            reader.close()
            writer.close()
        if verdict != "ok":
            words = " ".join(verdict.split())
            raise DamageError(f"the copy of {source} is damaged ({words}); nothing was changed")
        if copied != expected:
            return None
        with temporary.open("rb+") as file:
            sync_descriptor(file.fileno())
        free = _reserve(target)
        temporary.replace(free)
    except sqlite3.OperationalError as error:
        raise StateError(
            f"an older registry is copied before it is brought forward, and {source} could not be "
            f"({error}); nothing was changed: mend that and do the same again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    return free


def _reserve(target: Path) -> Path:
    """Return the first free one of a copy's names, with an empty file at it."""
    path, number = target, 1
    while True:
        try:
            path.open("xb").close()
        except FileExistsError:
            number += 1
            path = target.with_name(f"{target.name}.{number}")
        else:
            return path


def _known_revisions(migrations: Path) -> set[str]:
    """Return the revisions that the folder of migrations holds."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory(str(migrations)).walk_revisions()}


def _run(database: Database, migrations: Path) -> None:
    """Run all missing migrations in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    with database.engine.connect() as connection:
        if database.is_sqlite:
            _set_foreign_keys(connection, is_on=False)
        writer = connection.execution_options(begins_immediate=True)
        try:
            with writer.begin():
                if not database.is_sqlite:  # two that open at once: the second finds it done
                    writer.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
                config.attributes["connection"] = writer
                command.upgrade(config, "head")
                _check_foreign_keys(database, writer)
        finally:
            if database.is_sqlite:
                _set_foreign_keys(connection, is_on=True)


def _set_foreign_keys(connection: Connection, *, is_on: bool) -> None:
    """Switch SQLite's foreign keys; it ignores the pragma inside a transaction."""
    raw = connection.connection.cursor()
    raw.execute(f"PRAGMA foreign_keys = {'ON' if is_on else 'OFF'}")
    raw.close()


def _check_foreign_keys(database: Database, connection: Connection) -> None:
    """Undo the migration (by raising) when it left rows that refer to nothing."""
    if not database.is_sqlite:
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise DamageError(
            f"migrating {database.name} would leave {len(broken)} rows that refer to nothing "
            f"(the first in {broken[0][0]}); nothing was changed"
        )
