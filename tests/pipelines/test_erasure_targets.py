"""Which documents a person means who names a source or gives words."""

import sqlite3
import unicodedata

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from peer_cl.errors import StateError, UnknownError
from pipelines import SourceDocument
from pipelines.erasure_targets import find_targets

TEXT = "José owes rent for the café."
FORMS = ("NFC", "NFD")


def documents(form):
    """Return a corpus of which the first document has accents, in one form of writing."""
    text, title, source = (unicodedata.normalize(form, t) for t in (TEXT, "Señor", "Café.txt"))
    rest = [SourceDocument(t, "law", "law.txt") for t in sentences("law", 8)]
    return [SourceDocument(text, title, source, section_of=source), *rest]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("targets"), domains=())


def write_as_before(store):
    """Write titles and sources as stores of before keep them: as they were given."""
    with sqlite3.connect(store.registry.folder / "registry.sqlite") as registry:
        registry.create_function("nfd", 1, lambda text: unicodedata.normalize("NFD", text))
        registry.execute("UPDATE segment_documents SET title = nfd(title), source = nfd(source)")
    registry.close()


@pytest.mark.parametrize("is_old", [False, True], ids=["new store", "old store"])
def test_accents_may_be_written_in_two_ways(store, is_old):
    learned = documents("NFD")
    store.ingest("law", learned, settings=tiny_settings())
    kept = next(d for d in store.registry.documents("law") if d.section_of is not None)
    assert (kept.title, kept.source, kept.section_of) == ("Señor", "Café.txt", "Café.txt")
    if is_old:
        write_as_before(store)
        assert next(d for d in store.registry.documents("law") if d.section_of).title != "Señor"
    for form in FORMS:
        for told in ({"source": "Café.txt"}, {"search": "JOSÉ"}, {"search": "señor"}):
            told = {key: unicodedata.normalize(form, word) for key, word in told.items()}
            (found,) = find_targets(store.registry, **told)
            assert [d.document_id for d in found.documents] == [learned[0].document_id]


def test_a_domain_that_is_out_is_told_how_it_comes_back(store):
    store.ingest("law", documents("NFC"), settings=tiny_settings())
    store.roll_back("law", out=True)
    told = "it was taken out; `peer-cl bring-back law` puts it back, `peer-cl purge law` deletes"
    with pytest.raises(StateError, match=told):
        find_targets(store.registry, source="law.txt", domain="law")


def test_a_jsonl_file_is_the_source_of_all_of_its_lines(store):
    corpus = [
        SourceDocument(text, f"Case {number}", f"law.jsonl:{number}")
        for number, text in enumerate(sentences("law", 8), start=1)
    ]
    other = SourceDocument("The tenant owed no rent.", "Other", "more-law.jsonl:1")
    store.ingest("law", [*corpus, other], settings=tiny_settings())
    (found,) = find_targets(store.registry, source="law.jsonl")
    assert {d.title for d in found.documents} == {d.title for d in corpus}
    (found,) = find_targets(store.registry, source="law.jsonl:3")
    assert [d.title for d in found.documents] == ["Case 3"]
    told = "known: law.jsonl, more-law.jsonl. Did you mean 'law.jsonl'"
    with pytest.raises(UnknownError, match=told):
        find_targets(store.registry, source="law.json")
