"""Growing: what is new of a corpus becomes a segment of a domain, whose objects are stored.

The same for an ingest and for what waits since an erasure; nothing is registered here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from peer_cl.bases import Base, within_context
from peer_cl.hooks import Hooks
from peer_cl.own import OwnExperts, joined
from peer_cl.pool import Segment, load_segment
from peer_cl.router import Background, RouterKey
from pipelines.batches import Row, pieces, sentence_begins, tokenise
from pipelines.corpora import (
    LEARNED_KINDS,
    SourceDocument,
    Split,
)
from pipelines.fact_training import background_words, fact_losses, needed_space, train_facts
from pipelines.facts import Fact
from pipelines.keys import grow_router_key, make_router_key, read_texts, segment_words
from pipelines.loading import (
    load_background_statistics,
    load_key,
    load_shards,
    resolve_base,
)
from pipelines.passage_training import Passage, make_passage, train_passages
from pipelines.processes import Learn, Processes, processes
from pipelines.progress import Progress, no_progress
from pipelines.settings import TrainingSettings, resolve_precision
from pipelines.splits import Splits, percentages, split_documents
from pipelines.study.questions import BUILT_IN, StudyQuestion, stands
from pipelines.training import Loss, TrainingRun, train_segment
from pipelines.usage import RecordedUse, record_use
from stores.queries import Document
from stores.queries import Segment as StoredSegment
from stores.records import NewDocument, NewSegment
from stores.registry import Registry

STATED_SPLITS = "stated_splits"
"""In a segment's config, beside the settings: the splits that the corpus itself demanded."""


@dataclass(frozen=True)
class Chain:
    """What a new segment of a domain grows on."""

    domain: str
    parent: str | None = None
    """The version; None: the domain begins."""
    shards: tuple[Mapping[int, Segment], ...] = ()
    """The shared experts of its segments, by shard, scaled as they are used."""
    key: RouterKey | None = None
    """None: it holds no texts yet."""
    document_ids: frozenset[str] = frozenset()
    """Of all documents that the version holds."""
    held_out_ids: frozenset[str] = frozenset()
    """Of its texts that no segment was trained on."""
    known: tuple[tuple[SourceDocument, Split], ...] = ()
    """Its texts and facts with their sides; empty in a store that keeps no texts."""

    def without(self, document_ids: Collection[str], parent: str | None) -> Chain:
        """Return the chain of a version that leaves out some documents."""
        return replace(
            self,
            parent=parent,
            document_ids=self.document_ids - set(document_ids),
            held_out_ids=self.held_out_ids - set(document_ids),
            known=tuple(one for one in self.known if one[0].document_id not in document_ids),
        )


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
        shards=tuple(load_shards(registry, domain, rows, base.identity)),
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
        file=document.file,
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
    begins: Mapping[str, Sequence[int]]
    """Where sentences begin among them."""
    questions: Mapping[str, Sequence[StudyQuestion]] = field(default_factory=dict)
    """Given questions about its texts, by document id."""

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
            parts = pieces(ids, max_tokens, self.begins[document.document_id])
            rows += [Row(document.document_id, part) for part in parts]
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
        begins={
            one.document_id: sentence_begins(base.tokenizer, one.text)
            for one in kept
            if one.kind == "text"
        },
    )


# Growing a segment


NUM_GROUPS = 32
"""Own experts lie in so many objects, a document's in one of them: erasing it writes one anew."""


def shard_of(document_id: str, num_shards: int) -> int:
    """Return which shard of the shared experts a document teaches."""
    return int(document_id[:8], 16) % num_shards


def group_of(document_id: str) -> int:
    """Return which object of an ingest holds a document's own experts."""
    return int(document_id[8:16], 16) % NUM_GROUPS


@dataclass(frozen=True)
class Kept:
    """What of a segment need not be trained again."""

    shards: Mapping[int, str] = field(default_factory=dict)
    """Objects of shared experts, by shard."""
    facts: OwnExperts | None = None
    passages: OwnExperts | None = None
    losses: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of facts, by document id, nats a token: of the base, and with the fact's experts."""


