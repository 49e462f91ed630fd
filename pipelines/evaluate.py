"""Evaluation: what a snapshot knows, what was forgotten, and what other text loses.

Everything is derived from log probabilities a token that are stored once. Documents are scored
alone, from their first token, with every live domain active; second halves as the router finds.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from peer_cl.bases import Base, within_context
from peer_cl.errors import DamageError, StateError
from peer_cl.metrics import (
    average_score,
    backward_transfer,
    efficiency,
    forgetting,
    forward_transfer,
    learning_accuracy,
    retention,
)
from peer_cl.mixture import answer_bound_nats, worst_added_nats
from pipelines.answers import (
    MADE,
    PEOPLE,
    ask_kept,
    kept_questions,
    people_questions,
    some_of_each,
)
from pipelines.background import BackgroundSource, load_background
from pipelines.bare_logits import equal_to_bare
from pipelines.batches import tokenise
from pipelines.corpora import LEARNED_KINDS
from pipelines.facts import Fact
from pipelines.loading import empty_model, load_pool, load_store_base, resolve_base
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.recall import Question, is_readable, questions, recall
from pipelines.report import (
    BackgroundRow,
    EvaluationReport,
    Matrix,
    Metrics,
    RoutingRow,
)
from pipelines.scoring import MAX_TOKENS, ScoreBook, ScoredText
from pipelines.splits import near_copies
from pipelines.study.questions import StudyQuestion
from stores.queries import Document, Snapshot
from stores.records import BASE_SUBJECT, KeptQuestion
from stores.registry import Registry

COMMON_SHARE = 0.2
"""A token that stands in more than this share of a domain's documents is one of its stock words."""


@dataclass(frozen=True)
class Learned:
    """A live domain, its live version, and its unseen documents."""

    domain: str
    version: str
    is_enabled: bool
    unseen: tuple[ScoredText, ...] = ()
    """Held-out documents that no live domain learned, nor a near copy of them."""
    near_learned: tuple[str, ...] = ()
    """Ids of held-out documents of which a live domain learned a near copy."""


def evaluate(
    registry: Registry,
    *,
    author: str,
    background: bool | Sequence[BackgroundSource] = False,
    with_recall: bool = True,
    questions: Iterable[StudyQuestion] = (),
    keep: bool = False,
    max_documents: int | None = None,
    max_background_tokens: int | None = None,
    progress: Progress = no_progress,
) -> EvaluationReport:
    """Score what is missing, and return and store the report on the live snapshot.

    `background`: the pinned test sources (minutes), others, or none; of each at most
    `max_documents` are scored, up to `max_background_tokens`, or as far as all documents.
    `with_recall`: ask the facts, and the questions that domains keep. `questions`: ask these, too,
    about documents that they name; with `keep` they are kept, and asked again after each ingest.

    Raises:
        StateError: when no domain is live, or there is nothing to measure any on.
        CorpusError: when background sources are neither cached nor to be downloaded, or a question
            names no live document.
        DamageError: when the base gives a text no finite probability.
    """
    live = registry.queries.live()
    with recorded_run(registry, "evaluate", None, author, progress=progress) as run:
        base = load_store_base(registry)
        learned = _unseen_documents(registry, base, _learned_order(registry, live), run.progress)
        people = people_questions(registry, questions)
        if keep:
            registry.keep_questions(people)
        if isinstance(background, bool):
            background = load_background("test") if background else []
        sources = [
            (source, _items(base, source.documents[:max_documents], max_background_tokens))
            for source in background
        ]
        background_items = [item for _, own in sources for item in own]
        model = empty_model(registry, base)
        for one in learned:
            model.add_pool(one.domain, load_pool(registry, one.domain, one.version))
        measured = [one for one in learned if one.unseen]
        is_on = {one.domain: one.version for one in learned if one.is_enabled}
        kept = some_of_each(registry.queries.kept_questions()) if with_recall else ()
        people = [*dict.fromkeys(one for one in (*people, *kept) if one.domain in is_on)]
        asked_facts, too_long = list[Question](), dict[str, int]()
        made = list[KeptQuestion]()
        if with_recall:
            asked_facts, too_long = _fact_questions(registry, base, is_on)
            made = [one for name in is_on for one in kept_questions(model, name)]
        if not (measured or asked_facts or made or people):
            raise StateError(
                "there is nothing to measure a live domain on: ingest facts, or longer documents, "
                "or some to be held out (`peer-cl ingest --hold-out 20`), or give --questions FILE"
            )
        items = [*background_items, *(item for one in learned for item in one.unseen)]
        book = ScoreBook(registry, model, {one.domain: one.version for one in learned})
        book.fill(items, "scoring documents", run.progress)
        if not all(np.isfinite(book.log_probs(BASE_SUBJECT, item)).all() for item in items):
            raise DamageError("the base gives a text no finite probability: run `peer-cl verify`")
        enabled = [*is_on.values()]
        for one in learned:
            if not one.is_enabled:
                model.delete_pool(one.domain)
        identical = _identical(book, enabled, background_items, run.progress)
        recalled = tuple(recall(model, asked_facts, run.progress)) if asked_facts else ()
        asked = [
            row
            for source, own in ((MADE, made), (PEOPLE, people))
            for row in ask_kept(registry, model, base.tokenizer, own, source, run.progress)
        ]
        matrix, config = _matrix(book, learned, enabled), registry.config
        report = EvaluationReport(
            snapshot=live.id,
            domains=tuple(one.domain for one in measured),
            scored_tokens=within_context(base.model, MAX_TOKENS),
            unmeasured=tuple(one.domain for one in learned if not one.unseen),
            near_learned={one.domain: one.near_learned for one in learned if one.near_learned},
            matrix=matrix,
            metrics=_metrics(matrix) if measured else None,
            budget=config.budget,
            bound_nats=worst_added_nats(config.budget),
            answer_bound_nats=answer_bound_nats(config.budget),
            background=tuple(
                _background_row(book, enabled, source, own, identical) for source, own in sources
            ),
            routing=tuple(
                _routing_row(book, learned, enabled, one, _stock_words(registry, base, one))
                for one in measured
            ),
            with_recall=with_recall,
            recall=recalled,
            asked=tuple(asked),
            too_long_questions=too_long,
        )
        registry.put_evaluation(live.id, report.to_json())
        run.snapshot_id = live.id
    return report


