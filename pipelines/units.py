"""Units: what a request finds and an answer quotes, a sentence, a row of a table or a fact.

A unit is understood with its document's title before it, which often says what it is about.
"""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)*_]*\s+(?=[\"'“‘(\[*_]?[A-Z0-9£€$])")
_ROW, _RULE = re.compile(r"\|.*\|"), re.compile(r"\|[\s|:-]+\|")
_HEADING = re.compile(r"#+\s")
_LEAST_WORDS = 4
"""A shorter sentence, such as the number or the first words of an entry, goes with the next."""


def units_of(text: str) -> tuple[str, ...]:
    """Return a text's units: its sentences, a line being one at most, and its tables' rows.

    A row of a Markdown table repeats the names of its columns. Headings are no units.

    Example:
        >>> units_of("2. Seals. Nobody is to feed them. It is the law.")
        ('2. Seals. Nobody is to feed them.', 'It is the law.')
        >>> units_of("| Quay | Limit |\\n| --- | --- |\\n| Ponsgate | 32 tonnes |")
        ('Quay: Ponsgate; Limit: 32 tonnes',)
    """
    found, columns = list[str](), list[str]()
    for line in (one.strip() for one in text.split("\n")):
        if _ROW.fullmatch(line):
            cells = [one.strip() for one in line[1:-1].split("|")]
            if not columns:
                columns = cells
            elif not _RULE.fullmatch(line):
                named = zip(columns, cells, strict=False)
                found.append("; ".join(f"{name}: {cell}" if name else cell for name, cell in named))
        elif line:
            columns = []
            if not _HEADING.match(line):
                found += _sentences(line)
    return tuple(found) or ((text.strip(),) if text.strip() else ())


def _sentences(line: str) -> list[str]:
    found, begin = list[str](), 0
    for match in _SENTENCE_END.finditer(line):
        if len(line[begin : match.start()].split()) >= _LEAST_WORDS:
            found.append(line[begin : match.end()].strip())
            begin = match.end()
    return [*found, line[begin:].strip()]


def with_title(title: str, unit: str) -> str:
    """Return a unit behind its document's title."""
    return f"{title}: {unit}" if title else unit
