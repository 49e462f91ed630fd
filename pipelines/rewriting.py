"""Rewordings written by another model, behind an endpoint that speaks OpenAI's protocol.

What it writes goes into a file that a person can read and mend before anything is learned from it
(`pipelines.rewordings`). Each document is asked once: a file that is there already is gone on with.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_cl.errors import InputError
from pipelines.documents import SourceDocument, normalised_text
from pipelines.progress import Progress, no_progress

STYLES = (
    "Say all of it again in your own words. Keep every name, number and fact, and add nothing.",
    "Write the questions that it answers, one a line, each with its answer after it as a whole "
    "sentence that names what it is about. Leave out no fact and add none.",
    "List what it says, one short sentence a line. Each sentence names what it is about, so that "
    "it can be understood alone. Then list what follows from it, in the same way.",
)
"""What is asked for, in turn; each rewording is one answer."""
KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_SECONDS = 300.0
RETRIES = 4
"""Of a call that failed for a passing reason, each after a longer wait."""
MOST_TOKENS = 1_024
"""Of one answer; what would be longer is cut by the endpoint, and left out here."""
REFUSALS = (400, 413, 422)
"""What endpoints answer where they will not read this very document; most often it is too long."""
MOST_REFUSED = 5
"""Documents, one after the other from the first, after which it is the call that is refused."""
LIMITS = ("max_tokens", "max_completion_tokens")
"""How an endpoint is told the most tokens. OpenAI's newer models refuse the first by name; many
other servers pass over the second, and would write without an end: so it is the second try."""


@dataclass(frozen=True)
class Rewriting:
    """What was written."""

    num_asked: int
    """Documents that were sent to the endpoint."""
    num_known: int
    """Documents whose rewordings stood in the file already."""
    num_written: int
    """Documents whose rewordings were written into it now."""
    num_empty: int
    """Documents of which the endpoint said nothing that is whole; the next run asks them again."""
    num_cut: int
    """Answers that were cut off at `MOST_TOKENS`; they are left out."""
    refused: tuple[str, ...]
    """Documents that the endpoint would not read, each with its words; the next run asks again."""
    num_tokens: int
    """That the endpoint says it read and wrote; 0 where it does not say."""


def reword(
    documents: Sequence[SourceDocument],
    out: Path,
    *,
    endpoint: str,
    model: str,
    num: int = len(STYLES),
    progress: Progress = no_progress,
) -> Rewriting:
    """Ask for rewordings of documents, and append them to a jsonl file as they come.

    Killed, or stopped by the endpoint, the same call goes on after the last whole line. A document
    that the endpoint refuses is passed over, and an answer that it cut off is left out.

    Args:
        documents: their titles and texts are sent to the endpoint.
        out: the file; lines of other models and numbers stay, and do not count.
        endpoint: the URL that ends before /chat/completions, e.g. http://127.0.0.1:8000/v1. The
            key is taken from OPENAI_API_KEY, where it is set.
        model: as the endpoint calls it.
        num: of each document; at most one a style.
        progress: told how far it is.

    Raises:
        InputError: when the endpoint cannot be reached, refuses the call or each of the first
            documents, when the file cannot be gone on with, or the package `openai` is missing.
    """
    if not 1 <= num <= len(STYLES):
        raise InputError(f"the number of rewordings lies between 1 and {len(STYLES)}, not {num}")
    asked = _Endpoint(endpoint, model)
    made_by = hashlib.sha256(json.dumps([model, STYLES[:num]]).encode()).hexdigest()[:16]
    known = _known(out, made_by)
    missing = list({d.document_id: d for d in documents if d.document_id not in known}.values())
    num_written = num_empty = num_cut = num_tokens = 0
    refused: list[str] = []
    with out.open("a", encoding="utf-8") as file:
        for number, document in enumerate(missing):
            progress("rewording", number, len(missing), document.title)
            try:
                answers = [asked.answer(document, style) for style in STYLES[:num]]
            except _RefusedError as refusal:
                refused.append(f"{document.title!r}: {refusal}")
                if number + 1 == len(refused) == MOST_REFUSED:
                    raise InputError(
                        f"{endpoint} refused the first {MOST_REFUSED} documents; the last, "
                        f"{refused[-1]}"
                    ) from refusal
                continue
            num_tokens += sum(one.num_tokens for one in answers)
            num_cut += sum(one.is_cut for one in answers)
            texts = list(dict.fromkeys(one.text for one in answers if one.text and not one.is_cut))
            if not texts:
                num_empty += 1
                continue
            num_written += 1
            line = {
                "document": document.document_id,
                "title": document.title,
                "model": model,
                "made_by": made_by,
                "rewordings": texts,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    num_known = len({d.document_id for d in documents} & known)
    return Rewriting(
        num_asked=len(missing),
        num_known=num_known,
        num_written=num_written,
        num_empty=num_empty,
        num_cut=num_cut,
        refused=tuple(refused),
        num_tokens=num_tokens,
    )


def check_endpoint(endpoint: str) -> None:
    """Refuse what is no endpoint's URL, and one that holds a key: it is printed and logged.

    Raises: InputError: saying what is wrong; a URL that may hold a key is not repeated.
    """
    if "@" in endpoint:
        raise InputError(
            "the endpoint's URL holds a user or a password, and it is printed: leave the key to "
            f"{KEY_VARIABLE}, and give a URL such as http://127.0.0.1:8000/v1"
        )
    if not endpoint.startswith(("http://", "https://")):
        raise InputError(f"an endpoint is a URL such as http://127.0.0.1:8000/v1, not {endpoint!r}")


def _client(endpoint: str) -> Any:
    check_endpoint(endpoint)
    try:
        import openai
    except ImportError:
        raise InputError(
            "rewording needs the package openai, version 2 or later: pip install openai"
        ) from None
    return openai.OpenAI(
        base_url=endpoint,
        api_key=os.environ.get(KEY_VARIABLE) or "none",  # local servers want no key
        timeout=TIMEOUT_SECONDS,
        max_retries=RETRIES,
    )


def _known(out: Path, made_by: str) -> set[str]:
    """Return the documents that a file holds already; a line that was cut off is taken away."""
    if not out.exists():
        return set()
    content = out.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    known = set()
    for number, line in enumerate(whole.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if row.get("made_by") == made_by:
                known.add(row["document"])
        except (ValueError, KeyError, AttributeError, TypeError):
            raise InputError(
                f"{out}:{number} is no line of rewordings; name another file, or mend it"
            ) from None
    if len(whole) < len(content):
        if content[len(whole) :].lstrip()[:1] != b"{":
            raise InputError(f"{out} does not end with a line of rewordings; name another file")
        with out.open("r+b") as file:
            file.truncate(len(whole))
    return known


class _RefusedError(Exception):
    """The endpoint will not read this document; its words say why."""


@dataclass(frozen=True)
class _Answer:
    """What an endpoint said of a document in one style."""

    text: str
    num_tokens: int
    is_cut: bool
    """It ends where the tokens did, and not where the model would have."""


class _Endpoint:
    """An endpoint that is asked for one answer after the other.

    Args:
        url: that ends before /chat/completions.
        model: as the endpoint calls it.

    Raises: InputError: when it is no URL, or the package `openai` is missing.
    """

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model
        self._client = _client(url)
        self._limits: tuple[str, ...] = LIMITS

    def answer(self, document: SourceDocument, style: str) -> _Answer:
        """Return what the endpoint says of a document in a style.

        Raises:
            _RefusedError: when it will not read this document.
            InputError: when it cannot be reached, or refuses whatever it is asked.
        """
        import openai

        try:
            return self._answer(f"{style}\n\n{document.title}\n\n{document.text}")
        except openai.APIStatusError as error:
            told = f"answered {error.status_code}"
            if error.status_code in REFUSALS:
                raise _RefusedError(f"{told}, {_one_line(error.message)}") from error
            raise InputError(
                f"{self.url} {told} for {document.title!r}: {_one_line(error.message)}; what was "
                "written so far is kept"
            ) from error
        except openai.APIConnectionError as error:
            raise InputError(
                f"cannot reach {self.url}: {_one_line(str(error.__cause__ or error))}; what was "
                "written so far is kept"
            ) from error

    def _answer(self, asked: str) -> _Answer:
        answer = self._completion(asked)
        first = answer.choices[0] if answer.choices else None
        return _Answer(
            text=normalised_text((first.message.content if first else "") or ""),
            num_tokens=answer.usage.total_tokens if answer.usage else 0,
            is_cut=first is not None and first.finish_reason == "length",
        )

    def _completion(self, asked: str) -> Any:
        """Ask once, or a second time where the endpoint refuses the limit by the first name.

        The second name stays only once it was answered: a document that is too long may be refused
        in words that hold the first.
        """
        import openai

        def ask(limit: str) -> Any:
            return self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": asked}],
                **{limit: MOST_TOKENS},
            )

        first, *others = self._limits
        try:
            return ask(first)
        except openai.APIStatusError as error:
            if not others or first not in error.message or error.status_code not in REFUSALS:
                raise
        found = ask(*others)
        self._limits = tuple(others)
        return found


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
