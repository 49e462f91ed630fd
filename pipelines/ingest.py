"""Ingest: a corpus becomes a new segment of a domain, in one commit or not at all."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from peer_cl.bases import Base
from peer_cl.errors import CorpusError
from peer_cl.pool import Segment
from peer_cl.signature import Signature
from pipelines.batches import Row, pieces, tokenise
from pipelines.corpora import BadRowPolicy, check_domain_name, read_corpus
from pipelines.documents import SourceDocument, normalised_text
from pipelines.fact_rows import varied_rows, with_answers
from pipelines.facts import Fact
from pipelines.features import TAP_FILE, read_features
from pipelines.loading import empty_model, load_chain, load_store_base
from pipelines.precision import resolve_precision
from pipelines.progress import Progress, no_progress
from pipelines.recording import RecordedUse, record_use
from pipelines.settings import TrainingSettings
from pipelines.signatures import grow_signature, make_signature
from pipelines.splits import Split, split_documents
from pipelines.states import signature_states
from pipelines.training import TrainedSegment, train_segment
from stores import NewDocument, NewRun, NewSegment, put_texts

if TYPE_CHECKING:
    from peer_cl.model import PeerModel
    from pipelines.store import Store

READ_TOKENS = 1024
"""Padded tokens a pass, where documents are only read."""
PROBE_SOURCE = "facts asked in other words"


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did."""

    domain: str
    version: str
    label: str
    snapshot_id: int
    num_documents: dict[str, int]
    """By split: train, validation, test."""
    num_tokens: int
    """Tokens read in training, all passes."""
    num_steps: int
    num_duplicates: int
    """Documents left out: the domain holds them already, or the corpus holds them twice."""
    num_elsewhere: int
    """Documents that another domain holds too, or that were rolled back; learned all the same."""
    num_skipped: int
    """Rows of a jsonl file that could not be read and were skipped."""
    size_bytes: int
    first_loss_nats: float
    last_loss_nats: float
    seconds: float


@dataclass(frozen=True)
class _Learned:
    """A corpus, ready to be trained on."""

    documents: list[SourceDocument]
    splits: dict[str, str]
    near_groups: dict[str, str]
    ids: dict[str, list[int]]
    num_duplicates: int
    elsewhere: dict[str, tuple[str, ...]]
    num_skipped: int
    facts: dict[str, Fact]
    """What fact documents say, by document id."""

    def of(self, split: str, kinds: Iterable[str] = ("text", "fact")) -> list[SourceDocument]:
        """Return the documents of a split."""
        return [
            d for d in self.documents if self.splits[d.document_id] == split and d.kind in kinds
        ]

    def rows(self, split: str, max_tokens: int, end_id: int | None) -> list[Row]:
        """Return a split as rows; with an end token where one is given, so that texts end."""
        rows = []
        for document in self.of(split):
            ids = self.ids[document.document_id]
            ids = [*ids, end_id] if end_id is not None else ids
            for piece in pieces(ids, max_tokens):
                rows.append(Row(document.document_id, document.kind, piece))
        return rows


def ingest(
    store: Store,
    domain: str,
    corpus: str | Path | Sequence[SourceDocument],
    *,
    facts: Sequence[Fact] = (),
    settings: TrainingSettings | None = None,
    why: str = "",
    on_bad_row: BadRowPolicy = "stop",
    progress: Progress = no_progress,
) -> IngestReport:
    """Learn a corpus as a new segment of a domain.

    Everything is prepared in staging; one transaction then adds the segment, its documents and a
    new snapshot. Killed before it, the store is as it was, and the same ingest goes on from its
    last checkpoint.

    Args:
        store: an open store.
        domain: a new or known domain's name.
        corpus: a file or folder (txt, md, jsonl), or documents.
        facts: learned as further documents, in half of their readings with the words around the
            subject changed at random; their rewordings are never learned, but kept to ask.
        settings: how the segment is trained.
        why: written beside the act.
        on_bad_row: "stop" or "skip", for rows of jsonl files that cannot be read.
        progress: told how far it is.

    Raises:
        CorpusError: when nothing can be learned from the corpus.
        FrozenError, StateError: when the domain may not grow now.
        DamageError: when training gave numbers that are not finite; nothing is registered.
    """
    began, settings = time.monotonic(), settings or TrainingSettings()
    check_domain_name(domain)
    registry = store.registry
    with registry.writing(store.who):
        state = registry.live().state(domain)
        parent = state.version if state is not None else None
        registry.check_growth(domain, parent)
        documents, num_skipped = _read(corpus, on_bad_row)
        base = load_store_base(registry)
        learned = _prepare(store, domain, documents, facts, base, num_skipped)
        model = empty_model(registry, base)
        chain = registry.chain(parent) if parent else ()
        older = load_chain(registry, domain, chain, base.identity)
        trained, signature, recorded = _learn(
            store, model, base, learned, older, settings, (domain, parent), progress
        )
        if chain:
            earlier = Signature.from_bytes(registry.objects.read(chain[-1].signature_object))
            signature = grow_signature(earlier, signature)
        data = trained.segment.to_bytes(base.identity)
        segment = _new_segment(
            store, domain, parent, learned, trained, settings, data, signature, recorded, began
        )
        snapshot = registry.add_segment(segment, store.who, why)
        _checkpoint(store, learned, settings, (domain, parent)).unlink(missing_ok=True)
    model.detach()
    now = snapshot.state(domain)
    counts = Counter(learned.splits[d.document_id] for d in learned.documents if d.kind != "probe")
    return IngestReport(
        domain=domain,
        version=segment.segment_id,
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        num_documents=dict(counts),
        num_tokens=trained.num_tokens,
        num_steps=trained.num_steps,
        num_duplicates=learned.num_duplicates,
        num_elsewhere=len(learned.elsewhere),
        num_skipped=num_skipped,
        size_bytes=len(data),
        first_loss_nats=trained.losses[0][1],
        last_loss_nats=trained.losses[-1][1],
        seconds=time.monotonic() - began,
    )


