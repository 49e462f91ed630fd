"""Questions by a chat model, asked through an OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from peer_cl.errors import StateError
from pipelines.study.questions import ENDPOINT, is_clear, plain_words, stands

KEY_VARIABLE = "PEER_CL_ENDPOINT_KEY"
"""Holds the key. Not OPENAI_API_KEY: that one would go to whatever address is named."""
NUM_QUESTIONS = (20, 40)
"""Asked for, of one passage: at least and at most."""
MAX_ANSWER_WORDS = 12
_TOKENS_A_QUESTION = 40
_CHARACTERS_A_TOKEN = 4
_TIMEOUT_SECONDS, _NUM_RETRIES = 300, 4
_TASK = """\
Write {0} to {1} questions that the text below answers, for people who will not see the text.
Ask about every fact in it: who, what, when, where, why, how many. Ask the important ones twice, \
in other words, and the other way round.
Each question names what it is about and never says "the text" or "the passage".
Each answer is copied from the text, as short as possible: at most five words, mostly one to three.
Write one JSON object a line and nothing else:
{{"question": "...", "answer": "..."}}

Title: {2}

Text:
{3}"""


class Cost(NamedTuple):
    """What asking costs, at most and about."""

    num_calls: int
    num_prompt_tokens: int
    num_answer_tokens: int


class EndpointMaker:
    """A maker that asks a chat model.

    The client is OpenAI's own: it repeats what failed for a while, and knows the errors.

    Args:
        url: of the endpoint, such as http://localhost:8000/v1.
        model: its name there.

    Raises:
        StateError: without the client library.
    """

    def __init__(self, url: str, model: str) -> None:
        try:
            from openai import OpenAI
        except ImportError:
            raise StateError(
                '--endpoint needs the extra "study": pip install "peer-cl[study]"'
            ) from None
        self.url, self.model, self.source = url, model, f"{ENDPOINT}{model}"
        self.num_prompt_tokens = self.num_answer_tokens = 0
        """As the endpoint counts them, so far."""
        self._client = OpenAI(
            base_url=url,
            api_key=os.environ.get(KEY_VARIABLE) or "none",  # local servers need no key
            timeout=_TIMEOUT_SECONDS,
            max_retries=_NUM_RETRIES,
        )

    def cost(self, texts: Iterable[str]) -> Cost:
        """Return what it costs to ask about texts: calls, and tokens at four characters each."""
        lengths = [len(_TASK) + len(text) for text in texts]
        prompt_tokens = sum(lengths) // _CHARACTERS_A_TOKEN
        answer_tokens = len(lengths) * NUM_QUESTIONS[1] * _TOKENS_A_QUESTION
        return Cost(len(lengths), prompt_tokens, answer_tokens)

    def questions(self, text: str, title: str) -> list[tuple[str, str]]:
        """Return the model's questions on a text, those that pass the checks.

        Raises:
            StateError: when the endpoint does not answer.
        """
        from openai import OpenAIError

        task = _TASK.format(*NUM_QUESTIONS, title, text)
        try:
            reply = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": task}],
                max_tokens=NUM_QUESTIONS[1] * _TOKENS_A_QUESTION * 2,
            )
        except OpenAIError as error:
            raise StateError(
                f"{self.url} does not answer: {error}; run it again to go on"
            ) from None
        if reply.usage is not None:
            self.num_prompt_tokens += reply.usage.prompt_tokens
            self.num_answer_tokens += reply.usage.completion_tokens
        content = reply.choices[0].message.content if reply.choices else None
        return checked_pairs(_pairs(content or ""), text)


def checked_pairs(pairs: Iterable[tuple[str, str]], text: str) -> list[tuple[str, str]]:
    """Return the pairs that can be learned, the first of those that ask the same.

    The answer's words stand in the text, one after the other; the question can be understood
    without the text, and does not hold its answer.

    Example:
        >>> pairs = [("Who founded Kiel?", "Adolf IV"), ("When was that?", "In 1233")]
        >>> checked_pairs(pairs, "Kiel was founded by Adolf IV of Holstein.")
        [('Who founded Kiel?', 'Adolf IV')]
    """
    kept = dict[str, tuple[str, str]]()
    for question, answer in pairs:
        is_short = len(plain_words(answer).split()) <= MAX_ANSWER_WORDS
        if (
            is_short
            and stands(answer, text)
            and is_clear(question)
            and not stands(answer, question)
        ):
            kept.setdefault(plain_words(question), (question.strip(), answer.strip()))
    return list(kept.values())[: NUM_QUESTIONS[1]]


def _pairs(content: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs in a reply: models put lists, fences and remarks around the objects."""
    for found in re.findall(r"\{[^{}]*\}", content):
        try:
            row: dict[str, Any] = json.loads(found)
        except ValueError:
            continue
        question, answer = row.get("question"), row.get("answer")
        if isinstance(question, str) and isinstance(answer, str | int | float):
            yield question, str(answer)
