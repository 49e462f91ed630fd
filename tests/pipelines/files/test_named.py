"""Datasets by name: here local folders, since tests reach no hub."""

import json

import pytest
from datasets import Dataset, DatasetDict
from tiny_files import write_files

from peer_cl.errors import CorpusError
from pipelines.corpora import read_corpus


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder with two splits of articles, as the hub has them."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {
        side: [{"article": f"{side} {n}", "id": f"{side}{n}"} for n in range(3)]
        for side in ("train", "test")
    }
    files = {f"news/{side}.jsonl": "\n".join(map(json.dumps, own)) for side, own in rows.items()}
    return write_files(tmp_path, files) / "news"


def test_a_dataset_is_read_by_name_and_split(folder):
    read = read_corpus(f"hf:{folder}", split="test")
    assert [(one.source, one.title, one.text) for one in read.documents] == [
        (f"news:{n}", f"test{n}", f"test {n}") for n in range(3)
    ]
    assert read.notes == ("news: texts are in column 'article' (by its name)",)


def test_without_a_split_train_is_read_and_a_beginning_may_be_asked_for(folder):
    assert [one.text for one in read_corpus(f"hf:{folder}").documents][:1] == ["train 0"]
    assert len(read_corpus(f"hf:{folder}", split="train[:2]").documents) == 2


def test_a_saved_dataset_is_read(tmp_path):
    saved = Dataset.from_list([{"text": "one"}])
    saved.save_to_disk(str(tmp_path / "one"))
    DatasetDict(test=saved).save_to_disk(str(tmp_path / "more"))
    for name in ("one", "more"):
        assert [one.text for one in read_corpus(f"hf:{tmp_path / name}").documents] == ["one"]


@pytest.mark.parametrize(
    ("corpus", "split", "message"),
    [
        ("hf:{folder}", "dev", "has no split 'dev'; it has"),
        ("hf:{folder}", "train[5]", r"--split is NAME or NAME\[:N\]"),
        ("hf:{folder}/nowhere", None, "cannot be read"),
        ("{folder}", "train", "a split is one of a dataset by name"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(folder, corpus, split, message):
    with pytest.raises(CorpusError, match=message) as got:
        read_corpus(corpus.format(folder=folder), split=split)
    assert "\n" not in str(got.value)
