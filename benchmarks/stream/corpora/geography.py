"""Geography: the land of every country, from the CIA World Factbook; the demo's own corpus."""

from __future__ import annotations

from benchmarks.stream.corpora.sizes import NUM_TOKENS
from benchmarks.stream.domains import StreamDomain
from pipelines.demo_corpora import geography

PACKAGES = (geography.PACKAGE,)


def load() -> StreamDomain:
    """Return the countries' land and 100 facts on countries."""
    corpus = geography.load(NUM_TOKENS["geography"])
    return StreamDomain("geography", corpus.documents, corpus.facts, corpus.notice)
