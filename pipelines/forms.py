"""The form in which a question is learned, asked and scored."""

from __future__ import annotations

from typing import Any

from pipelines.batches import tokenise


def question_ids(tokenizer: Any, question: str) -> tuple[list[int], int, int]:
    """Return a question in the form in which it is learned and asked: token ids, the start token
    first, and the question's own first token and the one behind its last.
    """
    before, own, after = (
        tokenise(tokenizer, [text])[0] for text in ("Question:", f" {question}", "\nAnswer:")
    )
    return [*before, *own[1:], *after[1:]], len(before), len(before) + len(own) - 1
