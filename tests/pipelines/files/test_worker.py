"""The child process: what a bad file can do, and that the next one is read."""

import zipfile
from contextlib import contextmanager

import pytest
from tiny_files import pdf_bytes, write_files, write_xlsx

from peer_cl.errors import CorpusError
from pipelines.files.worker import Worker


@pytest.fixture
def worker():
    with Worker() as made:
        yield made


@pytest.fixture
def with_pdf_library(tmp_path, monkeypatch):
    """Return a context in which new children import this code as their PDF library."""

    @contextmanager
    def with_code(code):
        write_files(tmp_path, {"fake/pypdfium2.py": code})
        with monkeypatch.context() as patched:
            patched.syspath_prepend(tmp_path / "fake")
            yield

    return with_code


def page(worker, folder):
    """Return the text of a good file, read by the worker."""
    path = write_files(folder, {"good.pdf": pdf_bytes([["good"]])}) / "good.pdf"
    (part,) = worker.read(path, ".pdf")
    return part.text


def test_one_process_reads_many_files(worker, tmp_path):
    assert page(worker, tmp_path) == "good"
    child = worker._child
    assert page(worker, tmp_path) == "good"
    assert worker._child is child


def test_a_decompression_bomb_is_refused_and_the_next_file_is_read(tmp_path):
    bomb, blank = tmp_path / "bomb.xlsx", b" " * (1 << 20)
    write_xlsx(bomb, {"Sheet": [["a"]]})
    start = b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>'
    with (
        zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/sharedStrings.xml", "w") as member,
    ):
        member.write(start)
        for _ in range(400):
            member.write(blank)
    with Worker(max_megabytes=600) as worker:
        with pytest.raises(CorpusError, match="600 MB of memory"):
            worker.read(bomb, ".xlsx")
        assert page(worker, tmp_path) == "good"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("while True: pass", "takes more than 1 s to read"),
        ("import os; os.abort()", r"its parser crashed \(exit code -6; it may use 2,048 MB"),
    ],
)
def test_a_parser_that_hangs_or_crashes_is_replaced(tmp_path, with_pdf_library, code, message):
    with Worker(max_seconds=1) as worker:
        with with_pdf_library(code), pytest.raises(CorpusError, match=message):
            page(worker, tmp_path)
        assert page(worker, tmp_path) == "good"


def test_what_a_library_prints_is_no_answer(worker, tmp_path, with_pdf_library):
    code = "print('[\"end\", \"\"]'); raise ValueError('no')"
    with with_pdf_library(code), pytest.raises(CorpusError, match=r"is broken \(ValueError: no\)"):
        page(worker, tmp_path)
