"""Rewordings written by another model, behind an endpoint that speaks OpenAI's protocol.

What it writes goes into a file that a person can read and mend before anything is learned from it
(`pipelines.rewordings`). Each document is asked once: a file that is there already is gone on with.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from peer_cl.errors import CorpusError, InputError
from pipelines.corpora import check_storable
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
_THOUGHTS = re.compile(r"<think>.*?</think>", re.DOTALL)
"""What some servers leave at the head of a reasoning model's answer: its thoughts are no part."""
EXAMPLE_URL = "http://127.0.0.1:8000/v1"
_CALL = "/chat/completions"
"""Where below an endpoint's URL it is asked; `openai` puts it there."""
LINE_START = b'{"document": "' + b"0" * 64 + b'", "title": "'
"""How a line of the file begins, with noughts in place of the document's id."""


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
    """Documents of which the endpoint said nothing that is whole and can be kept; the next run asks
    them again."""
    num_cut: int
    """Answers that were cut off, at `MOST_TOKENS` or in a model's thoughts; they are left out."""
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
    that the endpoint refuses is passed over; an answer that it cut off, or that no file or database
    can keep, is left out.

    Args:
        documents: their texts are sent to the endpoint, and the titles that are their own.
        out: the file, outside the corpus (`check_out`); lines of other models and numbers stay,
            and do not count.
        endpoint: the URL that ends before /chat/completions, e.g. http://127.0.0.1:8000/v1. The
            key is taken from OPENAI_API_KEY, where it is set.
        model: as the endpoint calls it.
        num: of each document; at most one a style.
        progress: told how far it is.

    Raises:
        InputError: when the endpoint cannot be reached, does not answer in OpenAI's protocol,
            refuses the call or each of the first documents, or rewords none that it is asked for;
            when the file is not one that this wrote, or the package `openai` is missing.
    """
    if not 1 <= num <= len(STYLES):
        raise InputError(f"the number of rewordings lies between 1 and {len(STYLES)}, not {num}")
    asked = _Endpoint(endpoint, model)
    made_by = hashlib.sha256(json.dumps([model, STYLES[:num]]).encode()).hexdigest()[:16]
    known = _known(out, made_by)
    missing = list({d.document_id: d for d in documents if d.document_id not in known}.values())
    num_written = num_empty = num_cut = num_tokens = 0
    refused: list[str] = []
    last = ""
    with out.open("a", encoding="utf-8") as file:
        for number, document in enumerate(missing):
            progress("rewording", number, len(missing), document.title)
            try:
                answers = [asked.answer(document, style) for style in STYLES[:num]]
            except _RefusedError as refusal:
                last = f"{_named(document)}: {refusal}"
                refused.append(last)
                if number + 1 == len(refused) == MOST_REFUSED:
                    raise InputError(
                        f"{endpoint} refused the first {MOST_REFUSED} documents; the last, {last}"
                    ) from refusal
                continue
            num_tokens += sum(one.num_tokens for one in answers)
            num_cut += sum(one.is_cut for one in answers)
            texts = list(dict.fromkeys(one.text for one in answers if not one.lack))
            if not texts:
                num_empty += 1
                last = f"{_named(document)}: {answers[-1].lack}"
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
    if missing and not num_written and not num_known:
        raise InputError(
            f"{endpoint} reworded none of the documents that it was asked for ({len(missing):,}); "
            f"the last, {last}; check the URL, the model's name, and how long a text it reads"
        )
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
            f"{KEY_VARIABLE}, and give a URL such as {EXAMPLE_URL}"
        )
    if "?" in endpoint or "#" in endpoint:
        raise InputError(
            "the endpoint's URL holds a query or a fragment, behind which the path of the call "
            f"cannot stand: leave out what begins with ? or #, give a URL such as {EXAMPLE_URL}, "
            f"and leave a key to {KEY_VARIABLE}"
        )
    if endpoint.rstrip("/").endswith(_CALL):
        raise InputError(
            f"{endpoint!r} names the call itself: give the URL that ends before {_CALL}, e.g. "
            f"{EXAMPLE_URL}"
        )
    try:
        url = urlsplit(endpoint)
        host = (url.hostname or "").encode("idna")  # as it is looked up; fails where it is no name
        is_url = bool(host) and url.port != 0  # reading the port refuses what is none
    except ValueError:
        is_url = False
    if not is_url or not endpoint.startswith(("http://", "https://")):
        raise InputError(f"an endpoint is a URL such as {EXAMPLE_URL}, not {endpoint!r}")


def check_out(out: Path, corpus: Path) -> None:
    """Refuse a file that is the corpus or lies in it: its lines would be read as documents.

    Args:
        out: where rewordings are to go; it may not be there yet.
        corpus: the file or folder that is reworded. Links are followed on both sides.

    Raises: InputError: naming both.
    """
    if not corpus.exists():  # reading it says so
        return
    place = Path(os.path.realpath(out))  # Path.resolve fails where links lead round
    if any(one.exists() and one.samefile(corpus) for one in (place, *place.parents)):
        raise InputError(f"{out} is, or lies in, the corpus {corpus}; name a file outside it")


def _client(endpoint: str) -> Any:
    check_endpoint(endpoint)
    try:
        import openai
    except ImportError:
        raise InputError(
            "rewording needs the package openai, version 2 or later: pip install openai"
        ) from None
    try:
        return openai.OpenAI(
            base_url=endpoint,
            api_key=os.environ.get(KEY_VARIABLE) or "none",  # local servers want no key
            timeout=TIMEOUT_SECONDS,
            max_retries=RETRIES,
        )
    except Exception as error:  # of the HTTP library below, which has had two names
        raise InputError(
            f"cannot ask {endpoint!r}: {_one_line(str(error))}; an endpoint is a URL such as "
            f"{EXAMPLE_URL}"
        ) from error


def _known(out: Path, made_by: str) -> set[str]:
    """Return the documents that a file holds already, and make its end one to go on from.

    A last line that was cut off is taken away, and a whole one gets the newline that it lacks.

    Raises: InputError: when a line is not one that this wrote; the file stays as it is.
    """
    if not out.exists():
        return set()
    content = out.read_bytes()
    size = content.rfind(b"\n") + 1
    rows = []
    for number, line in enumerate(content[:size].splitlines(), start=1):
        if line.strip():
            rows.append(_row(line))
            if rows[-1] is None:
                raise InputError(
                    f"{out}:{number} is no line that reword wrote, with document, made_by and "
                    "rewordings; name another file, or mend the line"
                )
    if tail := content[size:]:
        rows.append(_row(tail))
        if rows[-1] is not None:
            with out.open("ab") as file:
                file.write(b"\n")
        elif _is_cut_off(tail):
            with out.open("r+b") as file:
                file.truncate(size)
        else:
            raise InputError(
                f"{out} does not end with a line that reword wrote; name another file, or mend it"
            )
    return {row["document"] for row in rows if row is not None and row["made_by"] == made_by}


def _row(line: bytes) -> dict[str, Any] | None:
    """Return what a line says; None: it is not one that this wrote."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = {"document": str, "made_by": str, "rewordings": list}
    is_own = isinstance(row, dict) and all(isinstance(row.get(k), t) for k, t in fields.items())
    return row if is_own else None


