"""A document as it comes from a source, and the id that its text gives it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal, Protocol

DocumentKind = Literal["text", "fact", "probe"]
_LINE = re.compile(r"(\.jsonl):\d+$", re.IGNORECASE)
"""The end of the source of a row that names none of its own."""
SAID = ("text", "fact")
"""Kinds of what a domain says, beside the questions that are asked about it."""


@dataclass(frozen=True)
class SourceDocument:
    """A text that a domain may learn, with where it came from.

    `section_of` names the larger document of which this is a part; parts of one document are
    never divided between training and test.

    Example:
        >>> note = SourceDocument("Quartz is hard.\\r\\n", title="quartz", source="my notes")
        >>> note.document_id == document_id("Quartz is hard.")
        True
    """

    text: str
    title: str
    source: str
    kind: DocumentKind = "text"
    section_of: str | None = None
    has_own_title: bool = field(default=True, compare=False)
    """Whether the title is the document's; else it was made of the names of files, to tell it from
    others, and says nothing that the text does not."""

    @property
    def document_id(self) -> str:
        """Return the id of this document's text."""
        return document_id(self.text)

    def normalised(self) -> SourceDocument:
        r"""Return the document in the form in which it is kept: file systems decompose names.

        Example:
            >>> SourceDocument("It is.", "Cafe\u0301", "Cafe\u0301.txt").normalised().source
            'Café.txt'
        """
        return replace(
            self,
            text=normalised_text(self.text),
            title=composed_text(self.title),
            source=composed_text(self.source),
            section_of=composed_text(self.section_of or "").strip() or None,  # blank: of no file
        )


def several(num: int, what: str) -> str:
    """Return a number with what it counts.

    Example:
        >>> several(1, "document"), several(2000, "text")
        ('1 document', '2,000 texts')
    """
    return f"{num:,} {what}{'s' * (num != 1)}"


def counted(num_learned: int, num_held_out: int, num_facts: int, num_questions: int = 0) -> str:
    """Return what of a corpus or domain is told wherever its documents are counted.

    Args:
        num_learned: texts.
        num_held_out: texts.
        num_facts: all are learned.
        num_questions: about facts, to test with.

    Example:
        >>> counted(17, 12, 1, 1)
        '29 texts (17 learned, 12 held out), 1 fact, 1 question'
        >>> counted(1, 0, 0)
        '1 text (1 learned, 0 held out)'
    """
    sides = f"({num_learned:,} learned, {num_held_out:,} held out)"
    others = ((num_facts, "fact"), (num_questions, "question"))
    told = [several(num, what) for num, what in others if num]
    return ", ".join([f"{several(num_learned + num_held_out, 'text')} {sides}", *told])


class _Scored(Protocol):
    """A document that a run may have scored, the base alone and with the pool."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def base_nats(self) -> float | None: ...

    @property
    def nats(self) -> float | None: ...


def mean_losses(documents: Iterable[_Scored]) -> tuple[float | None, float | None]:
    """Return what documents cost a token before and after they were learned, on average, nats.

    None twice where none of them was learned: what is held out has no such losses.

    Example:
        >>> from types import SimpleNamespace as Scored
        >>> found = (3, 6.0, 4.0), (1, 2.0, 2.0)
        >>> mean_losses(Scored(num_tokens=n, base_nats=b, nats=own) for n, b, own in found)
        (5.0, 3.5)
    """
    found = [
        (one.num_tokens, one.base_nats, one.nats)
        for one in documents
        if one.base_nats is not None and one.nats is not None
    ]
    num = sum(tokens for tokens, _, _ in found)
    if not num:
        return None, None
    before = sum(tokens * nats for tokens, nats, _ in found)
    return before / num, sum(tokens * nats for tokens, _, nats in found) / num


def normalised_text(text: str) -> str:
    r"""Return the text in the form that is hashed and stored.

    Two files that differ only in line ends, outer blanks or the composition of accents hold the
    same document.

    Example:
        >>> normalised_text("  Cafe\u0301\r\nau lait\n")
        'Café\nau lait'
    """
    return composed_text(text).strip()


def composed_text(text: str) -> str:
    r"""Return a text with its accents composed and its lines ended alike, its outer blanks kept.

    Example:
        >>> composed_text("Cafe\u0301\r\n ")
        'Café\n '
    """
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def source_file(source: str) -> str:
    """Return the source of a document; of a line of a jsonl file, that of its file.

    Example:
        >>> source_file("cases/law.jsonl:13"), source_file("notes.txt")
        ('cases/law.jsonl', 'notes.txt')
    """
    return _LINE.sub(r"\1", source)


def section_label(source: str, heading: str) -> str:
    """Return what a section of a file is called, which has no title of its own beside its text."""
    stem = PurePosixPath(source).stem
    return f"{stem}: {heading}" if heading else stem


def line_label(source: str, number: int) -> str:
    """Return what a line of a file is called where nobody gave it a title."""
    return f"{PurePosixPath(source).stem}, line {number}"


def title_names(title: str, source: str) -> list[str]:
    """Return what a document is named by: a section also by its heading, which stands behind the
    name of its file; and by nothing where nobody gave a title and file and line stand in for it.

    Example:
        >>> title_names("handbook: Trusted Relationship", "tactics/handbook.md")
        ['handbook: Trusted Relationship', 'Trusted Relationship']
        >>> title_names("notes, line 3", "notes.jsonl:3")
        []
    """
    stem = PurePosixPath(source_file(source)).stem
    if re.fullmatch(rf"{re.escape(stem)}, line \d+", title):
        return []
    heading = title.removeprefix(f"{stem}: ")
    return [title, heading] if heading != title else [title]


def document_id(text: str) -> str:
    r"""Return the sha256 (64 hex digits) of the normalised text.

    Example:
        >>> document_id("quartz\r\n") == document_id(" quartz")
        True
        >>> document_id("quartz") == document_id("Quartz")
        False
    """
    return hashlib.sha256(normalised_text(text).encode()).hexdigest()
