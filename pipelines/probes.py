"""What a version keeps beside its documents: facts to ask for, and documents in other words.

Both are stored as documents of kind "probe", so that they are erased with what they came from;
their source says which they are.
"""

from __future__ import annotations

from typing import Protocol

FACT_SOURCE = "facts asked in other words"
REWORDINGS_SOURCE = "documents in other words"


class _Kept(Protocol):
    """A document, stored or to be stored."""

    @property
    def kind(self) -> str: ...

    @property
    def source(self) -> str: ...


def holds_fact(document: _Kept) -> bool:
    """Return whether a document is a fact, kept to be asked for; `read_fact` reads it."""
    return document.kind == "probe" and document.source == FACT_SOURCE


def holds_rewordings(document: _Kept) -> bool:
    """Return whether a document is another one in other words; `read_kept` reads it."""
    return document.kind == "probe" and document.source == REWORDINGS_SOURCE
