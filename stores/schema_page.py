"""docs/schema.md, written from the tables themselves, so that it cannot go stale.

Run `python -m stores.schema_page docs/schema.md` after a change of stores/schema.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import CheckConstraint, Column, Table, UniqueConstraint
from sqlalchemy.dialects import sqlite

from stores import schema
from stores.upgrades import HEAD


def render() -> str:
    """Return the page: one section a table, one line a column."""
    lines = [
        "# The registry's tables",
        "",
        f"Generated from `stores/schema.py` (revision {HEAD}) by "
        "`python -m stores.schema_page docs/schema.md`; do not edit. Times are ISO 8601 in UTC.",
        "",
        " ".join((schema.__doc__ or "").split()),
    ]
    mappers = {
        mapper.class_.__tablename__: mapper.class_ for mapper in schema.Base.registry.mappers
    }
    for name, table in sorted(schema.Base.metadata.tables.items()):
        lines += ["", f"## {name}", "", _first_words(mappers[name].__doc__), ""]
        lines += ["| column | type | key | meaning |", "|---|---|---|---|"]
        lines += [_column_line(column) for column in table.columns]
        lines += _constraint_lines(table)
    return "\n".join(lines) + "\n"


def _first_words(docstring: str | None) -> str:
    return " ".join((docstring or "").split())


def _column_line(column: Column[object]) -> str:
    """Return the line of a column."""
    kind = str(column.type.compile(dialect=sqlite.dialect()))
    keys = ["primary"] if column.primary_key else []
    keys += [f"→ {key.target_fullname}" for key in column.foreign_keys]
    keys += ["unique"] if column.unique else []
    kind += ", null" if column.nullable else ""
    return f"| {column.name} | {kind} | {', '.join(keys)} | {column.doc or ''} |"


def _constraint_lines(table: Table) -> Iterator[str]:
    """Yield a line for each check and each constraint over several columns."""
    for constraint in sorted(table.constraints, key=lambda found: str(found.name)):
        if isinstance(constraint, CheckConstraint):
            yield from ("", f"Check: `{constraint.sqltext}`.")
        elif isinstance(constraint, UniqueConstraint) and len(constraint.columns) > 1:
            columns = ", ".join(column.name for column in constraint.columns)
            yield from ("", f"Unique: ({columns}).")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
