"""Documents in other words: what is read of a file, what is trained on, and what is kept."""

import json

import pytest
import torch
from tiny_base import (
    copy_store,
    make_tiny_base,
    make_tiny_store,
    sentences,
    store_logits,
    tiny_settings,
)

from peer_cl.bases import load_base
from peer_cl.errors import CorpusError, InputError
from pipelines import open_store
from pipelines.documents import SourceDocument, document_id
from pipelines.facts import Relation
from pipelines.preparing import Chain, prepare
from pipelines.probes import REWORDINGS_SOURCE
from pipelines.rewordings import (
    REWORDED,
    kept_rewordings,
    read_kept,
    read_rewordings,
    reworded_rows,
)
from stores import texts

TEXT = "The court held that the contract was void."
ROW = {"text": TEXT, "rewordings": ["Void was the contract, the court said."]}
OWNER = Relation("owner", "The owner of {subject} is", ("{subject} belongs to",))


def write(path, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_document_is_named_by_its_text_or_by_its_id(tmp_path):
    own = document_id(TEXT)
    other = {"document": own, "rewordings": [" once more\r\n", ROW["rewordings"][0], "  "]}
    found, skipped = read_rewordings(write(tmp_path / "r.jsonl", ROW, "", other))
    assert found == {own: (ROW["rewordings"][0], "once more")}
    assert skipped.num == 0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "is no JSON"),
        ({"text": TEXT}, 'no "rewordings"'),
        ({**ROW, "rewordings": "one"}, 'no "rewordings"'),
        ({**ROW, "rewordings": [1]}, 'no "rewordings"'),
        ({**ROW, "rewordings": ["\ud800"]}, 'half a character .* in "rewordings"'),
        ({"rewordings": ["one"]}, 'neither a "document" of 64 hex digits nor a "text"'),
        ({"text": " ", "rewordings": ["one"]}, "neither"),
        ({"document": "7" * 63, "rewordings": ["one"]}, "neither"),
        ({"document": 7, "text": TEXT, "rewordings": ["one"]}, "neither"),
        ({**ROW, "document": "7" * 64}, 'not that of its "document"'),
        ({**ROW, "text": TEXT + "\0"}, 'a NUL character in "text"'),
        ({**ROW, "text": "\ud800", "document": "7" * 64}, 'half a character .* in "text"'),
    ],
)
def test_a_malformed_line_is_named_or_skipped(tmp_path, row, told):
    path = write(tmp_path / "r.jsonl", ROW, row)
    with pytest.raises(CorpusError, match=f"r.jsonl:2 .*{told}"):
        read_rewordings(path)
    found, skipped = read_rewordings(path, "skip")
    assert (len(found), skipped.num) == (1, 1)


def test_a_rewording_longer_than_a_store_keeps_is_named_or_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "MOST_BYTES", 60)
    path = write(tmp_path / "r.jsonl", ROW, {**ROW, "rewordings": ["short", "x" * 61]})
    with pytest.raises(CorpusError, match=r"r.jsonl:2 has a text of 61 bytes, and the most is 60"):
        read_rewordings(path)
    found, skipped = read_rewordings(path, "skip")
    assert (len(found), skipped.num) == (1, 1)


def test_a_file_without_rewordings_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="cannot read rewordings"):
        read_rewordings(tmp_path / "none.jsonl")
    with pytest.raises(CorpusError, match="has no rewording;"):
        read_rewordings(write(tmp_path / "r.jsonl", {"text": TEXT, "rewordings": [" "]}))


