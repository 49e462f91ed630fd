"""Asking: what a question finds, what is quoted, and when nothing is known."""

from dataclasses import replace

import pytest
import torch
from tiny_base import SUBJECTS
from tiny_store import FACTS, SETTINGS, copy_store, documents

from peer_cl.errors import InputError, StateError, UnknownError
from peer_cl.own import Item, OwnExperts
from pipelines import open_store
from pipelines.answer import asking
from pipelines.answer.find import Question, unit_index
from pipelines.answer.reader import UnitReader
from pipelines.encoder import MINILM
from pipelines.study.questions import StudyQuestion, stands
from pipelines.units import units_of

NONSENSE = "Do penguins like jazz?"


@pytest.fixture(scope="module")
def opened(measured):
    store, _ = measured
    model, tokenizer = store.load()
    return store, {"model": model, "tokenizer": tokenizer}


@pytest.fixture(scope="module")
def learned(opened):
    """A learned document of law, and its text."""
    store, _ = opened
    queries = store.registry.queries
    document = next(
        one
        for one in queries.documents("law", queries.live().state("law").version)
        if one.kind == "text" and one.split == "train"
    )
    return document, queries.document_text(document)


def test_a_question_is_answered_by_quoting_the_unit_that_answers_it(opened, learned):
    store, given = opened
    document, text = learned
    unit = units_of(text)[0]
    found = store.ask(unit, **given)
    assert found.is_known
    best = found.sources[0]
    assert (best.document_id, best.domain, best.source) == (
        document.document_id,
        "law",
        document.source,
    )
    assert found.text == best.sentence == unit
    assert found.probability == best.probability
    assert found.probability == max(one.probability for one in found.sources)
    assert found.base is None


def test_what_nothing_answers_is_not_known_and_the_nearest_are_shown(opened):
    store, given = opened
    found = store.ask(NONSENSE, **given)
    assert (found.kind, found.text, found.short, found.base) == (
        "not known",
        "not known",
        None,
        None,
    )
    assert 1 <= len(found.sources) <= 3
    assert found.probability == found.sources[0].probability < asking.LIKELY


def test_the_base_speaks_only_where_nothing_is_known_and_it_is_asked_for(opened, learned):
    store, given = opened
    found = store.ask(NONSENSE, base=True, **given)
    assert (found.kind, found.text, found.probability) == ("base", found.base, None)
    assert store.ask(units_of(learned[1])[0], base=True, **given).kind == "known"


def test_another_domain_changes_neither_what_is_measured_nor_the_probability(tiny_store, tmp_path):
    """Each feature is a function of the question, background and the unit with its passage."""
    with open_store(copy_store(tiny_store, tmp_path)) as store:

        def measured():
            model, tokenizer = store.load()
            terms = model.background.terms
            question = Question("Who pays the rent of the house?", MINILM, terms, tokenizer)
            index = unit_index("law", model.items("law"), terms)
            answer = store.ask(question.text, domains="law", model=model, tokenizer=tokenizer)
            return index.measured(question), [one.probability for one in answer.sources]

        before = measured()
        store.ingest("minerals", documents("minerals", 6, 3), settings=SETTINGS)
        assert measured() == before


def test_a_question_in_the_words_that_were_learned_is_answered_by_memory(store):
    settings = replace(SETTINGS, hold_out_percent=0)
    texts = documents("minerals", 3, 1)
    word = texts[1].text.split()[-1].strip(".")
    own = StudyQuestion(texts[1].document_id, "Who keeps the tower?", word)
    store.ingest("minerals", texts, questions=[own], settings=settings)
    found = store.ask("who keeps the TOWER", details=True)
    assert found.is_known
    assert found.sources[0].document_id == texts[1].document_id
    assert found.short == found.memory == found.text
    assert stands(word, found.sources[0].sentence)


