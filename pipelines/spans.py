"""An answer that stands in a text: the span that memory and reading find likeliest together.

What a small base writes freely is often said nowhere. So the words of an answer are taken from the
passage: a beam search over its spans, in which each reader (the base with the passage before the
question; the passage's experts without it) gives every next token a probability, and their product
counts, against half of what the base alone would say: words that answer such a question anyhow
are no evidence. A span in a sentence that is near to the question counts more.

Shape suffixes: W beams, T tokens, V vocabulary, X rows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch

from peer_cl.read import left_padded_positions
from pipelines.batches import pad, tokenise
from pipelines.study.questions import plain_words

MAX_WORDS, MAX_TOKENS = 8, 12
BEAMS = 12
ANYHOW_SHARE = 0.5
"""Of what the base alone says, which counts against a span (docs/LOG.md, "Asking")."""
NEAR_NATS = 15.0
"""What the cosine of question and sentence counts beside the nats a token."""
_BEGIN = re.compile(r"(?<!\w)[\w$€£(\"]")
_END = re.compile(r"\w[%°]?(?!\w)")


class Line(NamedTuple):
    """A prompt that the answer to a question about a text follows."""

    text: int
    """The text's number."""
    ids: Sequence[int]
    weight: float = 1.0


class Reader(NamedTuple):
    """Who weighs spans: the base, as it is while something runs, reads lines side by side."""

    lines: Sequence[Line]
    running: Callable[[], AbstractContextManager[Any]]


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
    texts: Sequence[Iterable[tuple[str, float]]],
    readers: Sequence[Reader],
) -> list[dict[str, float]]:
    """Return the likeliest spans of texts as answers to a question, with their scores, by text.

    A span has at most eight words, begins and ends with one, lies within a sentence and a table's
    cell, and has a word that does not stand in the question.

    Args:
        base, tokenizer: the model's.
        question: that is asked.
        texts: their sentences, each with how near it is to the question, as a cosine.
        readers: what their lines say of a text's spans is added up.
    """
    roots = [_tree(tokenizer, sentences) for sentences in texts]
    (_, line_end) = tokenise(tokenizer, ["\n"])[0]
    asked = set(plain_words(question).split())
    spans = [dict[str, float]() for _ in texts]
    rows = [_Rows(base, one, len(texts)) for one in readers]
    for number, ids, near, nats in _search(roots, rows, line_end):
        text = str(tokenizer.decode(ids)).strip()
        if not set(plain_words(text).split()) <= asked:
            score, own = _score(nats, len(ids), near), spans[number]
            own[text] = max(score, own.get(text, score))
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


class _Beam(NamedTuple):
    nats: float
    place: int
    """Of the beam that it goes on from,"""
    ids: tuple[int, ...]
    node: _Node


def _search(
    roots: Sequence[_Node], readers: Sequence[_Rows], line_end: int
) -> Iterator[tuple[int, tuple[int, ...], float, float]]:
    """Yield spans: their text's number, their token ids, how near their sentence is and what
    readers say, line's end included.

    Beams are ordered as spans are, so that a likely beginning in a far sentence displaces no near
    one.
    """
    beams = [[_Beam(0.0, 0, (), root)] for root in roots]
    told_NWV = _added([one.begin() for one in readers])
    for _ in range(MAX_TOKENS + 1):
        for number, own in enumerate(beams):
            longer = list[_Beam]()
            for place, (nats, _, ids, node) in enumerate(own):
                told_V = told_NWV[number, place]
                if node.is_end:
                    yield number, ids, node.near, nats + float(told_V[line_end])
                for token, after in node.next.items():
                    longer.append(_Beam(nats + float(told_V[token]), place, (*ids, token), after))
            longer.sort(key=lambda one: -_score(one.nats, len(one.ids), one.node.near))
            beams[number] = longer[:BEAMS]
        width = max(map(len, beams))
        if not width:
            return
        # Every text has as many rows; those that stand for no beam say nothing that is read.
        empty = _Beam(0.0, 0, (line_end,), roots[0])
        rows = [[*own, *[empty] * (width - len(own))] for own in beams]
        places_NW = torch.tensor([[one.place for one in own] for own in rows])
        last_NW = torch.tensor([[one.ids[-1] for one in own] for own in rows])
        told_NWV = _added([one.step(places_NW, last_NW) for one in readers])


def _added(told: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([*told]).sum(0)


class _Rows:
    """A reader's lines, each with a row for every beam of its text.

    Shape suffixes: L lines, N texts.
    """

    def __init__(self, base: Any, reader: Reader, num_texts: int) -> None:
        self._base, self._running, self._num_texts = base, reader.running, num_texts
        device = base.get_input_embeddings().weight.device
        self._texts_L = torch.tensor([one.text for one in reader.lines], device=device)
        self._weights_L = torch.tensor([one.weight for one in reader.lines], device=device)
        turned_LT, mask_LT = pad([one.ids[::-1] for one in reader.lines], pad_id=0, device=device)
        # The beginnings are padded, so that all end where the answer begins.
        self._ids_LT, self._mask = turned_LT.flip(1), mask_LT.flip(1)
        self._cache: Any = None
        self._width = 1
        takes_places = "logits_to_keep" in inspect.signature(base.forward).parameters
        self._last_alone = {"logits_to_keep": 1} if takes_places else {}

    def begin(self) -> torch.Tensor:
        """Return what the lines say of the first token: (N, 1, V)."""
        return self._told(self._ids_LT)

    def step(self, places_NW: torch.Tensor, last_NW: torch.Tensor) -> torch.Tensor:
        """Return what the lines say after beams, which go on from earlier ones: (N, W, V)."""
        device = self._texts_L.device
        places_NW, last_NW = places_NW.to(device), last_NW.to(device)
        first_L1 = torch.arange(len(self._texts_L), device=device)[:, None] * self._width
        rows_X = (first_L1 + places_NW[self._texts_L]).flatten()
        self._cache.reorder_cache(rows_X)
        self._width = places_NW.shape[1]
        self._mask = torch.nn.functional.pad(self._mask[rows_X], (0, 1), value=1)
        return self._told(last_NW[self._texts_L].reshape(-1, 1))

    def _told(self, ids: torch.Tensor) -> torch.Tensor:
        given: dict[str, Any] = {**self._last_alone}
        if self._cache is not None:
            given["cache"] = self._cache
        positions = left_padded_positions(self._base, self._mask)
        if positions is not None:
            given["position_ids"] = positions[:, -ids.shape[1] :]
        with self._running():
            output = self._base(input_ids=ids, attention_mask=self._mask, use_cache=True, **given)
        self._cache = output.cache
        told_LWV = (
            output.logits[:, -1].float().log_softmax(-1).view(len(self._texts_L), self._width, -1)
        )
        told_LWV = told_LWV * self._weights_L[:, None, None]
        told_NWV: torch.Tensor = told_LWV.new_zeros(self._num_texts, *told_LWV.shape[1:])
        told_NWV.index_add_(0, self._texts_L, told_LWV)
        return told_NWV.cpu()  # where beams are searched