@dataclass(frozen=True)
class Grown:
    """A new segment whose objects are stored; nothing is registered."""

    new: NewSegment
    shards: Mapping[int, Segment]
    """Its shared experts, scaled as they are to be used; none where no text was learned."""
    key: RouterKey | None
    """Of the domain's texts with this segment."""
    runs: Mapping[int, TrainingRun]
    """By shard, as far as it was trained."""
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
            shards=(*chain.shards, self.shards),
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
    kept: Kept | None = None,
    num_processes: int = 1,
) -> Grown:
    """Train each fact's and each passage's own experts, and shared experts on a chain; record their
    use; make the domain's router key; store the objects. What is `kept` is not trained again.
    With more than one, own experts and shards are learned in so many processes.

    Nothing is registered. Raises: DamageError: when training gave numbers that are not finite.
    """
    began, kept = time.monotonic(), kept or Kept()
    # "auto" may mean another thing elsewhere: config and checkpoint name what is used.
    settings = replace(
        settings,
        precision=resolve_precision(settings.precision, base.model.device),
        max_tokens=within_context(base.model, settings.max_tokens),
    )
    background = load_background_statistics(registry)
    settings = settings.begun(background.starts)
    checkpoints = registry.staging / f"run-{_digest(chain, prepared, settings)}"
    checkpoints.mkdir(parents=True, exist_ok=True)
    objects, put = dict[str, str | None](), registry.objects.put_bytes
    with _team(registry, base, num_processes) as team:
        growing = _Growing(
            base=base,
            team=team,
            hooks=Hooks(base.model, registry.config.state_layer),
            background=background,
            registry=registry,
            chain=chain,
            prepared=prepared,
            settings=settings,
            checkpoints=checkpoints,
            progress=progress,
        )
        facts, nats = growing.facts(kept)
        shared = _Shared({}, chain.key, {}, None)
        passages = None
        if prepared.of("text", split="train"):
            passages = growing.passages(kept)
            shared = growing.shared(kept, passages)
            nats |= {} if shared.use is None else shared.use.losses
    size = 0
    for name, own in (("facts", facts), ("passages", passages)):
        for number, group in _grouped(own):
            data = group.to_bytes(base.identity)
            objects[f"{name}.{number}"] = put(data)
            size += len(data)
    for shard, segment in shared.shards.items():
        data = segment.to_bytes(base.identity)
        objects[f"shared.{shard}"] = put(data)
        size += len(data)
        if shared.use is not None:
            objects[f"use.{shard}"] = put(shared.use.to_bytes(shard))
    if shared.key is not None:
        objects["key"] = put(shared.key.to_bytes())
    stated = {STATED_SPLITS: prepared.stated} if prepared.stated else {}
    segments = [*shared.shards.values()]
    losses = [run.losses for run in shared.runs.values()]
    new = NewSegment(
        domain=chain.domain,
        parent=chain.parent,
        objects=objects,
        host_layers=segments[0].host_layers if segments else (),
        num_experts=sum(one.shape.num_experts * len(one.host_layers) for one in segments),
        size_bytes=size,
        num_tokens=sum(
            len(prepared.ids[one.document_id]) - 1
            for one in prepared.of(*LEARNED_KINDS, split="train")
        ),
        documents=_new_documents(registry, prepared, nats),
        config={**settings.to_dict(), **stated},
        losses=_one_after_another(losses),
        seconds=time.monotonic() - began,
        run_id=run_id,
    )
    return Grown(new, shared.shards, shared.key, shared.runs, checkpoints)


def _team(registry: Registry, base: Base, num: int) -> AbstractContextManager[Processes | None]:
    """Return so many processes on the store's base; None where this one is enough."""
    if num == 1:
        return nullcontext()
    config, source = registry.config, resolve_base(registry.config.base_id)
    return processes(num, source, config.dtype, config.state_layer, base.model.device)


def _grouped(own: OwnExperts | None) -> Iterator[tuple[int, OwnExperts]]:
    """Yield own experts by the object in which they are to lie."""
    if own is None:
        return
    groups = [group_of(item.item_id) for item in own.items]
    for number in sorted(set(groups)):
        yield number, own.at([place for place, group in enumerate(groups) if group == number])


def _one_after_another(losses: Sequence[Sequence[Loss]]) -> tuple[Loss, ...]:
    """Return the losses of several runs, their steps counted through."""
    found, before = list[Loss](), 0
    for own in losses:
        found += [(before + step, nats, held) for step, nats, held in own]
        before = found[-1][0] if found else 0
    return tuple(found)


def studied(
    tokenizer: Any, row: Row, title: str, given: Sequence[StudyQuestion], most: int
) -> Passage:
    """Return a row of a document as a passage, with given questions about it that it answers, and
    at most so many that are made.
    """
    text = str(tokenizer.decode(row.ids[1:], skip_special_tokens=True))
    asked = [(one.question, one.answer, one.source) for one in given if stands(one.answer, text)]
    if most:
        from pipelines.study.builtin import questions_of  # spaCy takes seconds to load

        asked += [(*pair, BUILT_IN) for pair in questions_of(text, title, most + 1)]
    return make_passage(tokenizer, row, title, asked)


@dataclass(frozen=True)
class _Shared:
    """What was learned from texts together."""

    shards: Mapping[int, Segment]
    key: RouterKey | None
    runs: Mapping[int, TrainingRun]
    use: RecordedUse | None


