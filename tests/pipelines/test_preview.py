"""What an ingest would find, before anything is learned."""

from dataclasses import replace

from tiny_store import FACTS, SETTINGS, documents

from pipelines.corpora import read_corpus
from pipelines.preview import preview


def look(store, domain, corpus, facts=(), settings=SETTINGS):
    return preview(store.registry, domain, read_corpus(corpus), facts, settings)


def test_a_preview_counts_what_is_new_and_what_is_left_out(store):
    rows = [{"text": text} for text in ("Quartz is hard.", "Quartz is hard.", "Mica is soft.")]
    found = look(store, "minerals", rows, FACTS)
    assert (found.num_documents, found.num_new, found.num_copies) == (3, 2, 1)
    assert (found.num_facts, found.num_passages) == (len(FACTS), 2)
    assert [text for _, text in found.samples] == ["Quartz is hard.", "Mica is soft."]
    assert found.num_tokens > 0
    quick = look(store, "minerals", rows, FACTS, replace(SETTINGS, passage_readings=0))
    assert 0 < quick.seconds < found.seconds


def test_what_a_domain_knows_is_not_new(store):
    corpus = documents("law", 8, 9)
    store.ingest("law", corpus, settings=SETTINGS)
    found = look(store, "law", corpus)
    assert (found.num_new, found.num_copies, found.num_tokens, found.samples) == (0, 8, 0, ())


def test_long_documents_have_several_passages_and_three_are_shown(store):
    rows = [{"text": f"{number} " + "the sea is cold " * 400} for number in range(9)]
    found = look(store, "minerals", rows)
    assert found.num_passages > found.num_new == 9
    assert [text[0] for _, text in found.samples] == ["0", "3", "6"]
