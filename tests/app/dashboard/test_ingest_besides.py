"""The page Ingest: what is given beside the corpus, and how much is held out."""

import json
import os

import pytest
from pages import fill, is_sound, press
from tiny_base import copy_store, make_tiny_store, sentences, write_corpus

from pipelines.corpora import read_corpus
from stores import Registry


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("besides"), domains=("law",))


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.jobs._spawn", lambda *_: os.getpid())
    return copy_store(made, tmp_path)


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "medicine.jsonl", "medicine")


def write_rewordings(path, texts):
    said = [json.dumps({"text": text, "rewordings": [f"So: {text}"]}) for text in texts]
    path.write_text("\n".join(said), encoding="utf-8")
    return str(path)


def test_rewordings_are_previewed_and_named_in_the_job(run_page, place, corpus, tmp_path):
    said = write_rewordings(
        tmp_path / "said.jsonl", [one.text for one in read_corpus(corpus).documents]
    )
    at = fill(run_page("ingest", place), corpus, "medicine")
    at = press(at.text_input(key="path-Rewordings").set_value(said).run(), "Preview")
    assert is_sound(at)
    assert not at.error
    counted = at.dataframe[0].value.set_index("what")["number"]
    assert counted["of these read in other words too"] == counted["of these learned"] > 0
    at = press(at, "Start learning")
    with Registry.open(place) as registry:
        request = registry.jobs.find(at.query_params["job"]).request
    assert request["rewordings"] == {"path": said}


def test_rewordings_of_other_texts_are_told(run_page, place, corpus, tmp_path):
    said = write_rewordings(tmp_path / "said.jsonl", sentences("minerals", 2))
    at = fill(run_page("ingest", place), corpus, "medicine")
    at = press(at.text_input(key="path-Rewordings").set_value(said).run(), "Preview")
    assert is_sound(at)
    assert "none of the 2 documents with rewordings is new" in at.error[0].value
    assert "Start learning" not in [button.label for button in at.button]


def test_nothing_is_held_out_where_one_says_so(run_page, place, corpus):
    at = fill(run_page("ingest", place), corpus, "medicine")
    share = at.number_input(key="ingest-hold_out_percent")
    assert share.value == 23.0
    at = press(share.set_value(0.0).run(), "Preview")
    assert is_sound(at)
    told = {metric.label: metric.value for metric in at.metric}
    assert (told["Learned"], told["Held out"]) == ("40", "0")
    assert any("A share above 0 can change that" in one.value for one in at.warning)
    at = press(at, "Start learning")
    with Registry.open(place) as registry:
        request = registry.jobs.find(at.query_params["job"]).request
    assert request["settings"]["hold_out_percent"] == 0
    assert not request["evaluate"]
