"""Ingest: a corpus becomes a new segment of a domain, in one commit or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from peer_cl.bases import Base, within_context
from peer_cl.errors import CorpusError
from peer_cl.hooks import Hooks
from peer_cl.own import OwnExperts
from peer_cl.pool import Segment
from peer_cl.router import Background, RouterKey
from pipelines.batches import Row, pieces, tokenise
from pipelines.corpora import (
    LEARNED_KINDS,
    BadRowPolicy,
    CorpusSource,
    Skipped,
    SourceDocument,
    Split,
    read_corpus,
    several,
)
from pipelines.facts import Fact, checked_facts
from pipelines.keys import grow_router_key, make_router_key, read_texts, segment_words
from pipelines.loading import load_background_statistics, load_key, load_segments, load_store_base
from pipelines.own_training import background_words, fact_losses, needed_space, train_own
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.settings import TrainingSettings, resolve_precision
from pipelines.splits import Splits, percentages, split_documents
from pipelines.training import TrainingRun, train_segment
from pipelines.usage import RecordedUse, record_use
from stores.queries import Document
from stores.queries import Segment as StoredSegment
from stores.records import NewDocument, NewSegment, check_domain_name, check_text
from stores.registry import Registry

STATED_SPLITS = "stated_splits"
"""In a segment's config, beside the settings: the splits that the corpus itself demanded."""


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did."""

    domain: str
    version: str
    label: str
    snapshot_id: int
    num_documents: dict[str, int]
    """New texts and facts by split: train, validation, test."""
    num_learned_texts: int
    num_held_out_texts: int
    num_facts: int
    """Learned facts, each of which is also kept to be asked."""
    held_out_files: tuple[tuple[str, int], ...]
    """Files of several sections of which every new section is held out, and how many it has."""
    is_measurable: bool
    """Whether the domain now has a text to test with."""
    num_tokens: int
    """Tokens read in training, all passes."""
    num_steps: int
    num_duplicates: int
    """Documents left out: the domain holds them already, or the corpus holds them twice."""
    num_held_out_already: int
    """Of these, texts that the domain holds out and still does."""
    erased_ids: tuple[str, ...]
    """Documents of the corpus that were erased from the domain; left out."""
    skipped: tuple[Skipped, ...]
    """Malformed lines, and files that are no text."""
    other_files: tuple[tuple[str, int], ...]
    """Suffix and number of files in the folder that were not read."""
    size_bytes: int
    mean_losses_nats: dict[str, tuple[float, float]]
    """By kind (text, fact), of learned documents: loss a token of the base, and with the pool."""
    seconds: float


def ingest(
    registry: Registry,
    domain: str,
    corpus: CorpusSource,
    *,
    author: str,
    facts: Iterable[Fact] = (),
    settings: TrainingSettings | None = None,
    message: str = "",
    on_bad_row: BadRowPolicy = "stop",
    progress: Progress = no_progress,
) -> IngestReport:
    """Learn a corpus as a new segment of a new or known domain.

    Everything is prepared in staging; one transaction then adds the segment, its documents and a
    new snapshot. Stopped before it, the store is as it was, and the same ingest continues from its
    last checkpoint.

    Args:
        corpus: a file or folder (txt, md, jsonl), or documents.
        facts: each learned by experts of its own, half of its readings in changed wordings; their
            paraphrases are kept to be asked, and never learned.
        settings: of the training, and how much is held out.
        on_bad_row: "stop" or "skip", for malformed lines and files that are no text.

    Raises:
        InputError: when the domain's name or the message cannot be kept.
        CorpusError: when nothing can be learned, or a document or fact is malformed.
        FrozenError, StateError: when the domain may not grow now.
        DamageError: when training gave numbers that are not finite; nothing is registered.
    """
    began, settings = time.monotonic(), settings or TrainingSettings()
    check_domain_name(domain)
    check_text("message", message)
    queries = registry.queries
    with (
        registry.writing(author),
        recorded_run(registry, "ingest", domain, author, message, progress) as run,
    ):
        state = queries.live().state(domain)
        parent = None if state is None else state.version
        registry.check_growth(domain, parent)
        found = read_corpus(corpus, on_bad_row)
        given_facts = checked_facts(facts)
        erased = queries.erased(domain)
        documents = [one for one in found.documents if one.document_id not in erased]
        left_facts = [fact for fact in given_facts if fact.document_id not in erased]
        base = load_store_base(registry)
        chain = read_chain(registry, base, domain, queries.chain(parent) if parent else ())
        prepared = prepare(chain, documents, left_facts, base, settings.hold_out_percent)
        given_ids = {one.document_id for one in found.documents}
        given_ids |= {fact.document_id for fact in given_facts}
        erased_ids = tuple(sorted(given_ids & erased.keys()))
        _check_learnable(prepared, domain, len(erased_ids))
        learned_ids = [one.document_id for one in prepared.of(*LEARNED_KINDS)]
        grown = grow(registry, base, chain, prepared, settings, run.run_id, run.progress)
        snapshot = registry.add_segment(grown.new, author, message)
        run.snapshot_id = snapshot.id
        shutil.rmtree(grown.checkpoints, ignore_errors=True)
    now, texts = snapshot.state(domain), prepared.of("text")
    num_learned_texts = len(prepared.of("text", split="train"))
    return IngestReport(
        domain=domain,
        version=grown.new.segment_id,
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        num_documents=dict(Counter(prepared.splits.split[key] for key in learned_ids)),
        num_learned_texts=num_learned_texts,
        num_held_out_texts=len(texts) - num_learned_texts,
        num_facts=len(prepared.facts),
        held_out_files=_held_out_files(prepared),
        is_measurable=_is_measurable(chain, prepared),
        num_tokens=grown.run.num_tokens,
        num_steps=grown.run.num_steps,
        num_duplicates=prepared.num_duplicates,
        num_held_out_already=prepared.num_held_out_already,
        erased_ids=erased_ids,
        skipped=found.skipped,
        other_files=found.other_files,
        size_bytes=grown.new.size_bytes,
        mean_losses_nats=_mean_losses(grown.new.documents),
        seconds=time.monotonic() - began,
    )


# What a segment grows on, and what it learns: the same for an ingest and for an erasure.


@dataclass(frozen=True)
class Chain:
    """What a new segment of a domain grows on."""

    domain: str
    parent: str | None = None
    """The version; None: the domain begins."""
    segments: tuple[Segment, ...] = ()
    """Of its shared experts."""
    key: RouterKey | None = None
    """None: it holds no texts yet."""
    document_ids: frozenset[str] = frozenset()
    """Of all documents that the version holds."""
    held_out_ids: frozenset[str] = frozenset()
    """Of its texts that no segment was trained on."""
    known: tuple[tuple[SourceDocument, Split], ...] = ()
    """Its texts and facts with their sides; empty in a store that keeps no texts."""


def read_chain(registry: Registry, base: Base, domain: str, rows: Sequence[StoredSegment]) -> Chain:
    """Return what a new segment grows on: a chain's segments, the oldest first, or none at first.

    Raises: DamageError: when an object is damaged or missing.
    """
    if not rows:
        return Chain(domain)
    documents = registry.queries.documents(domain, rows[-1].id)
    kept = [one for one in documents if one.kind in LEARNED_KINDS and one.text_object is not None]
    known = [
        (_section_of(one.segment_id, stored_document(registry, one)), cast(Split, one.split))
        for one in kept
    ]
    trained = frozenset(one.document_id for one in documents if one.split == "train")
    texts = frozenset(one.document_id for one in documents if one.kind == "text")
    return Chain(
        domain=domain,
        parent=rows[-1].id,
        segments=tuple(load_segments(registry, domain, rows, base.identity)),
        key=load_key(registry, rows[-1]),
        document_ids=frozenset(one.document_id for one in documents),
        held_out_ids=texts - trained,
        known=_with_sides(known, trained),
    )


def stored_document(registry: Registry, document: Document) -> SourceDocument:
    """Return a stored document as it once came; UnsupportedError: the store keeps no texts."""
    return SourceDocument(
        text=registry.queries.document_text(document),
        title=document.title,
        source=document.source,
        kind=cast(Any, document.kind),
        section_of=document.section_of,
    )


def _section_of(segment_id: str, document: SourceDocument) -> SourceDocument:
    """Return a known document as a section within its own ingest alone.

    Sections are told by the names of files, and the next corpus may have another file of that name.
    """
    if document.section_of is None:
        return document
    return replace(document, section_of=f"{segment_id} {document.section_of}")


def _with_sides(
    known: Iterable[tuple[SourceDocument, Split]], trained: Collection[str]
) -> tuple[tuple[SourceDocument, Split], ...]:
    """Return known documents with their present side: some were held out, and then learned."""
    return tuple((one, "train" if one.document_id in trained else side) for one, side in known)


@dataclass(frozen=True)
class PreparedCorpus:
    """What of a corpus is new to a domain, divided and tokenised."""

    documents: list[SourceDocument]
    """Texts, facts, and the questions about these facts."""
    splits: Splits
    ids: dict[str, list[int]]
    """Token ids by document id, the start token first."""
    facts: dict[str, Fact]
    """By the id of the fact's document."""
    stated: dict[str, str]
    """Splits that the corpus itself demanded, by document id."""
    num_duplicates: int
    num_held_out_already: int

    def of(self, *kinds: str, split: str | None = None) -> list[SourceDocument]:
        """Return the documents of some kinds, of all splits or of one."""
        return [
            one
            for one in self.documents
            if one.kind in kinds and split in (None, self.splits.split[one.document_id])
        ]

    def rows(self, split: str, max_tokens: int, end_id: int | None) -> list[Row]:
        """Return the texts of a split as rows, each closed by an end token where one is given."""
        rows = []
        for document in self.of("text", split=split):
            ids = self.ids[document.document_id] + ([] if end_id is None else [end_id])
            rows += [Row(document.document_id, piece) for piece in pieces(ids, max_tokens)]
        return rows


