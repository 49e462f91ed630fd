"""Every passage of a corpus is asked about once: what stands in the file is not made again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from pipelines.corpora import SourceDocument, document_id
from pipelines.progress import Progress, no_progress
from pipelines.study.builtin import MAX_QUESTIONS, questions_of
from pipelines.study.questions import BUILT_IN, StudyQuestion, append_questions, read_questions
from pipelines.words import several

PASSAGE_CHARACTERS = 2000
"""About 500 tokens; a paragraph is not cut."""


class StudyPassage(NamedTuple):
    """A part of a document that is asked about at a time."""

    document: SourceDocument
    text: str

    @property
    def passage_id(self) -> str:
        """The sha256 of the text: the same text is asked about once, wherever it stands."""
        return document_id(self.text)


class QuestionMaker(Protocol):
    """Makes questions of a passage."""

    @property
    def source(self) -> str:
        """Of its questions: "built-in" or "endpoint:MODEL"."""
        ...

    def questions(self, text: str, title: str) -> list[tuple[str, str]]:
        """Return (question, answer) pairs that a text answers."""
        ...


@dataclass(frozen=True)
class BuiltinMaker:
    """The maker without a model."""

    max_questions: int = MAX_QUESTIONS
    source: str = BUILT_IN

    def questions(self, text: str, title: str) -> list[tuple[str, str]]:
        """Return what the built-in rules make of a text."""
        return questions_of(text, title, self.max_questions)


@dataclass(frozen=True)
class StudyReport:
    """What a run made."""

    out: str
    source: str
    num_passages: int
    num_known: int
    """Passages whose questions stood in the file before."""
    num_questions: int


def passages_of(documents: Iterable[SourceDocument]) -> Iterator[StudyPassage]:
    """Yield the passages of documents, each once: whole paragraphs, about 500 tokens of them."""
    seen = set()
    for document in documents:
        parts = [""]
        for paragraph in re.split(r"\n\s*\n", document.text):
            if parts[-1] and len(parts[-1]) + len(paragraph) > PASSAGE_CHARACTERS:
                parts.append("")
            parts[-1] = f"{parts[-1]}\n\n{paragraph}".strip("\n")
        for passage in (StudyPassage(document, part) for part in parts if part.strip()):
            if passage.passage_id not in seen:
                seen.add(passage.passage_id)
                yield passage


def unknown_passages(
    passages: Sequence[StudyPassage], maker: QuestionMaker, out: Path
) -> list[StudyPassage]:
    """Return the passages of which the file has no question by this maker."""
    known = read_questions(out)[0] if out.exists() else ()
    made = {one.passage for one in known if one.source == maker.source}
    return [passage for passage in passages if passage.passage_id not in made]


def study(
    passages: Sequence[StudyPassage],
    maker: QuestionMaker,
    out: Path,
    progress: Progress = no_progress,
) -> StudyReport:
    """Make questions of passages and write them to a file, passage by passage.

    A run that was stopped goes on where it was: a passage is in the file with all its questions or
    with none.

    Args:
        passages: what is asked about.
        maker: who makes the questions.
        out: a jsonl file; what it holds stays.
        progress: told of each passage.
    """
    unknown = unknown_passages(passages, maker, out)
    num_questions = 0
    for done, (document, text) in enumerate(unknown, start=1):
        made = [
            StudyQuestion(document.title or document.source, *pair, maker.source, document_id(text))
            for pair in maker.questions(text, document.title)
        ]
        append_questions(out, made)
        num_questions += len(made)
        progress("passages", done, len(unknown), several(num_questions, "question"))
    num_known = len(passages) - len(unknown)
    return StudyReport(str(out), maker.source, len(passages), num_known, num_questions)
