"""Evaluation: what each snapshot knows, what was forgotten, and what foreign text loses.

Everything is derived from log probabilities a token that are stored once. Documents are scored
alone, from their first token, with every live pool asked; second halves with the shortlist on.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from peer_cl import metrics
from peer_cl.bases import Base, within_context
from peer_cl.errors import DamageError, InputError, StateError
from peer_cl.mixture import named_bound_nats, worst_added_nats
from peer_cl.model import PeerModel
from peer_cl.pool import ExpertPool
from pipelines.background import BackgroundSource, load_background
from pipelines.bare_process import equal_to_bare
from pipelines.base_models import resolve_base
from pipelines.batches import tokenise
from pipelines.facts import joined_facts
from pipelines.general_report import choose_items, general_rows, known_rows
from pipelines.general_tasks import read_sets
from pipelines.loading import empty_model, load_chain, load_store_base, read_signature
from pipelines.mixture_scores import continuation_sums, mixture_loss
from pipelines.pinned import Learned, Pinned, learned_order
from pipelines.probes import holds_fact
from pipelines.progress import Progress, no_progress
from pipelines.questions import WORDINGS, Question, is_readable, questions, read_fact
from pipelines.recall import recall
from pipelines.token_scores import BASE, MAX_TOKENS, Item, ScoreBook, VersionBranch, sums
from pipelines.unseen import HeldOut, held_out
from stores import Registry
from stores.patience import patiently

if TYPE_CHECKING:
    from pipelines.store import Store

COMMON_SHARE = 0.2
"""A token that stands in more than this share of a domain's documents is one of its stock words."""