def prepare(
    chain: Chain,
    documents: Sequence[SourceDocument],
    facts: Sequence[Fact],
    base: Base,
    hold_out_percent: float,
) -> PreparedCorpus:
    """Leave out what the domain holds, divide the rest, and tokenise it.

    What the domain holds out stays so, but for statements of facts, which are always trained on,
    and with a `hold_out_percent` of 0.
    """
    fact_documents = [fact.document(f"{chain.domain} facts") for fact in facts]
    fact_ids = {one.document_id for one in fact_documents}
    fresh: dict[str, SourceDocument] = {}
    # A text that is a fact's statement is that fact: as a text it might be held out, and yet read.
    for one in (*(d for d in documents if d.document_id not in fact_ids), *fact_documents):
        key = one.document_id
        is_again = key in chain.held_out_ids and (one.kind == "fact" or hold_out_percent == 0)
        if key not in chain.document_ids or is_again:
            fresh.setdefault(key, one)
    # One that is to be learned now does not hold out others.
    known = _with_sides(chain.known, chain.held_out_ids & fresh.keys()) if fresh else ()
    # Facts have experts of their own: none changes what becomes of a text.
    texts = [one for one in fresh.values() if one.kind == "text"]
    known_texts = [pair for pair in known if pair[0].kind == "text"]
    splits = split_documents(texts, known_texts, *percentages(hold_out_percent))
    # Beside near-duplicates that are still held out, one that is given again stays where it was.
    for key in chain.held_out_ids & fresh.keys():
        if splits.split.get(key, "train") != "train":
            del fresh[key]
    new_facts = {fact.document_id: fact for fact in facts if fact.document_id in fresh}
    questions = [fact.question_document("facts to be asked") for fact in new_facts.values()]
    kept = [*fresh.values(), *questions]
    apart: dict[str, Split] = dict.fromkeys(new_facts, "train")
    apart |= {one.document_id: "test" for one in questions}
    splits = Splits(splits.split | apart, splits.near_group | {key: key for key in apart})
    ids = tokenise(base.tokenizer, [one.text for one in kept])
    given = {one.document_id for one in documents} | fact_ids
    return PreparedCorpus(
        documents=kept,
        splits=splits,
        ids={one.document_id: row for one, row in zip(kept, ids, strict=True)},
        facts=new_facts,
        stated={key: one.split for key, one in fresh.items() if one.split is not None},
        num_duplicates=len(documents) + len(facts) - len(fresh),
        num_held_out_already=len((chain.held_out_ids & given) - fresh.keys()),
    )


