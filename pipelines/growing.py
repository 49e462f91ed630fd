"""Growing a segment on a chain: what an ingest does, and what an exact erasure does again."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peer_cl.bases import Base, within_context
from peer_cl.errors import CorpusError
from peer_cl.pool import Segment, check_modes
from peer_cl.signature import Signature
from peer_cl.words import Words
from pipelines.batches import Row
from pipelines.features import read_features
from pipelines.loading import kept_ordinary
from pipelines.ordinary import OrdinaryText
from pipelines.precision import resolve_precision
from pipelines.preparing import Chain, Learned
from pipelines.progress import LossNote, Progress, no_progress
from pipelines.recording import RecordedUse, record_use
from pipelines.settings import TrainingSettings
from pipelines.signatures import grow_signature, make_signature, words_of
from pipelines.states import signature_states
from pipelines.training import TrainedSegment, train_segment
from pipelines.training_rows import training_rows
from stores import NewDocument, NewRun, NewSegment, Registry, put_texts

if TYPE_CHECKING:
    from peer_cl.model import PeerModel

READ_TOKENS = 1024
"""Padded tokens a pass, where documents are only read."""


@dataclass(frozen=True)
class Grown:
    """A new segment: its objects are stored, nothing is registered."""

    new: NewSegment
    trained: TrainedSegment
    signature: Signature
    """Of the domain with this segment."""
    checkpoint: Path
    """To be removed once the segment is registered."""

    def on(self, chain: Chain) -> Chain:
        """Return a chain with this segment at its end."""
        return replace(
            chain,
            parent=self.new.segment_id,
            segments=(*chain.segments, self.trained.segment),
            signature=self.signature,
        )


def grow(
    registry: Registry,
    model: PeerModel,
    base: Base,
    chain: Chain,
    learned: Learned,
    settings: TrainingSettings,
    progress: Progress = no_progress,
) -> Grown:
    """Train a segment on a chain, record its use, and put its objects.

    Killed, the same call goes on from its last checkpoint.

    Args:
        registry: an open store; nothing is registered.
        model: the store's model, without pools.
        base: the same base.
        chain: what the segment grows on.
        learned: what it learns.
        settings: how.
        progress: told how far it is.

    Raises:
        DamageError: when training gave numbers that are not finite.
        UnsupportedError: when the new segment and an older one would keep each other from speaking.
    """
    began = time.monotonic()
    modes = [(segment.shape.mode, segment.host_layers) for segment in chain.segments]
    check_modes(chain.domain, [*modes, (settings.shape.mode, model.host_layers)])
    # "auto" may mean another thing elsewhere: record and checkpoint name what is used.
    settings = replace(
        settings,
        precision=resolve_precision(settings.precision),
        max_tokens=within_context(base.model, settings.max_tokens),
    )
    checkpoint = _checkpoint(registry, chain, learned, settings)
    # A data loader draws too: the caller's own draws stay the same.
    with torch.random.fork_rng(devices=[]):
        trained, own, recorded = _learn(
            registry, model, base, learned, list(chain.segments), settings, checkpoint, progress
        )
    signature = own if chain.signature is None else grow_signature(chain.signature, own)
    # As it is read back, so that what grows on it does not depend on who grew it.
    signature = Signature.from_bytes(signature.to_bytes())
    data = trained.segment.to_bytes(base.identity)
    new = _new_segment(
        registry, chain, learned, trained, settings, data, signature, recorded, began
    )
    return Grown(new, trained, signature, checkpoint)


def _learn(
    registry: Registry,
    model: PeerModel,
    base: Base,
    learned: Learned,
    older: list[Segment],
    settings: TrainingSettings,
    checkpoint: Path,
    progress: Progress,
) -> tuple[TrainedSegment, Signature, RecordedUse]:
    """Read the documents, train the segment, record its use, and make the domain's signature."""
    staging = registry.layout.staging
    staging.mkdir(exist_ok=True)
    end_id = base.tokenizer.eos_token_id
    rows, others = training_rows(base.tokenizer, learned, settings)
    validation = learned.rows("validation", settings.max_tokens, None)
    precision = settings.precision
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
        rows=[*rows, *others],
        validation=validation,
        features=features,
        settings=settings,
        end_id=end_id if end_id is not None else 0,
        ordinary=_ordinary(registry, settings),
        checkpoint=checkpoint,
        progress=lambda step, total, loss: progress("training", step, total, LossNote(loss)),
    )
    recorded = record_use(
        model.attachment,
        trained.segment,
        older=older,
        rows=rows,
        others=others,
        positions={d.document_id: n for n, d in enumerate(learned.documents)},
        features=features,
        tokens_per_step=READ_TOKENS,
        end_id=end_id,
        precision=precision,
        progress=lambda done, total: progress("recording use", done, total, ""),
    )
    words = _words(model, learned, rows, others)
    signature = _signature(model, rows, states, validation, settings, words)
    return trained, signature, recorded


