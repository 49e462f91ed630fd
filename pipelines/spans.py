"""An answer that stands in a text: the span that memory and reading find likeliest together.

What a small base writes freely is often said nowhere. So the words of an answer are taken from the
passage: a beam search over its spans, in which each reader (the base with the passage before the
question; the passage's experts without it) gives every next token a probability, and their product
counts, against half of what the base alone would say: words that answer such a question anyhow
are no evidence. A span in a sentence that is near to the question counts more.

Shape suffixes: W beams, T tokens, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch

from pipelines.batches import tokenise
from pipelines.study.questions import plain_words

MAX_WORDS, MAX_TOKENS = 8, 12
BEAMS = 12
ANYHOW_SHARE = 0.5
"""Of what the base alone says, which counts against a span (docs/LOG.md, "Asking")."""
NEAR_NATS = 15.0
"""What the cosine of question and sentence counts beside the nats a token."""
_BEGIN = re.compile(r"(?<!\w)[\w$€£(\"]")
_END = re.compile(r"\w[%°]?(?!\w)")


class Reader(NamedTuple):
    """Who weighs spans."""

    ids: Sequence[int]
    """Of the prompt that the answer follows."""
    running: Callable[[], AbstractContextManager[Any]]
    """What the base runs inside of."""
    weight: float = 1.0


@dataclass
class _Node:
    near: float
    """Of the sentences that the tokens so far stand in, the nearest to the question."""
    next: dict[int, _Node] = field(default_factory=dict)
    is_end: bool = False


@torch.no_grad()
def weigh_spans(
    base: Any,
    tokenizer: Any,
    question: str,
    sentences: Iterable[tuple[str, float]],
    readers: Sequence[Reader],
) -> dict[str, float]:
    """Return the likeliest spans of some sentences as answers to a question, with their scores.

    A span has at most eight words, begins and ends with one, lies within a sentence and a table's
    cell, and has a word that does not stand in the question.

    Args:
        base, tokenizer: the model's.
        question: that is asked.
        sentences: each with how near it is to the question, as a cosine.
        readers: whose prompts end where the answer begins.
    """
    root = _tree(tokenizer, sentences)
    (_, line_end) = tokenise(tokenizer, ["\n"])[0]
    asked = set(plain_words(question).split())
    spans = dict[str, float]()
    for ids, near, nats in _search(base, root, readers, line_end):
        text = str(tokenizer.decode(ids)).strip()
        if not set(plain_words(text).split()) <= asked:
            score = _score(nats, len(ids), near)
            spans[text] = max(score, spans.get(text, score))
    return spans


def _score(nats: float, num_tokens: int, near: float) -> float:
    return nats / num_tokens + NEAR_NATS * near


def _tree(tokenizer: Any, sentences: Iterable[tuple[str, float]]) -> _Node:
    """Return the spans of sentences as a tree of tokens."""
    root = _Node(-1.0)
    for sentence, near in sentences:
        for words, ends in _beginnings(sentence):
            read = tokenizer(f" {words}", add_special_tokens=False, return_offsets_mapping=True)
            node = root
            tokens = zip(read.input_ids, read.offset_mapping, strict=True)
            for token, (_, end) in islice(tokens, MAX_TOKENS):
                node = node.next.setdefault(token, _Node(near))
                node.near = max(node.near, near)
                node.is_end |= end - 1 in ends
    return root


def _beginnings(sentence: str) -> Iterator[tuple[str, Collection[int]]]:
    """Yield the words that begin at each word of a sentence, and where among them a span may end.

    Example:
        >>> [(words, sorted(ends)) for words, ends in _beginnings("| Fatma | 46 27 |")]
        [('Fatma', [5]), ('46 27', [2, 5]), ('27', [2])]
    """
    for cell in sentence.split("|"):
        for match in _BEGIN.finditer(cell):
            words = cell[match.start() :]
            ends = [one.end() for one in _END.finditer(words)][:MAX_WORDS]
            if ends:
                yield words[: ends[-1]], set(ends)


def _search(
    base: Any, root: _Node, readers: Sequence[Reader], line_end: int
) -> Iterator[tuple[tuple[int, ...], float, float]]:
    """Yield spans as token ids, with their nearness and what readers say, line's end included.

    Beams are ordered as spans are, so that a likely beginning in a far sentence displaces no near
    one.
    """
    caches, told_WV = list[Any](), torch.zeros(())
    for reader in readers:
        with reader.running():
            output = base(input_ids=torch.tensor([reader.ids]), use_cache=True)
        caches.append(output.cache)
        told_WV = told_WV + reader.weight * output.logits[:, -1].float().log_softmax(-1)
    beams: list[tuple[tuple[int, ...], _Node, float]] = [((), root, 0.0)]
    for num_read in range(MAX_TOKENS + 1):
        longer = list[tuple[float, int, tuple[int, ...], _Node]]()
        for place, (ids, node, nats) in enumerate(beams):
            if node.is_end:
                yield ids, node.near, nats + float(told_WV[place, line_end])
            for token, after in node.next.items():
                longer.append((nats + float(told_WV[place, token]), place, (*ids, token), after))
        longer.sort(key=lambda one: -_score(one[0], len(one[2]), one[3].near))
        if not (longer := longer[:BEAMS]):
            return
        beams = [(ids, node, nats) for nats, _, ids, node in longer]
        places_W = torch.tensor([place for _, place, _, _ in longer])
        last_W1 = torch.tensor([[ids[-1]] for ids, _, _ in beams])
        told_WV = torch.zeros(())
        for reader, cache in zip(readers, caches, strict=True):
            cache.reorder_cache(places_W)
            mask_WT = torch.ones(len(beams), len(reader.ids) + num_read + 1, dtype=torch.long)
            with reader.running():
                output = base(
                    input_ids=last_W1, attention_mask=mask_WT, cache=cache, use_cache=True
                )
            told_WV = told_WV + reader.weight * output.logits[:, -1].float().log_softmax(-1)
