"""Whether provenance tells the truth: are the rows named for a document those that hold it?"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pictures import provenance_picture
from benchmarks.results import RESULTS, Figure, at_least, at_most, reported, write_results
from peer_cl.branches import run_base, token_log_probs
from peer_cl.model import PeerModel
from peer_cl.pool import Segment
from pipelines import open_store
from pipelines.attribution import branch_nats, row_costs
from pipelines.batches import group_by_length, pad, tokenise
from pipelines.holders import document_rows
from pipelines.probes import holds_fact
from pipelines.questions import read_fact
from pipelines.store import Store
from pipelines.tracing import learned_segments
from stores import Document

COMMAND = "python -m benchmarks provenance"
QUESTION = "Attackers use Trusted Relationship for the tactic of"
MAX_TOKENS = 512
"""Documents are read up to here: what a training row holds at most."""
Row = tuple[str, int, int]
"""Segment id, host layer, row."""


@dataclass(frozen=True)
class Sample:
    """A learned document, ready to be scored."""

    document: Document
    ids: tuple[int, ...]
    base_nats: float
    """The base's loss, summed."""
    nats: float
    """The pool's, every row on."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Switch off the rows that are named for documents, and see whose gain goes.

    Args:
        arguments: `--store FOLDER` (default ./knowledge), `--domain NAME` (may be repeated;
            default: all), `--documents N` switched off of each kind, `--others N` watched,
            `--rows N` switched off a document.
    """
    parser = argparse.ArgumentParser(prog=COMMAND)
    parser.add_argument("--store", default="knowledge")
    parser.add_argument("--domain", action="append")
    parser.add_argument("--documents", type=int, default=6)
    parser.add_argument("--others", type=int, default=12)
    parser.add_argument("--rows", type=int, default=80)
    options = parser.parse_args(list(arguments))
    figures: list[Figure] = []
    with open_store(options.store) as store:
        model, tokenizer = store.load()
        domains = options.domain or [state.domain for state in store.registry.live().domains]
        figures += _bytes(Path(options.store) / "registry.sqlite")
        for domain in domains:
            print(f"{domain}: what is found", flush=True)
            figures += _found(store, model, tokenizer, domain, options)
            print(f"{domain}: what is switched off", flush=True)
            figures += _truth(store, model, tokenizer, domain, options)
        model.detach()
    _keep_trace(options.store)
    write_results("provenance", figures)
    provenance_picture()
    return figures


def _keep_trace(store: str) -> None:
    """Keep what the command line prints of one question: the README quotes it."""
    words = ["--store", store, "trace", QUESTION, "--rows", "3", "--limit", "4"]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words], capture_output=True, text=True, check=True
    )
    shown = f'$ peer-cl trace "{QUESTION}" --rows 3 --limit 4\n{done.stdout}'
    (RESULTS / "trace.txt").write_text(shown, encoding="utf-8")


def _bytes(registry: Path) -> list[Figure]:
    """Return how many bytes a learned document's use takes, from both sides."""
    connection = sqlite3.connect(registry)
    try:
        (documents,) = connection.execute(
            "SELECT count(DISTINCT segment_id || document_id) FROM document_uses"
        ).fetchone()
        (own,) = connection.execute("SELECT sum(length(rows)) FROM document_uses").fetchone()
        (inverse,) = connection.execute("SELECT sum(length(documents)) FROM expert_uses").fetchone()
    finally:
        connection.close()
    return [
        reported("a document's rows (bytes)", round(own / documents), COMMAND),
        reported("their inverse (bytes a document)", round(inverse / documents), COMMAND),
    ]


# --- is a document found by what it asks? -------------------------------------------------------


