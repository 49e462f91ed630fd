"""Evaluation: what a snapshot knows, what was forgotten, and what other text loses.

Everything is derived from log probabilities a token that are stored once. Documents are scored
alone, from their first token, with every live domain active; second halves as the router finds.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from peer_cl.bases import Base, within_context
from peer_cl.errors import DamageError, InputError, StateError
from peer_cl.metrics import (
    average_score,
    backward_transfer,
    efficiency,
    forgetting,
    forward_transfer,
    learning_accuracy,
    retention,
)
from peer_cl.mixture import domain_prior, mention_bound_nats, worst_added_nats
from peer_cl.model import PeerModel
from pipelines.background import BackgroundSource, load_background
from pipelines.bare_logits import equal_to_bare
from pipelines.batches import tokenise
from pipelines.corpora import LEARNED_KINDS
from pipelines.facts import Fact
from pipelines.loading import empty_model, load_pool, load_store_base, resolve_base
from pipelines.progress import Progress, no_progress, recorded_run
from pipelines.recall import is_readable, questions, recall
from pipelines.report import (
    BackgroundRow,
    EvaluationReport,
    Matrix,
    Metrics,
    RecallRow,
    RoutingRow,
)
from pipelines.scoring import MAX_TOKENS, ScoreBook, ScoredText
from pipelines.splits import near_copies
from stores.queries import Document, Snapshot
from stores.records import BASE_SUBJECT
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


@dataclass(frozen=True)
class Scored:
    """An evaluated snapshot with all its scores."""

    book: ScoreBook
    prior: float
    """One domain's."""
    learned: tuple[Learned, ...]
    """The live domains, in the order in which their versions came."""

    @property
    def measured(self) -> tuple[Learned, ...]:
        """The domains that have unseen documents."""
        return tuple(one for one in self.learned if one.unseen)

    @property
    def enabled(self) -> tuple[str, ...]:
        """The versions that are enabled."""
        return tuple(one.version for one in self.learned if one.is_enabled)


def evaluate(
    registry: Registry,
    *,
    author: str,
    background: bool | Sequence[BackgroundSource] = True,
    with_recall: bool = True,
    max_documents: int | None = None,
    max_background_tokens: int | None = None,
    progress: Progress = no_progress,
) -> EvaluationReport:
    """Score what is missing, and return and store the report on the live snapshot.

    Held-out documents of which only a near copy was learned are not measured, but listed under
    `near_learned`. A domain without any unseen document is active like every other, and listed
    under `unmeasured`.

    Args:
        registry: an open store.
        author: recorded with the run.
        background: the pinned test sources, other ones, or none.
        with_recall: ask the facts too.
        max_documents: at most so many documents of each background source.
        max_background_tokens: each of these is cut to so many tokens; default: as all documents.
        progress: called as it goes.

    Raises:
        StateError: when no domain is live, or none can be measured.
        CorpusError: when background sources are neither cached nor to be downloaded.
        DamageError: when the base gives a text no finite probability.
    """
    if max_documents is not None and max_documents < 1:
        raise InputError(f"max_documents must be at least 1, not {max_documents}")
    if max_background_tokens is not None and max_background_tokens < 2:
        raise InputError(f"max_background_tokens must be at least 2, not {max_background_tokens}")
    live = registry.queries.live()
    with recorded_run(registry, "evaluate", None, author, progress=progress) as run:
        base = load_store_base(registry)
        learned = _unseen_documents(registry, base, _learned_order(registry, live), run.progress)
        if isinstance(background, bool):
            background = load_background("test") if background else []
        background_items = {
            source.name: _items(base, source.documents[:max_documents], max_background_tokens)
            for source in background
        }
        model = empty_model(registry, base)
        for one in learned:
            model.add_pool(one.domain, load_pool(registry, one.domain, one.version, base.tokenizer))
        scored = _score(registry, model, learned, background_items, run.progress)
        for one in learned:
            if not one.is_enabled:
                model.delete_pool(one.domain)
        identical = _identical(
            scored, model, registry.config.base_id, background_items, run.progress
        )
        recalled, too_long = (
            _recall(registry, base, model, learned, run.progress) if with_recall else ((), {})
        )
        matrix, config = _matrix(scored), registry.config
        report = EvaluationReport(
            snapshot=live.id,
            domains=tuple(one.domain for one in scored.measured),
            scored_tokens=within_context(base.model, MAX_TOKENS),
            unmeasured=tuple(one.domain for one in learned if not one.unseen),
            near_learned={one.domain: one.near_learned for one in learned if one.near_learned},
            matrix=matrix,
            metrics=_metrics(matrix),
            budget=config.budget,
            bound_nats=worst_added_nats(config.budget),
            mention_odds=config.mention_odds,
            mention_bound_nats=mention_bound_nats(config.budget, config.mention_odds),
            background=tuple(
                _background_row(scored, source, background_items[source.name], identical)
                for source in background
            ),
            routing=tuple(
                _routing_row(scored, one, _stock_words(registry, base.tokenizer, one))
                for one in scored.measured
            ),
            with_recall=with_recall,
            recall=recalled,
            too_long_questions=too_long,
        )
        registry.put_evaluation(live.id, report.to_json())
        run.snapshot_id = live.id
    return report


