"""Asking: a question finds what was learned, is answered, and the answer is looked up in it.

Three ways lead to an answer: from *memory*, by the experts of the fact or passage that the question
finds; by *reading*, in words of a passage that the base has before the question; and by *both*, in
those words of it that memory and reading together find likeliest. A fact answers from memory, and a
passage that was given no experts of its own by reading. Where nothing is found the base answers
through its chat template, and that is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

import torch
from transformers import TextStreamer

from peer_cl.bases import context_length
from peer_cl.errors import InputError
from peer_cl.generate import PromptWeights, weigh_prompt, write_branches
from peer_cl.items import FoundItem, ItemIndex
from peer_cl.model import PeerModel
from peer_cl.own import NO_ITEM
from peer_cl.pool import pool_names
from peer_cl.questions import THRESHOLD
from peer_cl.read import check_text
from pipelines.batches import tokenise
from pipelines.chat import chat_ids
from pipelines.corpora import LEARNED_KINDS, composed_text
from pipelines.encoder import near_sentences
from pipelines.loading import load
from pipelines.passage_training import ANSWER_LENGTHS, question_ids, question_prompt
from pipelines.settings import reading, resolve_precision
from pipelines.spans import ANYHOW_SHARE, Line, Reader, weigh_spans
from pipelines.study.questions import plain_words, stands
from stores.queries import Document
from stores.registry import Registry

Way = Literal["memory", "reading", "both", "base"]
WAYS: tuple[Way, ...] = ("memory", "reading", "both")
DEFAULT_WAY: Way = "both"
MAX_ANSWER_TOKENS = 24
"""Of an answer from what was learned, which is one line."""
MAX_OWN_TOKENS = 128
"""Of the base's own words."""
NUM_SOURCES = 3
"""Facts and passages that are shown; the best passage is read."""
NUM_READ = 2
"""Passages whose words may be the answer."""
SURE = 0.6
"""Probability from which on an answer from memory that stands in its passage is not weighed against
reading (docs/LOG.md, "Asking"). That of a question which was studied never is."""
_LEAST_LEFT = 16
"""Tokens of a passage that are worth reading, where the base's context is nearly full."""


@dataclass(frozen=True)
class Source:
    """A fact or a passage that a question finds."""

    domain: str
    document_id: str
    title: str
    source: str
    """Of the document: its file, with page or heading where it has one."""
    sentence: str
    """What of it is nearest to question and answer; a fact's statement."""
    score: float
    """The router's."""
    is_passage: bool


@dataclass(frozen=True)
class Answer:
    """A question's answer, and where it comes from."""

    question: str
    text: str | None
    """None: nothing was found, and only what was learned was to answer."""
    way: Way
    domain: str | None
    """Whose experts answered; None: the base's own words."""
    probability: float | None
    """Of the answer, under the branch that wrote it; of words of a passage, their share of the
    weight of all that were likely."""
    memory: str | None
    """What experts alone answer; None where nothing was found, or a passage without any."""
    base: str | None
    """What the base alone answers, where that was wanted or nothing was found."""
    sources: tuple[Source, ...]
    """What the question found, the best first."""
    nearest: tuple[Source, ...]
    """Where nothing was found: the passages that are nearest to the question, yet too far to answer
    it."""
    stands_in: tuple[str, ...]
    """Sources of learned documents in which the answer stands word for word; at most three."""

    @property
    def is_found(self) -> bool:
        """Whether anything that was learned answers."""
        return self.domain is not None