@dataclass(frozen=True)
class _Growing:
    """A segment while it is learned."""

    base: Base
    team: Processes | None
    hooks: Hooks
    background: Background
    registry: Registry
    chain: Chain
    prepared: PreparedCorpus
    settings: TrainingSettings
    checkpoints: Path
    progress: Progress

    def facts(self, kept: Kept) -> tuple[OwnExperts | None, dict[str, tuple[float, float]]]:
        """Return the facts' own experts, and their losses by document id."""
        known = _item_ids(kept.facts)
        new = {key: one for key, one in self.prepared.facts.items() if key not in known}
        losses = {key: kept.losses[key] for key in self.prepared.facts if key in kept.losses}
        trained = None
        if new:
            learn = partial(
                _learn_facts,
                space=needed_space(self.background),
                words=background_words(self.base.tokenizer, self.background.beginnings),
                settings=self.settings,
                encoder=self.registry.config.encoder,
                start=self.background.starts.get("facts"),
            )
            trained = self._learned(learn, [*new.items()], "learning facts")
            tokenizer, precision = self.base.tokenizer, self.settings.precision
            losses |= fact_losses(self.hooks, trained, new, tokenizer, precision)
        return gathered([kept.facts, trained], [*self.prepared.facts]), losses

    def passages(self, kept: Kept) -> OwnExperts:
        """Return the own experts of all rows that are learned, in their order."""
        known, rows = _item_ids(kept.passages), self._rows("train")
        titles = {one.document_id: one.title for one in self.prepared.of("text")}
        new = [
            self._passage(row, titles[row.document_id])
            for row in rows
            if row.document_id not in known
        ]
        trained = None
        if new:
            learn = partial(
                _learn_passages,
                settings=self.settings,
                encoder=self.registry.config.encoder,
                start=self.background.starts.get("passages"),
            )
            trained = self._learned(learn, new, "learning passages")
        ids = [*dict.fromkeys(row.document_id for row in rows)]
        return cast(OwnExperts, gathered([kept.passages, trained], ids))

    def _learned(self, learn: Learn, items: Sequence[Any], what: str) -> OwnExperts:
        """Return items' own experts, learned here or by several processes."""
        given = items, self.checkpoints
        if self.team is not None:
            return self.team.learn(self.base, learn, *given, what, self.progress)
        here: Any = learn
        return cast(OwnExperts, here(self.base, self.hooks, *given, progress=self.progress))

    def _passage(self, row: Row, title: str) -> Passage:
        given = self.prepared.questions.get(row.document_id, ())
        return studied(self.base.tokenizer, row, title, given, self.settings.study_questions)

    def _rows(self, split: str) -> list[Row]:
        end_id = self.base.tokenizer.eos_token_id if split == "train" else None
        return self.prepared.rows(split, self.settings.max_tokens, end_id)

    def shared(self, kept: Kept, passages: OwnExperts) -> _Shared:
        """Return shared experts, a shard after the other, with the domain's router key."""
        config, settings = self.registry.config, self.settings
        for one in (passages, *(segment for own in self.chain.shards for segment in own.values())):
            one.to(self.hooks.device)
        end_id = self.base.tokenizer.eos_token_id
        rows, validation = self._rows("train"), self._rows("validation")
        key, base_nats = self._router_key(rows, validation)
        num, shards, runs = settings.num_shards, dict[int, Segment](), dict[int, TrainingRun]()
        jobs = dict[int, _ShardJob]()
        for shard in range(num):
            own, own_held = (
                [row for row in some if shard_of(row.document_id, num) == shard]
                for some in (rows, validation)
            )
            if not own:
                continue
            if shard in kept.shards:
                data = self.registry.objects.read(kept.shards[shard])
                shards[shard] = load_segment(data, self.base.identity).to(self.hooks.device)
                continue
            jobs[shard] = _ShardJob(
                host_layers=tuple(config.host_layers),
                older=tuple(
                    one[shard].scaled(num).to_bytes(self.base.identity)
                    for one in self.chain.shards
                    if shard in one
                ),
                rows=own,
                validation=own_held,
                beginnings=self.background.beginnings,
                end_id=end_id,
                settings=settings,
                checkpoint=self.checkpoints / f"shard-{shard}.ckpt",
            )
        for shard, (segment, runs[shard]) in self._trained(jobs):
            # Shards are trained alone and used together: their mean is what they have in common.
            shards[shard] = segment.scaled(1 / num).to(self.hooks.device)
        shards, runs = dict(sorted(shards.items())), dict(sorted(runs.items()))
        use = record_use(
            self.hooks,
            shards,
            older=[one for own in self.chain.shards for one in own.values()],
            own=passages,
            rows=rows,
            row_shards=[shard_of(row.document_id, num) for row in rows],
            base_nats=base_nats,
            end_id=end_id,
            precision=settings.precision,
            progress=self.progress,
        )
        return _Shared(shards, key, runs, use)

    def _router_key(
        self, rows: Sequence[Row], validation: Sequence[Row]
    ) -> tuple[RouterKey, list[float]]:
        """Return the domain's router key, and the base's loss on each of its rows, summed."""
        learned, held = (
            read_texts(
                self.hooks,
                [row.ids for row in some],
                end_id=self.base.tokenizer.eos_token_id,
                precision=self.settings.precision,
                what="reading documents",
                progress=self.progress,
                only_states=some is validation,
            )
            for some in (rows, validation)
        )
        special_ids = set(self.base.tokenizer.all_special_ids)
        near_group = self.prepared.splits.near_group
        words = segment_words(self.background, rows, near_group, special_ids)
        states = held.states or learned.states
        key = make_router_key(self.background, learned.states, states, words, self.settings.seed)
        key = key if self.chain.key is None else grow_router_key(self.chain.key, key)
        return key, learned.nats

    def _trained(
        self, jobs: Mapping[int, _ShardJob]
    ) -> Iterator[tuple[int, tuple[Segment, TrainingRun]]]:
        """Yield the shared experts of shards, trained here or by several processes."""
        if self.team is None:
            for shard, job in jobs.items():
                yield shard, _train_shard(self.base, self.hooks, job, self.progress)
            return
        self.progress("training shared experts", 0, 0, "")
        found = self.team.all([(_train_shard_apart, job) for job in jobs.values()])
        for shard, (data, run) in zip(jobs, found, strict=True):
            yield shard, (load_segment(data, self.base.identity), run)


