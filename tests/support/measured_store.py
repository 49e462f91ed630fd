"""A tiny store of three domains, one of which was taught facts, and its evaluation."""

from __future__ import annotations

from tiny_base import sentences, write_corpus
from tiny_store import FACTS, SETTINGS

from pipelines.background import BackgroundSource
from pipelines.store import open_store

BACKGROUND = [
    BackgroundSource("letters", "prose", sentences("prose", 6, seed=3)),
    BackgroundSource("verdicts", "near-domain", sentences("law", 6, seed=4)),
]


def open_measured(place):
    """Let a store of law and medicine learn minerals too; return it open, and its report."""
    store = open_store(place, author="ann")
    corpus = write_corpus(place.parent / "minerals.jsonl", "minerals")
    store.ingest("minerals", corpus, facts=FACTS, settings=SETTINGS)
    return store, store.evaluate(background=BACKGROUND)
