"""Questions on documents, from wherever they come, and the jsonl file that holds them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError, InputError
from pipelines.corpora import BadRowPolicy, Skipped, checked_text, composed_text, read_json_lines

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
