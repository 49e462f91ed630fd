"""Where else a store's objects and registry may lie; looked at before a store is made there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import inspect, make_url
from sqlalchemy.exc import ArgumentError

from peer_cl.errors import InputError, StateError
from stores.database import translated_errors, url_database
from stores.objects import MEMORY, ObjectStore, disk_of, url_folder, url_scheme
from stores.schema import Base

_VERSION_TABLE = "alembic_version"
_NUM_SHOWN = 3
_LEFT_BY_INIT = 2
"""Objects: an `init` that was interrupted before it had a registry leaves no more."""
_CHOOSE = "choose another place, or none: objects then lie in the store's folder"
_MAY_MAKE = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"


def check_objects_url(url: str, folder: Path) -> None:
    """Check that a store's objects can be put at a URL: nothing of a store or a user lies there.

    What no row names is deleted there by `doctor` and purge, so no two stores may share a place. A
    store's mark is there before its store.toml is: the few objects of an `init` that was
    interrupted have none beside them, and are taken up again.

    Args:
        url: fsspec's.
        folder: the store's, or where it is to be.

    Raises:
        InputError: when it is no such URL, one with a password, one of this process's memory, or
            may mean two folders.
        StateError: when something lies there, or it cannot be reached.
        UnsupportedError: when it is none of `stores.objects.SCHEMES`, or its file system is not
            installed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if len(parts.scheme) <= 1 or (parts.scheme == "file" and (parts.netloc or not parts.path)):
        raise InputError(
            f"objects lie at a URL such as s3://bucket/name or file:///absolute/folder, not {url!r}"
        )
    if parts.password is not None:
        raise InputError(_no_password("objects", "the file system's own settings"))
    if url_scheme(url, _CHOOSE) == MEMORY:
        raise InputError(
            f"what lies at {url} is gone when this process ends, and the store with it; {_CHOOSE}"
        )
    objects = ObjectStore(url, folder)
    if parts.scheme == "file":
        _check_folder(url_folder(url), folder, is_free=_is_free(objects))
    elif not _is_free(objects):
        num_found = objects.count_others() + len(objects.listed())
        raise StateError(f"{num_found:,} files lie at {url} already; choose an empty place")


def _is_free(objects: ObjectStore) -> bool:
    """Return whether nothing lies there but what an interrupted `init` left."""
    return not objects.count_others() and len(objects.listed()) <= _LEFT_BY_INIT


def _check_folder(place: Path, folder: Path, *, is_free: bool) -> None:
    """Check that a local folder can hold a store's objects."""
    if place.exists() and not (place.is_dir() and is_free):
        raise StateError(f"{place} is not an empty folder; choose an empty or a new one")
    # Files are staged in the store's folder and then renamed, which no file system does to another.
    if disk_of(place) != disk_of(folder):
        raise StateError(f"{place} is on another disk than {folder}; choose one on the same")


def check_database_url(url: str) -> None:
    """Check that a registry can be made in a PostgreSQL database: it is reached, and empty.

    Args:
        url: postgresql://user@host/name; the password is PGPASSFILE's or PGPASSWORD's.

    Raises:
        InputError: when it is no such URL, or one with a password.
        StateError: when it cannot be reached, holds a registry or other tables, or none may be
            made in it.
        UnsupportedError: when the driver is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None  # told by url_database
    if parsed is not None and (parsed.password is not None or "password" in parsed.query):
        raise InputError(_no_password("database", "PGPASSFILE or PGPASSWORD"))
    database = url_database(url)
    try:
        with translated_errors(database.name), database.engine.connect() as connection:
            found = set(inspect(connection).get_table_names())
            others = sorted(found - set(Base.metadata.tables) - {_VERSION_TABLE})
            live = "live" in found and connection.exec_driver_sql("SELECT 1 FROM live").first()
            may_make = connection.exec_driver_sql(_MAY_MAKE).scalar_one()
    finally:
        database.close()
    if others:
        shown = ", ".join(others[:_NUM_SHOWN])
        raise StateError(f"{database.name} holds other tables ({shown}); choose an empty database")
    if live:
        raise StateError(f"{database.name} holds a store's registry; choose an empty database")
    if not may_make:
        raise StateError(
            f"{database.name} lets your user make no tables: have its administrator grant CREATE "
            "on the schema"
        )


def _no_password(what: str, where: str) -> str:
    """Return why no password may stand in a URL."""
    return f"the {what} URL holds a password, and store.toml is plain text: leave it to {where}"
