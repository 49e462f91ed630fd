"""An answer that stands in a text: the span that memory and reading find likeliest together.

What a small base writes freely is often said nowhere. So the words of an answer are taken from the
passage: its likeliest beginnings are kept, and all ways are weighed in which these go on. Each
reader (the base with the passage before the question; the passage's experts without it) gives every
next token a probability, and their product counts, against half of what the base alone would say:
words that answer such a question anyhow are no evidence. A span in a sentence that is near to the
question counts more.

Shape suffixes: N paths, L lines, X rows (one for each path that a line goes on with), T tokens,
K tokens that are asked for, V vocabulary.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from peer_cl.read import left_padded_positions
from pipelines.batches import pad, tokenise
from pipelines.study.questions import plain_words

MAX_WORDS, MAX_TOKENS = 8, 12
BEGINNING_TOKENS, BEGINNINGS = 4, 12
"""After each of the first tokens the likeliest beginnings of a text are kept. What follows these is
read at once, not token by token."""
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


class Reader(NamedTuple):
    """Who weighs spans: the base, as it is while something runs, reads lines side by side."""

    lines: Sequence[Line]
    running: Callable[[torch.Tensor, bool], AbstractContextManager[Any]]
    """Called with the numbers of the lines that the rows of a batch belong to, and whether these
    are the lines themselves, not what goes on from them."""
    weight: float = 1.0
    """What its log probabilities are multiplied by."""


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
    for number, ids, near, nats in _search(roots, [_Rows(base, one) for one in readers], line_end):
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


class _Path(NamedTuple):
    """A span's first tokens."""

    text: int
    place: int
    """Of the path that it goes on from, among those that were read before."""
    ids: tuple[int, ...]
    node: _Node
    nats: float

    @property
    def score(self) -> float:
        """Paths are ordered as spans are, so that a likely beginning in a far sentence displaces no
        near one."""
        return _score(self.nats, len(self.ids), self.node.near)


class _Step(NamedTuple):
    """What is read next: of a line at first, then what follows a path."""

    text: int
    place: int
    ids: Sequence[int]
    """Nothing at first: then the line itself is read."""
    asked: Sequence[Sequence[int]]
    """The tokens whose probabilities are asked for, after each of `ids`, or after the line."""


def _search(
    roots: Sequence[_Node], readers: Sequence[_Rows], line_end: int
) -> Iterator[tuple[int, tuple[int, ...], float, float]]:
    """Yield spans: their text's number, their token ids, how near their sentence is and what
    readers say, line's end included."""
    paths = [_Path(number, number, (), root, 0.0) for number, root in enumerate(roots)]
    for _ in range(BEGINNING_TOKENS):
        steps = [
            _Step(one.text, one.place, one.ids[-1:], [[line_end, *one.node.next]]) for one in paths
        ]
        longer = defaultdict[int, list[_Path]](list)
        told = _told(readers, steps)
        for place, (one, ((end, *more),)) in enumerate(zip(paths, told, strict=True)):
            if one.node.is_end:
                yield one.text, one.ids, one.node.near, one.nats + end
            for (token, node), nats in zip(one.node.next.items(), more, strict=True):
                ids = (*one.ids, token)
                longer[one.text].append(_Path(one.text, place, ids, node, one.nats + nats))
        paths = [
            one
            for own in longer.values()
            for one in sorted(own, key=lambda one: one.score, reverse=True)[:BEGINNINGS]
        ]
        if not paths:
            return
    ways = [(one, way) for one in paths for way in _ways(one.node, line_end)]
    steps = [
        _Step(
            one.text,
            one.place,
            [one.ids[-1], *(token for token, _ in way[:-1])],
            [[line_end, token] for token, _ in way],
        )
        for one, way in ways
    ]
    for (one, way), told_TK in zip(ways, _told(readers, steps), strict=True):
        ids, node, total = one.ids, one.node, one.nats
        for (token, after), (end, nats) in zip(way, told_TK, strict=True):
            if node.is_end:
                yield one.text, ids, node.near, total + end
            ids, node, total = (*ids, token), after, total + nats


