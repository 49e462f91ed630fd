"""What is asked about facts: written as they were learned, and kept as it came with them."""

import dataclasses

import pytest
from tiny_base import background, make_tiny_base, make_tiny_store, sentences, tiny_settings
from transformers import AutoTokenizer

from peer_cl.errors import CorpusError
from pipelines import init_store
from pipelines.documents import SourceDocument
from pipelines.facts import Relation
from pipelines.probes import holds_fact
from pipelines.questions import questions, read_fact

SETTINGS = tiny_settings()
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))
FACTS = [OWNER.fact(f"house {n}", word) for n, word in enumerate(("rent", "court", "tenant"))]
LONG = dataclasses.replace(
    OWNER.fact("house 9", "rent"), reworded_prompts=("Whose is house 9? " * 100 + "It is of",)
)


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


def test_a_question_that_the_base_cannot_read_is_refused_before_anything_is_trained(store):
    before = store.registry.live()
    told = r"facts\[3\] about 'house 9' asks 'Whose is house 9\?.*has \d+ tokens .* reads 512: give"
    with pytest.raises(CorpusError, match=told):
        store.ingest("law", sentences_of("law"), facts=[*FACTS, LONG], settings=SETTINGS)
    assert store.registry.live() == before


def test_a_kept_question_that_the_base_cannot_read_is_passed_over_and_counted(
    tmp_path, monkeypatch
):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_base(tmp_path / "any"))
    context = max(len(one.ids) for one in questions(tokenizer, "law", FACTS))
    base = make_tiny_base(tmp_path / "base", context=context)
    with init_store(tmp_path / "knowledge", base=str(base), background=background()) as store:
        with monkeypatch.context() as older:  # stores of before may hold such a question
            older.setattr("pipelines.ingest.check_questions", lambda *_: None)
            store.ingest("law", sentences_of("law"), facts=[*FACTS, LONG], settings=SETTINGS)
        report = store.evaluate(background=False)
    assert report["too_long_questions"] == {"law": 1}
    assert [row["wording"] for row in report["recall"]] == ["seen", "reworded"]
