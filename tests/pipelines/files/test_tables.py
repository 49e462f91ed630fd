"""Which columns are chosen, and why."""

import json

import pytest
from tiny_files import write_files

from peer_cl.errors import CorpusError
from pipelines.corpora import read_corpus
from pipelines.files.tables import Columns, choose_columns

LONG = "The cooling circuit of hall 3 is fed from the north basin. " * 5


@pytest.mark.parametrize(
    ("rows", "columns", "why"),
    [
        ([{"ID": 1, "Text": "a", "Title": "t"}], Columns("Text", "Title", "ID"), "by its name"),
        ([{"body": "a", "content": "b"}], Columns("content"), "by its name"),
        ([{"n": 1, "notes": LONG}], Columns("notes"), "by the length of its values"),
        ([{"text": 3, "size": 1}], Columns(None, "text"), "no column holds texts"),
        ([{"a": LONG, "b": LONG}], Columns(None, "a"), "no column holds texts"),
        ([{"part": "P-7"}, {"part": "P-9", "id": 3}], Columns(None, "id", "id"), "no column"),
    ],
)
def test_columns_are_guessed_by_name_and_by_length(rows, columns, why):
    chosen, reason = choose_columns(rows, Columns())
    assert chosen == columns
    assert why in reason


def test_what_is_given_is_taken_and_must_be_there():
    rows = [{"text": "a", "story": "b", "n": 1}]
    given = Columns(text="story", title="text", id="n")
    assert choose_columns(rows, given) == (given, "texts are in column 'story' (as given)")
    with pytest.raises(CorpusError, match=r"has no column 'storey'; its columns are text, story"):
        choose_columns(rows, Columns(text="storey"))


def test_given_columns_hold_for_files_and_for_rows(tmp_path):
    rows = [{"story": "one", "who": "Ann"}, {"story": "two", "who": "Bob"}]
    write_files(tmp_path, {"a.jsonl": "\n".join(map(json.dumps, rows))})
    columns = Columns(text="story", title="who")
    for corpus in (tmp_path, rows):
        read = read_corpus(corpus, columns=columns)
        assert [(one.title, one.text) for one in read.documents] == [("Ann", "one"), ("Bob", "two")]
        assert len(read.notes) == 1


def test_paths_and_rows_may_stand_in_one_list(tmp_path):
    write_files(tmp_path, {"a.txt": "one"})
    read = read_corpus([{"text": "two", "title": "T"}, str(tmp_path / "a.txt")])
    assert [(one.title, one.text) for one in read.documents] == [("T", "two"), ("a", "one")]