def _found(
    store: Store, model: PeerModel, tokenizer: Any, domain: str, options: argparse.Namespace
) -> list[Figure]:
    """Return how often a trace and a search find the document that a text is of, or asks for."""
    registry = store.registry
    told: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "domains": [domain]}
    texts = drawn(registry.documents(domain, split="train", kind="text"), options.documents)
    held_out = drawn(registry.documents(domain, split="test", kind="text"), options.documents)
    probes = [one for one in registry.documents(domain, kind="probe") if holds_fact(one)]
    facts = [
        read_fact(registry.document_text(probe)) for probe in drawn(probes, 3 * options.documents)
    ]
    first = {"trace": 0, "search": 0}
    ask: dict[str, Callable[..., Any]] = {"trace": store.trace, "search": store.search}
    for document in texts:
        text = _cut(tokenizer, registry.document_text(document))
        for name, verb in ask.items():
            found = verb(text, num_documents=1, **told).documents
            first[name] += bool(found) and found[0].document_id == document.document_id
    among = {"trace": 0, "search": 0}
    seconds: dict[str, list[float]] = {"trace": [], "search": []}
    for fact in facts:
        wanted = fact.document("").document_id
        for name, verb in ask.items():
            began = time.monotonic()
            found = verb(fact.reworded_prompts[0], num_documents=5, **told).documents
            seconds[name].append(time.monotonic() - began)
            among[name] += any(one.document_id == wanted for one in found)
    fired = [
        _recall_of_rows(store, told, _cut(tokenizer, registry.document_text(document)))
        for document in held_out
    ]
    asked = [_recall_of_rows(store, told, fact.reworded_prompts[0]) for fact in facts]
    figures = [
        at_least(
            f"recall@10 of the rows that fire, {domain}, unseen documents (share)",
            float(np.mean(fired)),
            0.9,
            COMMAND,
        ),
        reported(
            f"recall@10 of the rows that fire, {domain}, questions (share)",
            float(np.mean(asked)),
            COMMAND,
        ),
    ]
    for name in ask:
        figures += [
            reported(
                f"{name}: a learned text finds itself first, {domain} (share of {len(texts)})",
                first[name] / max(1, len(texts)),
                COMMAND,
            ),
            reported(
                f"{name}: a reworded question finds its fact among five, {domain} "
                f"(share of {len(facts)})",
                among[name] / max(1, len(facts)),
                COMMAND,
            ),
            reported(
                f"{name}: a question, {domain} (median s, model loaded)",
                float(np.median(seconds[name])),
                COMMAND,
            ),
        ]
    return figures


def _recall_of_rows(store: Store, told: Mapping[str, Any], text: str) -> float:
    """Return the share of the ten rows of each layer that fire most which a search names."""
    everything = 10**6
    traced = store.trace(text, num_rows=everything, **told)
    found = store.search(text, num_rows=everything, **told)
    fired: dict[tuple[str, int], dict[int, float]] = {}
    named: dict[tuple[str, int], dict[int, float]] = {}
    for row in (row for own in traced.rows.values() for row in own):
        fired.setdefault((row.segment_id, row.host_layer), {})[row.row] = row.weight
    for one in found.rows:
        named.setdefault((one.segment_id, one.host_layer), {})[one.row] = one.weight
    shares = [
        len(_ten(own) & _ten(named.get(layer, {}))) / len(_ten(own)) for layer, own in fired.items()
    ]
    return float(np.mean(shares))


def _ten(weights: Mapping[int, float]) -> set[int]:
    return set(sorted(weights, key=lambda row: (-weights[row], row))[:10])


# --- do the named rows hold the document? -------------------------------------------------------


def _truth(
    store: Store, model: PeerModel, tokenizer: Any, domain: str, options: argparse.Namespace
) -> list[Figure]:
    """Return what share of a document's gain goes with its rows, and of others' gain."""
    scorer = Scorer(store, model, tokenizer, domain)
    registry = store.registry
    figures: list[Figure] = []
    pools = {
        kind: registry.documents(domain, split="train", kind=kind) for kind in ("text", "fact")
    }
    watched = scorer.samples(
        [d for found in pools.values() for d in drawn(found, options.others, salt=1)]
    )
    for kind, found in pools.items():
        chosen = scorer.samples(drawn(found, options.documents, salt=2))
        if not chosen:
            continue
        named = {
            sample.document.document_id: scorer.named(sample, options.rows) for sample in chosen
        }
        for how in ("random", "router weight", "tf-idf", "gradient"):
            own, others = scorer.switched_off(
                chosen, watched, {key: rows[how] for key, rows in named.items()}
            )
            what = f"{how}, {options.rows} rows, {domain}, {kind}s"
            if how == "tf-idf":
                figures += [
                    at_least(f"own gain that goes: {what} (share)", own, 0.8, COMMAND),
                    at_most(f"others' gain that goes: {what} (share)", others, 0.05, COMMAND),
                ]
            else:
                figures += [
                    reported(f"own gain that goes: {what} (share)", own, COMMAND),
                    reported(f"others' gain that goes: {what} (share)", others, COMMAND),
                ]
            print(f"  {what}: own {own:.3f}, others {others:.3f}", flush=True)
    return figures