def evaluate(
    store: Store,
    *,
    progress: Progress = no_progress,
    background: bool | Sequence[BackgroundSource] = True,
    with_recall: bool = True,
    max_documents: int | None = None,
    max_background_tokens: int = MAX_TOKENS,
    general: str | Path | None = None,
    general_items: int = 250,
) -> dict[str, Any]:
    """Score what is missing, and return and store the report on the live snapshot.

    Args:
        store: an open store.
        progress: told how far it is.
        background: the pinned test sources, other ones, or none.
        with_recall: ask the facts too.
        max_documents: at most so many documents of each background source.
        max_background_tokens: each of these documents is cut to so many tokens.
        general: a folder (or file) of sets that no domain teaches, see `pipelines.general_tasks`;
            None: what an evaluation of the same versions found is kept.
        general_items: of each of these sets; those that the base cannot read are left out, told in
            a line a set under "general_left_out".

    Everything is about the snapshot that is live at the start, whatever others do meanwhile. A
    domain of which no document is held out, or no text kept, or each (or a near copy of it) was
    learned by a live domain, has nothing to be measured on: it is asked like every other, and
    listed under "unmeasured". Held-out documents of which only a near copy was learned are listed
    under "near_learned". Questions that the base cannot read whole, which older stores may hold,
    are not asked, and counted by domain under "too_long_questions".

    Raises:
        InputError: when `general` holds no set, a set with a line that is no item, or no item that
            the base can read; when general_items is no number of items; when a background source
            has no document, or none of each, or no token of it, is wanted.
        StateError: when no domain is live, or none can be measured; when the store is read-only
            here; or when what was measured is purged before the end.
        CorpusError: when background sources are neither cached nor to be had.
        DamageError: when the base gives a text no probability that is a number.
    """
    registry = store.registry
    registry.check_writable()
    if max_documents is not None and max_documents < 1:
        raise InputError(
            f"max_documents must be at least 1, not {max_documents}; background=False scores none"
        )
    if max_background_tokens < 2:
        raise InputError(
            f"max_background_tokens must be at least 2, not {max_background_tokens}: nothing "
            "predicts the start token, the first"
        )
    sources = _sources(background)
    sets, left_out = ((), ()) if general is None else read_sets(Path(general))
    live = registry.live()
    everything = learned_order(registry, live)
    if not everything:
        raise StateError("no domain is live: ingest one first")
    base = load_store_base(registry)
    chosen, too_long = choose_items(base, sets, general_items)
    apart = held_out(registry, everything, progress)
    documents = {domain: _test_items(base, own) for domain, own in apart.items()}
    order = [one for one in everything if documents[one.domain]]
    if not order:
        raise StateError(
            f"no text of {', '.join(documents)} is held out to be measured on that no live domain "
            "learned, or a near copy of it: ingest more documents, in a store that keeps texts, "
            "and let some be held out (`peer-cl ingest --hold-out`)"
        )
    model = empty_model(registry, base)
    try:
        branches = {
            one.domain: version_branch(registry, model, one.domain, one.version)
            for one in everything
        }
        pin = Pinned(registry, live, everything, order)
        book = ScoreBook(registry, model, list(branches.values()))
        foreign = {
            s.name: _items(base, s.documents[:max_documents], max_background_tokens)
            for s in sources
        }
        scored = [item for items in [*documents.values(), *foreign.values()] for item in items]
        book.fill(scored, "scoring documents", progress)
        _check_base(book, scored)
        unchanged = _unchanged(book, pin, branches, foreign, progress)
        if chosen:
            on = {name: one for name, one in branches.items() if one.version in pin.versions()}
            told = general_rows(registry, model, on, chosen, progress)
            left_out += too_long
        else:
            told, left_out = known_rows(registry, live)
        asked = _questions(pin, base.tokenizer, branches) if with_recall else []
        readable = [question for question in asked if is_readable(base.model, question)]
        recalled = _recall_rows(pin, model, readable, branches, progress) if readable else []
    finally:
        model.detach()
    matrix = _matrix(book, pin, documents)
    common = {one.domain: _own_stock(registry, base.tokenizer, one) for one in order}
    report: dict[str, Any] = {
        "snapshot": live.id,
        "domains": [one.domain for one in order],
        "scored_tokens": within_context(base.model, MAX_TOKENS),
        "unmeasured": [one.domain for one in everything if not documents[one.domain]],
        "near_learned": {
            name: list(own.near_learned) for name, own in apart.items() if own.near_learned
        },
        "matrix": matrix,
        "metrics": _metrics(matrix),
        "budget": registry.config.budget,
        "bound_nats": worst_added_nats(registry.config.budget),
        "name_odds": registry.config.name_odds,
        "named_bound_nats": named_bound_nats(registry.config.budget, registry.config.name_odds),
        "background": [
            _background_row(book, pin, source, foreign[source.name], unchanged)
            for source in sources
        ],
        "general": told,
        "general_left_out": list(left_out),
        "mixture": [
            _mixture_row(book, pin, one, documents[one.domain], common[one.domain]) for one in order
        ],
        "with_recall": with_recall,
        "recall": recalled,
        "too_long_questions": dict(_counts(asked) - _counts(readable)),
    }
    put = functools.partial(registry.put_evaluation, live.id, report)
    patiently(put, functools.partial(progress, "writing the report", 0, 0))
    return report


def version_branch(
    registry: Registry, model: PeerModel, domain: str, version: str
) -> VersionBranch:
    """Return a version of a domain, loaded and verified."""
    segments = load_chain(registry, domain, registry.chain(version), model.identity)
    return VersionBranch(version, segments, read_signature(registry, domain, version))


def _sources(background: bool | Sequence[BackgroundSource]) -> list[BackgroundSource]:
    if isinstance(background, bool):
        return load_background("test") if background else []
    for source in background:
        if not source.documents:
            raise InputError(f"background source {source.name!r} has no document: leave it out")
    return list(background)


def _check_base(book: ScoreBook, items: Sequence[Item]) -> None:
    """Refuse a base whose probabilities are no numbers: nothing can be compared with them."""
    for item in items:
        if not np.isfinite(book.log_probs(BASE, item)).all():
            beginning = " ".join(map(str, item.ids[:8]))
            raise DamageError(
                f"the base gives a text no probability that is a number (its tokens begin with "
                f"{beginning}): look at its weights, and at what `peer-cl verify` says"
            )