def _learned_order(registry: Registry, live: Snapshot) -> list[Learned]:
    """Return a snapshot's domains in the order in which their live versions came."""
    order: dict[str, Learned] = {}
    for snapshot in registry.queries.ancestry(live.id):
        for state in snapshot.domains:
            now = live.state(state.domain)
            if now is not None and now.version == state.version:
                order.setdefault(state.domain, Learned(state.domain, state.version, now.is_enabled))
    if not order:
        raise StateError("no domain is live: ingest one first")
    return list(order.values())


def _unseen_documents(
    registry: Registry, base: Base, learned: Sequence[Learned], progress: Progress
) -> tuple[Learned, ...]:
    """Return the domains with their unseen documents; texts that are not kept are left out."""
    documents = {one.domain: registry.queries.documents(one.domain, one.version) for one in learned}
    every = [document for own in documents.values() for document in own]
    trained = {document.document_id for document in every if document.split == "train"}
    held_out = {}
    for domain, own in documents.items():
        tests = [d for d in own if d.split == "test" and d.kind == "text"]
        held_out[domain] = _kept(registry, [d for d in tests if d.document_id not in trained])
    texts = dict(pair for own in held_out.values() for pair in own)
    near = near_copies(texts, _learned_texts(registry, every, progress)) if texts else frozenset()
    found = []
    for one in learned:
        ids = [key for key, _ in held_out[one.domain]]
        unseen = [key for key in ids if key not in near]
        scored = zip(_items(base, [texts[key] for key in unseen]), unseen, strict=True)
        items = tuple(replace(item, document_id=key) for item, key in scored)
        near_learned = tuple(key for key in ids if key in near)
        found.append(replace(one, unseen=items, near_learned=near_learned))
    return tuple(found)


def _kept(registry: Registry, documents: Sequence[Document]) -> list[tuple[str, str]]:
    """Return ids and texts of those documents whose texts are kept."""
    return [
        (document.document_id, registry.queries.document_text(document))
        for document in documents
        if document.text_object is not None
    ]


def _learned_texts(
    registry: Registry, documents: Sequence[Document], progress: Progress
) -> Iterator[str]:
    """Yield all that was learned: texts and statements of facts."""
    for number, document in enumerate(documents):
        if document.split == "train" and document.kind in LEARNED_KINDS:
            yield from (text for _, text in _kept(registry, [document]))
        if number % 256 == 255 or number == len(documents) - 1:
            progress("looking for near copies", number + 1, len(documents), "")


def _items(base: Base, texts: Sequence[str], max_tokens: int | None = None) -> list[ScoredText]:
    most = within_context(base.model, max_tokens or MAX_TOKENS)
    special = frozenset(base.tokenizer.all_special_ids)
    return [
        ScoredText(tuple(ids[:most]), is_cut=len(ids) > most, special_ids=special)
        for ids in tokenise(base.tokenizer, texts)
    ]


def _matrix(book: ScoreBook, learned: Sequence[Learned], enabled: Sequence[str]) -> Matrix:
    """Return losses on unseen documents as domains came.

    A domain counts from where its live version came, so no figure takes its own past, or what
    people disabled, for what others did to it. Branches never change, so these are those of then.
    """

    @functools.cache  # without a domain is mostly with the one before it
    def losses(*versions: str) -> tuple[float, ...]:
        return tuple(book.mixture_loss(versions, own).mixture for own in unseen)

    unseen = [one.unseen for one in learned if one.unseen]
    versions = [one.version for one in learned]
    places = [place for place, one in enumerate(learned) if one.unseen]
    base = tuple(book.loss(BASE_SUBJECT, own) for own in unseen)
    came = [losses(*versions[: place + 1]) for place in places]
    return Matrix(
        loss_nats=(base, *came[:-1], losses(*enabled)) if came else (base,),
        before_nats=tuple(losses(*versions[:place]) for place in places),
        coming_nats=came[-1] if came else (),
    )