def _is_cut_off(tail: bytes) -> bool:
    """Return whether it is the beginning of a line that this writes, and not whole."""
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        start = tail[: len(LINE_START)]
        digits = slice(LINE_START.index(b"0"), LINE_START.rindex(b"0") + 1)
        noughts = re.sub(rb"[0-9a-f]", b"0", start[digits])
        return LINE_START.startswith(start[: digits.start] + noughts + start[digits.stop :])
    return False


class _RefusedError(Exception):
    """The endpoint will not read this document; its words say why."""


@dataclass(frozen=True)
class _Answer:
    """What an endpoint said of a document in one style."""

    text: str
    num_tokens: int
    is_cut: bool
    """It ends where the tokens did, and not where the model would have, or in its thoughts."""
    lack: str
    """For want of what it is no whole text that can be kept; empty: it is one."""


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
            InputError: when it cannot be reached, refuses whatever it is asked, or does not speak
                OpenAI's protocol.
        """
        import openai

        try:
            content = self._content("\n\n".join([style, *_told(document)]))
        except openai.APIStatusError as error:
            told, words = f"answered {error.status_code}", _one_line(_words(error))
            if error.status_code in REFUSALS:
                raise _RefusedError(f"{told}, {words}") from error
            raise InputError(
                f"{self.url} {told} for {_named(document)}: {words}; what was written so far is "
                "kept"
            ) from error
        except openai.APIConnectionError as error:
            raise InputError(
                f"cannot reach {self.url}: {_one_line(str(error.__cause__ or error))}; what was "
                "written so far is kept"
            ) from error

        answer = _read_answer(content)
        if answer is None:
            said = _one_line(content.decode(errors="replace"))[:120]
            raise InputError(
                f"{self.url} does not answer in OpenAI's protocol for {_named(document)}, but with "
                f"{said!r}; give the URL that ends before /chat/completions, e.g. {EXAMPLE_URL}; "
                "what was written so far is kept"
            )
        return answer

    def _content(self, asked: str) -> bytes:
        """Return what is answered as it came: `openai` reads it with trust, and fails on the rest.

        It is asked for a second time where the endpoint refuses the limit by the first name. The
        second name stays only once it was answered: a document that is too long may be refused in
        words that hold the first.
        """
        import openai

        def ask(limit: str) -> bytes:
            found = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": asked}],
                **{limit: MOST_TOKENS},
            )
            content: bytes = found.http_response.content
            return content

        first, *others = self._limits
        try:
            return ask(first)
        except openai.APIStatusError as error:
            if not others or first not in _words(error) or error.status_code not in REFUSALS:
                raise
        found = ask(*others)
        self._limits = tuple(others)
        return found


def _read_answer(content: bytes) -> _Answer | None:
    """Return what a completion says; None: it is no completion in OpenAI's protocol.

    Raises: _RefusedError: when it is an error in its place, as some servers send with status 200.
    """
    try:
        told = json.loads(content)
        if told.get("error") and not told.get("choices"):
            raise _RefusedError(f"answered with an error, {_one_line(_words(told['error']))}")
        first = told["choices"][0] if told["choices"] else {"message": {}}
        text, refusal = (first["message"].get(key) or "" for key in ("content", "refusal"))
        text, is_thinking = _without_thoughts(normalised_text(text))
        is_cut = is_thinking or first.get("finish_reason") == "length"
        usage = told.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    num_tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    lack = ""
    try:
        check_storable("content", text)
    except CorpusError as problem:
        lack = f"an answer that {problem}"
    if is_thinking:
        lack = "an answer that was cut off before the </think> of its thoughts"
    elif is_cut:
        lack = f"an answer that was cut off at {MOST_TOKENS:,} tokens"
    elif not text:
        lack = _one_line(_words(refusal)) if refusal else "an empty answer"
    return _Answer(text, num_tokens if isinstance(num_tokens, int) else 0, is_cut, lack)


def _without_thoughts(text: str) -> tuple[str, bool]:
    """Return an answer without the thoughts at its head, and whether it does not come to their end.

    Example:
        >>> _without_thoughts("<think>So?</think> Quartz is hard."), _without_thoughts("<think>So")
        (('Quartz is hard.', False), ('', True))
    """
    found = _THOUGHTS.match(text)
    if found is not None:
        return text[found.end() :].strip(), False
    is_thinking = text.startswith("<think>")
    return "" if is_thinking else text, is_thinking


def _words(error: Any) -> str:
    """Return the endpoint's own words, which are an error as it came or the message in it.

    Args: error: what stands under "error" in an answer, or an APIStatusError, whose message may
        leave out what was answered.
    """
    told = getattr(error, "body", error) or getattr(error, "message", error)
    if isinstance(told, dict):
        told = told.get("message") or told
    return told if isinstance(told, str) else json.dumps(told)


def _told(document: SourceDocument) -> list[str]:
    """Return what the model reads of a document: it would write of a file's name as of a fact."""
    is_told = document.has_own_title and document.title.strip()
    return [document.title, document.text] if is_told else [document.text]


def _named(document: SourceDocument) -> str:
    return repr(document.title[:80])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
