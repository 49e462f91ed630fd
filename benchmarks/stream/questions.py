"""The benchmark's questions: facts in words that no pipeline reads, and knowledge of no domain.

They lie in benchmarks/questions and are written by hand, apart from the relations' trained wording,
so that a method that learns wordings instead of facts is found out.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError
from pipelines.facts import Fact

FOLDER = Path(__file__).parent.parent / "questions"
"""One file a domain, general.toml and naming.toml."""
NUM_NAMED = 20
"""Subjects of a domain that sentences name which ask nothing."""

_SUBJECT = "{subject}"
_WORD = re.compile(r"\w+(?:'\w+)?")


@dataclass(frozen=True)
class GeneralQuestion:
    """A prompt on common knowledge, which no domain should change.

    `rare` is a word of `domain`'s documents that stands in the prompt and does not matter to it;
    both are None in a plain prompt. `answer` is None where many continuations are right.
    """

    prompt: str
    answer: str | None = None
    rare: str | None = None
    domain: str | None = None


def wordings(domain: str) -> dict[str, tuple[str, ...]]:
    """Return a domain's wordings by relation; `{subject}` stands for the subject in each.

    Raises:
        CorpusError: when there is no file for the domain.
    """
    return {relation: tuple(found) for relation, found in _read(domain)["wordings"].items()}


def with_questions(facts: Iterable[Fact], domain: str) -> tuple[Fact, ...]:
    """Return the facts, asked for in the benchmark's wordings and in no others.

    Raises:
        CorpusError: when a relation has no wordings.
    """
    known = wordings(domain)
    asked = []
    for fact in facts:
        if fact.relation not in known:
            raise CorpusError(
                f"benchmarks/questions/{domain}.toml has no wordings of {fact.relation!r}"
            )
        prompts = tuple(text.replace(_SUBJECT, fact.subject) for text in known[fact.relation])
        asked.append(replace(fact, reworded_prompts=prompts))
    return tuple(asked)


def general() -> tuple[GeneralQuestion, ...]:
    """Return the prompts on common knowledge: first the plain ones, then those with a rare word."""
    return tuple(GeneralQuestion(**entry) for entry in _read("general")["questions"])


def naming(facts: Iterable[Fact]) -> list[str]:
    """Return sentences that name subjects of facts and ask nothing that a fact says.

    The same subjects whatever the order of the facts.
    """
    subjects = sorted({fact.subject for fact in facts})
    random.Random(0).shuffle(subjects)
    texts = _read("naming")["texts"]
    return [text.replace(_SUBJECT, name) for name in subjects[:NUM_NAMED] for text in texts]


def template(fact: Fact) -> str:
    """Return the wording that a fact is trained in, with `{subject}` for its subject.

    Example:
        >>> template(Fact("Chad", "capital", "N'Djamena", "", "The capital of Chad is", ()))
        'The capital of {subject} is'
    """
    return fact.seen_prompt.replace(fact.subject, _SUBJECT, 1)


def overlaps(wording: str, statements: Sequence[str], n: int = 4) -> set[tuple[str, ...]]:
    """Return the runs of `n` words that a wording shares with trained wordings.

    The subject is left out and the words on both sides of it count as neighbours. Readings that
    `pipelines.fact_rows` varies only lose or replace words of the trained wording, so that it
    stands for them too.

    Args:
        wording: of a question, with `{subject}` in it.
        statements: the trained wordings of the domain, with `{subject}` in them.
        n: how many words make a run.

    Example:
        >>> overlaps("Say what the capital of {subject} is", ["The capital of {subject} is"])
        {('the', 'capital', 'of', 'is')}
        >>> overlaps("Which city is the capital of {subject}?", ["The capital of {subject} is"])
        set()
    """
    trained = {run for statement in statements for run in _runs(statement, n)}
    return set(_runs(wording, n)) & trained


def _runs(text: str, n: int) -> list[tuple[str, ...]]:
    words = _WORD.findall(text.replace(_SUBJECT, " ").lower())
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _read(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.toml"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorpusError(
            f"no {path}; the stream's questions are read in a checkout only"
        ) from None
