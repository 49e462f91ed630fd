"""Reading files as people have them: each becomes parts of text, or rows of a table.

`finding` says which files there are, `plain` reads what is text, `parsers` reads the other formats
in the child process of `worker`, `tables` and `named` are about rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """A piece of a file: a section, a page, a slide, or all of it."""

    text: str
    heading: str = ""
    place: str = ""
    """Added to the file's name in the document's source, such as "#page=3"."""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    place: str
    """Added to the table's name, such as ":3"."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """By column."""
    table: str = ""
    """Of several tables in one file, which: "#Prices"."""
    problem: str = ""
    """Why it could not be read; else empty."""