def _learn_facts(
    base: Base,
    hooks: Hooks,
    facts: Sequence[tuple[str, Fact]],
    folder: Path,
    *,
    progress: Progress = no_progress,
    **given: Any,
) -> OwnExperts:
    return train_facts(
        hooks,
        dict(facts),
        tokenizer=base.tokenizer,
        checkpoints=folder,
        progress=progress,
        **given,
    )


def _learn_passages(
    _: Base,
    hooks: Hooks,
    passages: Sequence[Passage],
    folder: Path,
    *,
    progress: Progress = no_progress,
    **given: Any,
) -> OwnExperts:
    return train_passages(hooks, passages, checkpoints=folder, progress=progress, **given)


@dataclass(frozen=True)
class _ShardJob:
    """All that the shared experts of a shard depend on, beside the base."""

    host_layers: tuple[int, ...]
    older: tuple[bytes, ...]
    """Segments of the same shard, oldest first."""
    rows: Sequence[Row]
    validation: Sequence[Row]
    beginnings: Sequence[Sequence[int]]
    end_id: int | None
    settings: TrainingSettings
    checkpoint: Path


def _train_shard(
    base: Base, hooks: Hooks, job: _ShardJob, progress: Progress = no_progress
) -> tuple[Segment, TrainingRun]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.settings.seed)
        segment = Segment(  # drawn on the CPU, so that every device begins alike
            width=hooks.width, host_layers=job.host_layers, shape=job.settings.shape
        ).to(hooks.device)
    run = train_segment(
        hooks,
        segment,
        older=[load_segment(one, base.identity).to(hooks.device) for one in job.older],
        rows=job.rows,
        validation=job.validation,
        beginnings=job.beginnings,
        end_id=job.end_id,
        settings=job.settings,
        checkpoint=job.checkpoint,
        progress=progress,
    )
    return segment, run


def _train_shard_apart(base: Base, hooks: Hooks, job: _ShardJob) -> tuple[bytes, TrainingRun]:
    segment, run = _train_shard(base, hooks, job)
    return segment.to_bytes(base.identity), run


def _item_ids(own: OwnExperts | None) -> set[str]:
    return set() if own is None else {item.item_id for item in own.items}


def gathered(own: Sequence[OwnExperts | None], item_ids: Sequence[str]) -> OwnExperts | None:
    """Return the experts of some items from several lists, in this order; None for none."""
    lists = [one for one in own if one is not None]
    if not item_ids:
        return None
    whole = joined(lists)
    places: dict[str, list[int]] = {}
    for place, item in enumerate(whole.items):
        places.setdefault(item.item_id, []).append(place)
    wanted = [place for key in item_ids for place in places[key]]
    # What is in order is not copied: it may be mapped, and larger than memory.
    return whole if wanted == [*range(len(whole.items))] else whole.at(wanted)


def _digest(chain: Chain, prepared: PreparedCorpus, settings: TrainingSettings) -> str:
    """Return a hash of all that a run depends on, which names its checkpoint."""
    about = [
        chain.domain,
        [[one.sha256() for one in own.values()] for own in chain.shards],
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
            file=one.file,
            base_nats=base_nats,
            nats=nats,
        )
        for one, text in zip(prepared.documents, texts, strict=True)
        for base_nats, nats in [losses.get(one.document_id, (None, None))]
    ]