def _read(
    corpus: str | Path | Sequence[SourceDocument], on_bad_row: BadRowPolicy
) -> tuple[list[SourceDocument], int]:
    if not isinstance(corpus, (str, Path)):
        return list(corpus), 0
    found = read_corpus(Path(corpus), on_bad_row=on_bad_row)
    return list(found.documents), found.num_skipped


def _prepare(
    store: Store,
    domain: str,
    documents: Sequence[SourceDocument],
    facts: Sequence[Fact],
    base: Base,
    num_skipped: int,
) -> _Learned:
    """Leave out what the domain holds, divide the rest, and tokenise it."""
    known = store.registry.known_documents(domain)
    fact_documents = [fact.document(f"{domain} facts") for fact in facts]
    fresh: dict[str, SourceDocument] = {}
    for document in [*documents, *fact_documents]:
        if document.document_id not in known:
            fresh.setdefault(document.document_id, document)
    num_all = len(documents) + len(fact_documents)
    if not fresh:
        raise CorpusError(
            f"nothing new for {domain!r}: all {num_all} documents are in its live version already"
        )
    probes = [
        SourceDocument(json.dumps(asdict(f), sort_keys=True), f.subject, PROBE_SOURCE, "probe")
        for f in facts
        if f.document("").document_id in fresh
    ]
    kept = [*fresh.values(), *probes]
    splits = split_documents(kept, known=_known(store, domain))
    ids = tokenise(base.tokenizer, [normalised_text(document.text) for document in kept])
    learned = _Learned(
        documents=kept,
        splits=dict(splits.split),
        near_groups=dict(splits.near_group),
        ids={d.document_id: row for d, row in zip(kept, ids, strict=True)},
        num_duplicates=num_all - len(fresh),
        elsewhere=store.registry.elsewhere(list(fresh), domain),
        num_skipped=num_skipped,
        facts={key: f for f in facts if (key := f.document("").document_id) in fresh},
    )
    if not learned.of("train"):
        raise CorpusError(
            f"{len(fresh)} documents are too few: after setting test documents aside none is left "
            "to train on; add documents"
        )
    return learned


def _known(store: Store, domain: str) -> list[tuple[SourceDocument, Split]]:
    """Return the texts that the domain's live version holds, with their sides.

    Where a store keeps no texts there is nothing to compare new ones with.
    """
    registry = store.registry
    if registry.live().state(domain) is None:
        return []
    return [
        (
            SourceDocument(
                text=registry.document_text(document),
                title=document.title,
                source=document.source,
                section_of=document.section_of,
            ),
            cast(Split, document.split),
        )
        for document in registry.documents(domain, kind="text")
        if document.text_object is not None
    ]


