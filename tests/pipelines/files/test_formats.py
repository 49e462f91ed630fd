"""What is read of each format."""

import codecs
import datetime

import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_files import (
    encrypted_pdf,
    pdf_bytes,
    write_docx,
    write_epub,
    write_files,
    write_pptx,
    write_xlsx,
)

from peer_cl.errors import CorpusError
from pipelines.corpora import read_corpus
from pipelines.files.parsers import clean_pages
from pipelines.files.plain import decoded

MARKDOWN_TABLE = "| Valve | Turns |\n| --- | --- |\n| V-3 | 11 |"
PROSE = "The cooling circuit of hall 3 is fed from the north basin through two strainers. " * 4


def found(path, **options):
    """Return (source, title, text) of each document."""
    documents = read_corpus(path, **options).documents
    return [(one.source, one.title, one.text) for one in documents]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])
def test_a_text_in_any_usual_encoding_is_read(tmp_path, encoding):
    text = "Die Größe der Pumpe ist für den Übergang geprüft."
    path = write_files(tmp_path, {"a.txt": text.encode(encoding)}) / "a.txt"
    read = read_corpus(path)
    assert [one.text for one in read.documents] == [text]
    guessed = encoding in ("latin-1", "cp1252")
    assert read.notes == (("a.txt: not in UTF-8; read as cp1252",) if guessed else ())


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Насос подаёт воду из северного бассейна в зал три.", "cp1251"),
        ("Η αντλία στέλνει νερό από τη βόρεια δεξαμενή.", "cp1253"),
        ("ポンプは北の池から水を送ります。", "cp932"),
        ("水泵把水从北池送到三号厅。操作员每天检查压力。", "gb18030"),
        ("펌프는 북쪽 저수지에서 물을 보냅니다.", "cp949"),
    ],
)
def test_other_scripts_are_told_by_their_letters(text, encoding):
    assert decoded(text.encode(encoding))[0] == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\xff\1\2" * 9, r"is no text in a known encoding \(as UTF-8, byte 1 is 0xff\)"),
        (codecs.BOM_UTF16_LE + b"a", "as UTF-16-LE"),
    ],
)
def test_what_is_no_text_is_refused(content, message):
    with pytest.raises(CorpusError, match=message):
        decoded(content)


def test_of_a_web_page_the_main_text_stays_with_headings_and_tables(tmp_path):
    html = (
        "<html><head><title>Wiki</title><script>var x</script></head><body>"
        "<nav><a href='/'>Home</a> <a href='/login'>Login</a></nav><main><h1>Pumps</h1>"
        f"<p>{PROSE}</p><h2>Valves</h2><p>{PROSE}</p><table><tr><th>Valve</th><th>Turns</th></tr>"
        "<tr><td>V-3</td><td>11</td></tr></table></main><footer>Imprint</footer></body></html>"
    )
    pumps, valves = found(write_files(tmp_path, {"a.html": html}))
    assert (pumps[1], valves[1]) == ("a: Pumps", "a: Valves")
    assert "| V-3 | 11 |" in valves[2]
    assert not any(word in pumps[2] + valves[2] for word in ("Login", "Imprint", "var x"))


def test_a_short_web_page_keeps_its_headings(tmp_path):
    html = "<nav>Home</nav><h1>Pump</h1><p>In hall 3.</p><h2>Oil</h2><p>Omala.</p>"
    assert found(write_files(tmp_path, {"a.htm": html})) == [
        ("a.htm", "a: Pump", "# Pump\n\nIn hall 3."),
        ("a.htm", "a: Oil", "## Oil\n\nOmala."),
    ]


def test_a_word_document_is_divided_by_its_headings(tmp_path):
    write_docx(tmp_path / "a.docx")
    assert found(tmp_path) == [
        ("a.docx", "a: Pumps", "# Pumps\n\nPump P-7 moves water."),
        ("a.docx", "a: Service", f"## Service\n\n- Check the seal.\n\n{MARKDOWN_TABLE}"),
    ]


def test_each_slide_is_a_document_with_its_notes_and_tables(tmp_path):
    write_pptx(tmp_path / "a.pptx")
    assert found(tmp_path) == [
        (
            "a.pptx#slide=1",
            "a: Pumps",
            "# Pumps\n\nP-7 moves water\nP-9 is spare\n\nMention the oil.",
        ),
        ("a.pptx#slide=2", "a: slide 2", MARKDOWN_TABLE),
    ]


