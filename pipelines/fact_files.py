"""Facts of a user's own, read from a jsonl file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError
from pipelines.corpora import Skipped, check_length, check_storable, check_text
from pipelines.facts import Fact, folded_wording
from pipelines.json_lines import read_json_lines

_NEEDED = ("subject", "relation", "answer", "statement")
_OPTIONAL = ("seen_prompt", "reworded_prompts")
_NEAR = 0.8
"""How alike a key is, from 0 to 1, to the one for which it is taken with a slip in it."""


def read_facts(
    path: str | Path, on_bad_row: str = "stop", *, name: str | None = None
) -> tuple[tuple[Fact, ...], Skipped]:
    """Return the facts in a jsonl file, one a line, and which malformed lines were left out.

    Each line is an object with "subject", "relation", "answer" and "statement" (the sentence that
    is trained on); "seen_prompt" is the statement up to the answer where it is not given, and
    "reworded_prompts" a list of other wordings, never trained on, that are asked in evaluation.
    What is null, or a "seen_prompt" with nothing in it, is not given. Other keys are passed over,
    but for one that is nearly a key which is not given: it is taken for a slip, and refused.

    Args:
        path: the file.
        on_bad_row: "stop" with an error at a malformed line, or "skip" it. Malformed is also a line
            that is not UTF-8, or has half a character or NUL in what is kept.
        name: what the file is called in messages; default: its path.

    Raises:
        CorpusError: when the file is missing, has no fact, or a malformed line.
    """
    shown = name or str(path)
    first_of: dict[str, Fact] = {}

    def read(row: dict[str, Any]) -> Fact:
        fact = _fact(row)
        _check_same(fact.normalised(), first_of)
        return fact

    facts, skipped = read_json_lines(path, read, what="facts", on_bad_row=on_bad_row, name=name)
    if not facts:
        raise CorpusError(
            f"{shown} has no fact{skipped}; give a jsonl file with {', '.join(_NEEDED)}"
        )
    return tuple(facts), skipped


def check_fact(fact: Any) -> None:
    """Refuse what cannot be learned or kept as a fact: the wrong types, empty wordings, and a
    statement that does not answer its prompt.

    Raises:
        CorpusError: saying what is wrong; the caller puts before it which one it is.
    """
    if not isinstance(fact, Fact):
        raise CorpusError(f"is a {type(fact).__name__}, not a Fact")
    for key in (*_NEEDED, "seen_prompt"):
        check_text(key, getattr(fact, key))
    if isinstance(fact.reworded_prompts, str) or not isinstance(fact.reworded_prompts, Sequence):
        raise CorpusError('has "reworded_prompts" that are no list of texts')
    for wording in fact.reworded_prompts:
        check_text("reworded_prompts", wording)
    learned = fact.normalised()
    _check_answered(learned.statement, learned.seen_prompt, learned.answer)


def check_answers(facts: Sequence[Fact]) -> None:
    """Refuse facts of which two have one statement and another answer: it is taught for one alone.

    Args:
        facts: normalised.

    Raises: CorpusError: naming the second by its place, from 0.
    """
    first_of: dict[str, Fact] = {}
    for number, fact in enumerate(facts):
        try:
            _check_same(fact, first_of)
        except CorpusError as error:
            raise CorpusError(f"facts[{number}] {error}") from None


def check_wordings(facts: Sequence[Fact]) -> None:
    """Refuse facts of which one is asked, in other words, by the words that teach another.

    Recall in other words would measure words that were trained.

    Args:
        facts: normalised.

    Raises: CorpusError: naming the fact by its place, from 0, and the words.
    """
    taught = {folded_wording(fact.seen_prompt) for fact in facts}
    for number, fact in enumerate(facts):
        for wording in fact.reworded_prompts:
            if folded_wording(wording) in taught:
                raise CorpusError(
                    f"facts[{number}] about {fact.subject[:40]!r} asks {wording[:60]!r} in other "
                    "words, by which a fact is taught: leave it out of its reworded_prompts"
                )


def _check_same(fact: Fact, first_of: dict[str, Fact]) -> None:
    """Refuse a fact that has an earlier one's statement, and not its answer after its prompt.

    Args:
        fact: normalised.
        first_of: the first fact of each statement; this one is put among them.
    """
    first = first_of.setdefault(fact.statement, fact)
    if (first.seen_prompt, first.answer) == (fact.seen_prompt, fact.answer):
        return
    raise CorpusError(
        f"answers {fact.answer[:40]!r} after {fact.seen_prompt[-40:]!r} by the statement by which "
        f"an earlier fact answers {first.answer[:40]!r} after {first.seen_prompt[-40:]!r}: give "
        "each a statement of its own"
    )


def _check_answered(statement: str, seen: str, answer: str) -> None:
    """Refuse a statement that does not go on from its prompt with the answer."""
    if not statement.startswith(seen.strip()):
        raise CorpusError("has a statement that does not begin with a prompt before the answer")
    if not statement[len(seen.strip()) :].lstrip().startswith(answer):
        raise CorpusError("has a statement in which the answer does not follow the prompt")


def _before_answer(subject: str, answer: str, statement: str) -> str:
    """Return a statement up to its answer, where it is not said which part of it asks.

    The answer is looked for as a word, behind the subject where it stands there at all.

    Raises: CorpusError: when it may be any of several.

    Example:
        >>> _before_answer("Kim", "7", "Kim has badge 7 since 1997.")
        'Kim has badge '
    """
    found = [one.start() for one in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", statement)]
    at = statement.find(subject.strip())
    if at >= 0:
        found = [start for start in found if start >= at + len(subject.strip())] or found
    if len(found) > 1:
        raise CorpusError(
            f"has a statement that holds its answer {answer!r} {len(found)} times: give "
            '"seen_prompt", the statement up to where it answers'
        )
    # Within a word it counts where it stands nowhere else: not every script parts words.
    return statement[: found[0] if found else max(statement.rfind(answer), 0)]


def _check_keys(row: dict[str, Any]) -> None:
    """Refuse a key that is nearly one which is not given: what it says would be lost unseen."""
    missing = [key for key in (*_NEEDED, *_OPTIONAL) if row.get(key) is None]
    for key in sorted(set(row) - {*_NEEDED, *_OPTIONAL}):
        near = difflib.get_close_matches(key.lower(), missing, n=1, cutoff=_NEAR)
        if near:
            raise CorpusError(f'has the key {key[:40]!r}, which is not known; write "{near[0]}"')


def _fact(row: dict[str, Any]) -> Fact:
    """Return the fact of a line; a problem is a CorpusError that does not name the place yet."""
    _check_keys(row)
    for key in _NEEDED:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise CorpusError(f'has no "{key}" with something in it')
    answer, statement = row["answer"].strip(), row["statement"].strip()
    seen, reworded = (row.get(key) for key in _OPTIONAL)
    if not isinstance(seen, str | None):
        raise CorpusError(f'has a "seen_prompt" that is a {type(seen).__name__}, not a text')
    if seen is None or not seen.strip():
        seen = _before_answer(row["subject"], answer, statement)
    if not seen.strip():
        raise CorpusError("has a statement that does not begin with a prompt before the answer")
    reworded = [] if reworded is None else reworded
    _check_answered(statement, seen, answer)
    if not isinstance(reworded, list) or not all(isinstance(item, str) for item in reworded):
        raise CorpusError('has "reworded_prompts" that are no list of texts')
    if not all(item.strip() for item in reworded):
        raise CorpusError('has an empty text among its "reworded_prompts"')
    wordings = [("seen_prompt", seen), *(("reworded_prompts", wording) for wording in reworded)]
    for key, text in [*((key, row[key]) for key in _NEEDED), *wordings]:
        check_storable(key, text)
        check_length(text)
    return Fact(
        subject=row["subject"].strip(),
        relation=row["relation"].strip(),
        answer=answer,
        statement=statement,
        seen_prompt=seen.strip(),
        reworded_prompts=tuple(item.rstrip() for item in reworded),
    )
