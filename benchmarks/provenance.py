"""Whether provenance tells the truth: do the experts that a document owns hold what it taught?

They are switched off, and the share of the document's gain that goes with them is compared with the
share of other documents' gain that goes too. And: is a learned text's own passage the one that is
found, after its first tokens?
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.prompts import batches
from benchmarks.results import Figure, store_options
from peer_cl.model import PeerModel
from peer_cl.read import read
from peer_cl.router import BackgroundWords
from pipelines import open_store
from pipelines.batches import tokenise
from pipelines.loading import load_background_statistics
from pipelines.store import Store
from stores.queries import Document

MAX_TOKENS = 512
"""Documents are read up to here: what a training row holds at most."""
NUM_DOCUMENTS, NUM_WATCHED = 6, 12
"""Of each kind: those whose experts are switched off, and others that are watched."""
BOUNDS = {"fact": (0.8, 0.05), "text": (0.3, 0.01)}
"""By kind: at least this share of the own gain goes, at most this one of others' gain. Shared
experts foresee a part of a text, too."""


FIRST_TOKENS = 32
"""After so many tokens a learned text's own passage is to be found."""


@dataclass(frozen=True)
class Sample:
    """A learned document with its losses, nats; `pool`: with every expert on."""

    document: Document
    ids: tuple[int, ...]
    base: float
    pool: float


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return what provenance in a store (`--store FOLDER`, `--domain NAME`) is worth."""
    options = store_options("provenance", arguments)
    figures: list[Figure] = []
    with open_store(options.store) as store:
        model, tokenizer = store.load()
        for domain in options.domain or model.active_pools:
            figures += _switched_off(store, model, tokenizer, domain)
        model.detach()
    return figures


def _switched_off(store: Store, model: PeerModel, tokenizer: Any, domain: str) -> Iterator[Figure]:
    queries = store.registry.queries
    learned = {kind: queries.documents(domain, split="train", kind=kind) for kind in BOUNDS}

    def samples(documents: Sequence[Document]) -> list[Sample]:
        texts = [queries.document_text(one) for one in documents]
        rows = [tuple(ids[:MAX_TOKENS]) for ids in tokenise(tokenizer, texts)]
        return [
            Sample(*found)
            for found in zip(documents, rows, *_losses(model, domain, rows), strict=True)
        ]

    words = load_background_statistics(store.registry).words
    texts = {one.document_id: queries.document_text(one) for one in learned["text"]}
    if right := _found_first(model, tokenizer, words, texts):
        what = f"own passage found first after {FIRST_TOKENS} tokens, {domain} (share)"
        yield Figure(what, fmean(right), least=0.85)
    watched = samples([d for own in learned.values() for d in drawn(own, NUM_WATCHED, salt=1)])
    for kind, (least, most) in BOUNDS.items():
        owners = [one for one in learned[kind] if own_rows(model, domain, one.document_id)]
        own = own_gain = others = others_gain = 0.0
        for sample in samples(drawn(owners, NUM_DOCUMENTS, salt=2)):
            rest = [one for one in watched if one.ids != sample.ids]
            with switched_off(own_rows(model, domain, sample.document.document_id)):
                losses = _losses(model, domain, [sample.ids, *(one.ids for one in rest)])[1]
            own += losses[0] - sample.pool
            own_gain += sample.base - sample.pool
            others += sum(now - one.pool for now, one in zip(losses[1:], rest, strict=True))
            others_gain += sum(one.base - one.pool for one in rest)
        if owners:
            what = f"own experts, {domain}, {kind}s (share)"
            yield Figure(f"own gain that goes: {what}", own / own_gain, least=least)
            yield Figure(f"others' gain that goes: {what}", others / others_gain, most=most)


def _found_first(
    model: PeerModel, tokenizer: Any, words: BackgroundWords, texts: Mapping[str, str]
) -> list[float]:
    """Return of each text that is long enough whether its own passage is the nearest of all."""
    right: list[float] = []
    for document_id, ids in zip(texts, tokenise(tokenizer, [*texts.values()]), strict=True):
        if len(ids) <= FIRST_TOKENS:
            continue
        ids_1T = torch.tensor([ids[: 1 + FIRST_TOKENS]])
        counted_1T = torch.ones_like(ids_1T).bool()
        counted_1T[0, 0] = False
        ends_1, nats_1T = torch.tensor([1 + FIRST_TOKENS]), words.nats(ids_1T)
        found = [
            (one.score, index.items[one.item].item_id)
            for name in model.active_pools
            if (index := model.items(name)) is not None
            for one in index.passages(ids_1T, counted_1T, nats_1T, ends_1)
        ]
        right.append(float(bool(found) and max(found)[1] == document_id))
    return right


def _losses(
    model: PeerModel, domain: str, rows: Sequence[Sequence[int]]
) -> tuple[list[float], list[float]]:
    """Return each row's loss by the base and by the domain's pool, summed, nats."""
    nats_QN = torch.zeros(2, len(rows), dtype=torch.float64)
    for group, ids_BT, mask_BT in batches(rows):
        reading = read(model, ids_BT, mask_BT, domains=domain)
        nats_QN[:, group] = -(reading.log_probs_QBT * mask_BT).sum(-1)
    base, pool = nats_QN.tolist()
    return base, pool


def own_rows(model: PeerModel, domain: str, document_id: str) -> list[Tensor]:
    """Return what a document's own experts add, (L, R, D) an item, as it lies in the model."""
    return [
        own.up_ILRD.data[number]
        for own in model.pool(domain).own_experts()
        for number, item in enumerate(own.items)
        if item.item_id == document_id
    ]


@contextmanager
def switched_off(rows: Sequence[Tensor]) -> Iterator[None]:
    """Let some experts, given by what they add, add nothing inside."""
    kept = [row.clone() for row in rows]
    for row in rows:
        row.zero_()
    try:
        yield
    finally:
        for row, values in zip(rows, kept, strict=True):
            row.copy_(values)


def drawn(documents: Sequence[Document], num: int, salt: int = 0) -> list[Document]:
    """Return some documents, drawn by their ids: the same ones every time."""
    ordered = sorted(documents, key=lambda document: document.document_id)
    return random.Random(salt).sample(ordered, min(num, len(ordered)))
