import functools
import json
import os
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peer_cl.errors import CorpusError
from pipelines.corpora import Skipped, read_corpus
from pipelines.documents import normalised_text
from stores import texts


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


WITHOUT_NUL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(WITHOUT_NUL.filter(lambda text: normalised_text(text)), min_size=1, max_size=5))
def test_any_text_comes_back_from_json_lines(tmp_path, texts):
    lines = [json.dumps({"text": text}) for text in texts]
    write(tmp_path, {"corpus.jsonl": "\n".join(lines)})
    read = read_corpus(tmp_path / "corpus.jsonl")
    assert [document.text for document in read.documents] == [normalised_text(t) for t in texts]
    assert read.skipped.num == 0


def test_a_folder_is_read_in_sorted_order_without_hidden_and_other_files(tmp_path):
    write(
        tmp_path,
        {
            "b.txt": "second",
            "a/deep.txt": "first",
            ".hidden.txt": "no",
            ".git/c.txt": "no",
            "picture.png": b"\0\1",
            "blank.txt": " \n",
            "c.jsonl": '{"text": "third", "title": "T", "source": "S"}\n\n{"text": "fourth"}\n',
        },
    )
    documents = read_corpus(tmp_path).documents
    assert [document.text for document in documents] == ["first", "second", "third", "fourth"]
    assert [document.source for document in documents] == ["a/deep.txt", "b.txt", "S", "c.jsonl:3"]
    assert [document.title for document in documents] == ["deep", "b", "T", "c, line 3"]
    assert all(document.section_of is None for document in documents)


def test_accents_of_titles_and_sources_are_composed_as_those_of_texts_are(tmp_path):
    name, row = "Café", {"text": "third", "title": "Señor", "source": "Zoë", "id": "é"}
    line = json.dumps(row, ensure_ascii=False)
    files = {f"{name}.md": "first\n# Two\nmore\n", f"{name}.txt": "second", "a.jsonl": line}
    apart = functools.partial(unicodedata.normalize, "NFD")
    files = {apart(file): apart(text) for file, text in files.items()}
    first, two, second, third = read_corpus(write(tmp_path, files)).documents
    assert (third.title, third.source, third.section_of) == ("Señor", "Zoë", "a.jsonl#é")
    assert (second.title, second.source) == ("Café", "Café.txt")
    assert (first.title, two.title) == ("Café", "Café: Two")
    assert {(part.source, part.section_of) for part in (first, two)} == {("Café.md", "Café.md")}


def test_sections_of_a_markdown_file_belong_together(tmp_path):
    text = "intro\n\n# One\n## Two ##\nbody\n```\n# no heading\n```\n# Three\n\nmore\n# Empty\n"
    write(tmp_path, {"notes.md": text})
    documents = read_corpus(tmp_path).documents
    assert [document.title for document in documents] == ["notes", "notes: Two", "notes: Three"]
    assert documents[1].text == "# One\n## Two ##\nbody\n```\n# no heading\n```"
    assert {document.section_of for document in documents} == {"notes.md"}


def test_rows_of_one_id_belong_together(tmp_path):
    rows = [{"text": "a", "id": 7}, {"text": "b", "id": 7}, {"text": "c", "id": "x"}]
    write(tmp_path, {"c.jsonl": "\n".join(map(json.dumps, rows))})
    documents = read_corpus(tmp_path / "c.jsonl").documents
    assert [document.section_of for document in documents] == [
        "c.jsonl#7",
        "c.jsonl#7",
        "c.jsonl#x",
    ]
    assert [document.title for document in documents] == ["7", "7", "x"]


def test_a_whole_number_may_be_written_as_exports_write_it(tmp_path):
    rows = [{"text": "a", "id": 7.0, "title": 3.0, "source": 2.0}, {"text": "b", "id": 7}]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    first, second = read_corpus(tmp_path / "c.jsonl").documents
    assert first.section_of == second.section_of
    assert (first.title, first.source) == ("3", "2")
    for number in ("7.5", "true", "1e300", "NaN"):
        (tmp_path / "d.jsonl").write_text(f'{{"text": "a", "id": {number}}}')
        with pytest.raises(CorpusError, match='"id" that is neither text nor a whole number'):
            read_corpus(tmp_path / "d.jsonl")


