"""A check of the whole store; a repair removes only leftovers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from peer_cl.errors import DamageError, StoreLockedError
from stores.queries import Finding, needed_objects
from stores.registry import Registry

_FROM_A_COPY = "restore it from a copy"


def check(registry: Registry, repair: bool = False) -> tuple[Finding, ...]:
    """Check the registry's file, every object's hash, runs and leftovers.

    Where the registry's file is damaged nothing else is looked at, and nothing is removed.

    Args:
        registry: An open store.
        repair: Remove what a crash left behind, and mark lost runs as failed.

    Raises: StoreLockedError: when it is to repair while another writer works.
    """
    if damage := tuple(_check_database(registry)):
        return damage
    with registry.database.reading() as session:
        needed = needed_objects(session)
    needed[registry.config.background_object] = "the background statistics"
    found = [*_check_objects(registry, needed)]
    try:
        with registry.writing("doctor", timeout_seconds=5.0 if repair else 0.0):
            found += _check_runs(registry, repair)
            found += _check_leftovers(registry, set(needed), repair)
    except StoreLockedError as error:
        if repair:
            raise
        found.append(Finding("lock", "note", str(error), "leftovers were not looked for"))
    return tuple(found)


def _check_database(registry: Registry) -> Iterator[Finding]:
    """SQLite's own verdict on the registry's file; a server checks itself."""
    if not registry.database.is_sqlite:
        return
    try:
        with registry.database.engine.connect() as connection:
            verdicts = list(connection.scalars(text("PRAGMA integrity_check(10)")))
            verdicts += [
                f"a row of {row[0]} refers to nothing"
                for row in connection.execute(text("PRAGMA foreign_key_check")).fetchmany(10)
            ]
    except DatabaseError as error:  # a page that even the check cannot read
        verdicts = [str(error.orig)]
    for verdict in verdicts:
        if verdict != "ok":
            words = " ".join(verdict.split())
            yield Finding("database", "error", f"the registry is damaged: {words}", _FROM_A_COPY)


def _check_objects(registry: Registry, needed: dict[str, str]) -> Iterator[Finding]:
    """Every object that a row names must be there with the right bytes."""
    for object_id, user in sorted(needed.items()):
        try:
            registry.objects.read(object_id)
        except DamageError:
            what = "damaged" if registry.objects.exists(object_id) else "missing"
            yield Finding("object", "error", f"object {object_id} ({user}) is {what}", _FROM_A_COPY)
        except OSError as error:
            what = f"object {object_id} ({user}) cannot be read: {error.strerror or error}"
            yield Finding("object", "error", what, "check its permissions and the disk")


def _check_runs(registry: Registry, repair: bool) -> Iterator[Finding]:
    """Runs whose process is gone without an end."""
    for run in registry.queries.runs():
        if run.is_lost:
            if repair:
                registry.end_run(run.id, "failed", error="the process ended unexpectedly")
            what = f"run {run.id[:12]} ({run.kind} {run.domain or ''}) has no process any more"
            action = "marked as failed" if repair else "run it again; --repair marks it as failed"
            yield Finding("run", "warning", what, action)


def _check_leftovers(registry: Registry, needed: set[str], repair: bool) -> Iterator[Finding]:
    """What no row names, and work in progress, while nobody else writes."""
    done = "removed" if repair else "run `peer-cl doctor --repair` to remove them"
    sizes = registry.objects.sizes()
    if extra := sizes.keys() - needed:
        if repair:
            for object_id in sorted(extra):
                registry.objects.delete(object_id)
        size = sum(sizes[object_id] for object_id in extra)
        what = f"{len(extra)} objects ({size:,} bytes) are named by nothing"
        yield Finding("leftover", "note", what, done)
    unfinished = sorted(registry.staging.glob("run-*"))
    for path in unfinished:
        what = f"an ingest or an erasure did not finish; its checkpoint is {path}"
        action = "the same ingest, or `peer-cl erase --wait`, goes on; delete it to begin anew"
        yield Finding("checkpoint", "note", what, action)
    files = [path for path in registry.staging.iterdir() if path not in unfinished]
    files += registry.objects.leftovers()
    if files:
        if repair:
            for path in files:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        names = ", ".join(path.name for path in files[:3])
        yield Finding("leftover", "note", f"{len(files)} temporary files ({names}, ...)", done)
