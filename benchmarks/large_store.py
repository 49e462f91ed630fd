"""A store as a large team has it after a year: many domains, documents and snapshots; no model.

Filled through the registry alone, with random uses and made-up reports: for what reads a store and
must stay fast. Everything follows from the seed.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stores import (
    NewDocument,
    NewRun,
    NewSegment,
    NewUse,
    ObjectStore,
    Registry,
    Snapshot,
    StoreConfig,
    put_texts,
)

HOST_LAYERS = (0, 2)
ROWS_A_DOCUMENT = 20


def fill_large_store(
    folder: Path,
    *,
    domains: int = 50,
    documents: int = 20_000,
    snapshots: int = 200,
    seed: int = 0,
) -> Path:
    """Make a store with so many domains, documents in all, and snapshots; return its folder."""
    draw = np.random.default_rng(seed)
    _make(folder, capacity=max(16, domains))
    with Registry.open(folder) as registry, registry.writing("ann"):
        names = [f"domain-{number:02}" for number in range(domains)]
        for number, name in enumerate(names):
            registry.add_segment(
                _segment(registry, draw, name, documents // domains), "ann", "a large store"
            )
            if number % 5 == 4 or number == domains - 1:
                _report(registry, draw, names[: number + 1])
        _live_on(registry, names, snapshots)
    return folder


def _make(folder: Path, capacity: int) -> None:
    """Make an empty store of an imagined base."""
    config = StoreConfig(
        store_id=uuid.uuid4().hex,
        created_at="2026-01-01T00:00:00+00:00",
        base_id="imagined",
        base_weights_sha256="a" * 64,
        base_tokenizer_sha256="b" * 64,
        architecture="llama",
        num_layers=4,
        width=32,
        host_layers=HOST_LAYERS,
        signature_layer=2,
        background_object=ObjectStore(folder / "objects", folder / "staging").put_bytes(b"none"),
        capacity=capacity,
    )
    Registry.create(folder, config, who="ann").close()


def _live_on(registry: Registry, names: Sequence[str], snapshots: int) -> None:
    """Freeze, unfreeze, disable and enable domains until there are so many snapshots."""
    acts: tuple[Callable[[str, str, str], Snapshot], ...] = (
        registry.freeze,
        registry.unfreeze,
        registry.disable,
        registry.enable,
    )
    number = 0
    while registry.live().id < snapshots:
        acts[number % 4](names[number // 4 % len(names)], "bob", "a year of work")
        number += 1


def _segment(
    registry: Registry, draw: np.random.Generator, domain: str, num_documents: int
) -> NewSegment:
    texts = [f"{domain}: document {number}" for number in range(num_documents)]
    num_rows = 1024
    ids = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    objects = registry.objects
    pool = objects.put_bytes(f"pool of {domain}".encode())
    return NewSegment(
        domain=domain,
        parent=None,
        run=NewRun(
            run_id=uuid.UUID(bytes=draw.bytes(16), version=4).hex,
            config={"seed": 0, "learning_rate": 0.006},
            losses=[
                (step, 2.0 + 2.0 * math.exp(-step / 40), 2.6 if step % 20 == 0 else None)
                for step in range(1, 101)
            ],
            started_at="2026-01-01T00:00:00+00:00",
            seconds=120.0,
        ),
        segment_id=uuid.UUID(bytes=draw.bytes(16), version=4).hex,
        pool_object=pool,
        signature_object=pool,
        host_layers=HOST_LAYERS,
        num_experts=num_rows * len(HOST_LAYERS),
        size_bytes=len(f"pool of {domain}"),
        num_tokens=40 * num_documents,
        documents=[
            NewDocument(
                document_id=key,
                title=text,
                source=f"{domain}.jsonl",
                split="test" if number % 5 == 0 else "train",
                num_tokens=40,
                near_group=key,
                text_object=text_object,
                base_nats=4.0,
                nats=float(2.5 + draw.random()),
            )
            for number, (key, text, text_object) in enumerate(
                zip(ids, texts, put_texts(objects, texts), strict=True)
            )
        ],
        uses=[_use(draw, layer, num_documents, num_rows) for layer in HOST_LAYERS],
    )


def _use(draw: np.random.Generator, layer: int, num_documents: int, num_rows: int) -> NewUse:
    learned = np.array([number for number in range(num_documents) if number % 5])
    starts = draw.integers(num_rows, size=(len(learned), 1))
    return NewUse(
        host_layer=layer,
        documents=np.repeat(learned, ROWS_A_DOCUMENT),
        rows=((starts + np.arange(ROWS_A_DOCUMENT)) % num_rows).ravel(),
        weights=draw.exponential(size=ROWS_A_DOCUMENT * len(learned)) + 1e-3,
    )


def _report(registry: Registry, draw: np.random.Generator, names: Sequence[str]) -> None:
    """Put an evaluation of the live snapshot, in the shape that `evaluate` writes."""
    num = len(names)
    base = 3.5 + draw.random(num)
    losses = np.tile(base, (num + 1, 1))
    for number in range(num):
        losses[number + 1 :, number] *= 0.7
    scores = -losses
    registry.put_evaluation(
        registry.live().id,
        {
            "snapshot": registry.live().id,
            "domains": list(names),
            "unmeasured": [],
            "matrix": {"loss_nats": losses.tolist()},
            "metrics": {
                "acc": float(scores[-1].mean()),
                "learning_accuracy": float(np.diag(scores[1:]).mean()),
                "bwt": 0.0,
                "fwt": 0.0,
                "forgetting": 0.0,
                "retention": 1.0,
            },
            "budget": 0.02,
            "bound_nats": -math.log1p(-0.02),
            "background": [
                {
                    "source": "encyclopedia",
                    "kind": "prose",
                    "documents": 8,
                    "identical": 1.0,
                    "max_added_nats": 0.01,
                    "base_loss_nats": 3.2,
                    "loss_nats": 3.2,
                }
            ],
            "general": [
                _general("PIQA", "choice", base_accuracy=0.66, accuracy=0.66),
                _general("LAMBADA", "continuation", base_accuracy=0.42, accuracy=0.416, lost=1),
                _general("WikiText", "text", base_loss_nats=3.3, loss_nats=3.3, max_added_nats=0.0),
            ],
            "general_left_out": [],
            "mixture": [
                {
                    "domain": name,
                    "documents": 20,
                    "base_loss_nats": float(base[number]),
                    "forced_loss_nats": float(base[number] * 0.68),
                    "loss_nats": float(base[number] * 0.7),
                    "kept": 0.94,
                    "kept_continuation": 0.98,
                    "asked": 1.0,
                    "max_added_nats": -10.0,
                    "reduction": 0.32,
                    "reduction_without_stock_words": 0.25,
                    "reduction_by_other_pools": {},
                }
                for number, name in enumerate(names)
            ],
            "recall": [
                {
                    "domain": name,
                    "wording": wording,
                    "base": 0.0,
                    "forced": 0.9 if wording == "seen" else 0.5,
                    "mixture": 0.9 if wording == "seen" else 0.2,
                }
                for name in names
                for wording in ("seen", "reworded")
            ],
        },
    )


def _general(task: str, kind: str, *, lost: int = 0, **figures: float) -> dict[str, Any]:
    """Return a row on general ability; what does not fit its kind is None."""
    names = ("base_accuracy", "accuracy", "base_loss_nats", "loss_nats", "max_added_nats")
    return {
        "task": task,
        "kind": kind,
        "items": 250,
        **{name: figures.get(name) for name in names},
        "changed_items": lost,
        "gained": 0,
        "lost": lost,
        "difference_interval": [-0.0224 if lost else -0.0151, 0.0151 if kind != "text" else 0.0],
        "asked_items": 2 * lost,
    }
