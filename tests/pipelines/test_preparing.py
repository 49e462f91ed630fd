"""How a corpus is divided on a chain: alike for an ingest and for an exact erasure."""

import json

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from pipelines.corpora import read_corpus
from pipelines.preparing import Chain, prepare, read_chain

SETTINGS = tiny_settings()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("prepared"), domains=())


def export(folder, rows):
    """Write (id, text) rows into a file that is always called alike, and return it."""
    folder.mkdir()
    lines = [json.dumps({"id": identity, "text": text}) for identity, text in rows]
    (folder / "export.jsonl").write_text("\n".join(lines))
    return folder / "export.jsonl"


def test_files_of_one_name_in_two_ingests_have_nothing_in_common(store, tmp_path):
    registry = store.registry
    for quarter, subject in (("q1", "law"), ("q2", "medicine")):
        rows = list(enumerate(sentences(subject, 20, num_words=30)))
        store.ingest("exp", export(tmp_path / quarter, rows), settings=SETTINGS)
    held = next(d for d in registry.documents("exp", split="test") if "#" in str(d.section_of))
    identity = held.section_of.split("#")[1]
    news = [(identity, sentences("minerals", 1, num_words=30)[0])]
    report = store.ingest("exp", export(tmp_path / "q5", news), settings=SETTINGS)
    assert report.num_documents == {"train": 1}
    groups = {d.near_group for d in registry.documents("exp")}
    assert len(groups) == 41, "each text is a group of its own"


def test_a_chain_that_is_read_divides_as_one_that_was_grown(store, tmp_path):
    model, tokenizer = store.load_base()
    model.detach()
    base = type("Loaded", (), {"tokenizer": tokenizer, "identity": model.identity})
    chain, registry = Chain("exp", None), store.registry
    for subject in ("law", "medicine"):
        texts = sentences(subject, 12, num_words=30)
        rows = [(number % 4, text) for number, text in enumerate(texts)]
        corpus = export(tmp_path / subject, rows)
        documents = read_corpus(corpus).documents
        state = registry.live().state("exp")
        rows = registry.chain(state.version) if state is not None else ()
        read = prepare(read_chain(registry, "exp", rows, base), documents, (), base)
        learned = prepare(chain, documents, (), base)
        assert (learned.splits, learned.near_groups) == (read.splits, read.near_groups)
        assert len(set(learned.near_groups.values())) == 4
        chain = chain.holding(learned)
        store.ingest("exp", corpus, settings=SETTINGS)
        stored = {d.document_id: d.split for d in registry.documents("exp")}
        assert learned.splits.items() <= stored.items()
