"""What a demo corpus is, and how documents are chosen for one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.documents import SourceDocument
from pipelines.facts import Fact


@dataclass(frozen=True)
class DemoCorpus:
    """A domain's documents and facts.

    `documents` are texts only, not yet divided into training and test; `facts` become further
    training documents (`Fact.document`). `notice` says whose data this is.
    """

    domain: str
    documents: tuple[SourceDocument, ...]
    facts: tuple[Fact, ...]
    notice: str

    def fact_documents(self) -> tuple[SourceDocument, ...]:
        """Return the facts as documents to train on."""
        return tuple(fact.document(f"{self.domain} facts") for fact in self.facts)


def choose_documents(
    documents: Iterable[SourceDocument], num_tokens: int, *, characters_per_token: float
) -> tuple[SourceDocument, ...]:
    """Return whole groups of documents, in an order that hashes decide, up to about `num_tokens`.

    Sections of one document come or stay away together. The order does not depend on the order of
    the source, so that a prefix is a fair sample of it.

    Args:
        documents: All that the source has.
        num_tokens: About how many tokens to choose.
        characters_per_token: How long a token of this source is; counting characters spares the
            choice a tokenizer, and with it a dependence on the base model.
    """
    groups: dict[str, list[SourceDocument]] = {}
    for document in documents:
        groups.setdefault(document.section_of or document.title, []).append(document)
    num_left = num_tokens * characters_per_token
    chosen: list[SourceDocument] = []
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if num_left <= 0:
            break
        chosen += groups[name]
        num_left -= sum(len(document.text) for document in groups[name])
    return tuple(chosen)
