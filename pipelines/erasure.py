"""Masked erasure: a document's own rows are switched off at once, and what it costs is measured.

It is quick and reversible, and it is no proof: rows are shared, so something of the document stays
in the others and something of others goes with its own. `pipelines.retraining` is exact.

A document's own rows are those without which its loss would rise most (`pipelines.attribution`).
Where no text is kept to ask, they are those that it uses much and few others use (tf-idf).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from torch import Tensor

from peer_cl.bases import within_context
from peer_cl.errors import InputError, PeerError, StateError
from peer_cl.pool import Segment as LoadedSegment
from pipelines.attribution import row_costs
from pipelines.batches import pieces, tokenise
from pipelines.erasure_effect import Effect, measure_effect
from pipelines.erasure_targets import check_erasable, live_documents
from pipelines.holders import document_rows
from pipelines.loading import empty_model, load_chain, load_store_base
from pipelines.masks import Mask
from pipelines.progress import Progress, no_progress
from pipelines.token_scores import MAX_TOKENS
from stores import Document, NewRun, NewSegment, Registry, Segment
from stores.records import MASK, ROWS
from stores.words import check_words

if TYPE_CHECKING:
    from peer_cl.model import PeerModel
    from pipelines.store import Store

MASK_ROWS = 80
"""How many rows of a document are switched off, over all host layers."""
EACH = "rows_each"
"""In the record of a mask: how many rows of each document were asked for. Older ones lack it."""


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


def erase_masked(
    store: Store,
    domain: str,
    document_ids: str | Sequence[str],
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
        document_ids: full ids of documents (or of one) that its live version learned.
        num_rows: at most so many rows of each document.
        why: written beside the act.
        progress: told how far the measuring is.

    Raises:
        InputError: when `why` cannot be kept, or no row is to be switched off.
        UnknownError, FrozenError, StateError: when there is nothing to switch off, or the domain
            may not be erased from; a StateError too where the mask holds and could not be measured,
            which it says.
    """
    check_words("why", why)
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
            num_rows=num_rows,
        )
        snapshot = registry.regrow(domain, state.version, state.version, [segment], store.who, why)
    now = snapshot.state(domain)
    label = now.label if now is not None else ""
    versions = (state.version, segment.segment_id)
    effect = None
    if all(document.text_object is not None for document in documents):
        with _holding(domain, label):
            effect = measure_effect(registry, domain, versions, documents, progress)
    return MaskedErasure(
        domain=domain,
        version=segment.segment_id,
        label=label,
        snapshot_id=snapshot.id,
        document_ids=tuple(document.document_id for document in documents),
        num_rows=mask.num_rows,
        effect=effect,
    )


@contextmanager
def _holding(domain: str, label: str) -> Iterator[None]:
    """Say that a mask holds where it cannot be measured, or not to the end: whoever asks for it
    again has further rows switched off."""
    holds = (
        f"the mask holds, as {domain} {label}, and was not measured; `peer-cl rollback {domain}` "
        "takes it back"
    )
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(holds) from None
    except (PeerError, OSError) as error:
        raise StateError(f"{holds} ({error})") from error


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
    for document in documents:
        _check_recorded(registry, domain, document)
    if all(document.text_object is not None for document in documents):
        every = _by_cost(registry, domain, chain, documents)
    else:
        every = _by_use(registry, documents)
    rows: dict[tuple[str, int], list[int]] = {}
    for document, own in zip(documents, every, strict=True):
        if not own:
            raise StateError(
                f"{_named([document])} has no row of its own that is on: what it uses serves the "
                f"other documents as well; {_other_way(registry, domain)}"
            )
        for layer, row in own[:num_rows]:
            rows.setdefault((document.segment_id, layer), []).append(row)
    mask = Mask.of(rows)
    for older in chain:
        if older.kind == MASK:
            mask = mask.without(Mask.from_bytes(registry.objects.read(older.pool_object)).rows)
    if not mask.num_rows:
        more = "more of them with --rows, or " if any(len(own) > num_rows for own in every) else ""
        raise StateError(
            f"the {sum(map(len, rows.values()))} rows of {_named(documents)} are off already; "
            f"{more}{_other_way(registry, domain)}"
        )
    return mask


