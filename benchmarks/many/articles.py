"""Encyclopedia articles as domains, with the questions that people asked about their paragraphs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stream.domains import Asked, StreamDomain
from peer_cl.errors import CorpusError
from pipelines.demo_corpora.demo_corpus import choose_documents
from pipelines.documents import SourceDocument

FILE = "squad_stream.jsonl"
NOTICE = "SQuAD 1.1's development set, CC BY-SA 4.0."
NUM_TOKENS = 6_000
"""Read of each article, held-out paragraphs included."""
MOST_WORDS = 3
"""Longer answers can be given in too many ways to be compared word by word."""


@dataclass(frozen=True)
class Articles:
    """All articles of a folder's file, each a domain, in the order of the file.

    Args:
        folder: of the public sets.
    """

    folder: Path

    def names(self) -> tuple[str, ...]:
        """Return the domains' names."""
        return tuple(dict.fromkeys(slug(row["domain"]) for row in self._rows()))

    def load(self, name: str, num_tokens: int | None = NUM_TOKENS) -> StreamDomain:
        """Return an article's paragraphs, and questions with short answers on them.

        Args:
            name: the domain's.
            num_tokens: about how many are read, spread over the article; None: all of it.
        """
        documents, asked = [], []
        for row in self._rows():
            if slug(row["domain"]) != name:
                continue
            document = SourceDocument(row["text"], row["domain"], FILE, section_of=row["doc_id"])
            documents.append(document)
            asked += list(_asked(document.document_id, row["questions"]))
        chosen = tuple(documents)
        if num_tokens is not None:
            chosen = choose_documents(documents, num_tokens, characters_per_token=4.4)
        whole = tuple(
            SourceDocument(document.text, document.title, document.source) for document in chosen
        )
        return StreamDomain(name, whole, (), NOTICE, tuple(asked))

    def _rows(self) -> Iterator[dict[str, Any]]:
        path = self.folder / FILE
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise CorpusError(
                f"no {path}: name the folder of the public sets with --data"
            ) from None
        yield from map(json.loads, lines)


def slug(title: str) -> str:
    """Return an article's title as a domain's name.

    Example:
        >>> slug("Sky (United Kingdom)")
        'sky-united-kingdom'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _asked(document_id: str, questions: list[dict[str, str]]) -> Iterator[Asked]:
    seen = set()
    for turn, one in enumerate(questions):
        answer = one["answer"].strip().rstrip(".")
        if answer and len(answer.split()) <= MOST_WORDS and one["question"] not in seen:
            seen.add(one["question"])
            yield Asked(document_id, turn, f"{one['question'].strip()} Answer:", answer)
