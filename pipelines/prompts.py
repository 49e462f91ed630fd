"""Prompts cut from documents, to show how a model continues them."""

from __future__ import annotations

import re

_WORD_WITH_BLANK = re.compile(r"\S+\s*")


def completion_prompt(
    document_text: str, *, max_words: int = 12, max_share: float = 0.4
) -> tuple[str, str]:
    """Return the first words of a document, and the rest of it.

    The prompt ends at a word's end without the blank (the rest begins with it), because a
    tokenizer writes a blank and the word after it as one token.

    Args:
        document_text: The document.
        max_words: The most words in the prompt.
        max_share: The largest share of the document's words in the prompt; at least one word.

    Returns:
        prompt and rest; `prompt + rest` is the document, without blanks around it.

    Example:
        >>> completion_prompt("Quartz: a hard, crystalline mineral of silica", max_words=2)
        ('Quartz: a', ' hard, crystalline mineral of silica')
    """
    text = document_text.strip()
    words = _WORD_WITH_BLANK.findall(text)
    num_words = max(1, min(max_words, int(len(words) * max_share)))
    prompt = "".join(words[:num_words]).rstrip()
    return prompt, text[len(prompt) :]
