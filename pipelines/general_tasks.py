"""General ability's sets: items out of a user's files, the same on every machine.

Whose text a set is stands in its file; none of it is kept in a store or in a result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError, InputError
from pipelines.batches import tokenise
from pipelines.corpora import check_storable, read_object
from pipelines.token_scores import MAX_TOKENS

LAMBADA, HELLASWAG, PIQA, ARC_EASY, WIKITEXT = (
    "LAMBADA",
    "HellaSwag",
    "PIQA",
    "ARC-easy",
    "WikiText",
)
FILES = {
    LAMBADA: "lambada_openai.jsonl",
    HELLASWAG: "hellaswag_1k.jsonl",
    PIQA: "piqa.jsonl",
    ARC_EASY: "arc_easy.jsonl",
    WIKITEXT: "wikitext2_valid.txt",
}
"""Public sets by their usual names, each with its usual file."""
CHOICE, CONTINUATION, TEXT = "choice", "continuation", "text"
FIELDS = {CHOICE: ("query", "choices", "gold"), CONTINUATION: ("context", "continuation")}
"""What a line of a jsonl file holds, by the kind of task that it makes."""
MIN_CHARACTERS = 200
"""Shorter paragraphs of WikiText are left out: headings, mostly."""
_TASKS = {file: task for task, file in FILES.items()}
_SHOWN_FIELDS = 8


class OtherFormError(InputError):
    """A file is no set of any known form."""


@dataclass(frozen=True)
class GeneralItem:
    """One item of a task, as token ids."""

    task: str
    kind: str
    """CHOICE, CONTINUATION or TEXT."""
    key: str
    """Beginning of a hash over the item's text, by which two models' scores are paired."""
    rows: tuple[tuple[int, ...], ...]
    """Start token, context and what is scored; a row for each choice, else one."""
    num_context: int
    """How many of each row's tokens are start token and context."""
    num_characters: tuple[int, ...] = ()
    """Of each choice; empty where nothing is chosen."""
    gold: int | None = None
    """The right choice; None where nothing is chosen."""
    uncounted: tuple[int, ...] = ()
    """Places of a text's special tokens in its row: no loss counts them. The start token's is not
    among them."""

    @property
    def context(self) -> tuple[int, ...]:
        """What decides which pools are asked: the context, or a text as a whole."""
        return self.rows[0] if self.kind == TEXT else self.rows[0][: self.num_context]


@dataclass(frozen=True)
class GeneralSet:
    """A file's items, still as text."""

    task: str
    """The file's stem, or the usual name of a known public set."""
    kind: str
    contents: dict[str, Any]
    """By the key of each item, in the keys' order: an object's fields, or a text."""

    def items(
        self, tokenizer: Any, most: int | None = None, max_tokens: int = MAX_TOKENS
    ) -> tuple[GeneralItem, ...]:
        """Return the first items in an order that hashes decide.

        A continuation follows its context after a blank. Choices follow a query that begins with
        "Question:" after a line "Answer:", and any other query after a blank. Outer blanks are cut.
        Of a context, what is too long is cut from its start; of a text, from its end. An item with
        an ending that leaves no room for a context is left out.

        Args:
            tokenizer: the base's.
            most: items; a smaller number gives the first of a larger one. None: all.
            max_tokens: of a row, with the start token.

        Raises:
            InputError: when that is no number of items.
        """
        if most is not None and most < 1:
            raise InputError(f"items a task must be at least 1, not {most}")
        chosen = list(self.contents.items())[:most]
        items = (self._item(key, content, tokenizer, max_tokens) for key, content in chosen)
        return tuple(item for item in items if _is_within(item, max_tokens))

    def _item(self, key: str, content: Any, tokenizer: Any, max_tokens: int) -> GeneralItem:
        if self.kind == TEXT:
            (ids,) = tokenise(tokenizer, [content])
            row, special = tuple(ids[:max_tokens]), set(tokenizer.all_special_ids)
            marks = tuple(place for place, token in enumerate(row) if place and token in special)
            return GeneralItem(self.task, TEXT, key, (row,), num_context=1, uncounted=marks)
        if self.kind == CONTINUATION:
            context, end = content["context"].strip(), content["continuation"].strip()
            rows, num_context = _rows(context, [end], tokenizer, max_tokens)
            return GeneralItem(self.task, CONTINUATION, key, rows, num_context)
        query, choices = content["query"].strip(), [one.strip() for one in content["choices"]]
        context = f"{query}\nAnswer:" if query.startswith("Question:") else query
        rows, num_context = _rows(context, choices, tokenizer, max_tokens)
        lengths = tuple(map(len, choices))
        return GeneralItem(self.task, CHOICE, key, rows, num_context, lengths, content["gold"])