def ask(
    registry: Registry,
    question: str,
    *,
    model: PeerModel | None = None,
    tokenizer: Any = None,
    domains: str | Sequence[str] | None = None,
    way: Way = DEFAULT_WAY,
    strict: bool = False,
    compare: bool = False,
    before: Sequence[Mapping[str, str]] = (),
    max_new_tokens: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Answer:
    """Return the answer to a question, greedily; one line where it comes from what was learned.

    Args:
        registry: the store's.
        model, tokenizer: as `load` returns them; default: the live snapshot's.
        domains: only what these (or this one) learned; the best of it, whatever its score.
        way: of an answer from what was learned.
        strict: no answer where nothing is found.
        compare: what the base alone answers, too.
        before: of a chat, its earlier messages, each with "role" and "content": what the base reads
            where it answers. The router sees the question alone.
        max_new_tokens: of an answer that is written freely; default: 24 from memory, 64 where this
            question was learned, 128 of the base's own.
        tell: called with each piece of the answer as it is written.

    Raises:
        InputError: for an empty question, or one longer than the base's context.
        UnknownError: for an unknown domain. StateError: for one that is not active.
    """
    way = checked_way(way)
    question = composed_text(" ".join(question.split()))
    if not question:
        raise InputError('the question is empty; ask something: peer-cl ask "Who founded Kiel?"')
    for name in () if domains is None else pool_names(domains):
        registry.queries.check_active(name)
    if model is None or tokenizer is None:
        model, tokenizer = load(registry)
    ids_BT, counted_BT = question_prompt(tokenizer, question)
    ids = ids_BT[0].tolist()
    most = max_new_tokens or MAX_ANSWER_TOKENS
    check_text(model.base, ids_BT, num_new=most)
    asker = _Asker(registry, model, tokenizer, most, tell)
    found = list[_Found]()
    if model.active_pools:
        weights = weigh_prompt(
            model, ids_BT, domains=domains, evidence_mask=counted_BT, routing="question"
        )
        is_given = domains is not None
        found = asker.ranked(weights, ids_BT, counted_BT, is_given=is_given)
    own_words = replace(asker, max_new_tokens=max_new_tokens or MAX_OWN_TOKENS)
    if not found:
        text = None if strict else own_words.own(question, before)
        near = tuple(one.source(question, "") for one in asker.nearest(ids_BT, counted_BT, domains))
        return Answer(question, text, "base", None, None, None, text, (), near, ())
    is_studied = found[0].has_studied(question)
    if not found[0].has_experts:
        way = "reading"
    elif not found[0].item.is_passage or (way == "both" and is_studied):
        way = "memory"
    if is_studied:
        asker = replace(asker, max_new_tokens=max_new_tokens or ANSWER_LENGTHS[-1])
    writer = asker if way == "memory" else asker.silent
    text, probability, memory = "", 0.0, None
    if found[0].has_experts:
        text, probability = writer.write(found[0], ids)
        memory = text
    if way == "both" and probability >= SURE and stands(text, found[0].text):
        way = "memory"
    elif way != "memory":
        if spans := asker.spans(found, question, ids, way):
            # The passage that the answer stands in comes first.
            text, probability, answering = spans
            found = [answering, *(one for one in found if one is not answering)]
        elif memory is None:
            text, probability = writer.write(found[0], ids)
        else:
            way = "memory"
    if tell is not None and writer is not asker:
        tell(text)
    return Answer(
        question=question,
        text=text,
        way=way,
        domain=found[0].domain,
        probability=probability,
        memory=memory,
        base=own_words.silent.own(question, before) if compare else None,
        sources=tuple(one.source(question, text) for one in found),
        nearest=(),
        stands_in=_standing(registry, text, found),
    )


def _standing(registry: Registry, answer: str, found: Sequence[_Found]) -> tuple[str, ...]:
    """Return sources of learned documents in which an answer stands: among those found, else among
    all that are live."""
    near = dict.fromkeys(one.document.source for one in found if stands(answer, one.text))
    if near or not plain_words(answer):
        return tuple(near)
    queries = registry.queries
    documents = (
        document
        for state in queries.live().domains
        if state.is_enabled
        for document in queries.documents(state.domain, split="train")
        if document.kind in LEARNED_KINDS and document.text_object is not None
    )
    holding = (one.source for one in documents if stands(answer, queries.document_text(one)))
    return tuple(dict.fromkeys(islice(holding, NUM_SOURCES)))


def checked_way(way: str) -> Way:
    """Return a way that leads from what was learned to an answer; InputError for another word."""
    if way not in WAYS:
        raise InputError(f"way must be one of {', '.join(WAYS)}, not {way!r}")
    return way


class _Found(NamedTuple):
    """What a question finds, with its document and its text."""

    domain: str
    item: FoundItem
    document: Document
    text: str
    """Of a passage, with its title; of a fact, its statement."""
    studied: tuple[str, ...] = ()
    """The questions that a passage learned."""
    has_experts: bool = True

    def has_studied(self, question: str) -> bool:
        """Return whether a passage learned this question, in these words."""
        return plain_words(question) in map(plain_words, self.studied)

    @property
    def body(self) -> str:
        """The text without its title."""
        return self.text.removeprefix(self.document.title).strip() or self.text

    def source(self, question: str, answer: str) -> Source:
        """Return it as it is shown."""
        document, sentence = self.document, self.text
        if self.item.is_passage:
            sentence = nearest_sentence(self.body, document.title, question, answer)
        return Source(
            domain=self.domain,
            document_id=document.document_id,
            title=document.title,
            source=document.source,
            sentence=sentence,
            score=self.item.score,
            is_passage=self.item.is_passage,
        )


@dataclass(frozen=True)
class _Asker:
    registry: Registry
    model: PeerModel
    tokenizer: Any
    max_new_tokens: int
    tell: Callable[[str], None] | None = None

    @property
    def silent(self) -> _Asker:
        """The same, and nobody is told what it writes."""
        return replace(self, tell=None)

    def ranked(
        self,
        weights: PromptWeights,
        ids_BT: torch.Tensor,
        counted_BT: torch.Tensor,
        *,
        is_given: bool,
    ) -> list[_Found]:
        """Return what a question finds, the writer's first: facts before passages.

        Args:
            weights: that the question gives.
            ids_BT: of the question, in its form.
            counted_BT: bool; which tokens are its own.
            is_given: whether domains were named: then their passages are, whatever their scores.
        """
        found = dict[tuple[str, int], FoundItem]()
        for name, items in weights.found.items():
            # Of passages the weights have the nearest alone.
            least = -math.inf if is_given else THRESHOLD
            more = self._passages(name, ids_BT, counted_BT, least)
            found |= {(name, one.item): one for one in (*items, *more)}
        order = sorted(
            found.items(), key=lambda pair: (pair[1].is_passage, -pair[1].score, pair[0])
        )
        return [self._look_up(name, one) for (name, _), one in order[:NUM_SOURCES]]

    def nearest(
        self, ids_BT: torch.Tensor, counted_BT: torch.Tensor, domains: str | Sequence[str] | None
    ) -> list[_Found]:
        """Return the passages that are nearest to a question, whatever their scores."""
        named = self.model.active_pools if domains is None else pool_names(domains)
        near = [
            (name, one)
            for name in named
            for one in self._passages(name, ids_BT, counted_BT, -math.inf)
        ]
        near.sort(key=lambda pair: -pair[1].score)
        return [self._look_up(name, one) for name, one in near[:NUM_SOURCES]]

    def _passages(
        self, domain: str, ids_BT: torch.Tensor, counted_BT: torch.Tensor, least: float
    ) -> list[FoundItem]:
        index, space = self.model.items(domain), self.model.questions
        if index is None or space is None:
            return []
        ends_B = torch.tensor([ids_BT.shape[1]])
        return index.asked(space, ids_BT, counted_BT, ends_B, least=least)[:NUM_SOURCES]

    def _look_up(self, domain: str, one: FoundItem) -> _Found:
        index = cast(ItemIndex, self.model.items(domain))
        queries = self.registry.queries
        document = queries.places(index.items[one.item].item_id)[-1].document
        ids = index.text(one.item)
        if ids is None:
            return _Found(domain, one, document, queries.document_text(document))
        text = str(self.tokenizer.decode(ids[1:], skip_special_tokens=True))
        studied = tuple(question for question, _, _ in index.items[one.item].questions)
        return _Found(domain, one, document, text, studied, index.has_experts(one.item))

    def write(self, one: _Found, ids: Sequence[int]) -> tuple[str, float]:
        """Return what the experts of a fact or passage answer to a prompt, and its probability."""
        items = {one.domain: self._active(one, ids)}
        text, probability = self._write(one.domain, ids, items, stop_strings=["\n"])
        return text.split("\n")[0].strip(), probability

    def _active(self, one: _Found, ids: Sequence[int]) -> torch.Tensor:
        items_BT = torch.full((1, len(ids)), NO_ITEM)
        items_BT[:, one.item.begin :] = one.item.item
        return items_BT

    def spans(
        self, found: Sequence[_Found], question: str, ids: Sequence[int], way: Way
    ) -> tuple[str, float, _Found] | None:
        """Return the answer that stands in the best passages, its share of the weight of all spans
        that were found, and its passage; None where there is no span.

        Args:
            found: what the question finds.
            question: that is asked.
            ids: of its prompt.
            way: whether memory counts beside reading.
        """
        passages = [one for one in found if one.item.is_passage][:NUM_READ]
        contexts = [(one, self._context(one, len(ids))) for one in passages]
        read = [(one, context) for one, context in contexts if context]
        if not read:
            return None
        numbers = range(len(read))
        whole = [Line(n, [ids[0], *context, *ids[1:]]) for n, (_, context) in enumerate(read)]
        readers = [
            Reader(whole, _bare),
            Reader([Line(n, ids) for n in numbers], _bare, -ANYHOW_SHARE),
        ]
        if way == "both":
            for domain in dict.fromkeys(one.domain for one, _ in read):
                own = [n for n in numbers if read[n][0].domain == domain]
                active_LT = torch.cat([self._active(read[n][0], ids) for n in own])
                running = partial(self._branch, domain, active_LT)
                readers.append(Reader([Line(n, ids) for n in own], running))
        texts = [near_sentences(one.document.title, one.body, question) for one, _ in read]
        base = self.model.base
        with self.model.hooks.lock, reading(base, resolve_precision("auto", self.model.device)):
            weighed = weigh_spans(base, self.tokenizer, question, texts, readers)
        spans = [
            (score, text, one)
            for (one, _), own in zip(read, weighed, strict=True)
            for text, score in own.items()
        ]
        if not spans:
            return None
        shares = torch.tensor([score for score, _, _ in spans]).softmax(0)
        best = int(shares.argmax())
        return spans[best][1], float(shares[best]), spans[best][2]

    def _branch(
        self, domain: str, active_LT: torch.Tensor, lines_X: torch.Tensor, is_first: bool
    ) -> AbstractContextManager[None]:
        active_XT = active_LT[lines_X]
        return self.model.branch(domain, items_BT=active_XT if is_first else active_XT[:, -1:])

    def _context(self, one: _Found, num_asked: int) -> list[int]:
        """Return token ids of a passage, to be read before the question; cut to fit."""
        most = context_length(self.model.base) or 2048
        blank_line = tokenise(self.tokenizer, ["\n\n"])[0][1:]
        left = most - num_asked - MAX_ANSWER_TOKENS - len(blank_line)
        if left < _LEAST_LEFT:
            return []
        return [*tokenise(self.tokenizer, [one.text.strip()])[0][1:][:left], *blank_line]

    def own(self, question: str, before: Sequence[Mapping[str, str]]) -> str:
        """Return what the base says of its own, through its chat template where it has one."""
        ids = chat_ids(self.tokenizer, [*before, {"role": "user", "content": question}])
        if ids is None:
            ids = question_ids(self.tokenizer, question)[0]
            return self._write(None, ids, {}, stop_strings=["\n"])[0].split("\n")[0].strip()
        check_text(self.model.base, torch.tensor([ids]), num_new=self.max_new_tokens)
        return self._write(None, ids, {})[0].strip()

    @torch.no_grad()
    def _write(
        self, domain: str | None, ids: Sequence[int], items: Mapping[str, torch.Tensor], **how: Any
    ) -> tuple[str, float]:
        """Return what a domain, or the base, writes after a prompt, and its probability."""
        streamer = None if self.tell is None else _Told(self.tokenizer, self.tell)
        ids_BT = torch.tensor([ids])
        written = write_branches(
            self.model,
            (None, domain),
            torch.tensor([int(domain is not None)]),
            ids_BT,
            torch.ones_like(ids_BT),
            items,
            {
                "max_new_tokens": self.max_new_tokens,
                "do_sample": False,
                "num_beams": 1,
                "repetition_penalty": 1.0,
                "pad_token_id": self.tokenizer.eos_token_id,
                "tokenizer": self.tokenizer,
                "return_dict_in_generate": True,
                "output_logits": True,
                "streamer": streamer,
                **how,
            },
        )
        new = written.sequences[0, len(ids) :].tolist()
        log_probs = [
            float(step.float().log_softmax(-1)[0, token])
            for step, token in zip(written.logits, new, strict=True)
        ]
        text = str(self.tokenizer.decode(new, skip_special_tokens=True))
        return text, float(torch.tensor(log_probs).sum().exp())


def _bare(_: torch.Tensor, __: bool) -> AbstractContextManager[None]:
    return nullcontext()


class _Told(TextStreamer):
    """Tells each piece of what is written."""

    def __init__(self, tokenizer: Any, tell: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass a piece on; called by transformers."""
        if text:
            self._tell(text)


def nearest_sentence(text: str, title: str, question: str, answer: str) -> str:
    """Return the sentence of a text that holds an answer, else the one nearest to a question."""
    near = near_sentences(title, text, question)
    return max(near, key=lambda one: (stands(answer, one[0]), one[1]), default=("", 0.0))[0]