class Scorer:
    """One domain's pool, forced on, with rows that can be switched off."""

    def __init__(self, store: Store, model: PeerModel, tokenizer: Any, domain: str) -> None:
        self.registry, self.model, self.tokenizer = store.registry, model, tokenizer
        self.segments: dict[str, Segment] = learned_segments(
            store.registry, store.registry.live(), model, domain
        )

    def samples(self, documents: Sequence[Document]) -> list[Sample]:
        """Score documents with every row on."""
        texts = [self.registry.document_text(document) for document in documents]
        ids = [tuple(row[:MAX_TOKENS]) for row in tokenise(self.tokenizer, texts)]
        base = self._losses(ids, base=True)
        return [
            Sample(document, row, before, after)
            for document, row, before, after in zip(
                documents, ids, base, self._losses(ids), strict=True
            )
        ]

    def named(self, sample: Sample, num: int) -> dict[str, list[Row]]:
        """Return as many rows for a document, chosen in four ways."""
        rows = document_rows(
            self.registry, sample.document.document_id, [sample.document.segment_id]
        )
        every = [
            (segment_id, layer, row)
            for segment_id, segment in self.segments.items()
            for layer in segment.host_layers
            for row in range(segment.shape.num_experts)
        ]
        by_weight = sorted(rows, key=lambda r: -r.weight)
        return {
            "random": random.Random(sample.document.document_id).sample(every, num),
            "router weight": [(r.segment_id, r.host_layer, r.row) for r in by_weight[:num]],
            "tf-idf": [(r.segment_id, r.host_layer, r.row) for r in rows[:num]],
            "gradient": self._by_gradient(sample, num),
        }

    def switched_off(
        self,
        chosen: Sequence[Sample],
        watched: Sequence[Sample],
        rows: Mapping[str, Sequence[Row]],
    ) -> tuple[float, float]:
        """Return the share of all chosen documents' gain that goes, and of the watched ones'."""
        own = own_gain = others = others_gain = 0.0
        for sample in chosen:
            rest = [w for w in watched if w.document.document_id != sample.document.document_id]
            kept = self._switch_off(rows[sample.document.document_id])
            losses = self._losses([sample.ids, *(other.ids for other in rest)])
            self._restore(kept)
            own += losses[0] - sample.nats
            own_gain += sample.base_nats - sample.nats
            others += sum(loss - other.nats for loss, other in zip(losses[1:], rest, strict=True))
            others_gain += sum(other.base_nats - other.nats for other in rest)
        return own / own_gain, others / others_gain

    def _switch_off(self, rows: Sequence[Row]) -> list[tuple[Row, Tensor]]:
        kept = []
        for segment_id, layer, row in rows:
            up_ND = self.segments[segment_id].layer(layer).experts.up_ND
            kept.append(((segment_id, layer, row), up_ND[row].detach().clone()))
            up_ND.data[row] = 0.0
        return kept

    def _restore(self, kept: Sequence[tuple[Row, Tensor]]) -> None:
        for (segment_id, layer, row), values_D in kept:
            self.segments[segment_id].layer(layer).experts.up_ND.data[row] = values_D

    def _by_gradient(self, sample: Sample, num: int) -> list[Row]:
        """Return the rows whose switching off would cost the document most, to first order."""
        costs = row_costs(self.model, self.segments, sample.ids)
        scored = [
            (cost, (*place, row))
            for place, costs_N in costs.items()
            for row, cost in enumerate(costs_N.tolist())
        ]
        return [row for _, row in sorted(scored, key=lambda item: (-item[0], item[1]))[:num]]

    @torch.no_grad()
    def _losses(self, ids: Sequence[Sequence[int]], *, base: bool = False) -> list[float]:
        """Return each document's loss, summed, nats: the pool's, or the base's."""
        losses = [0.0] * len(ids)
        for group in group_by_length([len(row) for row in ids], 1024):
            some = [ids[number] for number in group]
            found = self._base_nats(some) if base else self._branch_nats(some)
            for number, value in zip(group, found.tolist(), strict=True):
                losses[number] = value
        return losses

    def _base_nats(self, ids: Sequence[Sequence[int]]) -> Tensor:
        ids_BT, mask_BT = pad(ids, pad_id=0)
        run = run_base(
            self.model.attachment, input_ids=ids_BT, attention_mask=mask_BT, use_cache=False
        )
        return -(token_log_probs(run.logits_BTV, ids_BT) * mask_BT).sum(-1)

    def _branch_nats(self, ids: Sequence[Sequence[int]]) -> Tensor:
        ids_BT, mask_BT = pad(ids, pad_id=0)
        return branch_nats(self.model, list(self.segments.values()), ids_BT, mask_BT)


def drawn(documents: Sequence[Document], num: int, salt: int = 0) -> list[Document]:
    """Return some documents, drawn by their ids: the same ones every time."""
    ordered = sorted(documents, key=lambda document: document.document_id)
    return random.Random(salt).sample(ordered, min(num, len(ordered)))


def _cut(tokenizer: Any, text: str) -> str:
    """Return a text's beginning: as much as a training row holds."""
    (ids,) = tokenise(tokenizer, [text])
    return str(tokenizer.decode(ids[1:MAX_TOKENS]))
