"""Formats that are no plain text: each file becomes Markdown sections, pages, slides or rows.

They run in a child process (`pipelines.files.worker`), and each imports its library by itself: a
folder of PDFs loads none of the others. Which were compared: docs/decisions/0022-file-formats.md.
"""

from __future__ import annotations

import json
import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from peer_cl.errors import CorpusError
from pipelines.files import Part, Row
from pipelines.files.plain import markdown_parts, table_rows

_HEADINGS = ["h1", "h2", "h3", "h4", "h5", "h6"]
_AROUND = ["head", "nav", "header", "footer", "aside", "form", "script", "style", "noscript"]
"""What is no main text of a page."""
_OLD_OFFICE = b"\xd0\xcf\x11\xe0"
_EDGE_LINES = 3
"""At the top and the bottom of a page, where headers and footers stand."""
_BREAK = "\ufffe"
_FULL_LINE = 0.7
"""A line at least so long, as a share of the page's longest, goes on in the next one."""


def read_html(path: Path) -> Iterator[Part]:
    """Yield the sections of a page's main text."""
    import trafilatura
    from bs4 import BeautifulSoup

    content = path.read_bytes()
    found = trafilatura.extract(
        content, output_format="markdown", include_comments=False, favor_recall=True
    )
    page = BeautifulSoup(content, "html.parser")
    if page.find(_HEADINGS) and not re.search("^#", found or "", re.MULTILINE):
        # In a short page it finds no main text, and returns all words without headings.
        for tag in page(_AROUND):
            tag.decompose()
        found = _markdown(str(page.body or page))
    return markdown_parts(found or "")


def read_docx(path: Path) -> Iterator[Part]:
    """Yield the sections of a Word document."""
    import mammoth

    _check_office(path)
    no_image = mammoth.images.img_element(lambda image: {"src": ""})
    with path.open("rb") as file:
        html = mammoth.convert_to_html(file, convert_image=no_image).value
    return markdown_parts(_markdown(html))


