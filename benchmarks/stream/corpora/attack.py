"""Attack: the techniques, groups and software of MITRE ATT&CK; the demo's own corpus."""

from __future__ import annotations

from benchmarks.stream.corpora.sizes import NUM_TOKENS
from benchmarks.stream.domains import StreamDomain
from pipelines.demo_corpora import security

PACKAGES = (security.PACKAGE,)


def load() -> StreamDomain:
    """Return descriptions of attackers' techniques and 100 facts on attackers."""
    corpus = security.load(NUM_TOKENS["attack"])
    return StreamDomain("attack", corpus.documents, corpus.facts, corpus.notice)
