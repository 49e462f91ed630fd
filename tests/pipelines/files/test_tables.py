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
        ([{"body": LONG, "content": LONG}], Columns("content"), "by its name"),
        ([{"n": 1, "notes": LONG}], Columns("notes"), "by the length of its values"),
        ([{"text": "a", "source": "s"}], Columns("text"), "by its name"),
        ([{"text": "a", "size": 1}], Columns(), "rows are read whole"),
        ([{"text": 3, "size": 1}], Columns(), "no column holds long texts"),
        ([{"a": LONG, "b": LONG}], Columns(), "no column holds long texts"),
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


def test_a_price_list_keeps_its_prices(tmp_path):
    prices = "Article,Model,Net price\nlamp,X,38\n" + "desk,Y-2,120.50\n"
    read = read_corpus(write_files(tmp_path, {"a.csv": prices}))
    assert [(one.source, one.title, one.text) for one in read.documents] == [
        (
            "a.csv:1-2",
            "a, lines 1-2",
            "Article: lamp; Model: X; Net price: 38\nArticle: desk; Model: Y-2; Net price: 120.50",
        )
    ]
    assert read.notes == ("a.csv: rows are read whole: no column holds long texts",)


def test_beside_a_text_the_other_columns_stand_in_a_line_above(tmp_path):
    rows = f"id,Article,Model,Net price\n7,{LONG},X,38\n"
    (one,) = read_corpus(write_files(tmp_path, {"a.csv": rows})).documents
    assert (one.title, one.text) == ("7", f"Model: X; Net price: 38\n\n{LONG.strip()}")


def test_several_rows_make_a_document_and_none_is_cut(tmp_path):
    rows = [{"part": f"P-{n}", "about": "é" * (n % 150)} for n in range(1, 200)]
    lines = [
        f"part: P-{n}; about: {'é' * (n % 150)}".removesuffix("; about: ") for n in range(1, 200)
    ]
    write_files(
        tmp_path, {"a.jsonl": "\n".join(map(json.dumps, [*rows, {"part": " "}, *rows[:1]]))}
    )
    read = read_corpus(tmp_path, "skip")
    assert "\n".join(one.text for one in read.documents).splitlines() == [*lines, lines[0]]
    assert max(len(one.text.encode()) for one in read.documents) <= 500
    assert len(read.documents) < len(rows) / 2
    assert [str(one) for one in read.skipped] == ["a.jsonl:200 has no text"]


def test_paths_and_rows_may_stand_in_one_list(tmp_path):
    write_files(tmp_path, {"a.txt": "one"})
    read = read_corpus([{"text": "two", "title": "T"}, str(tmp_path / "a.txt")])
    assert [(one.title, one.text) for one in read.documents] == [("T", "two"), ("a", "one")]