def _ordinary(registry: Registry, settings: TrainingSettings) -> OrdinaryText | None:
    """Return ordinary text, where the run looks at it and it is kept."""
    return kept_ordinary(registry) if settings.quiet_weight or settings.kl_weight else None


def _words(
    model: PeerModel, learned: Learned, rows: Sequence[Row], others: Sequence[Row]
) -> Words | None:
    """Return the words of what is learned; None: the store was made before words counted."""
    if model.background is None or model.background.words is None:
        return None
    ordinary = model.background.words
    return words_of(ordinary, rows, others, learned.near_groups, set(model.special_ids.tolist()))


def _signature(
    model: PeerModel,
    rows: Sequence[Row],
    states: Sequence[Tensor],
    validation: Sequence[Row],
    settings: TrainingSettings,
    words: Words | None,
) -> Signature:
    if model.background is None:
        raise CorpusError("the store holds no background statistics; make it anew")
    own = signature_states(
        model.attachment,
        [row.ids for row in validation],
        "",
        no_progress,
        precision=settings.precision,
    ) or [s for s, row in zip(states, rows, strict=True) if row.kind == "text"]
    return make_signature(model.background, states, own, settings.seed, words)


def _checkpoint(
    registry: Registry, chain: Chain, learned: Learned, settings: TrainingSettings
) -> Path:
    """Return the file of a run's checkpoint: named by all that the run depends on."""
    about = json.dumps(
        [
            chain.domain,
            [segment.sha256() for segment in chain.segments],
            [d.document_id for d in learned.documents],
            [asdict(learned.facts[key]) for key in sorted(learned.facts)],
            sorted(learned.rewordings.items()),
            sorted(learned.splits.items()),
            settings.record(),
        ],
        sort_keys=True,
    )
    return registry.layout.checkpoint(chain.domain, hashlib.sha256(about.encode()).hexdigest())


def _new_segment(
    registry: Registry,
    chain: Chain,
    learned: Learned,
    trained: TrainedSegment,
    settings: TrainingSettings,
    data: bytes,
    signature: Signature,
    recorded: RecordedUse,
    began: float,
) -> NewSegment:
    """Put the objects and describe the segment; nothing is registered yet."""
    objects, segment = registry.objects, trained.segment
    return NewSegment(
        segment_id=uuid.uuid4().hex,
        domain=chain.domain,
        parent=chain.parent,
        run=NewRun(
            run_id=uuid.uuid4().hex,
            config={**settings.record(), **learned.left_out.record()},
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
        documents=_new_documents(registry, learned, recorded),
        uses=recorded.uses,
        use_object=objects.put_bytes(recorded.to_bytes()),
    )


def _new_documents(
    registry: Registry, learned: Learned, recorded: RecordedUse
) -> list[NewDocument]:
    texts: list[Any] = [None] * len(learned.documents)
    if registry.config.keep_text:
        texts = list(put_texts(registry.objects, [d.text for d in learned.documents]))
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
