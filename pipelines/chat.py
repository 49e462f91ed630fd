"""Chats as a base reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def chat_ids(tokenizer: Any, turns: Sequence[Mapping[str, str]]) -> list[int] | None:
    """Return a chat's token ids up to where the assistant answers; None without a chat template."""
    if getattr(tokenizer, "chat_template", None) is None:
        return None
    prompt = tokenizer.apply_chat_template(list(turns), add_generation_prompt=True, tokenize=False)
    return list(tokenizer(prompt, add_special_tokens=False).input_ids)
