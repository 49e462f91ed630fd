import json

import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_files import write_files

from peer_cl.errors import CorpusError
from pipelines.corpora import SourceDocument, normalised_text, read_corpus
from pipelines.files.markdown import sections

WITHOUT_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WITHOUT_NUL.filter(normalised_text), min_size=1, max_size=5))
def test_any_text_comes_back_from_json_lines(tmp_path, texts):
    write_files(tmp_path, {"c.jsonl": "\n".join(json.dumps({"text": text}) for text in texts)})
    read = read_corpus(tmp_path / "c.jsonl")
    assert [document.text for document in read.documents] == [normalised_text(t) for t in texts]
    assert read.skipped == ()


def test_a_folder_is_read_in_sorted_order_without_hidden_and_other_files(tmp_path):
    files = {
        "b.txt": b"\xef\xbb\xbfsecond\r\n",
        "a/deep.TXT": "first",
        ".hidden.txt": "no",
        ".git/c.txt": "no",
        "picture.png": b"\0\1",
        "Makefile": "x",
        "blank.txt": " \n",
        "headings.md": "# One\n## Two\n",
        "c.jsonl": '{"text": "third", "title": "T", "source": "S"}\n\n{"text": "fourth"}\n',
    }
    read = read_corpus(write_files(tmp_path, files))
    assert [document.text for document in read.documents] == ["first", "second", "third", "fourth"]
    assert [d.source for d in read.documents] == ["a/deep.TXT", "b.txt", "S", "c.jsonl:3"]
    assert [document.title for document in read.documents] == ["deep", "b", "T", "c, line 3"]
    assert [*map(str, read.other_files)] == [
        "Makefile is of no format that is read",
        "picture.png is of no format that is read",
        "blank.txt holds no text",
        "headings.md holds no text",
    ]


def test_links_to_folders_are_named_and_broken_ones_are_not_read(tmp_path):
    write_files(tmp_path, {"root/a.txt": "near", "else/b.txt": "far"})
    (tmp_path / "root" / "back").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    read = read_corpus(tmp_path / "root")
    assert [document.text for document in read.documents] == ["near"]
    assert [*map(str, read.other_files)] == [
        "back is a link to a folder",
        "gone.txt is a link to nothing",
    ]


def test_sections_of_a_markdown_file_belong_together(tmp_path):
    text = "intro\n\n# One\n## Two ##\nbody\n```\n# no heading\n```\n# Three\n\nmore\n# Empty\n"
    documents = read_corpus(write_files(tmp_path, {"notes.md": text})).documents
    assert [document.title for document in documents] == ["notes", "notes: Two", "notes: Three"]
    assert documents[1].text == "# One\n## Two ##\nbody\n```\n# no heading\n```"
    assert {document.section_of for document in documents} == {"notes.md"}


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("# A\none\n# B #\ntwo", ["A", "B"]),
        ("#A\none\n####### B\ntwo\n#\tC\nthree", ["", "C"]),
        ("# A\n````\n```\n# no\n```\n# no\n````\n# B\ntwo", ["A", "B"]),
        ("# A\n```\n# never closed", ["A"]),
        ("# A\n\n    # code\n\n- # item\n\n> # quote\n\n# B\ntwo", ["A", "B"]),
    ],
)
def test_headings_divide_and_code_does_not(text, headings):
    found = list(sections(text))
    assert [heading for heading, _ in found] == headings
    assert " ".join(section for _, section in found).split() == text.split()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\ntitle: T\ntags:\n- a\n  b: c\n# so\n\n---\n# A\none", [("A", "# A\none")]),
        ("---\ntitle: T\n...\none", [("", "one")]),
        ("---\nSome prose.\n---\none", [("", "---\nSome prose.\n---\none")]),
        ("---\ntitle: never closed\none", [("", "---\ntitle: never closed\none")]),
        ("", []),
    ],
)
def test_front_matter_is_no_text(text, found):
    assert list(sections(text)) == found


