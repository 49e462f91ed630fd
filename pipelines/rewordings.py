"""Rewordings: what a document says, in other words; learned with it, and never a document itself.

A pool that reads a text in one wording learns these words; read in several, what they have in
common. Whoever writes the rewordings, a person or another model (`pipelines.rewriting`), they are
kept beside their document and leave the store with it. Those of held-out documents are kept and
never read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peer_cl.errors import CorpusError
from pipelines.batches import Row, pieces, tokenise
from pipelines.corpora import Skipped, check_length, check_storable, check_text
from pipelines.documents import SourceDocument, document_id, normalised_text
from pipelines.json_lines import read_json_lines
from pipelines.probes import REWORDINGS_SOURCE

if TYPE_CHECKING:
    from pipelines.preparing import Learned
    from pipelines.settings import TrainingSettings

REWORDED = "reworded"
"""The kind of a row that says a document in other words."""

Rewordings = Mapping[str, tuple[str, ...]]
"""By the id of the document."""

_ID = re.compile(r"[0-9a-f]{64}")


def read_rewordings(
    path: str | Path, on_bad_row: str = "stop", *, name: str | None = None
) -> tuple[dict[str, tuple[str, ...]], Skipped]:
    """Return the rewordings in a jsonl file by document, and which lines were left out.

    Each line is an object with "rewordings", a list of texts, and either "document", the full id of
    the document, or "text", the document itself. Lines of one document are joined.

    Args: as for `pipelines.json_lines.read_json_lines`.

    Raises:
        CorpusError: when the file is missing, has no rewording, or a malformed line.
    """
    found, skipped = read_json_lines(
        path, _read, what="rewordings", on_bad_row=on_bad_row, name=name
    )
    joined = joined_rewordings(found)
    if not joined:
        raise CorpusError(
            f"{name or path} has no rewording{skipped}; give a jsonl file with text (or document) "
            "and rewordings"
        )
    return joined, skipped


def check_reworded(owner: Any, texts: Any) -> None:
    """Refuse what is no document's id with its rewordings, or cannot be kept.

    Raises:
        CorpusError: saying what is wrong; the caller puts before it whose they are.
    """
    if not isinstance(owner, str) or not _ID.fullmatch(owner):
        raise CorpusError("is named by no document's id, which has 64 hex digits")
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise CorpusError(f"is a {type(texts).__name__}, not a list of texts")
    for text in texts:
        check_text("rewordings", text)


def check_any_reworded(found: Rewordings, given: Rewordings | None) -> None:
    """Refuse rewordings of which none is of a document that is new here: a wrong file, surely.

    Args:
        found: those of new documents.
        given: all.

    Raises: CorpusError: when there are some, and none of them is.
    """
    if given and not found:
        first = next(iter(given))
        raise CorpusError(
            f"none of the {len(given)} documents with rewordings is new in this corpus (the "
            f"first is {first[:12]}); make them from these very documents, e.g. with "
            "`peer-cl reword`"
        )


def joined_rewordings(
    found: Iterable[tuple[str, Sequence[str]]],
) -> dict[str, tuple[str, ...]]:
    """Return rewordings by document, each once, as they come.

    Example:
        >>> joined_rewordings([("a", ["one", "two"]), ("b", []), ("a", ["two", "three"])])
        {'a': ('one', 'two', 'three')}
    """
    joined: dict[str, dict[str, None]] = {}
    for document, texts in found:
        joined.setdefault(document, {}).update(dict.fromkeys(texts))
    return {document: tuple(texts) for document, texts in joined.items() if texts}


def _read(row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return a line's document and texts; a CorpusError does not name the place yet."""
    wanted, text, texts = row.get("document"), row.get("text"), row.get("rewordings")
    if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
        raise CorpusError('has no "rewordings" that are a list of texts')
    for key, one in [("text", text), *(("rewordings", one) for one in texts)]:
        if isinstance(one, str):
            check_storable(key, one)
    if isinstance(wanted, str) and _ID.fullmatch(wanted):
        if isinstance(text, str) and document_id(text) != wanted:
            raise CorpusError('has a "text" that is not that of its "document"')
        owner = wanted
    elif wanted is None and isinstance(text, str) and normalised_text(text):
        owner = document_id(text)
    else:
        raise CorpusError('has neither a "document" of 64 hex digits nor a "text"')
    kept = tuple(clean for one in texts if (clean := normalised_text(one)))
    for one in kept:
        check_length(one)
    return owner, kept


def kept_rewordings(document: SourceDocument, texts: Sequence[str]) -> SourceDocument:
    """Return what keeps a document's rewordings in the store; it is itself never learned."""
    about = {"document": document.document_id, "rewordings": list(texts)}
    return SourceDocument(
        json.dumps(about, sort_keys=True), document.title, REWORDINGS_SOURCE, "probe"
    )


def read_kept(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the document and its rewordings out of what `kept_rewordings` made."""
    about = json.loads(text)
    return about["document"], tuple(about["rewordings"])


def reworded_rows(
    tokenizer: Any, learned: Learned, settings: TrainingSettings, end_id: int | None
) -> list[Row]:
    """Return the rewordings of documents that are trained on, as rows.

    Args:
        tokenizer: the base's.
        learned: the corpus.
        settings: how long a row is, and whether rewordings are read at all.
        end_id: closes each, where there is such a token.
    """
    if not settings.reworded_passes:
        return []
    ends = [] if end_id is None else [end_id]
    rows = []
    for document in learned.of("train", ("text",)):
        texts = learned.rewordings.get(document.document_id, ())
        for ids in tokenise(tokenizer, texts):
            for piece in pieces([*ids, *ends], settings.max_tokens):
                rows.append(Row(document.document_id, REWORDED, piece))
    return rows
