"""Exact erasure: what it takes, what it leaves, what it refuses."""

from dataclasses import replace

import pytest
import torch
from tiny_base import background
from tiny_store import FACTS, SETTINGS, documents, store_logits

from peer_cl.errors import (
    CorpusError,
    FrozenError,
    InputError,
    StateError,
    UnknownError,
    UnsupportedError,
)
from pipelines import init_store
from pipelines.corpora import SourceDocument

TEXT = "The court of appeal held that the fever was void"


def ids_of(store, domain):
    return {one.document_id for one in store.registry.queries.documents(domain)}


def test_a_document_goes_and_the_rest_stays(store):
    queries = store.registry.queries
    store.ingest("law", documents("law", 6, 9), facts=FACTS, settings=SETTINGS)
    before, others = ids_of(store, "law"), queries.live().state("medicine")
    first = queries.chain(queries.live().state("law").version)[0]
    gone = documents("law", 6, 9)[2].document_id
    done = store.erase("law", gone, "asked for")
    assert (done.num_kept, done.num_trained, done.num_dropped) == (1, 1, 0)
    assert done.document_ids == (gone,)
    assert ids_of(store, "law") == before - {gone}
    assert queries.live().state("medicine") == others
    assert queries.chain(done.version)[0] == first
    event = queries.events(1)[0]
    assert (event.action, event.message, event.author) == ("erase", "asked for", "ann")
    assert queries.erased("law").keys() == {gone}
    (run, *_) = queries.runs(1)
    assert (run.kind, run.state, run.snapshot_id) == ("erase", "done", done.snapshot_id)


def test_a_facts_questions_go_with_it(store):
    store.ingest("law", documents("law", 3, 9), facts=FACTS, settings=SETTINGS)
    before = ids_of(store, "law")
    done = store.erase("law", FACTS[1].document_id)
    left = store.registry.queries.documents("law", kind="question")
    assert {one.title for one in left} == {FACTS[0].subject, FACTS[2].subject}
    assert len(ids_of(store, "law")) == len(before) - 2
    assert done.document_ids == (FACTS[1].document_id,)


def test_later_ingests_leave_out_and_report_what_was_erased(store):
    corpus = documents("minerals", 6, 1)
    store.ingest("minerals", corpus, facts=FACTS, settings=SETTINGS)
    gone = {corpus[0].document_id, FACTS[0].document_id}
    for document_id in gone:
        store.erase("minerals", document_id)
    again = [*corpus, *documents("minerals", 3, 2)]
    report = store.ingest("minerals", again, facts=FACTS, settings=SETTINGS)
    assert set(report.erased_ids) == gone
    assert not gone & ids_of(store, "minerals")
    with pytest.raises(CorpusError, match="1 document erased from it before"):
        store.ingest("minerals", corpus[:1], settings=SETTINGS)


def test_near_duplicates_that_stay_are_named(store):
    corpus = documents("minerals", 6, 1)
    near = SourceDocument(corpus[0].text.rsplit(" ", 1)[0], "near", "near.txt")
    settings = replace(SETTINGS, hold_out_percent=0)
    store.ingest("minerals", corpus, settings=settings)
    store.ingest("minerals", [near], settings=settings)
    done = store.erase("minerals", corpus[0].document_id)
    assert done.near_ids == (near.document_id,)
    assert near.document_id in ids_of(store, "minerals")


def test_a_segment_of_which_nothing_is_left_goes(store):
    settings = replace(SETTINGS, hold_out_percent=0)
    before = store_logits(store, TEXT)
    only = documents("law", 1, 9)
    store.ingest("law", only, settings=settings)
    done = store.erase("law", only[0].document_id)
    assert (done.num_kept, done.num_trained, done.num_dropped) == (1, 0, 1)
    assert torch.equal(store_logits(store, TEXT), before)
    store.ingest("minerals", documents("minerals", 1, 1), settings=settings)
    with pytest.raises(StateError, match="nothing of 'minerals' would be left"):
        store.erase("minerals", documents("minerals", 1, 1)[0].document_id)


def test_stated_splits_hold_when_a_segment_is_trained_again(store):
    corpus = [
        replace(one, split="test" if number < 3 else "train")
        for number, one in enumerate(documents("minerals", 8, 1))
    ]
    store.ingest("minerals", corpus, settings=SETTINGS)
    store.erase("minerals", corpus[7].document_id)
    found = store.registry.queries.documents("minerals")
    splits = {one.document_id: one.split for one in found}
    assert splits == {one.document_id: one.split for one in corpus[:7]}


def test_what_cannot_be_erased_is_named(store):
    queries = store.registry.queries
    store.ingest("law", documents("law", 3, 9), facts=FACTS, settings=SETTINGS)
    held = queries.documents("law", kind="text")[0].document_id
    question = queries.documents("law", kind="question")[0].document_id
    live = queries.live()
    with pytest.raises(UnknownError, match="holds no document " + "0" * 64):
        store.erase("law", [held, "0" * 64])
    with pytest.raises(InputError, match="which go with the fact"):
        store.erase("law", question)
    with pytest.raises(InputError, match="no document is named"):
        store.erase("law", [])
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        store.erase("lew", held)
    assert queries.live() == live
    store.freeze("law")
    with pytest.raises(FrozenError, match="'law' is frozen"):
        store.erase("law", held)
    store.disable("law")
    with pytest.raises(StateError, match="'law' is disabled"):
        store.erase("law", held)


def test_settings_of_another_recipe_are_refused_before_any_work(store, monkeypatch):
    held = store.registry.queries.documents("law", split="train")[0].document_id
    monkeypatch.setattr("pipelines.settings.RECIPE", 4)
    with pytest.raises(StateError, match="of recipe 3, this version trains by recipe 4"):
        store.erase("law", held)


def test_without_texts_nothing_can_be_trained_again(store, tmp_path):
    base = store.registry.config.base_id
    with init_store(
        tmp_path / "bare", base=base, background=background(), keep_text=False, author="ann"
    ) as bare:
        report = bare.ingest("law", documents("law", 4, 1), settings=SETTINGS)
        assert report.num_documents["train"]
        (held, *_) = bare.registry.queries.documents("law")
        with pytest.raises(UnsupportedError, match="keeps no texts"):
            bare.erase("law", held.document_id)