def test_lines_of_one_id_belong_together_and_a_line_may_state_its_split(tmp_path):
    rows = [
        {"text": "a", "id": 7, "split": "test"},
        {"text": "b", "id": 7.0, "title": 3.0},
        {"text": "c", "id": " ", "split": None},
    ]
    write_files(tmp_path, {"c.jsonl": "\n".join(map(json.dumps, rows))})
    documents = read_corpus(tmp_path / "c.jsonl").documents
    assert [d.section_of for d in documents] == ["c.jsonl#7", "c.jsonl#7", None]
    assert [d.title for d in documents] == ["7", "3", "c, line 3"]
    assert [d.split for d in documents] == ["test", None, None]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"is no JSON \(Expecting"),
        (f'{{"text": "x", "id": {"7" * 5000}}}', "is no JSON"),
        ("[1]", "is no JSON object"),
        ('{"title": "x"}', 'has no "text"'),
        ('{"text": "  "}', "has no text"),
        ('{"text": "x", "title": []}', 'has a "title" that is neither text nor'),
        ('{"text": "x", "id": 7.5}', 'has a "id" that is neither'),
        ('{"text": "x", "split": "dev"}', "has .* 'dev', which is none of train, validation"),
        (b'{"text": "x\xe9"}', r"is not UTF-8 \(byte 11 is 0xe9\)"),
    ],
)
def test_a_malformed_line_stops_with_its_place_or_is_skipped(tmp_path, row, message):
    line = row if isinstance(row, bytes) else row.encode()
    write_files(tmp_path, {"c.jsonl": b'{"text": "good"}\n' + line + b'\n{"text": "too"}\n'})
    with pytest.raises(CorpusError, match=rf"c\.jsonl:2 {message}.*--on-bad-row skip") as got:
        read_corpus(tmp_path)
    assert "\n" not in str(got.value)
    read = read_corpus(tmp_path, on_bad_row="skip")
    assert [document.text for document in read.documents] == ["good", "too"]
    assert [one.place for one in read.skipped] == ["c.jsonl:2"]


def test_a_file_that_is_no_text_is_named_and_the_rest_is_read(tmp_path):
    read = read_corpus(write_files(tmp_path, {"good.txt": "good", "nul.md": b"a\0b"}))
    assert [document.text for document in read.documents] == ["good"]
    (problem,) = map(str, read.skipped)
    assert problem == "nul.md has a NUL character in its text: is it a binary file?"


def test_a_dataset_is_read_by_its_columns_and_a_malformed_row_is_named():
    rows = [
        {"text": "a\r\n", "title": "A", "id": 7, "split": "test"},
        {"text": "b", "title": None, "id": None, "split": None},
        {"text": "", "title": None, "id": None, "split": None},
    ]
    dataset = Dataset.from_list(rows)
    expected = (
        SourceDocument("a", "A", "dataset:0", section_of="dataset#7", split="test"),
        SourceDocument("b", "dataset, line 1", "dataset:1"),
    )
    for found in (dataset, dataset.to_iterable_dataset()):
        read = read_corpus(found, "skip")
        assert read.documents == read_corpus(expected).documents == expected
        assert [str(bad) for bad in read.skipped] == ["dataset:2 has no text"]
    with pytest.raises(CorpusError, match=r"dataset:2 has no text; .* on_bad_row=\"skip\""):
        read_corpus(dataset)
    with pytest.raises(CorpusError, match="has the splits train, test: give one of them"):
        read_corpus(DatasetDict(train=dataset, test=dataset))


def test_what_cannot_be_a_corpus_is_refused_in_one_line(tmp_path):
    with pytest.raises(CorpusError, match="no corpus at"):
        read_corpus(tmp_path / "nowhere")
    write_files(tmp_path, {"a.png": "x", "b/a.jsonl": "{\n{\n", "c/a.md": "# only\n## headings\n"})
    with pytest.raises(
        CorpusError,
        match=r"has no text \(1 problem, the first: a.png is of no format .*\); formats",
    ):
        read_corpus(tmp_path / "a.png")
    with pytest.raises(CorpusError, match=r"write \. for the current folder"):
        read_corpus("")
    with pytest.raises(CorpusError, match=r"\(2 problems, the first: a\.jsonl:1 is no JSON"):
        read_corpus(tmp_path / "b", on_bad_row="skip")
    with pytest.raises(
        CorpusError, match=r"has no text \(1 problem, the first: a.md holds no text\)"
    ):
        read_corpus(tmp_path / "c")
