"""Rows as documents: which columns hold their text, title and id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peer_cl.errors import CorpusError

_TEXTS = ("text", "content", "body", "article", "document", "passage")
_TITLES = ("title", "headline", "name", "subject")
_IDS = ("id", "doc_id", "document_id")
_LONG, _MOST = 200, 0.8
"""Without such a name, a column is the text where its values have so many characters on average,
and this share of the row's."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold a document's text, title and id; None: none, or guess."""

    text: str | None = None
    title: str | None = None
    id: str | None = None


def choose_columns(rows: Sequence[Mapping[str, Any]], given: Columns) -> tuple[Columns, str]:
    """Return which columns hold what, by the first rows of a table, and why, in words.

    A column that is not given is guessed by its name, the text also by its length. Without a text
    column each row becomes text (`row_text`), under the title of its first column if need be.

    Raises: CorpusError: when a given column is none of the table's.

    Example:
        >>> choose_columns([{"Part": "P-7", "Hall": 3}], Columns())[1]
        "no column holds texts: each row is read as a text, with the title in 'Part'"
    """
    names = [*dict.fromkeys(name for row in rows for name in row)]
    for name in (given.text, given.title, given.id):
        if name is not None and name not in names:
            raise CorpusError(f"has no column {name!r}; its columns are {', '.join(names)}")

    def known(candidates: Sequence[str]) -> str | None:
        lower = {name.lower(): name for name in reversed(names)}
        return next((lower[name] for name in candidates if name in lower), None)

    def is_text(name: str) -> bool:
        return any(isinstance(row.get(name), str) for row in rows)

    by_name = next((name for one in _TEXTS if (name := known([one])) and is_text(name)), None)
    by_length = _longest(rows, names)
    text = given.text or by_name or by_length
    title, identity = given.title or known(_TITLES), given.id or known(_IDS)
    if text is None:
        title = title or identity or next(iter(names), None)
        return (
            Columns(None, title, identity),
            f"no column holds texts: each row is read as a text, with the title in {title!r}",
        )
    title, identity = (None if one == text else one for one in (title, identity))
    why = "as given" if given.text else "by its name" if by_name else "by the length of its values"
    return Columns(text, title, identity), f"texts are in column {text!r} ({why})"


def _longest(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> str | None:
    """Return the column that holds most of what is in a table, if that is long."""
    sizes = {name: sum(len(str(row.get(name) or "")) for row in rows) for name in names}
    name = max(sizes, key=lambda one: sizes[one], default=None)
    if name is None or sizes[name] < max(_LONG * len(rows), _MOST * sum(sizes.values())):
        return None
    return name if all(isinstance(row.get(name), str | None) for row in rows) else None


def row_text(row: Mapping[str, Any]) -> str:
    """Return a row as text, a line each value.

    Example:
        >>> row_text({"Part": "P-7", "Hall": 3.0, "Since": None, "Oils": ["Omala"]})
        'Part: P-7\\nHall: 3\\nOils: ["Omala"]'
    """
    shown = {name: shown_value(value) for name, value in row.items()}
    return "\n".join(f"{name}: {value}" for name, value in shown.items() if value)


def shown_value(value: object) -> str:
    """Return a cell in words; spreadsheets write a whole number as 3.0."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    return str(value).strip()
