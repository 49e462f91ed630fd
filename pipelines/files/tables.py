"""Rows as documents: which columns hold their text, title and id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from peer_cl.errors import CorpusError
from pipelines.files import Row

_TEXTS = ("text", "content", "body", "article", "document", "passage")
_TITLES = ("title", "headline", "name", "subject")
_IDS = ("id", "doc_id", "document_id")
_OWN = ("source", "split")
"""What a row may say of itself."""
_TEXT_LENGTH = 60
"""Characters of a column's middle value from which on its name is believed beside other columns: a
sentence of ten words. Names of goods and people are shorter."""
_LONG, _MOST = 200, 0.8
"""Without such a name, a column is the text where its values have so many characters on average,
and this share of the row's."""
_BYTES = 500
"""Of whole rows that stand together. A token has a byte at least, so that a passage of 512 tokens
holds them all and cuts none."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that hold a document's text, title and id; None: none, or guess."""

    text: str | None = None
    title: str | None = None
    id: str | None = None

    def heading(self, row: Mapping[str, Any]) -> str:
        """Return what a row tells in other columns, on a line."""
        own = {self.text, self.title, self.id, *_OWN}
        return row_text({name: value for name, value in row.items() if name not in own})


def choose_columns(rows: Sequence[Mapping[str, Any]], given: Columns) -> tuple[Columns, str]:
    """Return which columns hold what, by the first rows of a table, and why, in words.

    A column that is not given is guessed by its name. A text is believed where its values are long,
    too, or nothing stands beside it that could be lost: "Article" may hold articles of a newspaper
    or of a shop. Without a text column rows are read whole (`whole_rows`).

    Raises: CorpusError: when a given column is none of the table's.

    Example:
        >>> choose_columns([{"Part": "P-7", "Hall": 3}], Columns())[1]
        'rows are read whole: no column holds long texts'
    """
    names = [*dict.fromkeys(name for row in rows for name in row)]
    for name in (given.text, given.title, given.id):
        if name is not None and name not in names:
            raise CorpusError(f"has no column {name!r}; its columns are {', '.join(names)}")

    def known(candidates: Sequence[str]) -> str | None:
        lower = {name.lower(): name for name in reversed(names)}
        return next((lower[name] for name in candidates if name in lower), None)

    title, identity = given.title or known(_TITLES), given.id or known(_IDS)

    def is_text(name: str) -> bool:
        sizes = [len(value) for row in rows if isinstance(value := row.get(name), str)]
        alone = not any(map(Columns(name, title, identity).heading, rows))
        return bool(sizes) and (alone or median(sizes) >= _TEXT_LENGTH)

    by_name = next((name for one in _TEXTS if (name := known([one])) and is_text(name)), None)
    text = given.text or by_name or _longest(rows, names)
    if text is None:
        return Columns(), "rows are read whole: no column holds long texts"
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


def whole_rows(rows: Iterable[Row]) -> Iterator[Row]:
    r"""Yield rows as texts, a line each, as many together as a passage holds.

    Example:
        >>> rows = [Row(f":{n}", {"Part": f"P-{n}", "Hall": n}) for n in (1, 2)]
        >>> [(one.place, one.values) for one in whole_rows(rows)]
        [(':1-2', {'text': 'Part: P-1; Hall: 1\nPart: P-2; Hall: 2'})]
    """
    lines, first, last = list[str](), "", ""
    for row in rows:
        line = "" if row.problem else row_text(row.values)
        if not line:
            yield Row(row.place, problem=row.problem or "has no text")
            continue
        if lines and len("\n".join([*lines, line]).encode()) > _BYTES:
            yield _together(lines, first, last)
            lines = []
        first, last = first if lines else row.place, row.place
        lines.append(line)
    if lines:
        yield _together(lines, first, last)


def _together(lines: Sequence[str], first: str, last: str) -> Row:
    place = first if first == last else f"{first}-{last.removeprefix(':')}"
    return Row(place, {"text": "\n".join(lines)})


def row_text(row: Mapping[str, Any]) -> str:
    """Return a row on a line.

    Example:
        >>> row_text({"Part": "P-7", "Hall": 3.0, "Since": None, "Oils": ["Omala"]})
        'Part: P-7; Hall: 3; Oils: ["Omala"]'
    """
    shown = {name: " ".join(shown_value(value).split()) for name, value in row.items()}
    return "; ".join(f"{name}: {value}" for name, value in shown.items() if value)


def shown_value(value: object) -> str:
    """Return a cell in words; spreadsheets write a whole number as 3.0."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    return str(value).strip()
