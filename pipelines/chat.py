"""Chats as a base reads them, and the question in one: what the router sees of such a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from peer_cl.questions import ChatQuestion, FindQuestion
from pipelines.batches import tokenise
from pipelines.passage_training import question_prompt

_MARK = "QUESTION"


def chat_ids(tokenizer: Any, turns: Sequence[Mapping[str, str]]) -> list[int] | None:
    """Return a chat's token ids up to where the assistant answers; None without a chat template."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    prompt = tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
    return list(tokenizer(prompt, add_special_tokens=False).input_ids)


def question_finder(tokenizer: Any) -> FindQuestion | None:
    """Return what finds the last user turn of a prompt; None for a tokenizer without a template."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    turn = {"role": "user", "content": _MARK}
    chats = [[turn], [turn, {"role": "assistant", "content": "."}, turn]]
    texts = [
        str(tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False))
        for one in chats
    ]
    ends = [text.rpartition(_MARK) for text in texts]
    # What stands before every user turn, whether it is the first or not.
    pairs = zip(*(reversed(begin) for begin, _, _ in ends), strict=False)
    before = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))[::-1]
    after = ends[0][2]
    (_, line_end) = tokenise(tokenizer, ["\n"])[0]

    def find(ids: Sequence[int]) -> ChatQuestion | None:
        text = str(tokenizer.decode(ids))
        if not (before and after and text.endswith(after)):
            return None
        question = " ".join(text.removesuffix(after).rpartition(before)[2].split())
        if not question:
            return None
        return ChatQuestion(*question_prompt(tokenizer, question), line_end)

    return find