# What is measured


def _learned_order(registry: Registry, live: Snapshot) -> list[Learned]:
    """Return a snapshot's domains in the order in which their live versions came.

    Raises: StateError: when there is none.
    """
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
    """Return the domains with their unseen documents; texts that are not kept are left out.

    Raises: StateError: when none has any.
    """
    documents = {one.domain: registry.queries.documents(one.domain, one.version) for one in learned}
    every = [document for own in documents.values() for document in own]
    trained = {document.document_id for document in every if document.split == "train"}
    held_out = {
        domain: [d for d in own if _is_test_text(d) and d.document_id not in trained]
        for domain, own in documents.items()
    }
    texts = {
        document.document_id: registry.queries.document_text(document)
        for own in held_out.values()
        for document in own
    }
    near = near_copies(texts, _learned_texts(registry, every, progress)) if texts else frozenset()
    found = []
    for one in learned:
        ids = [document.document_id for document in held_out[one.domain]]
        unseen = [key for key in ids if key not in near]
        items = _items(base, [texts[key] for key in unseen])
        found.append(
            replace(
                one,
                unseen=tuple(
                    replace(item, document_id=key) for item, key in zip(items, unseen, strict=True)
                ),
                near_learned=tuple(key for key in ids if key in near),
            )
        )
    if not any(one.unseen for one in found):
        raise StateError(
            "no live domain has a held-out document to be measured on: ingest documents in a store "
            "that keeps texts, and let some be held out (`peer-cl ingest --hold-out`)"
        )
    return tuple(found)


def _is_test_text(document: Document) -> bool:
    is_kept = document.text_object is not None
    return document.split == "test" and document.kind == "text" and is_kept


def _learned_texts(
    registry: Registry, documents: Sequence[Document], progress: Progress
) -> Iterator[str]:
    """Yield all that was learned: texts and statements of facts."""
    for number, document in enumerate(documents):
        is_learned = document.split == "train" and document.kind in LEARNED_KINDS
        if is_learned and document.text_object is not None:
            yield registry.queries.document_text(document)
        if number % 256 == 255 or number == len(documents) - 1:
            progress("looking for near copies", number + 1, len(documents), "")


def _items(base: Base, texts: Sequence[str], max_tokens: int | None = None) -> list[ScoredText]:
    most = within_context(base.model, max_tokens or MAX_TOKENS)
    special = frozenset(base.tokenizer.all_special_ids)
    return [
        ScoredText(tuple(ids[:most]), is_cut=len(ids) > most, special_ids=special)
        for ids in tokenise(base.tokenizer, texts)
    ]


def _score(
    registry: Registry,
    model: PeerModel,
    learned: tuple[Learned, ...],
    background_items: Mapping[str, Sequence[ScoredText]],
    progress: Progress,
) -> Scored:
    """Score every text that is measured by the base and by each domain."""
    book = ScoreBook(registry, model, {one.domain: one.version for one in learned})
    items = [item for some in background_items.values() for item in some]
    items += [item for one in learned for item in one.unseen]
    book.fill(items, "scoring documents", progress)
    _check_base(book, items)
    prior = domain_prior(registry.config.budget, registry.config.capacity)
    return Scored(book, prior, learned)


def _check_base(book: ScoreBook, items: Sequence[ScoredText]) -> None:
    """Refuse a base whose probabilities are not finite: nothing can be compared with them."""
    for item in items:
        if not np.isfinite(book.log_probs(BASE_SUBJECT, item)).all():
            beginning = " ".join(map(str, item.ids[:8]))
            raise DamageError(
                f"the base gives a text no finite probability (its tokens begin with {beginning}): "
                "check its weights with `peer-cl verify`"
            )


# The matrix


