"""Questions that a domain keeps to be asked: of people, or made and never learned."""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from peer_cl.errors import CorpusError
from peer_cl.model import PeerModel
from pipelines.answer import Answer, ask
from pipelines.answer.asking import finds_first
from pipelines.progress import Progress, no_progress
from pipelines.report import AskedRow
from pipelines.study.questions import StudyQuestion, stands
from stores.records import KeptQuestion
from stores.registry import Registry

MOST_ASKED, MOST_SECONDS = 20, 60.0
"""Questions of a domain that are asked, and the time that people's may take after an ingest."""
MADE, PEOPLE = "made", "people"


@dataclass(frozen=True)
class Asked:
    """A question that nothing was trained on, and how it is answered."""

    kept: KeptQuestion
    answer: Answer

    @property
    def is_right(self) -> bool:
        """Whether the wanted answer stands in the first line or in the quoted sentence."""
        said = (self.answer.text, self.answer.sources[0].sentence) if self.answer.is_known else ()
        return any(stands(self.kept.answer, one) for one in said)

    @property
    def finds_its_document(self) -> bool:
        """Whether its own document comes first among the sources."""
        return [one.document_id for one in self.answer.sources[:1]] == [self.kept.document_id]


def kept_questions(model: PeerModel, domain: str) -> list[KeptQuestion]:
    """Return the made questions that a domain keeps: the same ones as long as its passages stay, at
    most `MOST_ASKED`, spread over them.
    """
    index = model.items(domain)
    found = [
        KeptQuestion(domain, item.item_id, question, answer)
        for item in (index.items if index is not None else ())
        for question, answer, _ in item.kept
    ]
    return sorted(found, key=lambda one: hashlib.sha256(one.question.encode()).digest())[
        :MOST_ASKED
    ]


def some_of_each(questions: Iterable[KeptQuestion]) -> list[KeptQuestion]:
    """Return at most `MOST_ASKED` questions of each domain, the domains taking turns."""
    own = defaultdict[str, list[KeptQuestion]](list)
    for one in questions:
        own[one.domain].append(one)
    turns = zip_longest(*(some[:MOST_ASKED] for some in own.values()))
    return [one for turn in turns for one in turn if one is not None]


def people_questions(registry: Registry, questions: Iterable[StudyQuestion]) -> list[KeptQuestion]:
    """Return questions with the live domains whose documents they name by id, title or source.

    Raises: CorpusError: when no live document has the name.
    """
    names = defaultdict[str, dict[str, str]](dict)
    for state in registry.queries.live().domains:
        for document in registry.queries.documents(state.domain, kind="text"):
            for name in (document.document_id, document.title, document.source):
                names[name].setdefault(state.domain, document.document_id)
    found = []
    for one in questions:
        if one.document not in names:
            raise CorpusError(
                f"question {one.question!r} is about {one.document!r}, which is no id, title or "
                "source of a live document"
            )
        for domain, document_id in names[one.document].items():
            found.append(KeptQuestion(domain, document_id, one.question, one.answer))
    return found


def ask_kept(
    registry: Registry,
    model: PeerModel,
    tokenizer: Any,
    asked: Sequence[KeptQuestion],
    source: str,
    progress: Progress = no_progress,
    *,
    most_seconds: float = math.inf,
) -> tuple[AskedRow, ...]:
    """Return by domain how many questions are answered rightly, wrongly, and not at all.

    Args:
        registry: the store's.
        model, tokenizer: as `load` returns them.
        asked: what is asked.
        source: who made the questions, `MADE` or `PEOPLE`.
        progress: called after each question.
        most_seconds: after these no further question is asked.
    """
    said = defaultdict[str, list[Asked]](list)
    began = time.monotonic()
    for number, one in enumerate(asked, start=1):
        if time.monotonic() - began > most_seconds:
            break
        answer = ask(registry, one.question, model=model, tokenizer=tokenizer)
        said[one.domain].append(Asked(one, answer))
        progress("asking kept questions", number, len(asked), "")
    return tuple(_row(domain, source, own) for domain, own in said.items())


def _row(domain: str, source: str, said: Sequence[Asked]) -> AskedRow:
    known = [one for one in said if one.answer.is_known]
    right = sum(one.is_right for one in known)
    return AskedRow(
        domain=domain,
        source=source,
        num=len(said),
        right=right,
        wrong=len(known) - right,
        declined=len(said) - len(known),
        found=sum(one.finds_its_document for one in said),
        outcomes=tuple((one.answer.probability or 0.0, one.is_right) for one in known),
    )


def questions_that_find(
    registry: Registry, model: PeerModel, tokenizer: Any, domain: str, document_id: str
) -> list[str]:
    """Return which of a document's own questions, and of those that its domain keeps, find it
    first: once it is erased they are answered otherwise, or not at all.
    """
    index = model.items(domain)
    if index is None:
        return []
    own = [one for one in index.items if one.item_id == document_id]
    asked = [question for item in own for question, _, _ in (*item.questions, *item.kept)]
    asked += [one.question for one in kept_questions(model, domain)]
    return [
        question
        for question in dict.fromkeys(asked)
        if finds_first(registry, question, model, tokenizer, domain) == document_id
    ]
