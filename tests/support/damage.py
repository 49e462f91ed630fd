"""Damage to a closed store's files."""

from __future__ import annotations

import sqlite3
from contextlib import closing


def spoil_page(folder, table):
    """Overwrite the first page of a table's rows in a closed store's registry."""
    path = folder / "registry.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        about = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        (page,), (size,) = about.fetchone(), database.execute("PRAGMA page_size").fetchone()
    with path.open("rb+") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
