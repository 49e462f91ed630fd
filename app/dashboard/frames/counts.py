"""Texts, facts and questions counted apart: one number of documents says little of a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.documents import several
from pipelines.probes import holds_rewordings

if TYPE_CHECKING:
    from stores import Document

KINDS = {"text": "text", "fact": "fact", "probe": "question"}
"""What people call each kind of document; questions ask for facts in other words, as a test."""


def kind_in_words(document: Document) -> str:
    """Return what people call a document: "text", "fact", "question" or "rewordings"."""
    return "rewordings" if holds_rewordings(document) else KINDS.get(document.kind, document.kind)


def counted(documents: Iterable[Document], *, questions: bool = False) -> str:
    """Return how many texts were learned, how many facts, and how many texts are held out.

    Args:
        documents: of a domain.
        questions: count the test questions, too, which nothing learned, and the texts that were
            learned in other words besides.

    Returns: such as "4 texts learned, 1 fact, 2 texts held out".
    """
    found = Counter((kind_in_words(item), item.split == "train") for item in documents)
    parts = [(found["text", True], "text", " learned"), (found["fact", True], "fact", "")]
    parts.append((found["text", False], "text", " held out"))
    if questions:
        parts.append((found["question", False], "question", " to test with"))
        parts.append((found["rewordings", False], "text", " in other words too"))
    told = [f"{several(num, what)}{how}" for num, what, how in parts if num]
    return ", ".join(told) or "nothing"
