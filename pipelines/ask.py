"""Asking: a question finds what was learned, is answered, and the answer is looked up in it.

Three ways lead to an answer: from *memory*, by the experts of the fact or passage that the question
finds; by *reading*, the base with the passages that it finds before the question; and by both at
once. Where nothing is found the base answers through its chat template, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

import torch
from transformers import TextStreamer

from peer_cl.bases import context_length
from peer_cl.errors import InputError
from peer_cl.generate import PromptWeights, weigh_prompt, write_branches
from peer_cl.items import FoundItem, ItemIndex
from peer_cl.model import PeerModel
from peer_cl.pool import pool_names
from peer_cl.read import check_text
from pipelines.batches import tokenise
from pipelines.corpora import LEARNED_KINDS, composed_text
from pipelines.loading import load
from pipelines.passage_training import SENTENCE_END, question_ids
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
    """Of the answer, token by token, under the branch that wrote it."""
    memory: str | None
    """What experts alone answer; None where nothing was found."""
    base: str | None
    """What the base alone answers, where that was wanted or nothing was found."""
    sources: tuple[Source, ...]
    """What the question found, the best first."""
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
        max_new_tokens: of the answer; default: 24 from what was learned, 128 of the base's own.
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
    weights, found = None, list[_Found]()
    if model.active_pools:
        weights = weigh_prompt(
            model, ids_BT, domains=domains, evidence_mask=counted_BT, routing="question"
        )
        found = asker.ranked(weights, ids_BT, counted_BT)
    own_words = replace(asker, max_new_tokens=max_new_tokens or MAX_OWN_TOKENS)
    if not found:
        text = None if strict else own_words.own(question, before)
        return Answer(question, text, "base", None, None, None, text, (), ())
    domain, context = found[0].domain, list[int]()
    if way != "memory":
        context = asker.context(found, len(ids))
    if not context:
        way = "memory"
    by_memory = (asker if way == "memory" else asker.silent).write(domain, ids, 0, weights)
    text, probability = by_memory
    if context:
        whole = [ids[0], *context, *ids[1:]]
        own = weights if way == "both" else None
        text, probability = asker.write(domain, whole, len(context), own)
    return Answer(
        question=question,
        text=text,
        way=way,
        domain=domain,
        probability=probability,
        memory=by_memory[0],
        base=own_words.silent.own(question, before) if compare else None,
        sources=tuple(one.source(question, text) for one in found),
        stands_in=_standing(registry, text, found),
    )


def question_prompt(tokenizer: Any, question: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a question in the form in which it is asked, as token ids (1, T), and which of them
    are its own, bool (1, T): what the router sees.
    """
    ids, begin, end = question_ids(tokenizer, question)
    ids_BT = torch.tensor([ids])
    counted_BT = torch.zeros_like(ids_BT).bool()
    counted_BT[:, begin:end] = True
    return ids_BT, counted_BT


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

    def source(self, question: str, answer: str) -> Source:
        """Return it as it is shown."""
        document, sentence = self.document, self.text
        if self.item.is_passage:
            body = self.text.removeprefix(document.title).strip() or self.text
            sentence = nearest_sentence(body, question, answer)
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
        self, weights: PromptWeights, ids_BT: torch.Tensor, counted_BT: torch.Tensor
    ) -> list[_Found]:
        """Return what a question finds, the writer's first: facts before passages."""
        space = self.model.questions
        ends_B, found = torch.tensor([ids_BT.shape[1]]), dict[tuple[str, int], FoundItem]()
        for name, items in weights.found.items():
            index = self.model.items(name)
            # Of passages the reading has the nearest alone.
            more = index.asked(space, ids_BT, counted_BT, ends_B) if index and space else []
            found |= {(name, one.item): one for one in (*items, *more[:NUM_SOURCES])}
        order = sorted(
            found.items(), key=lambda pair: (pair[1].is_passage, -pair[1].score, pair[0])
        )
        return [self._look_up(name, one) for (name, _), one in order[:NUM_SOURCES]]

    def _look_up(self, domain: str, one: FoundItem) -> _Found:
        index = cast(ItemIndex, self.model.items(domain))
        queries = self.registry.queries
        document = queries.places(index.items[one.item].item_id)[-1].document
        ids = index.text(one.item)
        if ids is None:
            return _Found(domain, one, document, queries.document_text(document))
        text = str(self.tokenizer.decode(ids[1:], skip_special_tokens=True))
        return _Found(domain, one, document, text)

    def context(self, found: Sequence[_Found], num_asked: int) -> list[int]:
        """Return token ids of the best passage, to be read before the question; cut to fit."""
        most = context_length(self.model.base) or 2048
        blank_line = tokenise(self.tokenizer, ["\n\n"])[0][1:]
        left = most - num_asked - self.max_new_tokens - len(blank_line)
        passages = [one.text for one in found if one.item.is_passage]
        if not passages or left < _LEAST_LEFT:
            return []
        return [*tokenise(self.tokenizer, [passages[0].strip()])[0][1:][:left], *blank_line]

    def write(
        self,
        domain: str,
        ids: Sequence[int],
        skip: int,
        weights: PromptWeights | None = None,
    ) -> tuple[str, float]:
        """Return an answer from what was learned, and its probability.

        Args:
            domain: whose found item answers.
            ids: of the prompt.
            skip: tokens behind the start token that are read before the question.
            weights: which items are active in the question; None: none.
        """
        items = {}
        if weights is not None:
            own_BT = weights.items_PBT[domain]
            before_BT = own_BT[:, :1].expand(-1, skip)
            items = {domain: torch.cat([own_BT[:, :1], before_BT, own_BT[:, 1:]], 1)}
        # The base alone would often answer by an empty line.
        text, probability = self._write(
            domain if items else None,
            ids,
            items,
            stop_strings=["\n"],
            begin_suppress_tokens=None if items else self._empty_beginnings,
        )
        return text.split("\n")[0].strip(), probability

    def own(self, question: str, before: Sequence[Mapping[str, str]]) -> str:
        """Return what the base says of its own, through its chat template where it has one."""
        if getattr(self.tokenizer, "chat_template", None) is None:
            ids = question_ids(self.tokenizer, question)[0]
            return self._write(None, ids, {}, stop_strings=["\n"])[0].split("\n")[0].strip()
        prompt = self.tokenizer.apply_chat_template(
            [*before, {"role": "user", "content": question}],
            add_generation_prompt=True,
            tokenize=False,
        )
        ids = self.tokenizer(prompt, add_special_tokens=False).input_ids
        check_text(self.model.base, torch.tensor([ids]), num_new=self.max_new_tokens)
        return self._write(None, ids, {})[0].strip()

    @property
    def _empty_beginnings(self) -> list[int]:
        ends = self.model.base.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        return sorted({*ends, *(tokenise(self.tokenizer, [one])[0][1] for one in ("\n", "\n\n"))})

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


class _Told(TextStreamer):
    """Tells each piece of what is written."""

    def __init__(self, tokenizer: Any, tell: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._tell = tell

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass a piece on; called by transformers."""
        if text:
            self._tell(text)


def nearest_sentence(text: str, question: str, answer: str) -> str:
    """Return the sentence of a text in which most of a question stands, and its answer."""
    wanted = set(plain_words(question).split())

    def nearness(sentence: str) -> tuple[bool, int]:
        return stands(answer, sentence), len(wanted & set(plain_words(sentence).split()))

    sentences = [one.strip() for one in SENTENCE_END.split(text) if one.strip()]
    return max(sentences, key=nearness, default="")
