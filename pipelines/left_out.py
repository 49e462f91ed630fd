"""What an ingest was given and left out, since its domain had it: an erasure has to know of it.

Without a document that is erased the domain may have held out what it learned, and learned what it
held out. What came again to a later ingest then counts there: it is learned, or binds others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from pipelines.documents import SourceDocument
from pipelines.facts import Fact

KEY = "left_out"
"""In a run's record, beside its settings; only where something was left out that may matter."""

T = TypeVar("T")


@dataclass(frozen=True)
class LeftOut:
    """Texts and facts that were left out, each with how many stood before it that were not."""

    texts: tuple[tuple[int, SourceDocument], ...] = ()
    facts: tuple[tuple[int, Fact], ...] = ()

    def record(self) -> dict[str, Any]:
        """Return what a run's record says; no text of a document is in it, but for facts' own."""
        if not self.texts and not self.facts:
            return {}
        texts = [
            [place, text.document_id, text.title, text.source, text.kind, text.section_of]
            for place, text in self.texts
        ]
        return {KEY: {"texts": texts, "facts": [[n, asdict(fact)] for n, fact in self.facts]}}

    @classmethod
    def recorded(cls, record: Mapping[str, Any], texts: Mapping[str, Callable[[], str]]) -> LeftOut:
        """Return what a run's record says was left out; nothing in one of before.

        Args:
            record: of a run.
            texts: what reads the text of each document that the domain still has, by its id.
        """
        told = record.get(KEY, {"texts": [], "facts": []})
        return cls(
            tuple(
                (place, SourceDocument(texts[key](), title, source, kind, section_of))
                for place, key, title, source, kind, section_of in told["texts"]
                if key in texts
            ),
            tuple(
                (place, Fact(**{**fact, "reworded_prompts": tuple(fact["reworded_prompts"])}))
                for place, fact in told["facts"]
            ),
        )


def left_out(
    documents: Sequence[SourceDocument],
    facts: Sequence[Fact],
    learned: Collection[str],
    known_texts: Collection[str],
    held_out: Collection[str],
    hold_out_percent: float,
) -> LeftOut:
    """Return what an ingest leaves out that it might learn, had its domain not another document.

    Texts that the domain holds out: the segment that does may be left with nothing to train on, and
    go. Where nothing is to be held out, those too that it learned; and at any time statements of
    facts that it knows as texts: it might have held them out.

    Args:
        documents: given, but for the statements of the facts.
        facts: given.
        learned: ids of what is not left out.
        known_texts: ids of texts that the domain keeps; none, where nothing can be erased exactly.
        held_out: ids of what it holds out.
        hold_out_percent: of the ingest.
    """

    def matters(document: SourceDocument) -> bool:
        key = document.document_id
        is_asked = document.kind == "fact" or hold_out_percent == 0
        return key in known_texts and (is_asked or key in held_out)

    texts = [(d.document_id, d.document_id in learned, d) for d in documents]
    said = [(fact, fact.document("").document_id in learned, fact) for fact in facts]
    return LeftOut(
        tuple((place, d.normalised()) for place, d in _others(texts) if matters(d)),
        tuple(
            (place, fact)
            for place, fact in _others(said)
            if fact.document("").document_id in known_texts
        ),
    )


def _others(given: Sequence[tuple[object, bool, T]]) -> Iterator[tuple[int, T]]:
    """Yield what is not learned, once, with how many of what is learned stand before it.

    Args:
        given: what tells each from others, whether it is learned, and it.
    """
    seen: set[object] = set()
    place = 0
    for key, is_learned, one in given:
        if key in seen:
            continue
        seen.add(key)
        if is_learned:
            place += 1
        else:
            yield place, one


def woven(learned: Sequence[T], others: Sequence[tuple[int, T]]) -> list[T]:
    """Return both in the order in which they were given.

    Example:
        >>> woven(["a", "b"], [(0, "x"), (2, "y"), (2, "z")])
        ['x', 'a', 'b', 'y', 'z']
    """
    found: list[T] = []
    rest = deque(others)
    for number, one in enumerate(learned):
        while rest and rest[0][0] <= number:
            found.append(rest.popleft()[1])
        found.append(one)
    return found + [one for _, one in rest]
