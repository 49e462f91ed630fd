"""Facts as questions: a prompt, and the answer that should follow it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from peer_cl.bases import Base, context_length, within_context
from peer_cl.errors import CorpusError
from pipelines.batches import num_shared, tokenise
from pipelines.facts import Fact

WORDINGS = ("seen", "reworded")


@dataclass(frozen=True)
class Question:
    """A prompt with the answer that should follow it."""

    domain: str
    wording: str
    ids: tuple[int, ...]
    """Start token, prompt and answer."""
    num_prompt: int
    """How many of them are start token and prompt."""


def read_fact(text: str) -> Fact:
    """Return the fact in a stored probe document."""
    about: dict[str, Any] = json.loads(text)
    return Fact(**{**about, "reworded_prompts": tuple(about["reworded_prompts"])})


def questions(tokenizer: Any, domain: str, facts: Sequence[Fact]) -> list[Question]:
    """Return every fact as a question in its trained wording and in each other one.

    Older stores may hold wordings that are empty; these ask nothing.
    """
    asked = [("seen", fact.seen_prompt, fact) for fact in facts]
    asked += [("reworded", prompt, fact) for fact in facts for prompt in fact.reworded_prompts]
    asked = [one for one in asked if one[1].strip()]
    prompts = tokenise(tokenizer, [prompt for _, prompt, _ in asked])
    wholes = tokenise(tokenizer, [fact.answered(prompt) for _, prompt, fact in asked])
    return [
        # Where no blank stands between, a token may hold the end of the prompt and more: it is
        # asked for, since it is what was taught.
        Question(domain, wording, tuple(whole), num_shared(prompt, whole))
        for (wording, _, _), prompt, whole in zip(asked, prompts, wholes, strict=True)
    ]


def is_readable(model: Any, question: Question) -> bool:
    """Return whether a base reads a question and its answer whole, within its context."""
    return within_context(model, len(question.ids)) == len(question.ids)


def check_questions(base: Base, fact: Fact) -> None:
    """Refuse a fact that is asked with more tokens than the base reads: each evaluation asks it.

    Raises:
        CorpusError: naming the wording; the caller puts before it which fact it is.
    """
    for question in questions(base.tokenizer, "", [fact]):
        if not is_readable(base.model, question):
            prompt = base.tokenizer.decode(question.ids[1 : question.num_prompt])
            raise CorpusError(
                f"about {fact.subject[:40]!r} asks {prompt[:40]!r}, which has {len(question.ids)} "
                f"tokens with its answer, and the base reads {context_length(base.model)}: give a "
                "shorter wording"
            )