def _matrix(scored: Scored) -> Matrix:
    """Return losses on each domain's unseen documents as domains came; see `Matrix`.

    A domain counts from where its live version came, so no figure takes its own past, or what
    people disabled, for what others did to it. Domains never depend on each other, so these are
    the very branches of those days.
    """

    @functools.cache  # without a domain is mostly with the one before it
    def losses(*versions: str) -> tuple[float, ...]:
        return tuple(
            scored.book.mixture_loss(versions, one.unseen, scored.prior).mixture
            for one in scored.measured
        )

    versions = [one.version for one in scored.learned]
    places = [place for place, one in enumerate(scored.learned) if one.unseen]
    base = tuple(scored.book.loss(BASE_SUBJECT, one.unseen) for one in scored.measured)
    came = [losses(*versions[: place + 1]) for place in places]
    return Matrix(
        loss_nats=(base, *came[:-1], losses(*scored.enabled)),
        before_nats=tuple(losses(*versions[:place]) for place in places),
        coming_nats=came[-1],
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


# Background


def _identical(
    scored: Scored,
    model: PeerModel,
    base_id: str,
    background_items: Mapping[str, Sequence[ScoredText]],
    progress: Progress,
) -> frozenset[str]:
    """Return the keys of background texts in which nothing is found and all bits are the base's.

    Measured: all enabled pools are there, and the bare model runs in a process without this
    project's code.
    """
    unique = {item.key: item for some in background_items.values() for item in some}
    inactive = [
        item
        for item in unique.values()
        if not any(scored.book.is_found(version, item) for version in scored.enabled)
    ]
    readings = itertools.count(1)

    def done() -> None:
        progress("comparing bits with the bare model", next(readings), 2 * len(inactive), "")

    rows = [item.ids for item in inactive]
    equal = equal_to_bare(model, resolve_base(base_id), rows, done)
    return frozenset(item.key for item, same in zip(inactive, equal, strict=True) if same)


def _background_row(
    scored: Scored,
    source: BackgroundSource,
    items: Sequence[ScoredText],
    identical: frozenset[str],
) -> BackgroundRow:
    loss = scored.book.mixture_loss(scored.enabled, items, scored.prior)
    return BackgroundRow(
        source=source.name,
        kind=source.kind,
        documents=len(items),
        cut_documents=sum(item.is_cut for item in items),
        identical=_mean(item.key in identical for item in items),
        max_added_nats=loss.max_added_nats,
        base_loss_nats=loss.base,
        loss_nats=loss.mixture,
    )


# Routing


def _routing_row(scored: Scored, own: Learned, stock: frozenset[int]) -> RoutingRow:
    book, items = scored.book, own.unseen
    loss = book.mixture_loss(scored.enabled, items, scored.prior)
    oracle = book.loss(own.version, items)
    second_half = book.continuation_losses(scored.enabled, own.version, items, scored.prior)
    others = [one for one in scored.learned if one.domain != own.domain]
    return RoutingRow(
        domain=own.domain,
        documents=len(items),
        cut_documents=sum(item.is_cut for item in items),
        base_loss_nats=loss.base,
        oracle_loss_nats=oracle,
        loss_nats=loss.mixture,
        efficiency=efficiency(loss.base, oracle, loss.mixture),
        efficiency_continuation=efficiency(*second_half),
        found=_mean(book.is_found(own.version, item) for item in items),
        max_added_nats=loss.max_added_nats,
        reduction=_reduction(loss.base, oracle),
        reduction_without_stock_words=_reduction(*_rare_losses(book, own, stock)),
        reduction_by_other_domains={
            one.domain: _reduction(loss.base, book.loss(one.version, items)) for one in others
        },
    )


def _stock_words(registry: Registry, tokenizer: Any, one: Learned) -> frozenset[int]:
    """Return the tokens that stand in more than a fifth of a domain's training documents."""
    documents = registry.queries.documents(one.domain, one.version, split="train", kind="text")
    texts = [registry.queries.document_text(d) for d in documents if d.text_object is not None]
    counts = Counter(token for ids in tokenise(tokenizer, texts) for token in set(ids))
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
    """Return the share of a loss that a pool takes away."""
    return 1 - oracle / base if base else 0.0


def _mean(claims: Iterable[bool]) -> float:
    every = list(claims)
    return sum(every) / len(every)


# Recall


def _recall(
    registry: Registry,
    base: Base,
    model: PeerModel,
    learned: Sequence[Learned],
    progress: Progress,
) -> tuple[tuple[RecallRow, ...], dict[str, int]]:
    """Return recall of the enabled domains' facts, and how many questions are too long to ask."""
    asked = [
        question
        for one in learned
        if one.is_enabled
        for question in questions(base.tokenizer, one.domain, _facts(registry, one))
    ]
    readable = [question for question in asked if is_readable(base.model, question)]
    too_long = Counter(q.domain for q in asked) - Counter(q.domain for q in readable)
    return tuple(recall(model, readable, progress)), dict(too_long)


def _facts(registry: Registry, one: Learned) -> list[Fact]:
    documents = registry.queries.documents(one.domain, one.version, kind="question")
    texts = [registry.queries.document_text(d) for d in documents if d.text_object is not None]
    return [Fact.from_question(text) for text in texts]
