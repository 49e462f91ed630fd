"""Masked erasure: a document's own rows are switched off at once, and what it costs is measured.

It is quick and reversible, and it is no proof: rows are shared, so something of the document stays
in the others and something of others goes with its own. `pipelines.retraining` is exact.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from peer_cl.errors import InputError, StateError
from pipelines.erasure_effect import Effect, measure_effect
from pipelines.erasure_targets import check_erasable, live_documents
from pipelines.masks import Mask
from pipelines.progress import Progress, no_progress
from stores import Document, DocumentUse, ExpertUse, NewRun, NewSegment, Registry, Segment
from stores.records import MASK

if TYPE_CHECKING:
    from pipelines.store import Store

MASK_ROWS = 80
"""How many rows of a document are switched off, over all host layers."""


@dataclass(frozen=True)
class MaskedErasure:
    """What was switched off."""

    domain: str
    version: str
    label: str
    snapshot_id: int
    document_ids: tuple[str, ...]
    num_rows: int
    """Rows that are off and were on before."""
    effect: Effect | None
    """None where texts are not kept: it could not be measured."""


def specific_rows(
    uses: Sequence[DocumentUse],
    experts: Sequence[ExpertUse],
    num_documents: int,
    num_rows: int = MASK_ROWS,
) -> dict[tuple[str, int], list[int]]:
    """Return the rows that a document uses most and others least, over all host layers.

    As words are weighed in retrieval (tf-idf): its router weight on a row, times the log of how
    many documents there are over how many use the row. A row that all use is nobody's own.

    Args:
        uses: the document's, of its segment, one a host layer.
        experts: the use of the segment's rows by all its documents.
        num_documents: how many documents the segment learned.
        num_rows: at most so many rows.

    Returns:
        row numbers, ascending, by (segment's id, host layer).
    """
    held = {(e.segment_id, e.host_layer, e.row): e.num_documents for e in experts}
    scored = []
    for use in uses:
        for row, weight in zip(use.rows.tolist(), use.weights.tolist(), strict=True):
            place = (use.segment_id, use.host_layer, row)
            score = weight * math.log(num_documents / held.get(place, num_documents))
            if score > 0:
                scored.append((-score, place))
    found: dict[tuple[str, int], list[int]] = {}
    for _, (segment_id, layer, row) in sorted(scored)[:num_rows]:
        found.setdefault((segment_id, layer), []).append(row)
    return {place: sorted(rows) for place, rows in sorted(found.items())}


def erase_masked(
    store: Store,
    domain: str,
    document_ids: Sequence[str],
    *,
    num_rows: int = MASK_ROWS,
    why: str = "",
    progress: Progress = no_progress,
) -> MaskedErasure:
    """Switch off the rows that are documents' own, as a new version of their domain.

    `roll_back` takes it back. The mask holds before its effect is measured.

    Args:
        store: an open store.
        domain: a live domain.
        document_ids: full ids of documents that its live version learned.
        num_rows: at most so many rows of each document.
        why: written beside the act.
        progress: told how far the measuring is.

    Raises:
        UnknownError, FrozenError, StateError: when there is nothing to switch off, or the domain
            may not be erased from.
    """
    if num_rows < 1:
        raise InputError(f"a mask wants at least 1 row of each document, not {num_rows}")
    registry = store.registry
    with registry.writing(store.who):
        state = check_erasable(registry, domain)
        documents = live_documents(registry, domain, document_ids)
        chain = registry.chain(state.version)
        mask = _new_mask(registry, domain, chain, documents, num_rows)
        segment = mask_segment(
            registry,
            mask,
            domain=domain,
            parent=state.version,
            signature_object=chain[-1].signature_object,
            erases=[document.document_id for document in documents],
        )
        snapshot = registry.regrow(domain, state.version, state.version, [segment], store.who, why)
    now = snapshot.state(domain)
    versions = (state.version, segment.segment_id)
    is_kept = all(document.text_object is not None for document in documents)
    return MaskedErasure(
        domain=domain,
        version=segment.segment_id,
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        document_ids=tuple(document.document_id for document in documents),
        num_rows=mask.num_rows,
        effect=measure_effect(registry, domain, versions, documents, progress) if is_kept else None,
    )


def _new_mask(
    registry: Registry,
    domain: str,
    chain: Sequence[Segment],
    documents: Sequence[Document],
    num_rows: int,
) -> Mask:
    """Return what is to be switched off besides what is off already.

    Raises:
        StateError: when that is nothing; the message says why.
    """
    learned = Counter(d.segment_id for d in registry.documents(domain, split="train"))
    experts = {d.segment_id: registry.expert_uses([d.segment_id]) for d in documents}
    rows: dict[tuple[str, int], list[int]] = {}
    for document in documents:
        uses = _uses(registry, document)
        held, num_documents = experts[document.segment_id], learned[document.segment_id]
        own = specific_rows(uses, held, num_documents, num_rows)
        if not own:
            raise StateError(
                f"{_named([document])} has no row of its own: each one that it uses serves every "
                "document of its segment; erase with --exact"
            )
        for place, found in own.items():
            rows.setdefault(place, []).extend(found)
    mask = Mask.of(rows)
    for older in chain:
        if older.kind == MASK:
            mask = mask.without(Mask.from_bytes(registry.objects.read(older.pool_object)).rows)
    if not mask.num_rows:
        raise StateError(
            f"the {sum(map(len, rows.values()))} rows of {_named(documents)} are off already; more "
            "of them with --rows, or erase with --exact"
        )
    return mask


def _uses(registry: Registry, document: Document) -> tuple[DocumentUse, ...]:
    """Return which rows a document uses.

    Raises:
        StateError: when none is known; the message says why.
    """
    if document.split != "train":
        raise StateError(
            f"{_named([document])} was held out of training ({document.split}), so no row holds "
            "it; --exact makes the domain anew without it"
        )
    uses = registry.document_uses(document.document_id, [document.segment_id])
    if not uses:
        raise StateError(
            f"which rows {_named([document])} uses was not recorded when it was learned, by an "
            "older version; erase with --exact"
        )
    return uses


def _named(documents: Sequence[Document]) -> str:
    if len(documents) > 1:
        return f"these {len(documents)} documents"
    return f"document {documents[0].document_id[:12]}"


def mask_segment(
    registry: Registry,
    mask: Mask,
    *,
    domain: str,
    parent: str | None,
    signature_object: str,
    erases: Sequence[str],
) -> NewSegment:
    """Return a mask as an element of a domain's chain; its object is stored, nothing registered.

    Args:
        registry: an open store.
        mask: what is off.
        domain: whose.
        parent: the version that it is laid over.
        signature_object: that version's.
        erases: ids of the documents that it is for.
    """
    data = mask.to_bytes()
    return NewSegment(
        kind=MASK,
        domain=domain,
        parent=parent,
        run=NewRun(
            run_id=uuid.uuid4().hex,
            config={"erases": list(erases), "rows": mask.num_rows},
            losses=[],
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=0.0,
        ),
        pool_object=registry.objects.put_bytes(data),
        signature_object=signature_object,
        host_layers=mask.host_layers,
        num_experts=0,
        size_bytes=len(data),
        num_tokens=0,
        documents=[],
    )
