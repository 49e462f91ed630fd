"""The stream's eight domains: documents with frozen splits, and 100 facts each, out of packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.corpora import acronyms, components, diseases, lore, minerals, weaknesses
from benchmarks.corpora.frozen import ALL_TOKENS, Candidates, frozen
from benchmarks.corpora.questions import with_paraphrases
from pipelines import demo_corpora
from pipelines.corpora import SourceDocument
from pipelines.facts import Fact


@dataclass(frozen=True)
class StreamDomain:
    """One domain of the stream; no pipeline reads the paraphrases of its facts."""

    name: str
    documents: tuple[SourceDocument, ...]
    facts: tuple[Fact, ...]
    scored: tuple[str, ...] = ()
    """Keys of the test documents that every figure reads (`benchmarks.corpora.frozen`)."""


def _of_demo(name: str) -> Candidates:
    corpus = demo_corpora.load(name, ALL_TOKENS)
    return list(corpus.documents), list(corpus.facts)


_READERS: dict[str, Callable[[], Candidates]] = {
    "diseases": diseases.read,
    "geography": lambda: _of_demo("geography"),
    "attack": lambda: _of_demo("security"),
    "weaknesses": weaknesses.read,
    "components": components.read,
    "acronyms": acronyms.read,
    "minerals": minerals.read,
    "lore": lore.read,
}

NAMES: tuple[str, ...] = tuple(_READERS)
"""The domains in the order in which they are learned; attack and weaknesses are near neighbours."""


def candidates(name: str) -> list[Fact]:
    """Return all facts that a domain's package gives, not only those of the stream."""
    return _READERS[name]()[1]


def load(name: str) -> StreamDomain:
    """Return a domain: the same documents, splits, facts and questions on every machine."""
    kept = frozen(name)
    documents, facts = kept.choose(_READERS[name](), name)
    return StreamDomain(name, tuple(documents), with_paraphrases(facts, name), kept.scored)