def test_an_empty_id_is_none(tmp_path):
    rows = [{"text": "a", "id": ""}, {"text": "b", "id": " "}, {"text": "c", "id": 0}]
    write(tmp_path, {"c.jsonl": "\n".join(map(json.dumps, rows))})
    documents = read_corpus(tmp_path / "c.jsonl").documents
    assert [document.section_of for document in documents] == [None, None, "c.jsonl#0"]
    assert [document.title for document in documents] == ["c, line 1", "c, line 2", "0"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"c\.jsonl:2 is no JSON"),
        ("[" * 100_000, r"c\.jsonl:2 is no JSON"),
        ("[1]", r"c\.jsonl:2 is no JSON object"),
        ('{"title": "x"}', r'c\.jsonl:2 has no "text"'),
        ('{"text": "  "}', r'c\.jsonl:2 has no "text"'),
        ('{"text": 3}', r'c\.jsonl:2 has no "text"'),
        ('{"text": "x", "title": []}', r'c\.jsonl:2 has a "title" that is neither'),
        ('{"text": "\\ud800"}', r'c\.jsonl:2 has half a character .* in "text"'),
        ('{"text": "a\\u0000b"}', r'c\.jsonl:2 has a NUL character in "text"'),
        ('{"text": "x", "title": "\\u0000"}', r'c\.jsonl:2 has a NUL character in "title"'),
        ('{"text": "x", "title": "\\ud800"}', r'c\.jsonl:2 has half a character .* in "title"'),
        ('{"text": "x", "source": "a\\udfff"}', r'c\.jsonl:2 has half a character .* in "source"'),
        ('{"text": "x", "id": "\\ud800"}', r'c\.jsonl:2 has half a character .* in "id"'),
        (f'{{"text": "x", "id": {"7" * 5000}}}', r"c\.jsonl:2 is no JSON \(a number has more than"),
        (b'{"text": "x\xe9"}', r"c\.jsonl:2 is not UTF-8 \(byte 11 of the line is 0xe9"),
    ],
)
def test_a_malformed_row_stops_with_its_place_or_is_counted(tmp_path, row, message):
    line = row if isinstance(row, bytes) else row.encode()
    write(tmp_path, {"c.jsonl": b'{"text": "good"}\n' + line + b'\n{"text": "too"}\n'})
    with pytest.raises(CorpusError, match=message) as got:
        read_corpus(tmp_path)
    assert "\n" not in str(got.value)
    assert "--on-bad-row skip" in str(got.value)
    read = read_corpus(tmp_path, on_bad_row="skip")
    assert ([document.text for document in read.documents], read.skipped.num) == (
        ["good", "too"],
        1,
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "A text of 27 bytes, é, té\n"),
        ("a.md", "# Kept\nshort\n# Long\nA section of 29 bytes.\n\n# End\nshort too\n"),
        ("a.jsonl", '{"text": "short"}\n{"text": "A text of 27 bytes, é, té"}\n{"text": "too"}\n'),
    ],
)
def test_a_text_longer_than_a_store_keeps_stops_with_its_place_or_is_counted(
    tmp_path, monkeypatch, name, content
):
    monkeypatch.setattr(texts, "MOST_BYTES", 24)
    write(tmp_path, {name: content, "b.txt": 12 * "é" + 9 * "\r\n"})
    with pytest.raises(CorpusError) as got:
        read_corpus(tmp_path)
    place = tmp_path / (f"{name}:2" if name == "a.jsonl" else name)
    size = 29 if name == "a.md" else 27
    said = f"{place} has a text of {size} bytes, and the most is 24: divide it"
    assert str(got.value) == f"{said}; mend it, or pass --on-bad-row skip"
    read = read_corpus(tmp_path, on_bad_row="skip")
    assert read.skipped == Skipped(1, (said,), int(name == "a.txt"))
    assert len(read.documents) == (1 if name == "a.txt" else 3)


def test_what_a_folder_holds_besides_is_counted(tmp_path):
    files = dict.fromkeys(["a.csv", "b.CSV", "c.html", "d.json", "Makefile", ".hidden.csv"], "x")
    files |= {"empty.txt": " \n", "headings.md": "# One\n## Two\n", "none.jsonl": "\n"}
    write(tmp_path, files | {"good.markdown": "# One\nbody", "picture.png": b"\0"})
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    read = read_corpus(tmp_path)
    assert [document.title for document in read.documents] == ["good: One"]
    assert dict(read.left_out) == {
        ".csv": 2,
        ".html": 1,
        ".json": 1,
        ".png": 1,
        "no suffix": 1,
        "without text": 3,
        "broken links": 1,
    }
    assert read_corpus(tmp_path / "good.markdown").left_out == ()


def test_linked_folders_are_read_once_and_never_round(tmp_path):
    write(tmp_path / "else", {"far.txt": "far"})
    write(tmp_path / "root", {"z/near.txt": "near", "z/deep/low.txt": "low"})
    (tmp_path / "root" / "a").symlink_to(tmp_path / "root" / "z")
    (tmp_path / "root" / "z" / "back").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "other").symlink_to(tmp_path / "else")
    read = read_corpus(tmp_path / "root")
    sources = [document.source for document in read.documents]
    assert sources == ["other/far.txt", "z/deep/low.txt", "z/near.txt"]


