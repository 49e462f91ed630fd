"""Asking: a question finds units of what was learned, and is answered by quoting the best.

The answer is the unit's sentence; before it stands a short answer, which the reader takes from it,
or which the experts of its item remember where they learned this very question. With both stands
one probability of being right. Below the calibration's threshold the answer is "not known", with
the nearest units. The base's own words are given only where they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import torch

from peer_cl.errors import InputError
from peer_cl.generate import write_branches
from peer_cl.items import ItemIndex
from peer_cl.model import PeerModel
from peer_cl.own import NO_ITEM
from peer_cl.pool import pool_names
from peer_cl.read import check_text
from peer_cl.router import Background
from peer_cl.terms import Terms
from pipelines.answer.calibration import Calibration, calibration_name, shipped
from pipelines.answer.find import Found, Question, UnitIndex, find, unit_index
from pipelines.answer.reader import UnitReader, load_reader
from pipelines.chat import chat_ids
from pipelines.corpora import composed_text
from pipelines.encoder import MPNET
from pipelines.forms import question_ids
from pipelines.loading import load
from pipelines.passage_training import ANSWER_LENGTHS
from pipelines.study.questions import plain_words
from stores.registry import Registry

NOT_KNOWN: Literal["not known"] = "not known"
NUM_NEAREST = 3
"""Units that are shown beside an answer, or where nothing is known."""
MAX_QUOTED_WORDS = 60
MAX_BASE_TOKENS = 128
"""Of the base's own words."""
SURE, LIKELY = 0.8, 0.5
"""Probabilities from which on an answer is called so; below it is unsure."""
LEAST_SHORT = 0.2
"""Probability of a token, on the geometric average, below which a short answer is left out: the
sentence is the answer."""

Kind = Literal["known", "not known", "base"]


@dataclass(frozen=True)
class Source:
    """A unit that was found, and where it stands."""

    domain: str
    document_id: str
    title: str
    source: str
    """Of the document: its file, with page or heading where it has one."""
    sentence: str
    """The unit, as it is quoted."""
    probability: float
    """That it answers the question."""
    is_passage: bool


@dataclass(frozen=True)
class Answer:
    """A question's answer, and where it comes from."""

    question: str
    kind: Kind
    """Whether something that was learned answers, nothing does, or the base spoke."""
    text: str
    """The first line: the short answer, or the sentence where that is surer; "not known"."""
    probability: float | None
    """Of being right, or where nothing is known of the nearest unit; None for the base's own words,
    and with an encoder that has no calibration."""
    sources: tuple[Source, ...]
    """The units that answer most probably, the best first; it is quoted."""
    short: str | None
    """What was read from the best unit, or remembered, whether or not it is the first line."""
    memory: str | None
    """What the experts of the best unit's item answer by themselves, where that was asked for."""
    base: str | None
    """The base's own words, where they were asked for."""

    @property
    def is_known(self) -> bool:
        """Whether something that was learned answers."""
        return self.kind == "known"

    @property
    def word(self) -> str:
        """How sure the answer is, in a word."""
        if self.probability is None:
            return "unsure"
        known = ((SURE, "sure"), (LIKELY, "likely"))
        return next((word for least, word in known if self.probability >= least), "unsure")


def ask(
    registry: Registry,
    question: str,
    *,
    model: PeerModel | None = None,
    tokenizer: Any = None,
    domains: str | Sequence[str] | None = None,
    details: bool = False,
    base: bool = False,
    before: Sequence[Mapping[str, str]] = (),
    max_new_tokens: int = MAX_BASE_TOKENS,
) -> Answer:
    """Return the answer to a question.

    Args:
        registry: the store's.
        model, tokenizer: as `load` returns them; default: the live snapshot's.
        domains: only what these (or this one) learned.
        details: what experts remember, too.
        base: where nothing is known, let the base answer in its own words.
        before: of a chat, its earlier messages, each with "role" and "content": what the base reads
            where it answers. What was learned is found by the question alone.
        max_new_tokens: of the base's own words.

    Raises:
        InputError: for an empty question, or one longer than the base's context.
        UnknownError: for an unknown domain. StateError: for one that is not active.
    """
    question = composed_text(" ".join(question.split()))
    if not question:
        raise InputError('the question is empty; ask something: peer-cl ask "Who founded Kiel?"')
    for name in () if domains is None else pool_names(domains):
        registry.queries.check_active(name)
    if model is None or tokenizer is None:
        model, tokenizer = load(registry)
    prompt_BT = torch.tensor([question_ids(tokenizer, question)[0]])
    check_text(model.base, prompt_BT, num_new=ANSWER_LENGTHS[-1])
    asker = Asker(registry, model, tokenizer)
    found = asker.find(question, model.active_pools if domains is None else pool_names(domains))
    best, calibration = next(iter(found), None), asker.calibration or asker.usual
    is_known = best is not None and best.probability >= calibration.threshold
    kind: Kind = NOT_KNOWN
    text: str = NOT_KNOWN
    own = short = memory = probability = None
    if best is not None and is_known:
        short, stands_alone = asker.short(question, best)
        kind, text = "known", short if short and stands_alone else quoted(best.unit.text)
        memory = asker.memory(question, best) if details else None
    elif base:
        own = asker.own(question, before, max_new_tokens)
        kind, text = "base", own
    if best is not None and asker.calibration is not None and kind != "base":
        probability = best.probability
    return Answer(
        question=question,
        kind=kind,
        text=text,
        probability=probability,
        sources=tuple(asker.source(one) for one in found[:NUM_NEAREST]),
        short=short,
        memory=memory,
        base=own,
    )