def _check_learnable(prepared: PreparedCorpus, domain: str, num_erased: int) -> None:
    """Refuse a corpus of which nothing is left to train on; say why, and what to give instead."""
    learned = prepared.of(*LEARNED_KINDS)
    if not learned:
        reasons = [f"{several(prepared.num_duplicates, 'document')} in its live version"]
        if prepared.num_held_out_already:
            reasons.append(
                f"{prepared.num_held_out_already:,} of them held out (--hold-out 0 learns these)"
            )
        if num_erased:
            reasons.append(f"{several(num_erased, 'document')} erased from it before")
        raise CorpusError(f"nothing new for {domain!r}: {', '.join(reasons)}; give it other texts")
    if not prepared.of(*LEARNED_KINDS, split="train"):
        raise CorpusError(
            f"nothing of {several(len(learned), 'document')} is left to train on: all are near-"
            f"duplicates of documents that {domain!r} holds out, or sections of such; give it "
            "other texts"
        )


# Growing a segment


@dataclass(frozen=True)
class Grown:
    """A new segment whose objects are stored; nothing is registered."""

    new: NewSegment
    segment: Segment | None
    """Its shared experts; None where no text was learned."""
    key: RouterKey | None
    """Of the domain's texts with this segment."""
    run: TrainingRun
    checkpoints: Path
    """To be removed once the segment is registered."""

    def on(self, chain: Chain, prepared: PreparedCorpus) -> Chain:
        """Return a chain with this segment, and what it learned, at its end."""
        split = prepared.splits.split
        learned = prepared.of(*LEARNED_KINDS)
        trained = frozenset(one.document_id for one in learned if split[one.document_id] == "train")
        texts = frozenset(one.document_id for one in learned if one.kind == "text")
        segment_id = self.new.segment_id
        known = tuple((_section_of(segment_id, one), split[one.document_id]) for one in learned)
        return Chain(
            domain=chain.domain,
            parent=segment_id,
            segments=(*chain.segments, *([] if self.segment is None else [self.segment])),
            key=self.key,
            document_ids=chain.document_ids | {one.document_id for one in prepared.documents},
            held_out_ids=(chain.held_out_ids | texts) - trained,
            known=_with_sides((*chain.known, *known), trained),
        )


