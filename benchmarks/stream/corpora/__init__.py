"""The stream's eight domains, each with 100 facts out of structured columns of its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from benchmarks.stream.corpora import (
    acronyms,
    attack,
    components,
    diseases,
    geography,
    lore,
    minerals,
    weaknesses,
)
from benchmarks.stream.debian import DebianPackage, fetch_deb
from benchmarks.stream.domains import StreamDomain
from benchmarks.stream.questions import with_questions
from peer_cl.errors import CorpusError, DamageError, unknown_name
from pipelines.packages import Package, fetch

_LOADERS: dict[str, Callable[[], StreamDomain]] = {
    "diseases": diseases.load,
    "geography": geography.load,
    "attack": attack.load,
    "weaknesses": weaknesses.load,
    "components": components.load,
    "acronyms": acronyms.load,
    "minerals": minerals.load,
    "lore": lore.load,
}

NAMES: tuple[str, ...] = tuple(_LOADERS)
"""The domains in the order in which they are learned; attack and weaknesses are near neighbours."""

PACKAGES: dict[str, tuple[Package | DebianPackage, ...]] = {
    "diseases": diseases.PACKAGES,
    "geography": geography.PACKAGES,
    "attack": attack.PACKAGES,
    "weaknesses": weaknesses.PACKAGES,
    "components": components.PACKAGES,
    "acronyms": acronyms.PACKAGES,
    "minerals": minerals.PACKAGES,
    "lore": lore.PACKAGES,
}
"""What each domain is read from."""


def load(name: str) -> StreamDomain:
    """Return a domain: the same documents, facts and questions on every machine.

    Raises:
        UnknownError: when there is no such domain.
        CorpusError: when a package of it is not cached and cannot be downloaded.
    """
    if name not in _LOADERS:
        raise unknown_name("stream domain", name, NAMES)
    domain = _LOADERS[name]()
    return replace(domain, facts=with_questions(domain.facts, name))


def missing(names: Iterable[str] = NAMES) -> dict[str, str]:
    """Return those domains whose packages cannot be had on this machine, with each one's reason."""
    reasons = {}
    for name in names:
        try:
            for package in PACKAGES[name]:
                fetch(package) if isinstance(package, Package) else fetch_deb(package)
        except (CorpusError, DamageError) as error:
            reasons[name] = str(error)
    return reasons
