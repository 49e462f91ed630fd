"""Whether provenance tells the truth: do the experts named for a document hold what it taught?

Of a text these are shared experts, named by the record of use; of a fact its own. They are switched
off, and the share of the document's gain that goes with them is compared with
the share of other documents' gain that goes too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.prompts import batches
from benchmarks.results import Figure, store_options
from peer_cl.model import PeerModel
from peer_cl.pool import Segment
from peer_cl.read import read
from pipelines import open_store
from pipelines.batches import tokenise
from pipelines.provenance import document_experts
from pipelines.store import Store
from pipelines.trace import learned_segments
from stores.queries import Document

COMMAND = "python -m benchmarks provenance"
MAX_TOKENS = 512
"""Documents are read up to here: what a training row holds at most."""
NUM_EXPERTS = 80
"""Switched off for a document."""
NUM_DOCUMENTS, NUM_WATCHED = 6, 12
"""Of each kind: those whose experts are switched off, and others that are watched."""
Place = tuple[str, int, int]  # segment id, host layer, expert


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
    segments = learned_segments(store.registry, queries.live(), model, domain)
    learned = {k: queries.documents(domain, split="train", kind=k) for k in ("text", "fact")}

    def samples(documents: Sequence[Document]) -> list[Sample]:
        texts = [queries.document_text(one) for one in documents]
        rows = [tuple(ids[:MAX_TOKENS]) for ids in tokenise(tokenizer, texts)]
        return [
            Sample(*found)
            for found in zip(documents, rows, *_losses(model, domain, rows), strict=True)
        ]

    watched = samples([d for own in learned.values() for d in drawn(own, NUM_WATCHED, salt=1)])
    for kind, found in learned.items():
        chosen = samples(drawn(found, NUM_DOCUMENTS, salt=2))
        ways = ("own",) if kind == "fact" else ("random", "router weight", "tf-idf")
        for how in ways if chosen else ():
            own = own_gain = others = others_gain = 0.0
            for sample in chosen:
                rest = [one for one in watched if one.ids != sample.ids]
                if how == "own":
                    off = _own_rows(model, domain, sample.document)
                else:
                    named = _named(store, segments, sample.document, how)
                    off = shared_rows(segments, named)
                with switched_off(off):
                    losses = _losses(model, domain, [sample.ids, *(one.ids for one in rest)])[1]
                own += losses[0] - sample.pool
                own_gain += sample.base - sample.pool
                others += sum(now - one.pool for now, one in zip(losses[1:], rest, strict=True))
                others_gain += sum(one.base - one.pool for one in rest)
            what = f"{how}, {NUM_EXPERTS} experts, {domain}, {kind}s (share)"
            if how == "own":
                what = f"own experts, {domain}, facts (share)"
            least, most = (0.8, 0.05) if how in ("own", "tf-idf") else (None, None)
            yield Figure(f"own gain that goes: {what}", own / own_gain, least=least)
            yield Figure(f"others' gain that goes: {what}", others / others_gain, most=most)


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


def _named(
    store: Store, segments: Mapping[str, Segment], document: Document, how: str
) -> list[Place]:
    """Return as many experts for a document, chosen in one of three ways."""
    if how == "random":
        every = [
            (segment_id, layer, expert)
            for segment_id, segment in segments.items()
            for layer in segment.host_layers
            for expert in range(segment.shape.num_experts)
        ]
        return random.Random(document.document_id).sample(every, min(NUM_EXPERTS, len(every)))
    found = document_experts(store.registry, document.document_id, [document.segment_id])
    if how == "router weight":
        found = sorted(found, key=lambda one: -one.weight)
    return [(one.segment_id, one.host_layer, one.expert) for one in found[:NUM_EXPERTS]]


def shared_rows(segments: Mapping[str, Segment], places: Sequence[Place]) -> list[Tensor]:
    """Return what each of some shared experts adds, (D,), as it lies in the model."""
    return [segments[s].layer(layer).experts.up_ND.data[n] for s, layer, n in places]


def _own_rows(model: PeerModel, domain: str, document: Document) -> list[Tensor]:
    return [
        own.up_ILRD.data[number]
        for own in model.pool(domain).own_experts()
        for number, item in enumerate(own.items)
        if item.item_id == document.document_id
    ]


@contextmanager
def switched_off(rows: Sequence[Tensor]) -> Iterator[None]:
    """Let some experts, given by what they add, add nothing inside."""
    kept = [row_D.clone() for row_D in rows]
    for row_D in rows:
        row_D.zero_()
    try:
        yield
    finally:
        for row_D, values_D in zip(rows, kept, strict=True):
            row_D.copy_(values_D)


def drawn(documents: Sequence[Document], num: int, salt: int = 0) -> list[Document]:
    """Return some documents, drawn by their ids: the same ones every time."""
    ordered = sorted(documents, key=lambda document: document.document_id)
    return random.Random(salt).sample(ordered, min(num, len(ordered)))
