"""Exact recall of facts, in the wording that was taught and in paraphrases.

An answer is right when each of its tokens is the likeliest one after the prompt and the answer's
earlier tokens: then, and only then, greedy decoding writes it.

Shape suffixes: B rows, R rows of one branch, T tokens, V vocabulary, Q branches with the base
first, U = T + 1 borders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor

from peer_cl.bases import within_context
from peer_cl.read import Reader, read
from pipelines.batches import group_by_length, num_shared, pad, tokenise
from pipelines.facts import Fact
from pipelines.progress import Progress, no_progress
from pipelines.report import RecallRow
from pipelines.scoring import TOKENS_PER_PASS
from stores.records import BASE_SUBJECT


@dataclass(frozen=True)
class Question:
    """A prompt with the answer that should follow it."""

    domain: str
    wording: str
    ids: tuple[int, ...]
    """Start token, prompt and answer."""
    num_prompt: int
    """How many of them are start token and prompt."""


@dataclass(frozen=True)
class Answer:
    """Which branches answer a question exactly, and which one would write."""

    base: bool
    oracle: bool
    """The question's own domain alone, by the item whose key is nearest."""
    routed: bool
    writer: str
    """The branch that writes on from the prompt: "base" or a domain."""


def questions(tokenizer: Any, domain: str, facts: Sequence[Fact]) -> list[Question]:
    """Return every fact as a question in its taught wording and in each paraphrase."""
    asked = [("taught", fact.taught_prompt, fact) for fact in facts]
    asked += [("paraphrase", prompt, fact) for fact in facts for prompt in fact.paraphrase_prompts]
    prompts = tokenise(tokenizer, [prompt for _, prompt, _ in asked])
    wholes = tokenise(tokenizer, [fact.answered(prompt) for _, prompt, fact in asked])
    return [
        # Where no blank stands between, a token may hold the end of the prompt and more: it
        # belongs to the answer, since it is what was taught.
        Question(domain, wording, tuple(whole), num_shared(prompt, whole))
        for (wording, _, _), prompt, whole in zip(asked, prompts, wholes, strict=True)
    ]


def is_readable(model: Any, question: Question) -> bool:
    """Return whether a base reads a question and its answer whole, within its context."""
    return within_context(model, len(question.ids)) == len(question.ids)


def recall(model: Reader, asked: Sequence[Question], progress: Progress) -> list[RecallRow]:
    """Return, by domain and wording, which shares of questions are answered exactly."""
    answers: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for question, one in zip(asked, answer(model, asked, progress), strict=True):
        answers[question.domain, question.wording].append(one)
    return [
        RecallRow(
            domain=domain,
            wording=wording,
            base=fmean(one.base for one in own),
            oracle=fmean(one.oracle for one in own),
            routed=fmean(one.routed for one in own),
            num=len(own),
        )
        for (domain, wording), own in answers.items()
    ]


def answer(
    model: Reader, asked: Sequence[Question], progress: Progress = no_progress
) -> list[Answer]:
    """Return how each question is answered.

    The prompt alone decides which domains are found and, by the posterior at its end, which branch
    writes, as in generation.
    """
    answers: dict[int, Answer] = {}
    progress("asking facts", 0, len(asked), "")
    for group in group_by_length([len(question.ids) for question in asked], TOKENS_PER_PASS):
        found = _answer_batch(model, [asked[number] for number in group])
        answers |= zip(group, found, strict=True)
        progress("asking facts", len(answers), len(asked), "")
    return [answers[number] for number in range(len(asked))]


@torch.no_grad()
def _answer_batch(model: Reader, batch: Sequence[Question]) -> list[Answer]:
    ids_BT, mask_BT = pad([question.ids for question in batch], pad_id=0)
    lengths_B = torch.tensor([question.num_prompt for question in batch])
    routed = read(
        model, ids_BT, mask_BT, routing="prompt", prompt_lengths=lengths_B, keep_logits=True
    )
    base_logits_BTV = cast(Tensor, routed.base_logits_BTV)
    logits: list[dict[str, Tensor]] = [{BASE_SUBJECT: own_TV} for own_TV in base_logits_BTV]
    for domain, (rows_R, logits_RTV) in routed.branch_logits.items():
        for row, logits_TV in zip(rows_R.tolist(), logits_RTV, strict=True):
            logits[row][domain] = logits_TV
    given: dict[str, dict[int, Tensor]] = {}
    for domain in {question.domain for question in batch}:
        rows = [n for n, question in enumerate(batch) if question.domain == domain]
        told = read(
            model,
            ids_BT[rows],
            mask_BT[rows],
            routing="prompt",
            domains=domain,
            prompt_lengths=lengths_B[rows],
            keep_logits=True,
        )
        given[domain] = dict(zip(rows, told.branch_logits[domain][1], strict=True))
    names, answers = (BASE_SUBJECT, *routed.domains), []
    for row, question in enumerate(batch):
        writer = names[int(routed.writers_B[row])]
        answers.append(
            Answer(
                base=is_right(base_logits_BTV[row], question),
                oracle=is_right(given[question.domain][row], question),
                routed=is_right(logits[row][writer], question),
                writer=writer,
            )
        )
    return answers


def is_right(logits_TV: Tensor, question: Question) -> bool:
    """Return whether each token of the answer is the likeliest one, by a row's logits (T, V)."""
    span = slice(question.num_prompt - 1, len(question.ids) - 1)
    answer = list(question.ids[question.num_prompt :])
    return bool(logits_TV[span].argmax(-1).tolist() == answer)