def test_a_book_is_read_in_the_order_of_its_spine(tmp_path):
    chapter = "<html><head><title>no</title></head><body><h1>{}</h1><p>text</p></body></html>"
    names = [("z%20z.xhtml", chapter.format("One")), ("a.xhtml", chapter.format("Two"))]
    write_epub(tmp_path / "b.epub", names)
    assert found(tmp_path) == [
        ("b.epub", "b: One", "# One\n\ntext"),
        ("b.epub", "b: Two", "# Two\n\ntext"),
    ]


def test_each_page_of_a_pdf_is_a_document_that_names_it(tmp_path):
    pages = [["Pump P-7 moves water."], ["Valve V-3 is shut."], ["Crane C-1 too."]]
    outline = b"/Outlines << /First << /Title (Valves) /Dest [6 0 R /Fit] >> >>"
    write_files(tmp_path, {"book.pdf": pdf_bytes(pages, catalog=outline)})
    assert found(tmp_path) == [
        ("book.pdf#page=1", "book: page 1", "Pump P-7 moves water."),
        ("book.pdf#page=2", "book: Valves, page 2", "Valve V-3 is shut."),
        ("book.pdf#page=3", "book: Valves, page 3", "Crane C-1 too."),
    ]


def test_repeated_lines_and_broken_words_of_pages_are_mended():
    line = "On each round the operators read the pressure of pump {} and note the main-"
    names = ("one", "two", "three", "four")
    pages = [
        f"Handbook\n{line.format(name)}\ntenance of {name}.\nPump {name}\nIts oil\nPage {number}"
        for number, name in enumerate(names, start=1)
    ]
    joined = line.format("one").removesuffix("-") + "tenance of one."
    assert clean_pages(pages)[0] == f"{joined}\nPump one"
    assert clean_pages(pages[:2])[0] == f"Handbook\n{joined}\nPump one\nIts oil\nPage 1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf", encrypted_pdf(), "is encrypted; save it without its password"),
        ("a.pdf", b"%PDF-1.4 cut", r"is broken \(Failed to load document"),
        ("a.pdf", pdf_bytes([[], []]), "holds no text; pages that were scanned need"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"x" * 99, "is encrypted, or of Office 97"),
        ("a.docx", b"no zip", r"is broken \(BadZipFile: File is not a zip file"),
        ("a.parquet", b"x", r"is broken \(ArrowInvalid"),
        ("a.xlsx", b"x", "is broken"),
        ("a.epub", b"x", "is broken"),
        ("a.csv", 'a\n"x', "is no table"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_and_the_rest_is_read(
    tmp_path, name, content, message
):
    write_files(tmp_path, {name: content, "z.txt": "good"})
    read = read_corpus(tmp_path)
    assert [one.text for one in read.documents] == ["good"]
    (problem,) = map(str, read.skipped)
    assert problem.startswith(f"{name} ")
    with pytest.raises(CorpusError, match=rf"has no text \(1 problem, the first: {name} {message}"):
        read_corpus(tmp_path / name)


def test_rows_of_a_table_without_texts_are_lines_of_a_text(tmp_path):
    rows = [["Part", "Hall", "Since"], ["P-7", 3, datetime.date(2019, 5, 1)], ["P-9", 4, None]]
    write_xlsx(tmp_path / "a.xlsx", {"Parts": [[], *rows], "Empty": []})
    read = read_corpus(tmp_path)
    assert [(one.source, one.title, one.text) for one in read.documents] == [
        (
            "a.xlsx#Parts:1-2",
            "a, lines 1-2",
            "Part: P-7; Hall: 3; Since: 2019-05-01\nPart: P-9; Hall: 4",
        ),
    ]
    assert read.notes == ("a.xlsx#Parts: rows are read whole: no column holds long texts",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'Title,Body\r\nA,"one, two"\r\nB,"three\nlines"\r\n'),
        ("a.csv", 'Title;Body\nA;"one, two"\nB;"three\nlines"\n'),
        ("a.tsv", 'Title\tBody\nA\tone, two\nB\t"three\nlines"\n'),
    ],
)
def test_a_row_of_a_table_with_texts_is_a_document(tmp_path, name, text):
    assert found(write_files(tmp_path, {name: text})) == [
        (f"{name}:1", "A", "one, two"),
        (f"{name}:2", "B", "three\nlines"),
    ]


def test_a_parquet_file_is_read_by_its_columns(tmp_path):
    table = pa.table({"id": [7, 8], "content": ["one", "two"], "image": [b"\xff", None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    read = read_corpus(tmp_path)
    assert [(one.title, one.text, one.section_of) for one in read.documents] == [
        ("7", "one", "a.parquet#7"),
        ("8", "two", "a.parquet#8"),
    ]
    assert read.notes == ("a.parquet: texts are in column 'content' (by its name)",)
