"""A job that learns documents in other words too, from a file that was uploaded with them."""

import json
import os

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings, write_corpus

from peer_cl.errors import CorpusError
from pipelines import jobs, open_store, run_job
from pipelines.corpora import read_corpus
from pipelines.jobs import start_ingest
from pipelines.previewing import preview
from pipelines.probes import holds_rewordings
from pipelines.telling import Teller
from pipelines.uploads import Upload


@pytest.fixture
def store(tmp_path):
    with open_store(make_tiny_store(tmp_path, domains=("law",)), who="ann") as opened:
        yield opened


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "medicine.jsonl", "medicine")


def texts_of(corpus):
    return [document.text for document in read_corpus(corpus).documents]


def reworded(texts):
    """Return an upload of rewordings, whose last line cannot be read."""
    said = [{"text": text, "rewordings": [f"Differently put: {text}"]} for text in texts]
    return Upload("said.jsonl", "\n".join([*map(json.dumps, said), "[1]"]).encode())


def test_a_job_learns_them_and_its_upload_goes(store, corpus, monkeypatch):
    monkeypatch.setattr(jobs, "_spawn", lambda *_: os.getpid())
    layout, texts = store.registry.layout, texts_of(corpus)
    given = {"rewordings": reworded(texts), "settings": tiny_settings()}
    found = preview(store, "medicine", corpus, **given)
    job = start_ingest(store, "medicine", corpus, **given, on_bad_row="skip", evaluate=False)
    assert [path.name for path in layout.staging.glob("upload-*")]
    assert "Differently" not in str(job.request), "no word of it is in the job"
    with Teller(store.registry, job.id) as teller:
        outcome = run_job.attempt(store, job, teller)
    assert (outcome.state, outcome.error) == ("done", None)
    assert "1 malformed row skipped" in outcome.note
    kept = [one for one in store.registry.documents("medicine") if holds_rewordings(one)]
    learned = store.registry.documents("medicine", split="train")
    assert len(kept) == len(texts)
    assert found.num_reworded == found.num_to_learn == len(learned)
    assert (found.num_skipped, found.problems[0][:13]) == (1, "said.jsonl:41")
    store.registry.jobs.end(job.id, outcome.state)
    jobs.drop_uploads(store.registry, job)
    assert not [path.name for path in layout.staging.glob("upload-*")]


def test_a_preview_counts_them_in_its_time_and_refuses_those_of_other_texts(store, corpus):
    plain = preview(store, "medicine", corpus)
    said = preview(store, "medicine", corpus, rewordings=reworded(texts_of(corpus)))
    assert (plain.num_reworded, plain.num_tokens) == (0, said.num_tokens)
    assert said.seconds > plain.seconds
    with pytest.raises(CorpusError, match="none of the 3 documents with rewordings is new"):
        preview(store, "medicine", corpus, rewordings=reworded(sentences("minerals", 3)))