def _items(base: Base, texts: Sequence[str], max_tokens: int = MAX_TOKENS) -> list[Item]:
    most = within_context(base.model, max_tokens)
    special = frozenset(base.tokenizer.all_special_ids)
    rows = tokenise(base.tokenizer, texts)
    return [Item(tuple(ids[:most]), is_cut=len(ids) > most, special_ids=special) for ids in rows]


def _test_items(base: Base, own: HeldOut) -> list[Item]:
    items = _items(base, [own.texts[document.document_id] for document in own.unseen])
    return [
        replace(item, document_id=document.document_id)
        for item, document in zip(items, own.unseen, strict=True)
    ]


def _matrix(book: ScoreBook, pin: Pinned, documents: dict[str, list[Item]]) -> dict[str, list[Any]]:
    """Return losses, nats a token, as the report holds them.

    loss_nats: row 0 is the base, row i has the live versions of the domains that had come with
    domain i on, the last row what is on now, so that a disabled domain shows. before_nats: row i
    without domain i itself, which its row is compared with. coming_nats: the last row as it was
    when its domain came, whatever was switched off since.
    """

    @functools.cache  # without a domain is mostly with the one before it
    def losses(*versions: str) -> list[float]:
        found = [mixture_loss(book, versions, documents[o.domain], pin.share) for o in pin.measured]
        return [loss.mixture for loss in found]

    names = [one.domain for one in pin.measured]
    came = [losses(*pin.come(name)) for name in names]
    return {
        "loss_nats": [
            [sums(book, BASE, documents[name]) for name in names],
            *came[:-1],
            losses(*pin.versions()),
        ],
        "before_nats": [losses(*pin.come(name, itself=False)) for name in names],
        "coming_nats": came[-1],
    }


def _metrics(matrix: dict[str, list[Any]]) -> dict[str, float | None]:
    scores = [[-loss for loss in row] for row in matrix["loss_nats"]]
    newest = -matrix["coming_nats"][-1]
    return {
        "acc": metrics.average_score(scores),
        "learning_accuracy": metrics.learning_accuracy(scores, newest),
        "bwt": metrics.backward_transfer(scores),
        "fwt": metrics.forward_transfer(scores),
        "forgetting": metrics.forgetting(scores),
        "retention": metrics.retention(scores, newest),
    }


def _unchanged(
    book: ScoreBook,
    pin: Pinned,
    branches: dict[str, VersionBranch],
    foreign: dict[str, list[Item]],
    progress: Progress,
) -> set[str]:
    """Return the keys of the documents that ask no pool and get the bare model's bits.

    Measured: all live pools are there, and the bare model runs in a process without this project.
    """
    versions = pin.versions()
    unique = {item.key: item for items in foreign.values() for item in items}
    silent = [
        item
        for item in unique.values()
        if not any(book.asked(version, item).whole for version in versions)
    ]
    if not silent:
        return set()
    model = book.model
    for domain, branch in branches.items():
        if branch.version in versions:
            model.add_pool(domain, ExpertPool(domain, branch.segments, branch.signature))
    source = resolve_base(pin.registry.config.base_id)
    equal = equal_to_bare(model, source, [item.ids for item in silent], progress)
    for domain in model.active_pools:
        model.delete_pool(domain)
    return {item.key for item, same in zip(silent, equal, strict=True) if same}


def _background_row(
    book: ScoreBook,
    pin: Pinned,
    source: BackgroundSource,
    items: Sequence[Item],
    unchanged: set[str],
) -> dict[str, Any]:
    loss = mixture_loss(book, pin.versions(), items, pin.share)
    return {
        "source": source.name,
        "kind": source.kind,
        "documents": len(items),
        "cut_documents": sum(item.is_cut for item in items),
        "identical": sum(item.key in unchanged for item in items) / max(1, len(items)),
        "max_added_nats": loss.max_added_nats,
        "base_loss_nats": loss.base,
        "loss_nats": loss.mixture,
    }