def test_a_fact_is_found_by_its_subject_whatever_the_words_of_its_relation(store):
    settings = replace(SETTINGS, hold_out_percent=0)
    store.ingest("houses", documents("law", 3, 9), facts=FACTS, settings=settings)
    found = store.ask("Which one has house 1 in hand?", domains="houses")
    assert found.sources[0].sentence.startswith("The owner of house 1 is")
    assert not found.sources[0].is_passage


def test_a_passage_without_experts_of_its_own_is_found_and_quoted(store):
    settings = replace(SETTINGS, passage_readings=0, hold_out_percent=0)
    texts = documents("minerals", 4, 1)
    store.ingest("minerals", texts, settings=settings)
    found = store.ask(units_of(texts[0].text)[0], details=True)
    assert found.is_known
    assert (found.sources[0].document_id, found.memory) == (texts[0].document_id, None)
    items = store.experts("minerals").report().items
    owned = [(one.nearest, one.promotes, one.owned.num_experts) for one in items]
    assert owned == [(None, [], 0)] * 4
    assert store.verify().is_good


def test_where_the_reader_is_unsure_the_sentence_is_the_answer(opened, learned, monkeypatch):
    """A reader of random experts: what it reads is shown only where it is likely enough."""
    store, given = opened
    base = given["model"].base
    generator = torch.Generator().manual_seed(0)
    shape = (1, base.config.num_hidden_layers, 4, base.config.hidden_size)
    weights = tuple(torch.randn(shape, generator=generator) / 8 for _ in range(2))
    experts = OwnExperts(
        [Item("reader")],
        torch.empty(1, 0, 0),
        host_layers=range(shape[1]),
        width=shape[3],
        num_experts=4,
        weights=weights,
    )
    reader = UnitReader(given["model"].hooks, given["tokenizer"], experts)
    monkeypatch.setattr(asking, "reader_of", lambda *_: reader)
    question = units_of(learned[1])[0]
    unit = (learned[0].title, question)
    read = reader.answer(question, *unit)
    odds = reader.relevance(question, [unit, ("", "Penguins sing.")])
    assert reader.relevance(question, [("", "Penguins sing."), unit]) == odds[::-1]
    for least, is_short in ((0.0, bool(read.text)), (1.1, False)):
        monkeypatch.setattr(asking, "LEAST_SHORT", least)
        found = store.ask(question, **given)
        if found.is_known:
            assert found.short == read.text
            assert found.text == (read.text if is_short else found.sources[0].sentence)


def test_an_encoder_without_calibration_shows_no_probability(opened, learned, monkeypatch):
    store, given = opened
    monkeypatch.setattr(asking, "calibration_of", lambda *_: None)
    found = store.ask(units_of(learned[1])[0], **given)
    assert found.probability is None
    assert (found.kind, found.word) == ("known", "unsure")
    assert found.sources


def test_what_cannot_be_asked_is_refused(opened):
    store, given = opened
    with pytest.raises(InputError, match="the question is empty"):
        store.ask(" \n", **given)
    with pytest.raises(InputError, match="the base's context is"):
        store.ask("word " * 3000, **given)
    with pytest.raises(UnknownError, match="nobody"):
        store.ask("Who?", domains="nobody", **given)


def test_a_disabled_domain_answers_nothing(store):
    store.disable("law")
    found = store.ask(SUBJECTS["law"])
    assert {one.domain for one in found.sources} == {"medicine"}
    with pytest.raises(StateError, match="law"):
        store.ask(SUBJECTS["law"], domains="law")


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [("marie curie", True), ("1898.", True), ("curie in", True), ("uri", False), ("", False)],
)
def test_an_answer_stands_in_a_text_word_for_word(answer, is_there):
    assert stands(answer, "Polonium was found by Marie\nCurie in 1898.") == is_there


def test_long_units_are_cut_where_they_are_quoted():
    assert asking.quoted("word " * 70).split()[-2:] == ["word", "..."]
    assert len(asking.quoted("word " * 70).split()) == asking.MAX_QUOTED_WORDS + 1