def _rows(
    context: str, ends: Sequence[str], tokenizer: Any, max_tokens: int
) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Return a row for each end of a context, and how many tokens they have in common."""
    # Each is tokenised alone, so that the context's tokens are the same before every end.
    (before,) = tokenise(tokenizer, [context])
    after = [ids[1:] for ids in tokenise(tokenizer, [f" {end}" for end in ends])]
    kept = max(1, max_tokens - 1 - max(map(len, after)))
    before = [before[0], *before[1:][-kept:]]
    return tuple((*before, *ids) for ids in after), len(before)


def _is_within(item: GeneralItem, max_tokens: int) -> bool:
    return max(map(len, item.rows)) <= max_tokens


def read_sets(path: Path) -> tuple[tuple[GeneralSet, ...], tuple[str, ...]]:
    """Return the sets of a folder, or of one file, and a line on each file that was left out.

    In a folder those are jsonl files of another form; its other files are passed over.

    Args:
        path: a folder with jsonl and txt files, or one such file.

    Raises:
        InputError: when there is no set, a line of a set is none, two sets share a name, or the
            file that is named has another form.
    """
    if not path.is_dir():
        return (read_set(path),), ()
    sets: dict[str, GeneralSet] = {}
    left_out = []
    for file in sorted(path.iterdir()):
        if file.suffix not in (".jsonl", ".txt") or not file.is_file():
            continue
        try:
            one = read_set(file)
        except OtherFormError as error:
            left_out.append(f"left out: {error}")
            continue
        if one.task in sets:
            raise InputError(f"two sets in {path} are named {one.task!r}: rename {file.name}")
        sets[one.task] = one
    if not sets:
        why = f" ({left_out[0]})" if left_out else ""
        raise InputError(f"no set in {path}{why}; a set is a jsonl file with {_wanted()}, or a txt")
    return tuple(sets.values()), tuple(left_out)


def read_set(path: Path) -> GeneralSet:
    """Return the set in a file: a jsonl file of one form, or a txt file of paragraphs.

    Paragraphs end at blank lines. Those of WikiText are its lines: of each the longest stretch
    without <unk> is read, spelled ordinarily; so its losses compare before with after and with
    nothing else.

    Raises:
        OtherFormError: when the file as a whole is something else.
        InputError: when it is missing or unreadable, or one of its lines is no item.
    """
    if not path.is_file():
        raise InputError(f"no set at {path}; give a folder or file of this machine")
    if path.suffix not in (".jsonl", ".txt"):
        raise OtherFormError(f"{path.name} is neither a jsonl nor a txt file; {_what_to_give()}")
    task = _TASKS.get(path.name, path.stem)
    if path.suffix == ".txt":
        content = _text(path)
        texts = _wikitext(content) if task == WIKITEXT else _paragraphs(content)
        if not texts:
            raise OtherFormError(f"{path.name} has no text; {_what_to_give()}")
        return GeneralSet(task, TEXT, _by_key((text, text) for text in texts))
    kind, rows = _read_rows(path)
    return GeneralSet(task, kind, _by_key(rows))


def _by_key(found: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    keyed = {hashlib.sha256(line.encode()).hexdigest()[:16]: content for line, content in found}
    return dict(sorted(keyed.items()))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _paragraphs(content: str) -> list[str]:
    texts: list[list[str]] = [[]]
    for line in content.splitlines():
        if line.strip():
            texts[-1].append(line.strip())
        elif texts[-1]:
            texts.append([])
    return ["\n".join(lines) for lines in texts if lines]


def _wikitext(content: str) -> list[str]:
    # Few paragraphs are free of <unk>, which no base has ever read.
    stretches = "\n".join(max(line.split("<unk>"), key=len) for line in content.splitlines())
    return [text for text in wikitext_paragraphs(stretches) if len(text) >= MIN_CHARACTERS]


def wikitext_paragraphs(content: str) -> list[str]:
    """Return WikiText's paragraphs in ordinary spelling: its copy is split into tokens.

    Example:
        >>> wikitext_paragraphs(" = Head = \\n It is 1 @,@ 000 m ( 2 ) long . \\n")
        ['It is 1,000 m (2) long.']
    """
    found = []
    for line in content.splitlines():
        if line.strip() and "<unk>" not in line and not line.strip().startswith("="):
            text = line.strip().replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".")
            for mark in (",", ".", ";", ":", ")", "'s", "%", "?", "!"):
                text = text.replace(f" {mark}", mark)
            found.append(text.replace("( ", "("))
    return found


def _read_rows(path: Path) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """Return the kind of task in a jsonl file, and each line with its fields."""
    kind, rows = "", []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            about = read_object(line.encode())
            kind = kind or _kind(about)
            check_row(kind, about)
        except CorpusError as error:
            refused = InputError if kind else OtherFormError
            raise refused(f"{path.name}:{number} {error}") from None
        rows.append((line, about))
    if not rows:
        raise OtherFormError(f"{path.name} has no line; {_what_to_give()}")
    return kind, rows


def _kind(about: dict[str, Any]) -> str:
    for kind, fields in FIELDS.items():
        if about.keys() >= set(fields):
            return kind
    raise CorpusError(f"{_found(about)}; wanted {_wanted()}")


def _found(about: dict[str, Any]) -> str:
    names = [name[:30] for name in list(about)[:_SHOWN_FIELDS]]
    return f"has the fields {', '.join(names) or 'of nothing'}"


def _what_to_give() -> str:
    return f"give a jsonl file with {_wanted()} a line, or a txt file"


def _wanted() -> str:
    return " or ".join(f"{', '.join(fields)} (a {kind})" for kind, fields in FIELDS.items())


def check_row(kind: str, about: dict[str, Any]) -> None:
    """Refuse a line's fields that make no item of a kind.

    Raises:
        CorpusError: when they do not; the caller puts file and line before the message.
    """
    if not about.keys() >= set(FIELDS[kind]):
        raise CorpusError(f"{_found(about)}; wanted {', '.join(FIELDS[kind])} as before")
    if kind == CONTINUATION:
        for name in FIELDS[kind]:
            _check_text(name, about[name])
        return
    _check_text("query", about["query"])
    choices, gold = about["choices"], about["gold"]
    if not isinstance(choices, list) or not choices:
        raise CorpusError('has "choices" that are no list of texts')
    for choice in choices:
        _check_text("choices", choice)
    if type(gold) is not int or not 0 <= gold < len(choices):
        raise CorpusError(f"has gold {str(gold)[:20]} of {len(choices)} choices, counted from 0")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise CorpusError(f'has no text in "{name}"')
    check_storable(name, value)
