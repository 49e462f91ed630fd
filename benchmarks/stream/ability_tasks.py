"""General ability's tasks: items out of a folder of public sets, the same on every machine.

Whose text a task is stands in the folder; none of it is kept in the project or in a result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.shortlist import MIN_CHARACTERS, SOURCES
from peer_cl.errors import InputError
from pipelines.batches import tokenise
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
"""Each task's file; each item of a set is a line."""


@dataclass(frozen=True)
class AbilityItem:
    """One item of a task, as token ids."""

    task: str
    """A key of FILES."""
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


def tasks(
    folder: Path, tokenizer: Any, most: int | None = None
) -> dict[str, tuple[AbilityItem, ...]]:
    """Return each task's items, in an order that hashes decide.

    LAMBADA's last word follows its passage after a blank. Choices follow HellaSwag's query after
    a blank, and those of PIQA and ARC-easy after a line "Answer:". Outer blanks are cut, since
    HellaSwag's copy has some. Of each of WikiText's paragraphs the longest stretch without <unk> is
    read, spelled ordinarily as in `benchmarks.shortlist`; headings and short ones are left out. So
    its losses compare before with after and with nothing else.

    Args:
        folder: with the files of FILES.
        tokenizer: the base's.
        most: items a task; a smaller number gives the first of a larger one. None: all.

    Raises:
        InputError: when a file is missing, or a line of it is no item.
    """
    if most is not None and most < 1:
        raise InputError(f"items a task must be at least 1, not {most}")
    return {task: _items(task, folder / name, tokenizer, most) for task, name in FILES.items()}


def _items(task: str, path: Path, tokenizer: Any, most: int | None) -> tuple[AbilityItem, ...]:
    if not path.is_file():
        raise InputError(f"{path} is missing; --data wants a folder with that public set")
    found = _paragraphs(path) if task == WIKITEXT else path.read_text("utf-8").splitlines()
    lines = dict(sorted((_key(line), line) for line in found if line.strip()))
    make = _MAKERS.get(task, _chosen)
    items = []
    for key, line in list(lines.items())[:most]:
        try:
            items.append(make(task, key, line, tokenizer))
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"{path.name} holds {line[:60]!r}, no item: {error}") from error
    return tuple(items)


def _paragraphs(path: Path) -> list[str]:
    # Few paragraphs are free of <unk>, which no base has ever read.
    lines = path.read_text("utf-8").splitlines()
    stretches = "\n".join(max(line.split("<unk>"), key=len) for line in lines)
    _, read = SOURCES["WikiText"]
    return [text for text in read(stretches) if len(text) >= MIN_CHARACTERS]


def _key(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()[:16]


def _text(task: str, key: str, line: str, tokenizer: Any) -> AbilityItem:
    (ids,) = tokenise(tokenizer, [line])
    return AbilityItem(task, key, (tuple(ids[:MAX_TOKENS]),), num_context=1)


def _last_word(task: str, key: str, line: str, tokenizer: Any) -> AbilityItem:
    about = json.loads(line)
    rows, num_context = _rows(about["context"].strip(), [about["continuation"].strip()], tokenizer)
    return AbilityItem(task, key, rows, num_context)


def _chosen(task: str, key: str, line: str, tokenizer: Any) -> AbilityItem:
    about = json.loads(line)
    choices, gold = [choice.strip() for choice in about["choices"]], about["gold"]
    if not 0 <= gold < len(choices):
        raise ValueError(f"gold {gold} of {len(choices)} choices")
    query = about["query"].strip()
    context = query if task == HELLASWAG else f"{query}\nAnswer:"
    rows, num_context = _rows(context, choices, tokenizer)
    return AbilityItem(task, key, rows, num_context, tuple(map(len, choices)), gold)


def _rows(
    context: str, ends: Sequence[str], tokenizer: Any
) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Return a row for each end of a context, and how many tokens they have in common."""
    # Each is tokenised alone, so that the context's tokens are the same before every end.
    (before,) = tokenise(tokenizer, [context])
    rows = [[*before, *after[1:]] for after in tokenise(tokenizer, [f" {end}" for end in ends])]
    return tuple(tuple(row) for row in rows), len(before)


_MAKERS: dict[str, Callable[[str, str, str, Any], AbilityItem]] = {
    LAMBADA: _last_word,
    WIKITEXT: _text,
}
