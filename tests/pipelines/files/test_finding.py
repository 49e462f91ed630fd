"""Which files are read: paths, globs, folders, compressed files and archives."""

import gzip
import io
import zipfile

import pytest
import zstandard
from tiny_files import encrypted_pdf, pdf_bytes, write_files

from peer_cl.errors import CorpusError
from pipelines.corpora import read_corpus
from pipelines.files import finding


def sources(corpus):
    return [one.source for one in read_corpus(corpus).documents]


def zip_bytes(members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path, {"a/x.txt": "one", "a/b/y.md": "# Y\ntwo", "c/x.txt": "three"})


def test_several_paths_are_named_from_their_common_folder(folder):
    assert sources([folder / "a", str(folder / "c")]) == ["a/b/y.md", "a/x.txt", "c/x.txt"]
    assert sources([folder / "a", folder / "a" / "x.txt"]) == ["b/y.md", "x.txt"]


def test_a_glob_is_read_as_a_shell_would_write_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert sources("*/x.txt") == ["a/x.txt", "c/x.txt"]
    assert sources("**/*.md") == ["y.md"]
    with pytest.raises(CorpusError, match=r"no corpus at \*\.pdf; give files, folders or globs"):
        read_corpus("*.pdf")


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    write_files(tmp_path, {"[1].txt": "one", "1.txt": "other"})
    assert sources(tmp_path / "[1].txt") == ["[1].txt"]


def test_compressed_files_are_read_by_their_inner_name(tmp_path):
    files = {
        "a.txt.gz": gzip.compress(b"one"),
        "b.jsonl.zst": zstandard.compress(b'{"text": "two"}')
        + zstandard.compress(b'\n{"text": "3"}'),
        "c.pdf.gz": gzip.compress(pdf_bytes([["four"]])),
        "d.png.gz": b"",
    }
    read = read_corpus(write_files(tmp_path, files))
    assert [(one.source, one.title, one.text) for one in read.documents] == [
        ("a.txt.gz", "a", "one"),
        ("b.jsonl.zst:1", "b.jsonl, line 1", "two"),
        ("b.jsonl.zst:2", "b.jsonl, line 2", "3"),
        ("c.pdf.gz#page=1", "c: page 1", "four"),
    ]
    assert [one.place for one in read.other_files] == ["d.png.gz"]


def test_the_files_of_an_archive_are_read(tmp_path):
    members = {
        "z/b.pdf": pdf_bytes([["two"]]),
        "a.md": "# A\none",
        "locked.pdf": encrypted_pdf(),
        "__MACOSX/a.md": "no",
        "z/.hidden.txt": "no",
        "inner.zip": zip_bytes({"a.txt": "no"}),
    }
    read = read_corpus(write_files(tmp_path, {"all.zip": zip_bytes(members)}))
    assert [(one.source, one.title, one.text) for one in read.documents] == [
        ("all.zip/a.md", "a: A", "# A\none"),
        ("all.zip/z/b.pdf#page=1", "b: page 1", "two"),
    ]
    assert [one.place for one in read.skipped] == ["all.zip/locked.pdf"]
    assert [one.place for one in read.other_files] == ["all.zip/inner.zip"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt.gz", b"no", "cannot be read: Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"cut off")[:-9], "is broken"),
        ("a.txt.zst", b"no zst", "is broken"),
        ("a.zip", b"no", "is no zip archive that can be opened"),
        ("a.txt.gz", gzip.compress(b" " * 5000), "unpacks to more than 1 GB"),
        ("a.txt.zst", zstandard.compress(b" " * 5000), "unpacks to more than 1 GB"),
        ("a.zip", zip_bytes({"a.txt": " " * 3000, "b.txt": " " * 3000}), "unpacks to more than"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,  # gzip writes the hour in
)
def test_a_broken_or_endless_file_is_one_line(tmp_path, monkeypatch, name, content, reason):
    monkeypatch.setattr(finding, "_LIMIT", 4096)
    read = read_corpus(write_files(tmp_path, {name: content, "z.txt": "good"}))
    assert [one.text for one in read.documents] == ["good"]
    assert [str(one).startswith(f"{name} {reason}") for one in read.skipped] == [True]


def test_a_member_with_a_password_is_one_line(tmp_path):
    content = bytearray(zip_bytes({"a.txt": "secret", "b.txt": "good"}))
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # the first member's
        content[content.index(header) + flags] |= 1
    read = read_corpus(write_files(tmp_path, {"a.zip": bytes(content)}))
    assert [one.text for one in read.documents] == ["good"]
    assert str(read.skipped[0]).startswith("a.zip/a.txt is encrypted")
