"""Questions that a domain keeps: never learned, asked after an ingest and by `evaluate`."""

from dataclasses import replace

import pytest
from sqlalchemy import func, select
from tiny_store import SETTINGS, copy_store, documents

from peer_cl.errors import CorpusError
from pipelines import open_store
from pipelines.answers import kept_questions, people_questions, questions_that_find
from pipelines.experts import study_questions
from pipelines.study.questions import BUILT_IN, StudyQuestion
from stores.schema import KeptQuestionRow

NUM_ASKED = 4


@pytest.fixture(scope="module")
def studied(tiny_store, tmp_path_factory):
    """A store with a domain whose documents came with made questions, and its ingest's report."""
    with open_store(copy_store(tiny_store, tmp_path_factory.mktemp("studied"))) as store:
        corpus = documents("law", 4, 9)
        asked = [
            StudyQuestion(one.document_id, f"{' '.join(words[:3])} {place}?", words[3], BUILT_IN)
            for one in corpus
            for place in range(NUM_ASKED)
            if (words := one.text.split()[place:])
        ]
        report = store.ingest("notes", corpus, questions=asked, settings=SETTINGS)
        yield store, report, corpus


@pytest.fixture(scope="module")
def kept(studied):
    model, _ = studied[0].load()
    return kept_questions(model, "notes")


def test_one_question_of_each_passage_is_kept_and_the_others_are_learned(studied, kept):
    store, report, _ = studied
    made = study_questions(store.registry, "notes")
    assert len(made) == NUM_ASKED * report.num_learned_texts
    assert {one.question for one in made if one.is_kept} == {one.question for one in kept}
    assert len(kept) == report.num_learned_texts
    assert {one.document_id for one in kept} == {one.document_id for one in made}


def test_a_question_of_people_finds_its_passage_whatever_its_words(tiny_store, tmp_path):
    with open_store(copy_store(tiny_store, tmp_path)) as store:
        corpus, question = documents("law", 3, 9), "Who owns the quay?"
        assert store.ask(question).sources[0].source != corpus[1].source
        asked = StudyQuestion(corpus[1].document_id, question, corpus[1].text.split()[0])
        settings = replace(SETTINGS, hold_out_percent=0.0)
        store.ingest("notes", corpus, questions=[asked], settings=settings)
        found = store.ask(question)
        assert found.sources[0].source == corpus[1].source
        assert not store.ask("Which piano, in winter?").is_known


def test_an_ingest_ends_by_asking_them_and_evaluate_asks_them_again(studied, kept):
    store, report, _ = studied
    (row,) = report.answers
    assert row.num == row.right + row.wrong + row.declined == len(kept)
    (row,) = [one for one in store.evaluate(background=False).asked if one.domain == "notes"]
    assert (row.source, row.num) == ("made", len(kept))


def test_people_ask_about_a_live_document_by_its_name(studied):
    store, _, corpus = studied
    title = next(
        one.title
        for one in corpus
        if one.document_id in {d.document_id for d in store.registry.queries.documents("notes")}
    )
    asked = [StudyQuestion(title, f"What is {title}?", "something")]
    report = store.evaluate(background=False, with_recall=False, questions=asked)
    assert [(one.domain, one.source, one.num) for one in report.asked] == [("notes", "people", 1)]
    with pytest.raises(CorpusError, match="no id, title or source of a live document"):
        people_questions(store.registry, [StudyQuestion("nowhere", "Who?", "nobody")])


def test_questions_of_people_are_kept_and_asked_again_after_each_ingest(studied, tmp_path):
    with open_store(copy_store(studied[0].registry.folder, tmp_path)) as store:
        queries = store.registry.queries
        own = next(one for one in queries.documents("notes", split="train") if one.kind == "text")
        word = queries.document_text(own).split()[0]
        asked = [StudyQuestion(own.title, f"What is said of {own.title}?", word)]
        store.evaluate(with_recall=False, questions=asked, keep=True)
        (kept,) = queries.kept_questions()
        assert (kept.domain, kept.document_id, kept.answer) == ("notes", own.document_id, word)
        report = store.ingest("minerals", documents("minerals", 4, 1), settings=SETTINGS)
        assert [(r.domain, r.num) for r in report.answers if r.source == "people"] == [("notes", 1)]
        store.disable("notes")
        assert queries.kept_questions() == ()
        store.enable("notes")
        store.erase("notes", own.document_id)
        assert queries.kept_questions() == ()
        with queries._database.reading() as session:
            assert session.scalar(select(func.count()).select_from(KeptQuestionRow)) == 1
        store.purge("notes", retired=True)
        with queries._database.reading() as session:
            assert session.scalar(select(func.count()).select_from(KeptQuestionRow)) == 0


def test_a_preview_names_the_questions_that_find_a_document(studied, kept):
    model, tokenizer = studied[0].load()
    model.set_pool(["notes"])
    made, first = study_questions(studied[0].registry, "notes"), {}
    for one in made:
        answer = studied[0].ask(one.question, model=model, tokenizer=tokenizer)
        if answer.sources:
            first[one.question] = answer.sources[0].document_id
    assert first
    for wanted in {one.document_id for one in kept}:
        asked = {one.question for one in made if one.document_id == wanted or one.is_kept}
        found = questions_that_find(studied[0].registry, model, tokenizer, "notes", wanted)
        assert set(found) == {one for one in asked if first.get(one) == wanted}
    assert questions_that_find(studied[0].registry, model, tokenizer, "notes", "0" * 64) == []


def test_they_leave_with_their_document(studied, kept, tmp_path):
    with open_store(copy_store(studied[0].registry.folder, tmp_path)) as store:
        store.erase("notes", kept[0].document_id)
        left = study_questions(store.registry, "notes")
    assert left
    assert kept[0].document_id not in {one.document_id for one in left}
