"""The benchmarks' prompts: facts in words that no pipeline reads, and prompts of no domain.

They lie in benchmarks/questions, written by hand and apart from the taught wordings, so that a
method that learns wordings instead of facts is found out.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.facts import Fact

FOLDER = Path(__file__).resolve().parent.parent / "questions"
"""One file a domain, general.toml and naming.toml."""
NUM_NAMED = 20
"""Subjects of a domain that naming sentences are made of."""


@dataclass(frozen=True)
class GeneralPrompt:
    """A prompt on common knowledge; `rare` is a domain's word in it that does not matter."""

    prompt: str
    rare: str | None


def paraphrases(domain: str) -> dict[str, tuple[str, ...]]:
    """Return a domain's paraphrases by relation, with `{subject}` for the subject."""
    return {relation: tuple(found) for relation, found in _read(domain)["wordings"].items()}


def with_paraphrases(facts: Iterable[Fact], domain: str) -> tuple[Fact, ...]:
    """Return the facts, asked in the benchmarks' paraphrases and in no others."""
    known = paraphrases(domain)
    asked = []
    for fact in facts:
        prompts = tuple(text.replace("{subject}", fact.subject) for text in known[fact.relation])
        asked.append(replace(fact, paraphrase_prompts=prompts))
    return tuple(asked)


def asked_once(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Return each fact with one of its paraphrases, which goes round with its number."""
    asked = []
    for number, fact in enumerate(facts):
        prompts = fact.paraphrase_prompts
        asked.append(replace(fact, paraphrase_prompts=(prompts[number % len(prompts)],)))
    return tuple(asked)


def general_prompts() -> tuple[GeneralPrompt, ...]:
    """Return prompts on common knowledge: the plain ones, then those with a domain's rare word."""
    entries = _read("general")["questions"]
    return tuple(GeneralPrompt(entry["prompt"], entry.get("rare")) for entry in entries)


def naming_sentences(facts: Iterable[Fact]) -> list[str]:
    """Return beginnings of sentences that name subjects of facts and ask nothing of them."""
    subjects = sorted({fact.subject for fact in facts})
    random.Random(0).shuffle(subjects)
    texts = _read("naming")["texts"]
    return [text.replace("{subject}", name) for name in subjects[:NUM_NAMED] for text in texts]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