def read_epub(path: Path) -> Iterator[Part]:
    """Yield the sections of a book, in the order of its spine."""
    with zipfile.ZipFile(path) as book:
        container = ElementTree.fromstring(book.read("META-INF/container.xml"))
        package = next(one.attrib["full-path"] for one in container.iterfind(".//{*}rootfile"))
        root = ElementTree.fromstring(book.read(package))
        files = {one.get("id"): one.get("href", "") for one in root.iterfind(".//{*}item")}
        for entry in root.iterfind(".//{*}itemref"):
            href = unquote(files[entry.get("idref")])
            chapter = book.read(posixpath.join(posixpath.dirname(package), href))
            html = chapter.decode(
                "utf-16" if chapter[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
            )
            yield from markdown_parts(_markdown(re.sub(r"(?is)^.*?(?=<body)", "", html)))


def read_pptx(path: Path) -> Iterator[Part]:
    """Yield the slides of a presentation, with their tables and notes."""
    from pptx import Presentation

    _check_office(path)
    for number, slide in enumerate(Presentation(str(path)).slides, start=1):
        title = slide.shapes.title
        others = [one for one in slide.shapes if title is None or one.shape_id != title.shape_id]
        heading = " ".join(title.text_frame.text.split()) if title is not None else ""
        found = [f"# {heading}"] if heading else []
        found += _shape_texts(others)
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            found.append(slide.notes_slide.notes_text_frame.text)
        if text := "\n\n".join(one for one in found if one.strip()):
            yield Part(text, heading or f"slide {number}", f"#slide={number}")


def read_pdf(path: Path) -> Iterator[Part]:
    """Yield the pages of a PDF; a heading is the bookmark of the page, and its number."""
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise CorpusError("is encrypted; save it without its password") from None
        raise CorpusError(f"is broken ({error})") from None
    titles: dict[int, str] = {}
    for mark in pdf.get_toc():
        target = mark.get_dest()
        if target is not None and (page := target.get_index()) is not None:
            titles.setdefault(page, " ".join(mark.get_title().split()))
    pages = clean_pages([page.get_textpage().get_text_range() for page in pdf])
    if not any(pages):
        raise CorpusError(
            "holds no text; pages that were scanned need text recognition (OCR) first"
        )
    title = ""
    for index, text in enumerate(pages):
        title = titles.get(index, title)
        number = f"page {index + 1}"
        if text:
            yield Part(text, f"{title}, {number}" if title else number, f"#page={index + 1}")


def read_xlsx(path: Path) -> Iterator[Row]:
    """Yield the rows of each sheet; the first one of a sheet names its columns."""
    from python_calamine import CalamineWorkbook

    _check_office(path)
    book = CalamineWorkbook.from_path(str(path))
    for name in book.sheet_names:
        yield from table_rows(book.get_sheet_by_name(name).to_python(), f"#{name}")


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file."""
    from pyarrow.parquet import ParquetFile

    number = 0
    # The stacks of many threads would count as memory.
    for batch in ParquetFile(path).iter_batches(batch_size=1000, use_threads=False):
        for row in batch.to_pylist():
            number += 1
            yield Row(f":{number}", row)


PARSERS: dict[str, Callable[[Path], Iterable[Part | Row]]] = {
    ".docx": read_docx,
    ".epub": read_epub,
    ".htm": read_html,
    ".html": read_html,
    ".parquet": read_parquet,
    ".pdf": read_pdf,
    ".pptx": read_pptx,
    ".xhtml": read_html,
    ".xlsx": read_xlsx,
}


def clean_pages(pages: Sequence[str]) -> list[str]:
    r"""Return the pages of a PDF without repeated headers and footers, their lines put together.

    Lines at the edge of a page that stand on half of the pages, page numbers counted on, go. A line
    that ends within a word or near the margin is joined to the next one.

    Example:
        >>> clean_pages([f"Page {n}\nP-{n * n} is main-\ntained {n * n}." for n in (7, 8, 9)])[0]
        'P-49 is maintained 49.'
    """
    lines = [[line.strip() for line in page.splitlines() if line.strip()] for page in pages]
    counts: Counter[str] = Counter()
    for number, page in enumerate(lines):
        edges = {*page[:_EDGE_LINES], *page[-_EDGE_LINES:]}
        counts.update({form for line in edges for form in _forms(line, number)})
    again = {form for form, num in counts.items() if num >= max(3, len(pages) / 2)}
    return [
        _joined(
            [
                line
                for place, line in enumerate(page)
                if _EDGE_LINES <= place < len(page) - _EDGE_LINES
                or not again & _forms(line, number)
            ]
        )
        for number, page in enumerate(lines)
    ]


def _forms(line: str, page: int) -> set[str]:
    """Return a line, and it with its first or last number less the page's: a running one stays."""
    found = [*re.finditer(r"[0-9]+", line)]
    forms = {line}
    for one in found[:1] + found[-1:]:
        forms.add(f"{line[: one.start()]}#{int(one[0][-9:]) - page}{line[one.end() :]}")
    return forms


def _joined(lines: Sequence[str]) -> str:
    """Return the lines of a page as paragraphs.

    PDFium joins the two lines of a broken word itself, with U+FFFE in place of the hyphen.
    """
    pieces = [line.replace("\x02", _BREAK).split(_BREAK) for line in lines]
    full = _FULL_LINE * max((len(one) for own in pieces for one in own), default=0)
    text, before = "", 0
    for own in pieces:
        line = _BREAK.join(own)
        if text.endswith("-") and line[0].islower():
            text = text[:-1] + _BREAK + line
        else:
            text += ("" if not text else " " if before >= full else "\n") + line
        before = len(own[-1])
    # Of end-of-line, the second hyphen was none of a broken word either.
    return re.sub(rf"(-\w+){_BREAK}", r"\1-", text).replace(_BREAK, "")


def _markdown(html: str) -> str:
    import markdownify

    return markdownify.markdownify(
        html,
        heading_style="ATX",
        bullets="-",
        strip=["a", "img"],
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
    )


def _shape_texts(shapes: Iterable[Any]) -> Iterator[str]:
    """Yield the texts of a slide's shapes, groups opened, tables as Markdown."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shape_texts(shape.shapes)
        elif shape.has_text_frame:
            yield shape.text_frame.text
        elif shape.has_table:
            rows = [[" ".join(one.text.split()) for one in row.cells] for row in shape.table.rows]
            lines = [f"| {' | '.join(row)} |" for row in rows]
            yield "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _check_office(path: Path) -> None:
    """Refuse what is no zip file: an encrypted one, or one of Office 97."""
    with path.open("rb") as file:
        if file.read(len(_OLD_OFFICE)) == _OLD_OFFICE:
            raise CorpusError("is encrypted, or of Office 97; save it anew without a password")


def as_json(value: object) -> object:
    """Return a cell that JSON lacks, such as a date, as text; an image or sound as nothing."""
    return None if isinstance(value, bytes) else str(value)


def to_line(found: Part | Row) -> str:
    """Return what was found as a line of JSON."""
    return json.dumps([type(found).__name__, vars(found)], default=as_json)