def test_what_is_kept_reads_back():
    document = SourceDocument(TEXT, "a title", "law.txt")
    kept = kept_rewordings(document, ("one", "zwölf"))
    assert (kept.kind, kept.source) == ("probe", REWORDINGS_SOURCE)
    assert read_kept(kept.text) == (document.document_id, ("one", "zwölf"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_base(str(make_tiny_base(tmp_path_factory.mktemp("base") / "base")))


def corpus(num=40):
    return [SourceDocument(text, f"no. {n}", "s") for n, text in enumerate(sentences("law", num))]


def said(documents):
    return {d.document_id: (f"In short: {d.text}", f"Again: {d.text}") for d in documents}


def test_only_texts_that_are_trained_on_are_read_in_other_words(base):
    documents = corpus()
    fact = OWNER.fact("house 1", "rent")
    wordings = said(documents) | {fact.document("").document_id: ("no",), "7" * 64: ("no",)}
    learned = prepare(Chain("law", None), documents, [fact], base, wordings)
    rows = reworded_rows(base.tokenizer, learned, tiny_settings(), base.tokenizer.eos_token_id)
    train = {d.document_id for d in learned.of("train", ("text",))}
    assert 0 < len(train) < len(documents)
    assert {row.document_id for row in rows} == train
    assert len(rows) == 2 * len(train)
    assert {row.kind for row in rows} == {REWORDED}
    texts = {base.tokenizer.decode(row.ids, skip_special_tokens=True) for row in rows}
    assert texts == {text for i in train for text in wordings[i]}
    assert all(row.ids[-1] == base.tokenizer.eos_token_id for row in rows)
    # Those of held-out documents are kept all the same: who is held out may change.
    assert learned.rewordings.keys() == {d.document_id for d in documents}


def test_a_document_keeps_its_side_whether_it_is_reworded_or_not(base):
    documents = corpus()
    near = {d.document_id: (d.text,) for d in documents}
    plain = prepare(Chain("law", None), documents, (), base)
    reworded = prepare(Chain("law", None), documents, (), base, near)
    for field in ("splits", "near_groups"):
        with_them = getattr(reworded, field)
        assert getattr(plain, field).items() <= with_them.items()
        assert len(with_them) == 2 * len(documents)
    assert [d for d in reworded.documents if d.kind != "probe"] == plain.documents


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("made"), domains=("medicine",))


def bits(store):
    return store_logits(store, TEXT)


def test_an_ingest_reads_them_and_counts_them_as_no_documents(store, made, tmp_path):
    documents = corpus()
    report = store.ingest("law", documents, rewordings=said(documents), settings=tiny_settings())
    assert report.num_reworded == report.num_documents["train"]
    assert sum(report.num_documents.values()) == len(documents)
    kept = store.registry.documents("law", kind="probe")
    assert {d.source for d in kept} == {REWORDINGS_SOURCE}
    found = dict(read_kept(store.registry.document_text(d)) for d in kept)
    assert found == said(documents)
    with open_store(copy_store(made, tmp_path / "plain"), who="ann") as plain:
        without = plain.ingest("law", documents, settings=tiny_settings())
        assert (without.num_reworded, without.num_tokens < report.num_tokens) == (0, True)
        assert not torch.equal(bits(plain), bits(store))
    assert store.evaluate(background=False)["recall"] == []
    with pytest.raises(InputError, match=r"holds documents in other words for 'no\. .*erase that"):
        store.erase_masked("law", [kept[0].document_id])


def test_not_reading_them_is_as_if_there_were_none(store, made, tmp_path):
    documents = corpus()
    settings = tiny_settings()
    settings = type(settings)(**{**vars(settings), "reworded_passes": 0.0})
    store.ingest("law", documents, rewordings=said(documents), settings=settings)
    with open_store(copy_store(made, tmp_path / "plain"), who="ann") as plain:
        plain.ingest("law", documents, settings=settings)
        assert torch.equal(bits(plain), bits(store))


def test_rewordings_of_other_documents_are_refused_before_anything_is_trained(store):
    with pytest.raises(CorpusError, match="none of the 1 documents with rewordings is new"):
        store.ingest("law", corpus(), rewordings={"7" * 64: ("one",)}, settings=tiny_settings())
    assert store.registry.live().state("law") is None
