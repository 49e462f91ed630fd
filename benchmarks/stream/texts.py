"""What every method reads after each domain: unseen documents, and text of no domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.stream.data import Prepared
from pipelines import demo_corpora
from pipelines.background import load_background
from pipelines.batches import tokenise

BLOCK = 128
"""Tokens of a document of one length, the start token left out."""
FOREIGN_TOKENS = 128
"""Documents of foreign sources are cut here."""
FOREIGN_DOCUMENTS = 30
"""Of each foreign source."""
MOST_BLOCKS = 16
"""Of each domain."""

Texts = dict[str, list[tuple[int, ...]]]
"""Token ids, the start token first, by group: KIND/NAME."""


def unseen(domains: Sequence[Prepared]) -> Texts:
    """Return each domain's unseen documents, scored alone: test/NAME."""
    return {f"test/{one.name}": [item.ids for item in one.test] for one in domains}


def blocks(domains: Sequence[Prepared], tokenizer: Any, length: int = BLOCK) -> Texts:
    """Return each domain's unseen text as documents of one length: blocksLENGTH/NAME.

    Unseen documents follow each other with an empty line between; a rest that is too short is left
    out.
    """
    gap = tuple(tokenizer("\n\n", add_special_tokens=False).input_ids)
    return {
        f"blocks{length}/{one.name}": cut([item.ids for item in one.test], gap, length)[
            :MOST_BLOCKS
        ]
        for one in domains
    }


def foreign(tokenizer: Any, names: Sequence[str], most: int = FOREIGN_DOCUMENTS) -> Texts:
    """Return text of no domain, from sources that no threshold saw: prose/NAME, look-alike/NAME.

    Sources of pipelines/sources.toml that are a domain of the stream here are left out. Entries of
    the Human Phenotype Ontology, which are no domain here, are a hard look-alike of diseases.

    Args:
        tokenizer: the base's.
        names: of the stream's domains.
        most: documents of each source.
    """
    found = {
        f"{source.kind}/{source.name}": source.documents[:most]
        for source in load_background("test")
        if source.name not in names and not (source.name == "elements" and "minerals" in names)
    }
    terms = demo_corpora.load("medicine").documents[:most]
    found["look-alike/phenotypes"] = [document.text for document in terms]
    return {
        group: [tuple(ids[: FOREIGN_TOKENS + 1]) for ids in tokenise(tokenizer, texts)]
        for group, texts in found.items()
    }


def cut(
    documents: Sequence[tuple[int, ...]], gap: tuple[int, ...], length: int
) -> list[tuple[int, ...]]:
    """Return documents one after the other, cut into rows of `length` tokens after the start."""
    if not documents:
        return []
    start, stream = documents[0][0], [token for ids in documents for token in (*ids[1:], *gap)]
    ends = range(length, len(stream) + 1, length)
    return [(start, *stream[end - length : end]) for end in ends]