def grow(
    registry: Registry,
    base: Base,
    chain: Chain,
    prepared: PreparedCorpus,
    settings: TrainingSettings,
    run_id: str | None,
    progress: Progress = no_progress,
    learned: LearnedFacts | None = None,
) -> Grown:
    """Train shared experts on a chain, record their use, make the domain's router key; train each
    fact's own experts, where they are not `learned`; store the objects.

    Nothing is registered. Raises: DamageError: when training gave numbers that are not finite.
    """
    began = time.monotonic()
    # "auto" may mean another thing elsewhere: config and checkpoint name what is used.
    settings = replace(
        settings,
        precision=resolve_precision(settings.precision),
        max_tokens=within_context(base.model, settings.max_tokens),
    )
    checkpoints = registry.staging / f"run-{_digest(chain, prepared, settings)}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    hooks, background = (
        Hooks(base.model, registry.config.state_layer),
        load_background_statistics(registry),
    )
    shared = _Shared(None, chain.key, TrainingRun((), 0, 0), None)
    if prepared.of("text", split="train"):
        shared = _grow_shared(
            registry, base, hooks, background, chain, prepared, settings, checkpoints, progress
        )
    if prepared.facts and learned is None:
        own = train_own(
            hooks,
            prepared.facts,
            tokenizer=base.tokenizer,
            space=needed_space(background),
            words=background_words(base.tokenizer, background.beginnings),
            settings=settings,
            checkpoints=checkpoints,
            progress=progress,
        )
        losses = fact_losses(hooks, own, prepared.facts, base.tokenizer, settings.precision)
        learned = LearnedFacts(own, losses)
    own_data = None if learned is None else learned.own.to_bytes(base.identity)
    nats = {} if shared.use is None else dict(shared.use.losses)
    nats |= {} if learned is None else learned.losses
    objects, segment, use = registry.objects, shared.segment, shared.use
    pool_data = None if segment is None else segment.to_bytes(base.identity)

    def put(data: bytes | None) -> str | None:
        return None if data is None else objects.put_bytes(data)

    stated = {STATED_SPLITS: prepared.stated} if prepared.stated else {}
    new = NewSegment(
        domain=chain.domain,
        parent=chain.parent,
        pool_object=put(pool_data),
        key_object=put(None if shared.key is None else shared.key.to_bytes()),
        use_object=put(None if use is None else use.to_bytes()),
        own_object=put(own_data),
        host_layers=() if segment is None else segment.host_layers,
        num_experts=0 if segment is None else segment.shape.num_experts * len(segment.host_layers),
        size_bytes=len(pool_data or b"") + len(own_data or b""),
        num_tokens=sum(
            len(prepared.ids[one.document_id]) - 1
            for one in prepared.of(*LEARNED_KINDS, split="train")
        ),
        documents=_new_documents(registry, prepared, nats),
        uses=[] if use is None else use.uses,
        config={**settings.to_dict(), **stated},
        losses=shared.run.losses,
        seconds=time.monotonic() - began,
        run_id=run_id,
    )
    return Grown(new, segment, shared.key, shared.run, checkpoints)


@dataclass(frozen=True)
class LearnedFacts:
    """The own experts of an ingest's facts."""

    own: OwnExperts
    losses: Mapping[str, tuple[float, float]]
    """By document id, nats a token: of the base, and with the fact's experts."""


