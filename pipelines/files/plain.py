"""Formats that are text: txt, Markdown, jsonl, csv and tsv."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from charset_normalizer import from_bytes

from peer_cl.errors import CorpusError
from pipelines.files import Part, Row
from pipelines.files.markdown import sections

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_ENCODINGS = ["cp1252", "cp1251", "cp1253", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
"""One for each script. Among several for Latin letters a guess is wrong too often in short texts
(docs/decisions/0022-file-formats.md), so Western European is taken for all of them."""
_DELIMITERS = ",;\t|"
_SNIFFED = 65_536


def decoded(content: bytes) -> tuple[str, str]:
    r"""Return a text and its encoding, by its byte order mark, as UTF-8, or as is most likely.

    Raises: CorpusError: when it is no text in an encoding that is known here.

    Example:
        >>> decoded("Größe".encode("latin-1")), decoded("\ufeffa".encode("utf-16-le"))
        (('Größe', 'cp1252'), ('a', 'utf-16-le'))
    """
    mark = next((one for one in _MARKS if content.startswith(one)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    try:
        return content.removeprefix(mark).decode(encoding), encoding
    except UnicodeDecodeError as error:
        guess = None if mark or b"\0" in content else from_bytes(content, cp_isolation=_ENCODINGS)
        best = guess.best() if guess else None
        if best is None:
            raise CorpusError(
                f"is no text in a known encoding (as {encoding.upper()}, byte {error.start} is "
                f"0x{content[error.start]:02x}); is it a binary file?"
            ) from None
        return str(best), best.encoding


def text_parts(text: str) -> Iterator[Part]:
    """Yield a text as its only part."""
    yield Part(text)


def markdown_parts(text: str) -> Iterator[Part]:
    """Yield a part for each section of a Markdown text."""
    for heading, section in sections(text):
        yield Part(section, heading)


def json_rows(content: bytes) -> Iterator[Row]:
    """Yield a row for each line of a jsonl file, which is UTF-8.

    It is read directly and not by `datasets.load_dataset("json")`: that cannot say which line is
    malformed nor leave it out, keeps a copy of the corpus in the user's cache, and one odd line
    changes the types of all others.
    """
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), start=1):
        if line.strip():
            try:
                yield Row(f":{number}", _json_object(line))
            except CorpusError as problem:
                yield Row(f":{number}", problem=str(problem))


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        value: Any = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"is not UTF-8 (byte {error.start} is 0x{line[error.start]:02x})"
        ) from None
    except ValueError as error:
        raise CorpusError(f"is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise CorpusError("is no JSON object")
    return value


def csv_rows(text: str) -> Iterator[Row]:
    """Yield the rows of a csv file; its first line names the columns.

    Python's own reader and not pandas': it keeps every value as it is written.
    """
    try:
        delimiter = csv.Sniffer().sniff(text[:_SNIFFED], _DELIMITERS).delimiter
    except csv.Error:  # one column, or a text that tells nothing
        delimiter = ","
    return _delimited(text, delimiter)


def tsv_rows(text: str) -> Iterator[Row]:
    """Yield the rows of a table whose values are parted by tabs."""
    return _delimited(text, "\t")


def _delimited(text: str, delimiter: str) -> Iterator[Row]:
    # By default a long document is an error. The limit is the whole process's: never lower it.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        yield from table_rows(lines)
    except csv.Error as error:
        raise CorpusError(f"is no table ({error} in line {lines.line_num})") from None


def table_rows(lines: Iterable[Sequence[Any]], table: str = "") -> Iterator[Row]:
    """Yield the rows of a table whose first line that is not blank names the columns.

    Example:
        >>> [row.values for row in table_rows([["part", ""], ["P-7", 3], ["", ""], ["P-9"]])]
        [{'part': 'P-7', 'column 2': 3}, {'part': 'P-9'}]
    """
    names: list[str] = []
    for number, line in enumerate(one for one in lines if any(map(_is_filled, one))):
        if not names:
            names = [str(name).strip() or f"column {n}" for n, name in enumerate(line, start=1)]
        else:
            yield Row(f":{number}", dict(zip(names, line, strict=False)), table)


def _is_filled(value: object) -> bool:
    return value is not None and str(value).strip() != ""


TEXT_READERS: dict[str, Callable[[str], Iterator[Part | Row]]] = {
    ".csv": csv_rows,
    ".markdown": markdown_parts,
    ".md": markdown_parts,
    ".tsv": tsv_rows,
    ".txt": text_parts,
}