def _ways(node: _Node, line_end: int) -> Iterator[tuple[tuple[int, _Node], ...]]:
    """Yield all ways on from a node, each as tokens and nodes, line's end included."""
    if not node.next:
        yield ((line_end, node),)
    for token, after in node.next.items():
        for way in _ways(after, line_end):
            yield ((token, after), *way)


def _told(readers: Sequence[_Rows], steps: Sequence[_Step]) -> list[list[list[float]]]:
    """Return what readers say, nats, of the tokens that each step asks for."""
    num_tokens = max(len(one.asked) for one in steps)
    most = max(len(tokens) for one in steps for tokens in one.asked)
    asked_NTK = torch.zeros(len(steps), num_tokens, most, dtype=torch.long)
    for number, one in enumerate(steps):
        for place, tokens in enumerate(one.asked):
            asked_NTK[number, place, : len(tokens)] = torch.tensor(tokens)
    told_NTK = torch.stack([one.read(steps, asked_NTK) for one in readers]).sum(0)
    return [
        [told_TK[place, : len(tokens)].tolist() for place, tokens in enumerate(one.asked)]
        for one, told_TK in zip(steps, told_NTK, strict=True)
    ]


class _Rows:
    """A reader's lines, each with a row for every step that it goes on with."""

    def __init__(self, base: Any, reader: Reader) -> None:
        self._base, self._reader = base, reader
        self._device = base.get_input_embeddings().weight.device
        turned_LT, mask_LT = pad([one.ids[::-1] for one in reader.lines], 0, device=self._device)
        # The beginnings are padded, so that all end where the answer begins.
        self._ids_LT, self._mask_XT = turned_LT.flip(1), mask_LT.flip(1)
        self._cache: Any = None
        self._rows: dict[tuple[int, int], int] = {}
        """By the numbers of a line and of a step."""
        self._takes_places = "logits_to_keep" in inspect.signature(base.forward).parameters

    def read(self, steps: Sequence[_Step], asked_NTK: torch.Tensor) -> torch.Tensor:
        """Return what the lines say of the tokens that are asked for: fp32 (N, T, K), on the
        processor; nothing (0) of a text of which they say nothing."""
        told_NTK = torch.zeros(asked_NTK.shape)
        rows = [
            (line, number)
            for line, own in enumerate(self._reader.lines)
            for number, step in enumerate(steps)
            if step.text == own.text
        ]
        if not rows:
            return told_NTK
        lines_X, steps_X = torch.tensor(rows).T
        is_first = self._cache is None
        if is_first:
            ids_XT = self._ids_LT
        else:
            before = [self._rows[line, steps[number].place] for line, number in rows]
            before_X = torch.tensor(before, device=self._device)
            self._cache.reorder_cache(before_X)
            more = [steps[number].ids for _, number in rows]
            ids_XT, _ = pad(more, 0, asked_NTK.shape[1], self._device)
            # Behind a row's tokens is padding which nothing that counts looks back at.
            self._mask_XT = functional.pad(self._mask_XT[before_X], (0, ids_XT.shape[1]), value=1)
        self._rows = {one: number for number, one in enumerate(rows)}
        with self._reader.running(lines_X, is_first):
            logits_XTV = self._logits(ids_XT, asked_NTK.shape[1])
        asked_XTK = asked_NTK[steps_X].to(self._device)
        told_XTK = logits_XTV.gather(-1, asked_XTK) - logits_XTV.logsumexp(-1, keepdim=True)
        return told_NTK.index_add_(0, steps_X, self._reader.weight * told_XTK.cpu())

    def _logits(self, ids_XT: torch.Tensor, num_tokens: int) -> torch.Tensor:
        """Return those of the last tokens, fp32."""
        given: dict[str, Any] = {"logits_to_keep": num_tokens} if self._takes_places else {}
        if self._cache is not None:
            given["cache"] = self._cache
        positions = left_padded_positions(self._base, self._mask_XT)
        if positions is not None:
            given["position_ids"] = positions[:, -ids_XT.shape[1] :]
        output = self._base(input_ids=ids_XT, attention_mask=self._mask_XT, use_cache=True, **given)
        self._cache = output.cache
        logits_XTV: torch.Tensor = output.logits[:, -num_tokens:].float()
        return logits_XTV
