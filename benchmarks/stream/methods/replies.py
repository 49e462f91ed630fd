"""What a model with a passage replies, asked in the ways in which people ask such models.

A base that learned no wording of the questions may use a passage and still not begin its reply with
the answer, or not see what is asked. So it is shown three worked examples, or asked in its chat
template, and the answer may stand anywhere in its reply. That is more lenient than what any method
that learns is held to, and the row says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from peer_cl.bases import Base
from pipelines.batches import group_by_length, pad
from pipelines.token_scores import TOKENS_PER_PASS

REPLY_TOKENS = 24
"""A reply ends after so many tokens: room for a sentence that holds the answer."""
_EXAMPLES = (
    "The author of Emma is Jane Austen, who wrote it in 1815.\n"
    "Who is the author of Emma? Answer: Jane Austen\n\n"
    "The composer of Carmen is Georges Bizet.\nOpera: Carmen. Composer: Georges Bizet\n\n"
    "The director of Vertigo is Alfred Hitchcock.\n"
    "Vertigo is a film that was made by Alfred Hitchcock\n\n"
)
"""One of each form in which the stream's questions come; of nothing that any domain is about."""


def with_examples(_: Any, passage: str, prompt: str) -> str:
    """Return a prompt after its passage, and both after three worked examples."""
    return f"{_EXAMPLES}{passage}\n{prompt}"


def in_chat(tokenizer: Any, passage: str, prompt: str) -> str:
    """Return passage and prompt as what a person says in the tokenizer's chat template."""
    said = [{"role": "user", "content": f"{passage}\n\n{prompt}"}]
    return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))


def forms(tokenizer: Any) -> dict[str, Callable[[Any, str, str], str]]:
    """Return the ways to ask, by name; the chat template where the tokenizer has one."""
    found: dict[str, Callable[[Any, str, str], str]] = {"examples": with_examples}
    if tokenizer.chat_template:
        found["chat"] = in_chat
    return found


@torch.no_grad()
def replies(base: Base, prompts: Sequence[str]) -> list[str]:
    """Return what greedy decoding writes after each prompt, special tokens left out."""
    tokenizer, found = base.tokenizer, [""] * len(prompts)
    rows = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    for group in group_by_length([len(ids) + REPLY_TOKENS for ids in rows], TOKENS_PER_PASS):
        # Padded on the left, so that what is written stands at each row's end.
        turned = [rows[number][::-1] for number in group]
        ids_BT, mask_BT = (one.flip(1) for one in pad(turned, tokenizer.eos_token_id))
        written_BT = base.model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            max_new_tokens=REPLY_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
        for number, row_T in zip(group, written_BT, strict=True):
            found[number] = tokenizer.decode(row_T[ids_BT.shape[1] :], skip_special_tokens=True)
    return found


def holds(reply: str, answer: str) -> bool:
    """Return whether a reply holds an answer's words in a row, whatever their case.

    Example:
        >>> holds("It is called Jane Austen's book.", "jane austen")
        True
        >>> holds("It is 1068.", "106")
        False
    """
    return _words(answer) in _words(reply)


def _words(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])
