"""What of a corpus an ingest may learn: all but what was erased exactly from its domain.

It is left out before anything else is decided, so that a store that erased and is given a folder
again is the store that was given the folder without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.documents import SourceDocument
from pipelines.facts import Fact
from pipelines.rewordings import Rewordings
from stores import Registry


@dataclass(frozen=True)
class Unerased:
    """A corpus without what was erased."""

    documents: Sequence[SourceDocument]
    facts: Sequence[Fact]
    rewordings: Rewordings | None
    num_erased: int
    """Documents and facts that were left out, each once."""


def leave_out_erased(
    registry: Registry,
    domain: str,
    documents: Sequence[SourceDocument],
    facts: Sequence[Fact],
    rewordings: Rewordings | None = None,
    *,
    learn_erased: bool,
) -> Unerased:
    """Return what of a corpus may be learned.

    Args:
        registry: an open store.
        domain: the domain's name, new or known.
        documents: the corpus.
        facts: given besides.
        rewordings: by the id of the document; those of what is left out go with it.
        learn_erased: leave nothing out.
    """
    fact_ids = [fact.document("").document_id for fact in facts]
    given = [*(document.document_id for document in documents), *fact_ids]
    erased = frozenset[str]() if learn_erased else registry.erased.among(domain, given)
    if not erased:
        return Unerased(documents, facts, rewordings, 0)
    return Unerased(
        documents=[d for d in documents if d.document_id not in erased],
        facts=[f for f, key in zip(facts, fact_ids, strict=True) if key not in erased],
        rewordings=rewordings
        and {key: said for key, said in rewordings.items() if key not in erased},
        num_erased=len(erased),
    )
