"""docs/schema.md, written from the tables themselves, so that it cannot go stale.

Run `python -m stores.schema_page docs/schema.md` after a change of stores/schema.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy import CheckConstraint, Column
from sqlalchemy.dialects import sqlite

from stores import schema
from stores.database import HEAD


def render() -> str:
    """Return the page: one section a table, one line a column."""
    lines = [
        "# The registry's tables",
        "",
        f"Generated from `stores/schema.py` (revision {HEAD}) by "
        "`python -m stores.schema_page docs/schema.md`; do not edit. Times are ISO 8601 in UTC.",
        _words((schema.__doc__ or "").partition("\n\n")[2]),
    ]
    mappers = {one.class_.__tablename__: one.class_ for one in schema.Base.registry.mappers}
    for name, table in sorted(schema.Base.metadata.tables.items()):
        lines += ["", f"## {name}", "", _words(mappers[name].__doc__ or ""), ""]
        lines += [_column_line(column) for column in table.columns]
        checks = [str(c.sqltext) for c in table.constraints if isinstance(c, CheckConstraint)]
        lines += [line for check in sorted(checks) for line in ("", f"Check: `{check}`.")]
    return "\n".join(lines) + "\n"


def _words(text: str) -> str:
    return " ".join(text.split())


def _column_line(column: Column[object]) -> str:
    """Return the line of a column: name, type, keys, meaning."""
    about = [str(column.type.compile(dialect=sqlite.dialect()))]
    about += ["null"] if column.nullable else []
    about += ["primary"] if column.primary_key else []
    about += ["unique"] if column.unique else []
    about += [f"→ {key.target_fullname}" for key in column.foreign_keys]
    return f"- `{column.name}` {', '.join(about)}" + (f": {column.doc}" if column.doc else "")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