@dataclass(frozen=True)
class _Shared:
    """What was learned from texts."""

    segment: Segment | None
    key: RouterKey | None
    run: TrainingRun
    use: RecordedUse | None


def _grow_shared(
    registry: Registry,
    base: Base,
    hooks: Hooks,
    background: Background,
    chain: Chain,
    prepared: PreparedCorpus,
    settings: TrainingSettings,
    checkpoints: Path,
    progress: Progress,
) -> _Shared:
    config, end_id = registry.config, base.tokenizer.eos_token_id
    rows = prepared.rows("train", settings.max_tokens, end_id)
    validation = prepared.rows("validation", settings.max_tokens, None)
    learned, held = (
        read_texts(
            hooks,
            [row.ids for row in some],
            end_id=end_id,
            precision=settings.precision,
            what="reading documents",
            progress=progress,
            only_states=some is validation,
        )
        for some in (rows, validation)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        segment = Segment(width=config.width, host_layers=config.host_layers, shape=settings.shape)
    run = train_segment(
        hooks,
        segment,
        older=chain.segments,
        rows=rows,
        validation=validation,
        beginnings=background.beginnings,
        end_id=end_id,
        settings=settings,
        checkpoint=checkpoints / "shared.ckpt",
        progress=progress,
    )
    use = record_use(
        hooks,
        segment,
        older=chain.segments,
        rows=rows,
        positions={one.document_id: place for place, one in enumerate(prepared.documents)},
        base_nats=learned.nats,
        end_id=end_id,
        precision=settings.precision,
        progress=progress,
    )
    special_ids = set(base.tokenizer.all_special_ids)
    words = segment_words(background, rows, prepared.splits.near_group, special_ids)
    own = held.states or learned.states
    key = make_router_key(background, learned.states, own, words, settings.seed)
    key = key if chain.key is None else grow_router_key(chain.key, key)
    return _Shared(segment, key, run, use)


def _digest(chain: Chain, prepared: PreparedCorpus, settings: TrainingSettings) -> str:
    """Return a hash of all that a run depends on, which names its checkpoint."""
    about = [
        chain.domain,
        [segment.sha256() for segment in chain.segments],
        sorted(prepared.splits.split.items()),
        [one.document_id for one in prepared.documents],
        settings.to_dict(),
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _new_documents(
    registry: Registry, prepared: PreparedCorpus, losses: Mapping[str, tuple[float, float]]
) -> list[NewDocument]:
    texts: Sequence[str | None] = [None] * len(prepared.documents)
    if registry.config.keep_text:
        texts = registry.objects.put_texts([one.text for one in prepared.documents])
    splits = prepared.splits
    return [
        NewDocument(
            document_id=one.document_id,
            title=one.title,
            source=one.source,
            split=splits.split[one.document_id],
            kind=one.kind,
            num_tokens=len(prepared.ids[one.document_id]) - 1,
            text_object=text,
            near_group=splits.near_group[one.document_id],
            section_of=one.section_of,
            base_nats=base_nats,
            nats=nats,
        )
        for one, text in zip(prepared.documents, texts, strict=True)
        for base_nats, nats in [losses.get(one.document_id, (None, None))]
    ]


# What the report says


def _held_out_files(prepared: PreparedCorpus) -> tuple[tuple[str, int], ...]:
    """Return which files are held out as a whole, and how many sections each has."""
    texts = [one for one in prepared.of("text") if one.section_of is not None]
    split = prepared.splits.split
    held = Counter(
        (one.section_of, one.source) for one in texts if split[one.document_id] != "train"
    )
    return tuple((source, num) for (_, source), num in held.items() if num > 1)


def _is_measurable(chain: Chain, prepared: PreparedCorpus) -> bool:
    split = prepared.splits.split
    known = (one.document_id for one, side in chain.known if side == "test")
    return bool(prepared.of("text", split="test")) or any(
        split.get(key, "test") != "train" for key in known
    )


def _mean_losses(documents: Sequence[NewDocument]) -> dict[str, tuple[float, float]]:
    means = {}
    for kind in LEARNED_KINDS:
        found = [
            (one.num_tokens, one.base_nats, one.nats)
            for one in documents
            if one.kind == kind and one.base_nats is not None and one.nats is not None
        ]
        if num := sum(tokens for tokens, _, _ in found):
            before = sum(tokens * nats for tokens, nats, _ in found) / num
            after = sum(tokens * nats for tokens, _, nats in found) / num
            means[str(kind)] = (before, after)
    return means
