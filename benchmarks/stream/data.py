"""A domain of the stream as token ids: what is scored and asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.corpora import StreamDomain
from benchmarks.corpora.frozen import document_key, question_key, text_key
from benchmarks.corpora.questions import asked_once
from benchmarks.efficiency import blocks
from benchmarks.prompts import BACKGROUND_DOCUMENTS, BACKGROUND_TOKENS
from benchmarks.stream.raw import BaseScores
from peer_cl.bases import Base
from peer_cl.errors import StateError
from pipelines import demo_corpora
from pipelines.background import load_background
from pipelines.batches import tokenise
from pipelines.corpora import SourceDocument
from pipelines.facts import Fact
from pipelines.recall import Question, questions
from pipelines.scoring import MAX_TOKENS

Texts = dict[str, dict[str, tuple[int, ...]]]
"""Token ids, the start token first, by group (KIND/NAME) and key."""


@dataclass(frozen=True)
class Prepared:
    """A domain as token ids."""

    name: str
    documents: tuple[SourceDocument, ...]
    facts: tuple[Fact, ...]
    """Without paraphrases: no training reads what is asked."""
    test: dict[str, tuple[int, ...]]
    """The scored test documents by key."""
    questions: dict[str, Question]
    """By key; each fact in its taught wording and in one paraphrase."""
    asked: dict[str, Fact]
    """The fact that each of them asks for, by key."""
    facts_asked: tuple[Fact, ...]
    """With every paraphrase."""


def prepare_domain(domain: StreamDomain, base: Base) -> Prepared:
    """Return a domain's facts, test documents and questions."""
    facts = tuple(replace(fact, paraphrase_prompts=()) for fact in domain.facts)
    by_key = {document_key(document): document for document in domain.documents}
    texts = [by_key[key].text for key in domain.scored]
    ids = [tuple(row[:MAX_TOKENS]) for row in tokenise(base.tokenizer, texts)]
    asked = asked_once(domain.facts)
    prompts = [(fact.taught_prompt, fact.answer) for fact in asked]
    prompts += [(prompt, fact.answer) for fact in asked for prompt in fact.paraphrase_prompts]
    found = questions(base.tokenizer, domain.name, asked)
    return Prepared(
        name=domain.name,
        documents=domain.documents,
        facts=facts,
        test=dict(zip(domain.scored, ids, strict=True)),
        questions={question_key(*two): one for two, one in zip(prompts, found, strict=True)},
        asked={
            question_key(prompt, fact.answer): fact
            for fact in asked
            for prompt in (fact.taught_prompt, *fact.paraphrase_prompts)
        },
        facts_asked=domain.facts,
    )


def read_texts(domains: Sequence[Prepared], tokenizer: Any) -> Texts:
    """Return what every method reads: test documents, blocks of them, and background text.

    Sources of background that are a domain of the stream are left out. Entries of the Human
    Phenotype Ontology, which are no domain here, are near to diseases.
    """
    found: Texts = {f"test/{one.name}": one.test for one in domains}
    for one in domains:
        rows = blocks(list(one.test.values()), tokenizer)
        keys = [text_key(tokenizer.decode(list(ids[1:]))) for ids in rows]
        found[f"blocks128/{one.name}"] = dict(zip(keys, rows, strict=True))
    names = {one.name for one in domains} | {"elements"}  # minerals has these
    sources = [source for source in load_background("test") if source.name not in names]
    background = {f"{source.kind}/{source.name}": source.documents for source in sources}
    phenotypes = demo_corpora.load("medicine").documents
    background["near-domain/phenotypes"] = [document.text for document in phenotypes]
    for group, documents in background.items():
        texts = documents[:BACKGROUND_DOCUMENTS]
        found[group] = {
            document_key(SourceDocument(text, "", "")): tuple(ids[: BACKGROUND_TOKENS + 1])
            for text, ids in zip(texts, tokenise(tokenizer, texts), strict=True)
        }
    return found


def check_as_committed(base: BaseScores, domains: Sequence[Prepared], texts: Texts) -> None:
    """Refuse to measure on other texts or questions than the committed scores are of."""
    kept = {f"texts of {group}": keys for group, keys in base.texts.items()}
    found = {f"texts of {group}": list(own) for group, own in texts.items()}
    for one in domains:
        what = f"questions about {one.name}"
        kept[what] = [key for keys in base.questions[one.name].values() for key in keys]
        found[what] = list(one.questions)
    for what, keys in found.items():
        if keys != kept[what]:
            raise StateError(
                f"the {what} are not those of docs/results/raw/base.json.zst: look at what changed "
                "in benchmarks/corpora, in benchmarks/questions or in the tokenizer"
            )
