"""Thirty pages as people have them - pdf, docx, html, md, csv - read, studied and learned.

Their text is of SQuAD's articles (`--data FOLDER` with squad_stream.jsonl) that `answers` does not
learn: some three hundred words a page under a heading for each passage; of a csv file every
sentence is a row. The time is that of one ingest with no options, its closing questions included.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import html
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import docx
import pypdfium2
from pypdfium2 import raw

from app.output import show_progress
from benchmarks.answers import ARTICLES, read_articles
from benchmarks.results import Figure
from pipelines import init_store
from pipelines.corpora import sentences_of

PAGES, WORDS, MOST_MINUTES, MOST_SECONDS = 30, 300, 15, 30
Page = Mapping[str, str]
"""Text by the heading above it."""


def measure(arguments: Sequence[str] = ()) -> list[Figure]:
    """Return how long thirty pages take (`--data`)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks pages")
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as scratch, show_progress() as progress:
        folder = Path(scratch) / "pages"
        folder.mkdir()
        pages, writers = _pages(options.data / "squad_stream.jsonl"), [*_WRITERS.items()]
        for number in range(PAGES):
            suffix, write = writers[number % len(writers)]
            write(folder / f"page-{number:02}.{suffix}", next(pages))
        with init_store(Path(scratch) / "store", progress=progress) as store:
            report = store.ingest("pages", [folder], progress=progress)
            (segment,) = store.registry.queries.domain("pages").chain
    said = f"{PAGES} pages of {', '.join(_WRITERS)}"
    figures = [
        Figure(f"{said}: files left out", len(report.skipped), most=0),
        Figure(f"{said}: passages", report.num_learned_texts),
        Figure(f"{said}: tokens", segment.num_tokens),
        Figure(f"{said}: read, studied, learned (min)", report.seconds / 60, most=MOST_MINUTES),
        Figure(
            "seconds to learn a thousand tokens of passages, shared experts and questions included",
            1000 * segment.seconds / segment.num_tokens,
            most=MOST_SECONDS,
        ),
    ]
    for row in report.answers:
        share = row.right / row.num
        figures.append(Figure(f"{said}: questions kept from study answered (share)", share))
    return figures


def _pages(path: Path) -> Iterator[Page]:
    for article in read_articles(path)[ARTICLES:]:
        page, num_words = dict[str, str](), 0
        for number, text in enumerate(article.passages.values(), start=1):
            page[f"{article.name}, part {number}"] = text
            num_words += len(text.split())
            if num_words >= WORDS:
                yield page
                page, num_words = {}, 0


def _write_pdf(path: Path, page: Page) -> None:
    document = pypdfium2.PdfDocument.new()
    sheet = document.new_page(595, 842)
    lines = [line for head, text in page.items() for line in ["", head, *textwrap.wrap(text, 96)]]
    for number, line in enumerate(lines):
        drawn = raw.FPDFPageObj_NewTextObj(document, b"Helvetica", 10)
        letters = ctypes.create_string_buffer(f"{line}\0".encode("utf-16-le"))
        raw.FPDFText_SetText(drawn, ctypes.cast(letters, raw.FPDF_WIDESTRING))
        raw.FPDFPageObj_Transform(drawn, 1, 0, 0, 1, 50, 800 - 12 * number)
        raw.FPDFPage_InsertObject(sheet, drawn)
    sheet.gen_content()
    document.save(path)


def _write_docx(path: Path, page: Page) -> None:
    document = docx.Document()
    for head, text in page.items():
        document.add_heading(head, 1)
        document.add_paragraph(text)
    document.save(str(path))


def _write_html(path: Path, page: Page) -> None:
    parts = [f"<h1>{html.escape(h)}</h1><p>{html.escape(text)}</p>" for h, text in page.items()]
    path.write_text(f"<html><body>{''.join(parts)}</body></html>", encoding="utf-8")


def _write_md(path: Path, page: Page) -> None:
    path.write_text("\n\n".join(f"# {h}\n\n{t}" for h, t in page.items()), encoding="utf-8")


def _write_csv(path: Path, page: Page) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["title", "text"])
        rows.writerows([head, one] for head, text in page.items() for one in sentences_of(text))


_WRITERS: dict[str, Callable[[Path, Page], None]] = {
    "pdf": _write_pdf,
    "docx": _write_docx,
    "html": _write_html,
    "md": _write_md,
    "csv": _write_csv,
}
