"""How long each question to a large store takes: 16 segments, 20,000 documents."""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import Figure, at_most, reported
from peer_cl.model import PeerModel
from peer_cl.signature import Signature
from pipelines import init_store
from pipelines.experts import DomainExperts
from pipelines.holders import document_rows
from pipelines.recording import RecordedUse
from pipelines.store import Store
from stores import (
    NewDocument,
    NewRun,
    NewSegment,
    NewUse,
    ObjectStore,
    Registry,
    StoreConfig,
    put_texts,
)

COMMAND = "python -m benchmarks scale"
QUESTION = "The crystal system of the mineral that jewellers call aquamarine is"
REPEATS = 5
SHARE_OF_ROWS = 0.8
"""Of a host layer's rows, those that a document uses: 157 of 196. So many take the 10,789 bytes
that a document's rows take in the demo (docs/results/provenance.md); in the stream's stores facts
of 12 to 20 tokens use 128 to 159, and texts of 50 to 140 tokens 173 to 185. A share: no other shape
has fewer rows than a document uses."""
BULK_HITS = 10
"""The same, where a million rows are written at once."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Fill a store with random pools and uses, and time what people ask of it.

    Args:
        arguments: `--segments N`, `--documents N` in all, `--folder F` to keep the store.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--segments", type=int, default=16)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as spare:
        folder = options.folder or Path(spare) / "knowledge"
        with init_store(folder, capacity=max(16, options.segments)) as store:
            seconds = _fill(store, options.segments, options.documents)
            bulk = [] if options.folder else _bulk(Path(spare))
            return [
                *bulk,
                reported("writing a segment with its uses (median s)", seconds, COMMAND),
                reported(
                    "registry (bytes a document)",
                    round((folder / "registry.sqlite").stat().st_size / options.documents),
                    COMMAND,
                ),
                *_questions(store),
            ]


def _fill(store: Store, num_segments: int, num_documents: int) -> float:
    """Add random segments, one a domain; return how long a commit takes."""
    model, _ = store.load_base()
    seconds = []
    for number in range(num_segments):
        segment = _segment(store, model, f"domain-{number:02}", num_documents // num_segments)
        began = time.monotonic()
        with store.registry.writing(store.who):
            store.registry.add_segment(segment, store.who, COMMAND)
        seconds.append(time.monotonic() - began)
        print(f"{segment.domain}: {seconds[-1]:.1f} s", flush=True)
    model.detach()
    return statistics.median(seconds)


def _segment(store: Store, model: PeerModel, domain: str, num_documents: int) -> NewSegment:
    """Return a segment with random rows, whose documents use random rows."""
    draw = np.random.default_rng(int.from_bytes(domain.encode(), "little"))
    torch.manual_seed(int(draw.integers(2**31)))
    pool = model.new_segment()
    for layer in pool.peer_layers():
        layer.experts.up_ND.data.normal_(std=1e-3)
    texts = [f"{domain}, document {number} of {num_documents}" for number in range(num_documents)]
    objects = store.registry.objects
    ids = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    num_rows = pool.shape.num_experts
    recorded = RecordedUse(
        uses=[_use(draw, layer, num_documents, num_rows) for layer in pool.host_layers],
        inputs={layer: torch.randn(num_rows, pool.width) for layer in pool.host_layers},
        losses=dict.fromkeys(ids, (3.0, 2.0)),
    )
    background = model.background
    if background is None:
        raise AssertionError("init_store gives every store background statistics")
    held_XD = background.held_XD
    centroids_CD = held_XD[torch.randperm(len(held_XD))[:64]].clone()
    data = pool.to_bytes(model.identity)
    return NewSegment(
        domain=domain,
        parent=None,
        run=_no_run(),
        pool_object=objects.put_bytes(data),
        signature_object=objects.put_bytes(Signature(centroids_CD, -1e9, 1e9).to_bytes()),
        use_object=objects.put_bytes(recorded.to_bytes()),
        host_layers=pool.host_layers,
        num_experts=num_rows * len(pool.host_layers),
        size_bytes=len(data),
        num_tokens=20 * num_documents,
        documents=[
            NewDocument(
                document_id=key,
                title=text,
                source=f"{domain}.jsonl",
                split="train",
                num_tokens=20,
                near_group=key,
                text_object=text_object,
                base_nats=3.0,
                nats=2.0,
            )
            for key, text, text_object in zip(ids, texts, put_texts(objects, texts), strict=True)
        ],
        uses=recorded.uses,
    )


def _use(draw: np.random.Generator, layer: int, num_documents: int, num_rows: int) -> NewUse:
    """Return random uses: as in a trained pool, few rows serve many documents."""
    popularity = 1.0 / np.arange(1, num_rows + 1) ** 0.7
    order = draw.permutation(num_rows)
    num_used = math.ceil(SHARE_OF_ROWS * num_rows)
    rows = np.concatenate(
        [
            order[draw.choice(num_rows, num_used, False, popularity / popularity.sum())]
            for _ in range(num_documents)
        ]
    )
    return NewUse(
        host_layer=layer,
        documents=np.repeat(np.arange(num_documents), num_used),
        rows=rows,
        weights=draw.exponential(size=len(rows)) + 1e-3,
    )


def _bulk(spare: Path) -> list[Figure]:
    """Write the use of a million rows by 100,000 documents at once, and look both ways."""
    num_documents, num_rows, layers = 100_000, 200_000, range(5)
    ids = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(num_documents)]
    draw = np.random.default_rng(0)
    hits = BULK_HITS * num_documents
    found = [
        NewUse(
            host_layer=layer,
            documents=np.repeat(np.arange(num_documents), BULK_HITS),
            rows=(draw.integers(num_rows, size=(num_documents, 1)) + np.arange(BULK_HITS)).ravel()
            % num_rows,
            weights=draw.exponential(size=hits) + 1e-3,
        )
        for layer in layers
    ]
    objects = ObjectStore(spare / "bulk" / "objects", spare / "bulk" / "staging")
    nothing = objects.put_bytes(b"nothing")
    config = StoreConfig(
        store_id=uuid.uuid4().hex,
        created_at="2026-01-01T00:00:00+00:00",
        base_id="imagined",
        base_weights_sha256="a" * 64,
        base_tokenizer_sha256="b" * 64,
        architecture="imagined",
        num_layers=len(layers),
        width=1,
        host_layers=tuple(layers),
        signature_layer=0,
        background_object=nothing,
    )
    segment = NewSegment(
        domain="bulk",
        parent=None,
        run=_no_run(),
        pool_object=nothing,
        signature_object=nothing,
        host_layers=tuple(layers),
        num_experts=num_rows * len(layers),
        size_bytes=1,
        num_tokens=1,
        documents=[
            NewDocument(
                document_id=key, title="", source="", split="train", num_tokens=1, near_group=key
            )
            for key in ids
        ],
        uses=found,
    )
    with Registry.create(spare / "bulk", config) as registry:
        began = time.monotonic()
        with registry.writing():
            registry.add_segment(segment, "nobody")
        seconds = time.monotonic() - began
        began = time.monotonic()
        use, *_ = registry.document_uses(ids[0], [segment.segment_id])
        registry.held_documents(segment.segment_id, {use.host_layer: use.rows.tolist()})
        looked = time.monotonic() - began
    print(f"1M rows, 100,000 documents: {seconds:.0f} s, {looked:.3f} s", flush=True)
    return [
        reported("committing 1M rows used by 100,000 documents (s)", seconds, COMMAND),
        at_most("a document's rows and their documents there (s)", looked, 1.0, COMMAND),
    ]


def _no_run() -> NewRun:
    return NewRun(
        run_id=uuid.uuid4().hex,
        config={},
        losses=[(1, 3.0, None)],
        started_at="2026-01-01T00:00:00+00:00",
        seconds=1.0,
    )


def _questions(store: Store) -> list[Figure]:
    """Time every question, the model loaded."""
    registry = store.registry
    began = time.monotonic()
    model, tokenizer = store.load()
    figures = [reported("loading the model with all pools (s)", time.monotonic() - began, COMMAND)]
    domain = registry.live().domains[0].domain
    document = registry.documents(domain)[0]
    told: dict[str, Any] = {"model": model, "tokenizer": tokenizer}
    experts = DomainExperts(store, domain, **told)
    busiest = experts.report(1).busiest[0]
    asks: dict[str, Callable[[], object]] = {
        "trace, one domain asked": lambda: store.trace(QUESTION, domains=[domain], **told),
        "search, one domain": lambda: store.search(QUESTION, domains=[domain], **told),
        "search, every domain": lambda: store.search(QUESTION, **told),
        "experts of a domain": lambda: DomainExperts(store, domain, **told).report(),
        "one row and its documents": lambda: experts.row(busiest.host_layer, busiest.row),
        "a document's places": lambda: registry.document_places(document.document_id),
        "a document's rows": lambda: document_rows(
            registry, document.document_id, [document.segment_id]
        ),
        "a domain's documents": lambda: registry.documents(domain),
        "every domain": registry.domains,
    }
    for name, ask in asks.items():
        seconds = []
        for _ in range(REPEATS):
            began = time.monotonic()
            ask()
            seconds.append(time.monotonic() - began)
        print(f"{name}: {statistics.median(seconds):.3f} s", flush=True)
        figures.append(at_most(f"{name} (median s)", statistics.median(seconds), 1.0, COMMAND))
    model.detach()
    return figures