def _other_way(registry: Registry, domain: str) -> str:
    """Return what else takes a document out."""
    if registry.config.keep_text:
        return "erase with --exact"
    return f"`peer-cl rollback {domain}` takes back all that was learned with it"


def _by_use(registry: Registry, documents: Sequence[Document]) -> list[list[tuple[int, int]]]:
    """Return each document's own rows (host layer, row) by how few others use them, best first."""
    return [
        [(row.host_layer, row.row) for row in found if row.specificity > 0]
        for document in documents
        for found in [document_rows(registry, document.document_id, [document.segment_id])]
    ]


def _by_cost(
    registry: Registry, domain: str, chain: Sequence[Segment], documents: Sequence[Document]
) -> list[list[tuple[int, int]]]:
    """Return each document's own rows (host layer, row) by what they are worth to it, best first.

    A long document is read in pieces, as it was learned. Rows that are off already are worth
    nothing.
    """
    base = load_store_base(registry)
    model = empty_model(registry, base)
    loaded = load_chain(registry, domain, chain, model.identity)
    ids = [segment.id for segment in chain if segment.kind == ROWS]
    segments = dict(zip(ids, loaded, strict=True))
    texts = [(document.segment_id, registry.document_text(document)) for document in documents]
    found = rows_by_cost(model, base.tokenizer, segments, texts)
    model.detach()
    return found


def rows_by_cost(
    model: PeerModel,
    tokenizer: Any,
    segments: Mapping[str, LoadedSegment],
    texts: Sequence[tuple[str, str]],
) -> list[list[tuple[int, int]]]:
    """Return texts' own rows (host layer, row) by what they are worth to them, best first.

    Args:
        model: the store's; its own pools are not used.
        tokenizer: the base's.
        segments: of one domain, by id, the oldest first, with its masks on them.
        texts: each with the id of the segment that learned it, whose rows are asked for.
    """
    tokens = tokenise(tokenizer, [text for _, text in texts])
    found, longest = [], within_context(model.base, MAX_TOKENS)
    for (own_id, _), ids in zip(texts, tokens, strict=True):
        costs: dict[int, Tensor] = {}
        for piece in pieces(ids, longest):
            for (segment_id, layer), costs_N in row_costs(model, segments, piece).items():
                if segment_id == own_id:
                    costs[layer] = costs[layer] + costs_N if layer in costs else costs_N
        worth = [
            (cost, layer, row)
            for layer, costs_N in costs.items()
            for row, cost in enumerate(costs_N.tolist())
            if cost > 0
        ]
        worth.sort(key=lambda item: (-item[0], *item[1:]))
        found.append([(layer, row) for _, layer, row in worth])
    return found


def _check_recorded(registry: Registry, domain: str, document: Document) -> None:
    """Refuse a document of which no row is known.

    Raises:
        StateError: saying why.
    """
    if document.split != "train":
        raise StateError(
            f"{_named([document])} was held out of training ({document.split}), so no row holds "
            f"it; {_other_way(registry, domain)}"
        )
    if not registry.document_uses(document.document_id, [document.segment_id]):
        raise StateError(
            f"which rows {_named([document])} uses was not recorded when it was learned, by an "
            f"older version; {_other_way(registry, domain)}"
        )


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
    num_rows: int,
) -> NewSegment:
    """Return a mask as an element of a domain's chain; its object is stored, nothing registered.

    Args:
        registry: an open store.
        mask: what is off.
        domain: whose.
        parent: the version that it is laid over.
        signature_object: that version's.
        erases: ids of the documents that it is for.
        num_rows: at most so many rows of each were asked for; an exact erasure chooses them anew.
    """
    data = mask.to_bytes()
    return NewSegment(
        kind=MASK,
        domain=domain,
        parent=parent,
        run=NewRun(
            run_id=uuid.uuid4().hex,
            config={"erases": list(erases), "rows": mask.num_rows, EACH: num_rows},
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
