"""Which held-out documents are unseen: no live pool learned them, nor a near copy of them.

A document that was held out may have been learned since, by its own domain or by another; and what
was learned may say nearly the same: a fact, another domain's copy with other marks, a text that
came as another one's rewording. Measured with every pool asked, none of these is unseen text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.documents import SAID
from pipelines.pinned import Learned
from pipelines.probes import holds_rewordings
from pipelines.progress import Progress, no_progress
from pipelines.rewordings import read_kept
from pipelines.splits import held_out_ids, near_copies
from stores import Document, Registry


@dataclass(frozen=True)
class HeldOut:
    """A domain's held-out documents whose texts are kept, those apart that are no unseen text."""

    unseen: tuple[Document, ...]
    texts: dict[str, str]
    """Of the unseen ones, by document id."""
    near_learned: tuple[str, ...]
    """Ids of those that no pool learned, but a near copy of which some live pool did."""


def held_out(
    registry: Registry, everything: Sequence[Learned], progress: Progress = no_progress
) -> dict[str, HeldOut]:
    """Return by domain its held-out documents that no segment was trained on.

    Texts that are not kept are neither measured nor compared.

    Args:
        registry: an open store.
        everything: the live domains and their versions.
        progress: told how many learned documents are compared.

    Raises:
        DamageError: when a text is damaged or missing.
    """
    every = {one.domain: registry.documents(one.domain, one.version) for one in everything}
    documents = list(itertools.chain.from_iterable(every.values()))
    unseen = held_out_ids(documents)
    texts = {
        document.document_id: registry.document_text(document)
        for document in documents
        if document.document_id in unseen and document.split == "test" and document.text_object
    }
    near = near_copies(texts, _said(registry, documents, progress) if texts else ())
    found = {}
    for domain, own in every.items():
        kept = [d for d in own if d.document_id in texts and d.split == "test"]
        measured = tuple(d for d in kept if d.document_id not in near)
        found[domain] = HeldOut(
            unseen=measured,
            texts={d.document_id: texts[d.document_id] for d in measured},
            near_learned=tuple(d.document_id for d in kept if d.document_id in near),
        )
    return found


def _said(registry: Registry, documents: Sequence[Document], progress: Progress) -> Iterator[str]:
    """Yield all that was learned: trained texts, statements of facts, and texts in other words."""
    trained = {d.document_id for d in documents if d.split == "train"}
    for number, document in enumerate(documents):
        if document.text_object is None:
            continue
        if document.document_id in trained and document.kind in SAID:
            yield registry.document_text(document)
        elif holds_rewordings(document):
            owner, rewordings = read_kept(registry.document_text(document))
            if owner in trained:
                yield from rewordings
        if number % 256 == 255 or number == len(documents) - 1:
            progress("looking for near copies", number + 1, len(documents), "")