def _learn(
    store: Store,
    model: PeerModel,
    base: Base,
    learned: _Learned,
    older: list[Segment],
    settings: TrainingSettings,
    place: tuple[str, str | None],
    progress: Progress,
) -> tuple[TrainedSegment, Signature, RecordedUse]:
    """Read the documents, train the segment, record its use, and make the domain's signature."""
    staging = store.registry.layout.staging
    staging.mkdir(exist_ok=True)
    end_id = base.tokenizer.eos_token_id
    rows = learned.rows("train", settings.max_tokens, end_id)
    rows = with_answers(base.tokenizer, rows, learned.facts)
    texts = [document.text for document in learned.of("train", ("text",))]
    varied = varied_rows(base.tokenizer, learned.facts, texts, settings, end_id)
    validation = learned.rows("validation", settings.max_tokens, None)
    precision = resolve_precision(settings.precision)
    try:
        features, states = read_features(
            model.attachment,
            rows,
            folder=staging,
            tokens_per_step=READ_TOKENS,
            end_id=end_id,
            precision=precision,
            progress=lambda done, total: progress("reading documents", done, total, ""),
        )
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            segment = model.new_segment(settings.shape)
        trained = train_segment(
            model.attachment,
            segment,
            older=older,
            rows=[*rows, *varied],
            validation=validation,
            features=features,
            settings=settings,
            end_id=end_id if end_id is not None else 0,
            checkpoint=_checkpoint(store, learned, settings, place),
            progress=lambda step, total, loss: progress(
                "training", step, total, f"loss {loss:.3f} nats"
            ),
        )
        recorded = record_use(
            model.attachment,
            trained.segment,
            older=older,
            rows=rows,
            positions={d.document_id: n for n, d in enumerate(learned.documents)},
            features=features,
            tokens_per_step=READ_TOKENS,
            end_id=end_id,
            precision=precision,
            progress=lambda done, total: progress("recording use", done, total, ""),
        )
    finally:
        (staging / TAP_FILE).unlink(missing_ok=True)
    return trained, _signature(model, learned, rows, states, validation, settings), recorded


def _signature(
    model: PeerModel,
    learned: _Learned,
    rows: Sequence[Row],
    states: Sequence[Tensor],
    validation: Sequence[Row],
    settings: TrainingSettings,
) -> Signature:
    if model.background is None:
        raise CorpusError("the store holds no background statistics; make it anew")
    own = signature_states(
        model.attachment,
        [row.ids for row in validation],
        "",
        no_progress,
        precision=resolve_precision(settings.precision),
    ) or [s for s, row in zip(states, rows, strict=True) if row.kind == "text"]
    return make_signature(model.background, states, own, settings.seed)


def _checkpoint(
    store: Store, learned: _Learned, settings: TrainingSettings, place: tuple[str, str | None]
) -> Path:
    """Return the file of a run's checkpoint: named by all that the run depends on."""
    about = json.dumps(
        [
            place,
            [d.document_id for d in learned.documents],
            [asdict(learned.facts[key]) for key in sorted(learned.facts)],
            settings.to_dict(),
        ],
        sort_keys=True,
    )
    name = hashlib.sha256(about.encode()).hexdigest()[:32]
    return store.registry.layout.staging / f"run-{name}.safetensors"


def _new_segment(
    store: Store,
    domain: str,
    parent: str | None,
    learned: _Learned,
    trained: TrainedSegment,
    settings: TrainingSettings,
    data: bytes,
    signature: Signature,
    recorded: RecordedUse,
    began: float,
) -> NewSegment:
    """Put the objects and describe the segment; nothing is registered yet."""
    objects, segment = store.registry.objects, trained.segment
    return NewSegment(
        segment_id=uuid.uuid4().hex,
        domain=domain,
        parent=parent,
        run=NewRun(
            run_id=uuid.uuid4().hex,
            config=settings.to_dict(),
            losses=list(trained.losses),
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - began,
        ),
        pool_object=objects.put_bytes(data),
        signature_object=objects.put_bytes(signature.to_bytes()),
        host_layers=segment.host_layers,
        num_experts=segment.shape.num_experts * len(segment.host_layers),
        size_bytes=len(data),
        num_tokens=sum(len(learned.ids[d.document_id]) - 1 for d in learned.of("train")),
        documents=_new_documents(store, learned, recorded),
        uses=recorded.uses,
        use_object=objects.put_bytes(recorded.to_bytes()),
    )


def _new_documents(store: Store, learned: _Learned, recorded: RecordedUse) -> list[NewDocument]:
    texts: list[Any] = [None] * len(learned.documents)
    if store.registry.config.keep_text:
        texts = list(
            put_texts(store.registry.objects, [normalised_text(d.text) for d in learned.documents])
        )
    return [
        NewDocument(
            document_id=document.document_id,
            title=document.title,
            source=document.source,
            split=learned.splits[document.document_id],
            kind=document.kind,
            num_tokens=len(learned.ids[document.document_id]) - 1,
            text_object=text,
            near_group=learned.near_groups[document.document_id],
            section_of=document.section_of,
            base_nats=base_nats,
            nats=nats,
        )
        for document, text in zip(learned.documents, texts, strict=True)
        for base_nats, nats in [recorded.losses.get(document.document_id, (None, None))]
    ]
