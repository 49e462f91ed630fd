"""A document as it comes from a source, and the id that its text gives it."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

DocumentKind = Literal["text", "fact", "probe"]
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
            section_of=None if self.section_of is None else composed_text(self.section_of),
        )


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


def document_id(text: str) -> str:
    r"""Return the sha256 (64 hex digits) of the normalised text.

    Example:
        >>> document_id("quartz\r\n") == document_id(" quartz")
        True
        >>> document_id("quartz") == document_id("Quartz")
        False
    """
    return hashlib.sha256(normalised_text(text).encode()).hexdigest()