def finds_first(
    registry: Registry, question: str, model: PeerModel, tokenizer: Any, domain: str
) -> str | None:
    """Return the id of the document whose unit answers a question most probably; None for none."""
    found = Asker(registry, model, tokenizer).find(question, [domain])
    return found[0].unit.document_id if found else None


class Asker:
    """Asks a model of a store."""

    def __init__(self, registry: Registry, model: PeerModel, tokenizer: Any) -> None:
        self.registry, self.model, self.tokenizer = registry, model, tokenizer
        self.reader = reader_of(model, tokenizer)
        self.name = calibration_name(registry.config.encoder, has_reader=self.reader is not None)
        self.calibration = calibration_of(registry, self.name)
        self.usual = shipped()[calibration_name(MPNET, has_reader=self.reader is not None)]
        """Of the default encoder, for one that has none."""

    def indexes(self, domains: Sequence[str]) -> list[UnitIndex]:
        """Return the units of some domains."""
        pools = [(name, self.model.items(name)) for name in domains]
        return [unit_index(name, items, self.terms) for name, items in pools if items is not None]

    @property
    def terms(self) -> Terms:
        """What words tell, by background text."""
        return cast(Terms, cast(Background, self.model.background).terms)

    def question(self, text: str) -> Question:
        """Return a question as it is compared with units."""
        return Question(text, self.registry.config.encoder, self.terms, self.tokenizer)

    def find(self, question: str, domains: Sequence[str]) -> list[Found]:
        """Return the units of some domains that answer a question, the best first."""
        indexes = self.indexes(domains)
        if not indexes:
            return []
        asked = self.question(question)
        measured = [pair for index in indexes for pair in index.measured(asked)]
        return find(question, measured, self.calibration or self.usual, self.reader)

    def short(self, question: str, best: Found) -> tuple[str | None, bool]:
        """Return the short answer to a question, and whether it may stand for the sentence."""
        if self.has_studied(question, best) and (said := self.memory(question, best)):
            return said, True
        if self.reader is None:
            return None, False
        read = self.reader.answer(question, best.unit.title, best.unit.text)
        return read.text, bool(read.text) and math.exp(read.log_prob) >= LEAST_SHORT

    def has_studied(self, question: str, best: Found) -> bool:
        """Return whether the item of a unit learned this question, in these words."""
        items = cast(ItemIndex, self.model.items(best.unit.domain))
        learned = (asked for asked, _, _ in items.items[best.unit.item].questions)
        return plain_words(question) in map(plain_words, learned)

    def memory(self, question: str, best: Found) -> str | None:
        """Return what the experts of a unit's item answer; None where it has none."""
        unit = best.unit
        if not cast(ItemIndex, self.model.items(unit.domain)).has_experts(unit.item):
            return None
        ids = question_ids(self.tokenizer, question)[0]
        items_BT = torch.full((1, len(ids)), NO_ITEM)
        items_BT[:, -1] = unit.item
        text = self._written(unit.domain, ids, ANSWER_LENGTHS[-1], items_BT, stop_strings=["\n"])
        return text.split("\n")[0].strip()

    def own(self, question: str, before: Sequence[Mapping[str, str]], most: int) -> str:
        """Return what the base says of its own, through its chat template where it has one."""
        ids = chat_ids(self.tokenizer, [*before, {"role": "user", "content": question}])
        stop = {}
        if ids is None:
            ids, stop = question_ids(self.tokenizer, question)[0], {"stop_strings": ["\n"]}
        check_text(self.model.base, torch.tensor([ids]), num_new=most)
        return self._written(None, ids, most, None, **stop).strip()

    @torch.no_grad()
    def _written(
        self,
        domain: str | None,
        ids: Sequence[int],
        most: int,
        items_BT: torch.Tensor | None,
        **how: Any,
    ) -> str:
        ids_BT = torch.tensor([ids], device=self.model.hooks.device)
        written = write_branches(
            self.model,
            (domain,),
            torch.tensor([0]),
            ids_BT,
            torch.ones_like(ids_BT),
            {} if domain is None or items_BT is None else {domain: items_BT},
            {
                "max_new_tokens": most,
                "do_sample": False,
                "num_beams": 1,
                "repetition_penalty": 1.0,
                "pad_token_id": self.tokenizer.eos_token_id,
                "tokenizer": self.tokenizer,
                **how,
            },
        )
        return str(self.tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True))

    def source(self, one: Found) -> Source:
        """Return a unit as it is shown."""
        unit = one.unit
        document = self.registry.queries.places(unit.document_id)[-1].document
        return Source(
            domain=unit.domain,
            document_id=unit.document_id,
            title=document.title,
            source=document.source,
            sentence=quoted(unit.text),
            probability=one.probability,
            is_passage=unit.is_passage,
        )


def quoted(sentence: str) -> str:
    """Return a unit as it is quoted: at most `MAX_QUOTED_WORDS` of its words."""
    words = sentence.split()
    if len(words) <= MAX_QUOTED_WORDS:
        return sentence
    return f"{' '.join(words[:MAX_QUOTED_WORDS])} ..."


_READERS: WeakKeyDictionary[PeerModel, UnitReader] = WeakKeyDictionary()


def reader_of(model: PeerModel, tokenizer: Any) -> UnitReader | None:
    """Return the reader of a model's base, loaded once; None where there is none for it."""
    if model not in _READERS and (found := load_reader(model, tokenizer)) is not None:
        _READERS[model] = found
    return _READERS.get(model)


def calibration_of(registry: Registry, name: str) -> Calibration | None:
    """Return the calibration of this name: the store's own, else the project's; None for none."""
    own = registry.queries.live().calibration
    return Calibration.from_json(own) if own and own["name"] == name else shipped().get(name)
