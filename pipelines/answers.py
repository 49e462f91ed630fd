"""Questions that a domain keeps to be asked: of people, or made and never learned."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from peer_cl.errors import CorpusError
from peer_cl.model import PeerModel
from pipelines.ask import Answer, ask
from pipelines.passage_training import question_prompt
from pipelines.progress import Progress, no_progress
from pipelines.report import AskedRow
from pipelines.study.questions import StudyQuestion, stands
from stores.registry import Registry

MOST_ASKED = 20
"""Made questions of a domain that are asked: each takes some seconds."""
MADE, PEOPLE = "made", "people"


@dataclass(frozen=True)
class KeptQuestion:
    """A question that nothing was trained on."""

    domain: str
    document_id: str
    question: str
    answer: str


@dataclass(frozen=True)
class Asked:
    """A question that nothing was trained on, and how it is answered."""

    kept: KeptQuestion
    answer: Answer

    @property
    def is_right(self) -> bool:
        """Whether the wanted answer stands in what is said."""
        return self._says(self.answer.text)

    @property
    def is_right_from_memory(self) -> bool:
        """Whether it stands in what experts alone say."""
        return self._says(self.answer.memory)

    @property
    def finds_its_document(self) -> bool:
        """Whether its own document comes first among the sources."""
        return [one.document_id for one in self.answer.sources[:1]] == [self.kept.document_id]

    def _says(self, text: str | None) -> bool:
        return self.answer.is_found and stands(self.kept.answer, text or "")


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
) -> tuple[AskedRow, ...]:
    """Return by domain how many questions are answered: the answer stands in what is said.

    Args:
        registry: the store's.
        model, tokenizer: as `load` returns them.
        asked: what is asked.
        source: who made the questions, `MADE` or `PEOPLE`.
        progress: called after each question.
    """
    hits = defaultdict[str, list[tuple[bool, bool, bool]]](list)
    for number, one in enumerate(asked, start=1):
        said = Asked(
            one, ask(registry, one.question, model=model, tokenizer=tokenizer, strict=True)
        )
        hits[one.domain].append((said.is_right_from_memory, said.is_right, said.finds_its_document))
        progress("asking kept questions", number, len(asked), "")
    return tuple(
        AskedRow(domain, source, len(own), *(sum(one) for one in zip(*own, strict=True)))
        for domain, own in hits.items()
    )


def questions_that_find(
    model: PeerModel, tokenizer: Any, domain: str, document_id: str
) -> list[str]:
    """Return which of a document's own questions, and of those that its domain keeps, find it
    first: once it is erased they are answered otherwise, or not at all.
    """
    index, space = model.items(domain), model.questions
    if index is None or space is None:
        return []
    own = [one for one in index.items if one.item_id == document_id]
    asked = [question for item in own for question, _, _ in (*item.questions, *item.kept)]
    asked += [one.question for one in kept_questions(model, domain)]
    found = []
    for question in dict.fromkeys(asked):
        ids_BT, counted_BT = question_prompt(tokenizer, question)
        ends_B = torch.tensor([ids_BT.shape[1]])
        first = index.asked(space, ids_BT, counted_BT, ends_B)[:1]
        if first and index.items[first[0].item].item_id == document_id:
            found.append(question)
    return found
