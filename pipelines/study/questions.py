"""Questions on documents, from wherever they come, and the jsonl file that holds them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError, InputError
from pipelines.corpora import (
    BadRowPolicy,
    Skipped,
    SourceDocument,
    checked_text,
    composed_text,
    read_json_lines,
)

OWN, BUILT_IN, ENDPOINT = "own", "built-in", "endpoint:"
"""Sources: people; the built-in rules; a model behind an endpoint, whose name follows."""
_NEEDS_ITS_TEXT = re.compile(
    r"\b(?:this|the|that|these|above) (?:\w+ )?(?:text|passage|paragraph|excerpt|snippet)s?\b"
    r"|\bthis (?:article|document|section|sentence|story|author|list|table)\b"
    r"|\b(?:mentioned|described|listed|shown|stated) (?:above|below|here)\b",
    re.IGNORECASE,
)
_MIN_WORDS = 3
"""Of a question."""


@dataclass(frozen=True)
class StudyQuestion:
    """A question on a document, and its short answer."""

    document: str
    """The document's id, title or source, as people write it."""
    question: str
    answer: str
    source: str = OWN
    """Who made it: "own", "built-in" or "endpoint:" and the model's name."""
    passage: str = ""
    """The id of the text that it was made from; people need not name one."""


def read_questions(
    path: str | Path, on_bad_row: BadRowPolicy = "stop"
) -> tuple[tuple[StudyQuestion, ...], tuple[Skipped, ...]]:
    """Return the questions in a jsonl file, and its malformed lines.

    A line is an object with "document", "question", "answer" and maybe "source" and "passage".

    Args:
        path: the file.
        on_bad_row: "stop" with an error at a malformed line, or "skip" it.

    Raises:
        CorpusError: with the number of the line.
    """
    found, skipped = read_json_lines(Path(path), _question, on_bad_row)
    return tuple(found), tuple(skipped)


def append_questions(path: Path, questions: Iterable[StudyQuestion]) -> None:
    """Write questions to the end of a jsonl file, in one piece: all of them, or none."""
    lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in questions]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def is_clear(question: str) -> bool:
    """Return whether a question can be understood without the text that it was made from.

    Example:
        >>> is_clear("Who founded Kiel?"), is_clear("What does the passage say of Kiel?")
        (True, False)
    """
    return len(question.split()) >= _MIN_WORDS and not _NEEDS_ITS_TEXT.search(question)


def by_document(
    questions: Iterable[StudyQuestion], documents: Iterable[SourceDocument]
) -> dict[str, list[StudyQuestion]]:
    """Return questions by the ids of the documents that they name by id, title or source.

    Raises: CorpusError: when none of the documents has the name, or an answer does not stand in the
    document: it could not be learned from it.
    """
    names: dict[str, list[SourceDocument]] = defaultdict(list)
    for document in documents:
        for name in {document.document_id, document.title, document.source}:
            names[name].append(document)
    found: dict[str, list[StudyQuestion]] = defaultdict(list)
    for one in questions:
        if one.document not in names:
            raise CorpusError(
                f"question {one.question!r} is about {one.document!r}, which is no id, title or "
                "source of a document that is learned"
            )
        holding = [own for own in names[one.document] if stands(one.answer, own.text)]
        if not holding:
            raise CorpusError(
                f"the answer {one.answer!r} to {one.question!r} does not stand in "
                f"{one.document!r}, word for word"
            )
        for own in holding:
            found[own.document_id].append(one)
    return dict(found)


def stands(answer: str, text: str) -> bool:
    """Return whether an answer stands in a text, whatever its case, blanks and marks.

    Example:
        >>> stands("marie curie.", "Polonium was found by Marie\\nCurie in 1898.")
        True
    """
    wanted, within = (plain_words(one) for one in (answer, text))
    return bool(wanted) and f" {wanted} " in f" {within} "


def plain_words(text: str) -> str:
    """Return the words of a text in lower case, without marks, a blank between them."""
    return " ".join(re.findall(r"[\w%€$£°]+", text.casefold()))


def _question(row: Mapping[str, Any]) -> StudyQuestion:
    texts = {}
    for key in ("document", "question", "answer"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise CorpusError(f'has no "{key}"')
        texts[key] = checked_text(key, composed_text(row[key]).strip())
    source, passage = row.get("source", OWN), row.get("passage", "")
    is_known = source in {OWN, BUILT_IN} or str(source).removeprefix(ENDPOINT) not in {source, ""}
    if not is_known:
        raise CorpusError(f'has the "source" {source!r}, not {OWN}, {BUILT_IN} or {ENDPOINT}MODEL')
    if not isinstance(passage, str):
        raise CorpusError('has a "passage" that is no text')
    return StudyQuestion(**texts, source=source, passage=passage)