def _metrics(matrix: Matrix) -> Metrics:
    scores = [[-loss for loss in row] for row in matrix.loss_nats]
    newest = -matrix.coming_nats[-1]
    return Metrics(
        acc=average_score(scores),
        learning_accuracy=learning_accuracy(scores, newest),
        bwt=backward_transfer(scores),
        fwt=forward_transfer(scores),
        forgetting=forgetting(scores),
        retention=retention(scores, newest),
    )


def _identical(
    book: ScoreBook, enabled: Sequence[str], items: Sequence[ScoredText], progress: Progress
) -> frozenset[str]:
    """Return the keys of texts in which nothing is found and all bits are the bare model's."""
    inactive = {
        item.key: item.ids
        for item in items
        if not any(book.is_found(version, item) for version in enabled)
    }
    progress("comparing bits with the bare model", 0, len(inactive), "")
    source = resolve_base(book.registry.config.base_id)
    equal = equal_to_bare(book.model, source, [*inactive.values()])
    progress("comparing bits with the bare model", len(inactive), len(inactive), "")
    return frozenset(key for key, same in zip(inactive, equal, strict=True) if same)


def _background_row(
    book: ScoreBook,
    enabled: Sequence[str],
    source: BackgroundSource,
    items: Sequence[ScoredText],
    identical: frozenset[str],
) -> BackgroundRow:
    loss = book.mixture_loss(enabled, items)
    return BackgroundRow(
        source=source.name,
        kind=source.kind,
        documents=len(items),
        cut_documents=sum(item.is_cut for item in items),
        identical=fmean(item.key in identical for item in items),
        max_added_nats=loss.max_added_nats,
        base_loss_nats=loss.base,
        loss_nats=loss.mixture,
    )


def _routing_row(
    book: ScoreBook,
    learned: Sequence[Learned],
    enabled: Sequence[str],
    own: Learned,
    stock: frozenset[int],
) -> RoutingRow:
    items = own.unseen
    loss, oracle = book.mixture_loss(enabled, items), book.loss(own.version, items)
    second_halves = book.continuation_losses(enabled, own.version, items)
    others = [one for one in learned if one.domain != own.domain]
    return RoutingRow(
        domain=own.domain,
        documents=len(items),
        cut_documents=sum(item.is_cut for item in items),
        base_loss_nats=loss.base,
        oracle_loss_nats=oracle,
        loss_nats=loss.mixture,
        efficiency=efficiency(loss.base, oracle, loss.mixture),
        efficiency_continuation=efficiency(*second_halves),
        found=fmean(book.is_found(own.version, item) for item in items),
        max_added_nats=loss.max_added_nats,
        reduction=_reduction(loss.base, oracle),
        reduction_without_stock_words=_reduction(*_rare_losses(book, own, stock)),
        reduction_by_other_domains={
            one.domain: _reduction(loss.base, book.loss(one.version, items)) for one in others
        },
    )


def _stock_words(registry: Registry, base: Base, one: Learned) -> frozenset[int]:
    """Return the tokens that stand in more than a fifth of a domain's training documents."""
    documents = registry.queries.documents(one.domain, one.version, "train", "text")
    texts = [text for _, text in _kept(registry, documents)]
    counts = Counter(token for ids in tokenise(base.tokenizer, texts) for token in set(ids))
    return frozenset(token for token, num in counts.items() if num > COMMON_SHARE * len(texts))


def _rare_losses(book: ScoreBook, own: Learned, stock: frozenset[int]) -> tuple[float, float]:
    """Return summed losses on tokens that are no stock words: the base's and the pool's."""
    base = oracle = 0.0
    for item in own.unseen:
        is_rare_T = np.array([token not in stock for token in item.ids[1:]])[item.is_counted_T]
        base -= float(book.log_probs(BASE_SUBJECT, item)[is_rare_T].sum())
        oracle -= float(book.log_probs(own.version, item)[is_rare_T].sum())
    return base, oracle


def _reduction(base: float, oracle: float) -> float:
    return 1 - oracle / base if base else 0.0


def _fact_questions(
    registry: Registry, base: Base, versions: Mapping[str, str]
) -> tuple[list[Question], dict[str, int]]:
    """Return questions about domains' facts, and by domain how many are too long to ask."""
    asked = list[Question]()
    for domain, version in versions.items():
        documents = registry.queries.documents(domain, version, kind="question")
        facts = [Fact.from_question(text) for _, text in _kept(registry, documents)]
        asked += questions(base.tokenizer, domain, facts)
    readable = [question for question in asked if is_readable(base.model, question)]
    too_long = Counter(q.domain for q in asked) - Counter(q.domain for q in readable)
    return readable, dict(too_long)