def test_files_that_are_no_text_can_be_skipped_too(tmp_path):
    files = {"good.txt": "good", "latin.txt": "caf\xe9".encode("latin-1"), "nul.md": b"a\0b"}
    write(tmp_path, files | {"some.jsonl": b'{"text": "a\0b"}\n{"text": "two"}\n'})
    for message in ("is not UTF-8", "--on-bad-row skip"):
        with pytest.raises(CorpusError, match=message):
            read_corpus(tmp_path)
    read = read_corpus(tmp_path, on_bad_row="skip")
    assert [document.text for document in read.documents] == ["good", "two"]
    assert (read.skipped.num, read.skipped.num_files) == (3, 2)
    assert read.skipped.counted == "1 malformed row, 2 files"
    told = ("latin.txt is not UTF-8", "nul.md is binary", "some.jsonl:1 is no JSON")
    assert all(what in problem for what, problem in zip(told, read.skipped.problems, strict=True))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "", "b.md": "# only\n## headings\n"}, "has no text; give"),
        (
            {"a.jsonl": "{\n{\n"},
            r"has no text \(2 malformed rows skipped, the first: .*a\.jsonl:1 is no JSON",
        ),
        (
            {"a.csv": "x"},
            r"no \.jsonl, .*, \.txt file in folder .*; only \.csv 1: convert them",
        ),
        ({}, r"no \.jsonl, \.markdown, \.md, \.txt file in folder"),
        ({"a.txt": b"ab\0c"}, r"a\.txt is binary \(NUL at byte 2\)"),
        ({"a.txt": "caf\xe9".encode("latin-1")}, r"a\.txt is not UTF-8: byte 3 is 0xe9"),
        ({"a.txt": b"\xef\xbb\xbfab\xff"}, r"a\.txt is not UTF-8: byte 5 is 0xff"),
    ],
)
def test_what_cannot_be_a_corpus_is_refused_in_one_line(tmp_path, files, message):
    write(tmp_path, files)
    with pytest.raises(CorpusError, match=message) as got:
        read_corpus(tmp_path, on_bad_row="skip")
    assert "\n" not in str(got.value)


def test_a_file_whose_name_cannot_be_kept_is_refused_before_anything_is_learned(tmp_path):
    file = tmp_path / os.fsdecode(b"caf\xe9.txt")
    try:
        file.write_text("quartz")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    for path in (tmp_path, file):
        with pytest.raises(CorpusError, match=r"caf\\udce9\.txt' is not UTF-8; rename the file"):
            read_corpus(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="no corpus at"):
        read_corpus(tmp_path / "nowhere")
    write(tmp_path, {"a.pdf": "x"})
    with pytest.raises(CorpusError, match="cannot read"):
        read_corpus(tmp_path / "a.pdf")


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_text(tmp_path):
    write(tmp_path, {"a.txt": b"\xef\xbb\xbfone\r\ntwo\r\n"})
    assert [document.text for document in read_corpus(tmp_path).documents] == ["one\ntwo"]


def test_reading_writes_nothing_into_the_hugging_face_cache(tmp_path, monkeypatch):
    from datasets import config

    cache = tmp_path / "cache"
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", cache)
    write(tmp_path, {"corpus/a.txt": "one", "corpus/b.txt": "two"})
    read = read_corpus(tmp_path / "corpus")
    assert [document.text for document in read.documents] == ["one", "two"]
    assert not cache.exists()


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_path_names_nothing(empty, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("A private note.")
    with pytest.raises(
        CorpusError, match=r"names no file or folder; write . for the current folder"
    ):
        read_corpus(empty)
    assert len(read_corpus(".").documents) == 1


def test_a_folder_of_what_cannot_be_read_at_all_is_refused_without_converting(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    told = r"; only broken links 1, pipes or devices 1: give one that has some$"
    with pytest.raises(CorpusError, match=told):
        read_corpus(tmp_path)
    write(tmp_path, {"a.csv": "x"})
    with pytest.raises(CorpusError, match=r"only \.csv 1, .*: convert them"):
        read_corpus(tmp_path)


def test_a_pipe_is_no_corpus(tmp_path):
    os.mkfifo(tmp_path / "notes.txt")
    for path in (tmp_path / "notes.txt", "/dev/null"):
        with pytest.raises(CorpusError, match=f"{path} is neither a file nor a folder; give a"):
            read_corpus(path)
