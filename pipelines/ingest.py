"""Ingest: a corpus becomes a new segment of a domain, in one commit or not at all."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from peer_cl.bases import Base
from peer_cl.errors import CorpusError, InputError, StateError
from pipelines.answers import MADE, MOST_SECONDS, PEOPLE, ask_kept, kept_questions, some_of_each
from pipelines.changes import FileChanges, file_changes
from pipelines.corpora import (
    LEARNED_KINDS,
    BadRowPolicy,
    CorpusSource,
    Skipped,
    read_corpus,
)
from pipelines.erase import leave_out, train_pending
from pipelines.facts import Fact, checked_facts
from pipelines.growing import Grown, PreparedCorpus, grow, prepare, read_chain
from pipelines.loading import empty_model, load_pool, load_store_base
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.report import AskedRow
from pipelines.settings import TrainingSettings
from pipelines.study.questions import StudyQuestion, by_document
from pipelines.words import several
from stores.records import NewDocument, check_domain_name, check_text
from stores.registry import Registry


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
    num_tokens: int
    """Tokens read in training, all passes."""
    num_steps: int
    num_duplicates: int
    """Documents left out: the domain holds them already, or the corpus holds them twice."""
    num_held_out_already: int
    """Of these, texts that the domain holds out and still does."""
    num_replaced: int
    """Documents of an earlier version that their files hold no longer; left out of this one."""
    num_pruned: int
    """The same of files that are gone."""
    missing_files: tuple[str, ...]
    """Files that are gone from the folder, and whose documents stay."""
    erased_ids: tuple[str, ...]
    """Documents of the corpus that were erased from the domain; left out."""
    skipped: tuple[Skipped, ...]
    """Malformed rows, and files that cannot be read."""
    other_files: tuple[Skipped, ...]
    """Empty files, and those of no format that is read."""
    size_bytes: int
    answers: tuple[AskedRow, ...]
    """Of the questions that the domain keeps to be asked; None: it keeps none."""
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
    questions: Iterable[StudyQuestion] = (),
    settings: TrainingSettings | None = None,
    message: str = "",
    on_bad_row: BadRowPolicy = "stop",
    prune: bool = False,
    processes: int = 1,
    progress: Progress = no_progress,
) -> IngestReport:
    """Learn a corpus as a new segment of a new or known domain.

    Of a file that the domain knows already and that changed, the new version leaves out what is no
    longer in it: the old documents with their own experts. What shared experts learned of them
    stays, until `erase` has them trained anew; rolling back brings the documents back.

    Everything is prepared in staging; one transaction then adds the segment, its documents and a
    new snapshot. Stopped before it, the store is as it was, and the same ingest continues from its
    last checkpoint.

    Args:
        corpus: paths, rows, a dataset or documents, or what `read_corpus` made of them.
        facts: each learned by experts of its own, half of its readings in changed wordings; their
            paraphrases are kept to be asked, and never learned.
        questions: about documents of the corpus, learned beside those that are made of them.
        settings: of the training, and how much is held out.
        on_bad_row: "stop" or "skip", for malformed rows.
        prune: also leave out the documents of files that are gone from a folder.
        processes: learn in so many processes, each with the base in memory: to the same bits, on
            several GPUs, or on a machine of many cores.

    Raises:
        InputError: when there is no process to learn in, the domain's name or the message cannot be
            kept, or its texts were divided into another number of shards so far.
        CorpusError: when nothing can be learned, or a document or fact is malformed.
        FrozenError, StateError: when the domain may not grow now.
        DamageError: when training gave numbers that are not finite; nothing is registered.
    """
    began, settings = time.monotonic(), settings or TrainingSettings()
    if processes < 1:
        raise InputError(f"processes must be 1 or more, not {processes}")
    check_domain_name(domain)
    check_text("message", message)
    queries = registry.queries
    with (
        registry.writing(author),
        recorded_run(registry, "ingest", domain, author, message, progress) as run,
    ):
        train_pending(registry, domain, author, message, progress)
        state = queries.live().state(domain)
        parent = None if state is None else state.version
        registry.check_growth(domain, parent)
        found = read_corpus(corpus, on_bad_row, progress=run.progress)
        given_facts = checked_facts(facts)
        known = () if state is None else queries.documents(domain)
        changes = file_changes(found, known) if registry.config.keep_text else FileChanges()
        gone = changes.replaced_ids | (changes.missing_ids if prune else frozenset())
        erased = queries.erased(domain)
        documents = [one for one in found.documents if one.document_id not in erased]
        left_facts = [fact for fact in given_facts if fact.document_id not in erased]
        base = load_store_base(registry)
        rows = queries.chain(parent) if parent else ()
        if any(row.config["num_shards"] != settings.num_shards for row in rows):
            raise InputError(
                f"num_shards is {settings.num_shards}, and {domain!r} began with "
                f"{rows[0].config['num_shards']}: a domain keeps its number; give that"
            )
        asked = by_document(questions, documents)
        chain = read_chain(registry, base, domain, rows)
        onto, left = leave_out(registry, known, rows, gone) if gone else (parent, [])
        chain = chain.without(gone, left[-1].segment_id if left else onto)
        prepared = replace(
            prepare(chain, documents, left_facts, base, settings.hold_out_percent), questions=asked
        )
        given_ids = {one.document_id for one in found.documents}
        given_ids |= {fact.document_id for fact in given_facts}
        erased_ids = tuple(sorted(given_ids & erased.keys()))
        grown: Grown | None = None
        if not gone or prepared.of(*LEARNED_KINDS, split="train"):
            _check_learnable(prepared, domain, len(erased_ids), changes.missing_files)
            grown = grow(
                registry,
                base,
                chain,
                prepared,
                settings,
                run.run_id,
                run.progress,
                num_processes=processes,
            )
            left.append(grown.new)
        elif chain.document_ids:
            prepared = replace(prepared, documents=[])  # near copies of what is held out, at most
        else:
            raise StateError(
                f"nothing of {domain!r} would be left; remove it: `peer-cl remove {domain}`"
            )
        if gone and state is not None:
            snapshot = registry.replace_segments(
                domain, state.version, onto, left, (), author, message, action="ingest"
            )
        else:
            snapshot = registry.add_segment(left[-1], author, message)
        run.snapshot_id = snapshot.id
        if grown is not None:
            shutil.rmtree(grown.checkpoints, ignore_errors=True)
        answers = _answers(registry, base, domain, run.progress)
    runs = () if grown is None else grown.runs.values()
    now, texts = snapshot.state(domain), prepared.of("text")
    num_learned_texts = len(prepared.of("text", split="train"))
    return IngestReport(
        domain=domain,
        version=left[-1].segment_id if left else str(onto),
        label=now.label if now is not None else "",
        snapshot_id=snapshot.id,
        num_documents=dict(
            Counter(prepared.splits.split[one.document_id] for one in prepared.of(*LEARNED_KINDS))
        ),
        num_learned_texts=num_learned_texts,
        num_held_out_texts=len(texts) - num_learned_texts,
        num_facts=len(prepared.facts),
        held_out_files=_held_out_files(prepared),
        num_tokens=sum(run.num_tokens for run in runs),
        num_steps=sum(run.num_steps for run in runs),
        num_duplicates=prepared.num_duplicates,
        num_held_out_already=prepared.num_held_out_already,
        num_replaced=len(changes.replaced_ids),
        num_pruned=len(gone - changes.replaced_ids),
        missing_files=() if prune else changes.missing_files,
        erased_ids=erased_ids,
        skipped=found.skipped,
        other_files=found.other_files,
        size_bytes=0 if grown is None else grown.new.size_bytes,
        answers=answers,
        mean_losses_nats={} if grown is None else _mean_losses(grown.new.documents),
        seconds=time.monotonic() - began,
    )


def _check_learnable(
    prepared: PreparedCorpus, domain: str, num_erased: int, missing_files: Sequence[str]
) -> None:
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
        if missing_files:
            files = several(len(missing_files), "file")
            reasons.append(f"{files} gone ({missing_files[0]}, ...; --prune leaves them out)")
        raise CorpusError(f"nothing new for {domain!r}: {', '.join(reasons)}; give it other texts")
    if not prepared.of(*LEARNED_KINDS, split="train"):
        raise CorpusError(
            f"nothing of {several(len(learned), 'document')} is left to train on: all are near-"
            f"duplicates of documents that {domain!r} holds out, or sections of such; give it "
            "other texts"
        )


# What the report says


def _answers(
    registry: Registry, base: Base, domain: str, progress: Progress
) -> tuple[AskedRow, ...]:
    """Return how many questions are answered: made ones that a domain keeps, and people's that any
    live domain keeps.
    """
    live, people = registry.queries.live(), some_of_each(registry.queries.kept_questions())
    model = empty_model(registry, base)
    for state in live.domains:
        if state.is_enabled and (state.domain == domain or people):
            model.add_pool(state.domain, load_pool(registry, state.domain, state.version))
    made = kept_questions(model, domain)
    tokenizer = base.tokenizer
    return (
        *ask_kept(registry, model, tokenizer, made, MADE, progress),
        *ask_kept(registry, model, tokenizer, people, PEOPLE, progress, most_seconds=MOST_SECONDS),
    )


def _held_out_files(prepared: PreparedCorpus) -> tuple[tuple[str, int], ...]:
    """Return which files are held out as a whole, and how many sections each has."""
    texts = [one for one in prepared.of("text") if one.section_of is not None]
    # A page or a slide is a section whose source names it.
    split = prepared.splits.split
    held = Counter(
        (one.section_of, one.source.partition("#")[0])
        for one in texts
        if split[one.document_id] != "train"
    )
    return tuple((source, num) for (_, source), num in held.items() if num > 1)


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
