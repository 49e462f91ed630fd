"""Asking: what a question finds, who answers, and where the answer stands."""

from dataclasses import replace

import pytest
from tiny_base import SUBJECTS
from tiny_store import SETTINGS, documents

from peer_cl.errors import InputError, StateError, UnknownError
from peer_cl.questions import THRESHOLD
from pipelines.ask import checked_way, nearest_sentence
from pipelines.study.questions import StudyQuestion, stands


@pytest.fixture(scope="module")
def opened(measured):
    store, _ = measured
    model, tokenizer = store.load()
    return store, {"model": model, "tokenizer": tokenizer}


@pytest.fixture(scope="module")
def learned(opened):
    """A learned document of law, and a question in words of its own."""
    store, _ = opened
    queries = store.registry.queries
    document = next(
        one
        for one in queries.documents("law", queries.live().state("law").version)
        if one.kind == "text" and one.split == "train"
    )
    text = queries.document_text(document)
    return document, text


def test_a_question_finds_the_passage_that_it_asks_about(opened, learned):
    store, given = opened
    document, text = learned
    found = store.ask(text, **given)
    assert found.is_found
    assert found.domain == "law"
    near = {one.document_id: one for one in found.sources}[document.document_id]
    assert near.source == document.source
    assert near.sentence in text
    assert 0 <= found.probability <= 1


@pytest.mark.parametrize("way", ["reading", "both"])
def test_an_answer_is_words_of_its_first_source_that_the_question_does_not_say(
    opened, learned, way
):
    store, given = opened
    found = store.ask(learned[1].split(".")[0], way=way, **given)
    assert found.way == way
    assert stands(found.text, found.sources[0].sentence)
    assert not set(found.text.casefold().split()) <= set(found.question.casefold().split())
    assert found.sources[0].source in found.stands_in


@pytest.mark.parametrize("strict", [False, True])
def test_where_nothing_is_found_the_base_answers_or_nobody(opened, strict):
    store, given = opened
    found = store.ask("zebra quay voyage", strict=strict, **given)
    assert (found.is_found, found.sources, found.stands_in, found.way) == (False, (), (), "base")
    assert (found.text is None) == strict
    assert found.text == found.base
    scores = [one.score for one in found.nearest]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert max(scores) < THRESHOLD


def test_a_named_domain_gives_its_best_passage_whatever_its_score(opened):
    store, given = opened
    found = store.ask("zebra quay voyage", domains="law", **given)
    assert found.domain == "law"
    assert {one.domain for one in found.sources} == {"law"}
    assert found.nearest == ()


def test_memory_alone_is_told_apart(opened, learned):
    store, given = opened
    alone = store.ask(learned[1], way="memory", **given)
    both = store.ask(learned[1], way="both", compare=True, **given)
    assert (alone.way, both.way) == ("memory", "both")
    assert alone.text == alone.memory == both.memory
    assert (alone.base, both.base is None) == (None, False)


def test_a_passage_without_experts_of_its_own_is_found_and_read(store):
    settings = replace(SETTINGS, passage_readings=0, hold_out_percent=0)
    texts = documents("minerals", 4, 1)
    first = texts[0]
    own = StudyQuestion(first.document_id, "Who is it?", first.text.split()[-1])
    store.ingest("minerals", texts, questions=[own], settings=settings)
    for way in ("both", "memory"):
        for question in (first.text, own.question):
            found = store.ask(question, way=way)
            assert (found.domain, found.way, found.memory) == ("minerals", "reading", None)
            assert first.document_id in {one.document_id for one in found.sources}
            assert stands(found.text, found.sources[0].sentence)
    items = store.experts("minerals").report().items
    owned = [(one.nearest, one.promotes, one.owned.num_experts) for one in items]
    assert owned == [(None, [], 0)] * 4
    assert store.verify().is_good


def test_what_cannot_be_asked_is_refused(opened):
    store, given = opened
    with pytest.raises(InputError, match="the question is empty"):
        store.ask(" \n", **given)
    with pytest.raises(InputError, match="the base's context is"):
        store.ask("word " * 3000, **given)
    with pytest.raises(UnknownError, match="nobody"):
        store.ask("Who?", domains="nobody", **given)
    with pytest.raises(InputError, match="way must be one of memory, reading, both, not 'luck'"):
        checked_way("luck")


def test_a_disabled_domain_answers_nothing(store):
    store.disable("law")
    found = store.ask(SUBJECTS["law"])
    assert found.domain != "law"
    with pytest.raises(StateError, match="law"):
        store.ask(SUBJECTS["law"], domains="law")


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [("marie curie", True), ("1898.", True), ("curie in", True), ("uri", False), ("", False)],
)
def test_an_answer_stands_in_a_text_word_for_word(answer, is_there):
    assert stands(answer, "Polonium was found by Marie\nCurie in 1898.") == is_there


def test_the_sentence_that_is_shown_holds_the_answer():
    text = "The tower burns at night. Its keeper is Ann. The keeper of the tower sleeps."
    question = "Who is the keeper of the tower?"
    assert nearest_sentence(text, "", question, "Ann") == "Its keeper is Ann."
    assert nearest_sentence(text, "", "When are there flames?", "").startswith("The tower burns")
