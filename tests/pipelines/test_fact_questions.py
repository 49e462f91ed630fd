"""What is asked about facts: written as they were learned, and kept as it came with them."""

import dataclasses

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from peer_cl.errors import CorpusError
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.probes import holds_fact
from pipelines.questions import read_fact

SETTINGS = tiny_settings()
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("questions"), ("law",))


def test_what_is_asked_is_written_as_what_was_learned(store):
    """An accent may be a sign of its own, and is none in what is stored."""
    facts = [OWNER.fact(f"Cafe\u0301 {n}", f"Re\u0301my {n}") for n in range(3)]
    store.ingest("law", sentences_of("law"), facts=facts, settings=SETTINGS)
    composed = OWNER.fact("Caf\u00e9 0", "R\u00e9my 0")
    kept = [
        read_fact(store.registry.document_text(document))
        for document in store.registry.documents("law")
        if holds_fact(document)
    ]
    assert composed in kept
    assert len(kept) == len(facts)


def sentences_of(subject):
    return [SourceDocument(text, "a title", "a source") for text in sentences(subject, 9, seed=6)]


def test_other_questions_about_known_facts_are_counted_and_told(store):
    store.ingest("law", sentences_of("law"), facts=FACTS, settings=SETTINGS)
    asked = [
        dataclasses.replace(fact, reworded_prompts=(f"Whose is {fact.subject}? It is of",))
        for fact in FACTS[:2]
    ]
    with pytest.raises(CorpusError, match=r"nothing new .* questions stay .*2 have others here"):
        store.ingest("law", [], facts=asked, settings=SETTINGS)
    report = store.ingest("law", sentences_of("prose"), facts=asked, settings=SETTINGS)
    assert report.num_other_questions == 2
    again = store.ingest("law", sentences_of("minerals"), facts=FACTS, settings=SETTINGS)
    assert again.num_other_questions == 0