def _mixture_row(
    book: ScoreBook,
    pin: Pinned,
    own: Learned,
    items: Sequence[Item],
    stock: set[int],
) -> dict[str, Any]:
    loss = mixture_loss(book, pin.versions(), items, pin.share)
    forced = sums(book, own.version, items)
    second = continuation_sums(book, pin.versions(), own.version, items, pin.share)
    asked = [book.asked(own.version, item).whole for item in items]
    others = [one for one in pin.learned if one.domain != own.domain]
    controls = {one.domain: sums(book, one.version, items) for one in others}
    rare_base, rare_forced = _rare_losses(book, own.version, items, stock)
    return {
        "domain": own.domain,
        "documents": len(items),
        "cut_documents": sum(item.is_cut for item in items),
        "base_loss_nats": loss.base,
        "forced_loss_nats": forced,
        "loss_nats": loss.mixture,
        "kept": metrics.kept(loss.base, forced, loss.mixture),
        "kept_continuation": metrics.kept(*second),
        "asked": sum(asked) / max(1, len(asked)),
        "max_added_nats": loss.max_added_nats,
        "reduction": 1 - forced / loss.base if loss.base else 0.0,
        "reduction_without_stock_words": 1 - rare_forced / rare_base if rare_base else 0.0,
        "reduction_by_other_pools": {
            name: 1 - value / loss.base if loss.base else 0.0 for name, value in controls.items()
        },
    }


def _own_stock(registry: Registry, tokenizer: Any, one: Learned) -> set[int]:
    """Return the stock words of a domain's training documents."""
    documents = registry.documents(one.domain, one.version, split="train", kind="text")
    texts = [registry.document_text(d) for d in documents if d.text_object is not None]
    return stock_tokens(tokenise(tokenizer, texts))


def stock_tokens(texts: Sequence[Sequence[int]]) -> set[int]:
    """Return tokens that stand in more than a fifth of texts, given as token ids."""
    counts = Counter(token for ids in texts for token in set(ids))
    return {token for token, num in counts.items() if num > COMMON_SHARE * len(texts)}


def _rare_losses(
    book: ScoreBook, version: str, items: Sequence[Item], stock: set[int]
) -> tuple[float, float]:
    """Return summed losses on tokens that are no stock words: the base's and the pool's."""
    base = forced = 0.0
    for item in items:
        rare_T = torch.tensor([token not in stock for token in item.ids[1:]])
        rare = rare_T[item.counted_T].numpy()
        base -= float(book.log_probs(BASE, item)[rare].sum())
        forced -= float(book.log_probs(version, item)[rare].sum())
    return base, forced


def _questions(pin: Pinned, tokenizer: Any, branches: dict[str, VersionBranch]) -> list[Question]:
    """Return what is asked about the facts of each domain that is on."""
    registry, asked = pin.registry, []
    for domain in _enabled(pin, branches):
        probes = registry.documents(domain, branches[domain].version, kind="probe")
        facts = joined_facts(  # older stores keep one of several lines for each
            read_fact(registry.document_text(p))
            for p in probes
            if p.text_object is not None and holds_fact(p)
        )
        asked += questions(tokenizer, domain, facts)
    return asked


def _enabled(pin: Pinned, branches: dict[str, VersionBranch]) -> dict[str, VersionBranch]:
    enabled = {state.domain for state in pin.live.domains if state.is_enabled}
    return {domain: branch for domain, branch in branches.items() if domain in enabled}


def _counts(asked: Sequence[Question]) -> Counter[str]:
    return Counter(question.domain for question in asked)


def _recall_rows(
    pin: Pinned,
    model: PeerModel,
    asked: Sequence[Question],
    branches: dict[str, VersionBranch],
    progress: Progress,
) -> list[dict[str, Any]]:
    tallies = recall(model, _enabled(pin, branches), asked, progress)
    return [
        {"domain": domain, "wording": wording, **tallies[domain, wording].shares()}
        for domain in branches
        for wording in WORDINGS
        if (domain, wording) in tallies
    ]
