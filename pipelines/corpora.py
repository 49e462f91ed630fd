"""Corpora as documents: txt, md and jsonl files, folders of them, and Hugging Face datasets."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, TypeVar, get_args

from markdown_it import MarkdownIt

from peer_cl.errors import CorpusError

DocumentKind = Literal["text", "fact", "question"]
"""A text; the statement of a fact; or a fact as JSON, kept to be asked and never learned."""
Split = Literal["train", "validation", "test"]
LEARNED_KINDS: tuple[DocumentKind, ...] = ("text", "fact")


@dataclass(frozen=True)
class SourceDocument:
    """A text that a domain may learn, with where it came from."""

    text: str
    title: str
    source: str
    kind: DocumentKind = "text"
    section_of: str | None = None
    """The larger document of which this is a part; all its parts are in one split."""
    split: Split | None = None
    """The side that the corpus itself demands; None: `pipelines.splits` decides."""

    @property
    def document_id(self) -> str:
        """The id of this document's text."""
        return document_id(self.text)


def checked(document: SourceDocument) -> SourceDocument:
    r"""Return the document in the form in which it is stored, if it can be learned and stored.

    Every document passes through here once, where it enters: read from a file or given in Python.

    Raises:
        CorpusError: "has ..."; the caller puts the document's place before it.

    Example:
        >>> checked(SourceDocument("It is.", "Cafe\u0301", "Cafe\u0301.txt")).source
        'Café.txt'
    """
    section_of = composed_text(document.section_of or "").strip()
    stored = replace(
        document,
        text=checked_text("text", normalised_text(document.text)),
        title=checked_text("title", composed_text(document.title)),
        source=checked_text("source", composed_text(document.source)),
        section_of=checked_text("section_of", section_of) or None,
    )
    if not stored.text:
        raise CorpusError("has no text")
    return stored


def checked_text(key: str, text: str) -> str:
    """Return a text if files and databases can keep it.

    JSON can write a NUL and half a character: CorpusError "has ..." for these.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CorpusError(f"has half a character (a lone surrogate) in its {key}") from None
    if "\0" in text:
        raise CorpusError(f"has a NUL character in its {key}: is it a binary file?")
    return text


def document_id(text: str) -> str:
    r"""Return the sha256 (64 hex digits) of the normalised text.

    Example:
        >>> document_id("quartz\r\n") == document_id(" quartz")
        True
    """
    return hashlib.sha256(normalised_text(text).encode()).hexdigest()


def normalised_text(text: str) -> str:
    """Return the text in the form that is hashed and stored.

    Two files that differ only in line ends, outer blanks or the composition of accents hold the
    same document.
    """
    return composed_text(text).strip()


def composed_text(text: str) -> str:
    r"""Return a text with composed accents and Unix line ends, its outer blanks kept.

    Example:
        >>> composed_text("Cafe\u0301\r\n ")
        'Café\n '
    """
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))


def several(num: int, what: str) -> str:
    """Return a number with what it counts.

    Example:
        >>> several(1, "document"), several(2000, "text")
        ('1 document', '2,000 texts')
    """
    return f"{num:,} {what}{'s' * (num != 1)}"


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

T = TypeVar("T")
BadRowPolicy = Literal["stop", "skip"]
SUFFIXES = (".jsonl", ".markdown", ".md", ".txt")
"""Of the files that are read."""
_FRONT_MATTER = re.compile(
    r"---[ \t]*\n(?=[^\s:#-][^\n:]*:(?:\s|$)).*?^(?:---|\.\.\.)[ \t]*(?:\n|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""YAML between lines of --- at the very beginning: it is about the text, and no part of it."""


@dataclass(frozen=True)
class Skipped:
    """A malformed line, or a whole file, that was not read."""

    file: str
    line: int | None
    """None: the whole file."""
    reason: str

    def __str__(self) -> str:
        """Return place and reason, such as "notes.jsonl:3 is no JSON"."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place} {self.reason}"


@dataclass(frozen=True)
class Corpus:
    """The documents of a corpus, and what was not read."""

    documents: tuple[SourceDocument, ...]
    skipped: tuple[Skipped, ...] = ()
    other_files: tuple[tuple[str, int], ...] = ()
    """(suffix, or what else is the matter, number) of files in the folder that were not read."""


CorpusSource: TypeAlias = "str | Path | Dataset | IterableDataset | Iterable[SourceDocument]"
"""What can be learned: a file or folder, a Hugging Face dataset, or documents."""


def read_corpus(corpus: CorpusSource, on_bad_row: BadRowPolicy = "stop") -> Corpus:
    """Return the documents of a file, a folder with its folders, or rows that Python holds.

    A .txt file is one document; a .md or .markdown file one a section (the sections of a file stay
    in one split); a .jsonl file one a line, an object with "text" and maybe "title", "source", "id"
    (lines with one id are sections of one document) and "split" (train, validation or test). A row
    of a dataset has the same columns. Files are read in the sorted order of their paths, the same
    on every machine. Hidden files and folders are ignored; other files are counted.

    Args:
        corpus: a path; or one split of a dataset, such as `load_dataset("imdb")["train"]`; or
            documents.
        on_bad_row: "stop" with an error at a malformed row, or at a file that is not UTF-8 text,
            or "skip" it.

    Raises:
        CorpusError: when the corpus is missing, empty, binary, wrongly encoded or malformed.
    """
    if not isinstance(corpus, str | Path):
        return _read_rows(corpus, on_bad_row)
    if not str(corpus).strip():  # an unset shell variable would stand for the current folder
        raise CorpusError(f"{corpus!r} names no file or folder; write . for the current folder")
    root = Path(corpus)
    documents: list[SourceDocument] = []
    skipped: list[Skipped] = []
    files, others = _files(root)
    for file in files:
        source = file.name if file == root else file.relative_to(root).as_posix()
        own, bad = _read_file(file, source, on_bad_row)
        documents += own
        skipped += bad
        if not own and not bad:
            others["without text"] += 1
    if not documents:
        first = f" ({several(len(skipped), 'problem')}, the first: {skipped[0]})" if skipped else ""
        raise CorpusError(f"corpus {root} has no text{first}; give a file or folder with text")
    return Corpus(tuple(documents), tuple(skipped), tuple(sorted(others.items())))


def files_not_read(counts: Iterable[tuple[str, int]]) -> str:
    """Return how many other files there are, in words.

    Example:
        >>> files_not_read([(".csv", 2), ("without text", 1)])
        '3 files not read: .csv 2, without text 1'
    """
    kinds = ", ".join(f"{kind} {num:,}" for kind, num in counts)
    return f"{several(sum(num for _, num in counts), 'file')} not read: {kinds}"


def read_json_lines(
    path: Path, make: Callable[[dict[str, Any], int], T], on_bad_row: BadRowPolicy
) -> tuple[list[T], list[Skipped]]:
    """Return what is made of each line's object, and the malformed lines that were skipped.

    The file is read directly and not by `datasets.load_dataset("json")`: that cannot say which line
    is malformed nor leave it out, keeps a copy of the corpus in the user's cache, and one odd line
    changes the types of all others. `make` gets the object and the line's number, and raises a
    CorpusError "has ..." for a malformed one.
    """
    made: list[T] = []
    skipped: list[Skipped] = []
    try:
        lines = _content(path).split(b"\n")
    except CorpusError as problem:
        return [], [_skip(str(path), None, problem, on_bad_row)]
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                made.append(make(_json_object(line), number))
            except CorpusError as problem:
                skipped.append(_skip(str(path), number, problem, on_bad_row))
    return made, skipped


def _read_rows(rows: Iterable[Any], on_bad_row: BadRowPolicy) -> Corpus:
    """Return the rows of a dataset, or documents, checked."""
    if isinstance(rows, Mapping):
        raise CorpusError(f"the dataset has the splits {', '.join(rows)}: give one of them")
    name = getattr(getattr(rows, "info", None), "dataset_name", None) or "dataset"
    documents: list[SourceDocument] = []
    skipped: list[Skipped] = []
    for number, row in enumerate(rows):
        try:
            is_document = isinstance(row, SourceDocument)
            documents.append(checked(row if is_document else _row_document(row, name, number)))
        except CorpusError as problem:
            skipped.append(_skip(f"corpus[{number}]", None, problem, on_bad_row))
    return Corpus(tuple(documents), tuple(skipped))


def _files(root: Path) -> tuple[list[Path], Counter[str]]:
    """Return the files to read, sorted, and the numbers of other files."""
    known = ", ".join(SUFFIXES)
    if root.is_file():
        if root.suffix.lower() not in SUFFIXES:
            raise CorpusError(f"cannot read {root}; a corpus is a {known} file or a folder of them")
        return [root], Counter()
    if not root.is_dir():
        raise CorpusError(f"no corpus at {root}; give a {known} file or a folder of them")

    def refuse(error: OSError) -> NoReturn:
        raise CorpusError(f"cannot read folder {error.filename}: {error.strerror}")

    found, others = list[Path](), Counter[str]()
    for folder, inner, names in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        others["linked folder"] += sum(Path(folder, name).is_symlink() for name in inner)
        for file in (Path(folder, name) for name in names if not name.startswith(".")):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                found.append(file)
            else:
                others[file.suffix.lower() or "no suffix"] += 1
    return sorted(found), +others


def _read_file(
    file: Path, source: str, on_bad_row: BadRowPolicy
) -> tuple[list[SourceDocument], list[Skipped]]:
    suffix = file.suffix.lower()
    if suffix == ".jsonl":
        return read_json_lines(
            file, lambda row, number: checked(_row_document(row, source, number)), on_bad_row
        )
    try:
        text = normalised_text(_decoded(_content(file)))
        found = []
        if suffix != ".txt":
            for heading, part in sections(text):
                title = f"{file.stem}: {heading}" if heading else file.stem
                found.append(SourceDocument(part, title, source, section_of=source))
        elif text:
            found = [SourceDocument(text, file.stem, source)]
        return [checked(document) for document in found], []
    except CorpusError as problem:
        return [], [_skip(str(file), None, problem, on_bad_row)]


def sections(text: str) -> Iterator[tuple[str, str]]:
    r"""Yield (heading, section with its heading line); headings without text of their own go on.

    Headings are those that begin with #, outside of code, lists and quotes.

    Example:
        >>> list(sections("intro\n# One\n## Two\nbody"))
        [('', 'intro'), ('Two', '# One\n## Two\nbody')]
    """
    text = _FRONT_MATTER.sub("", text, count=1) if text.startswith("---") else text
    lines = text.split("\n")
    headings = _headings(text)
    heading, begin, has_body = "", 0, False
    for number, line in enumerate(lines):
        if number in headings:
            if has_body:
                yield heading, "\n".join(lines[begin:number]).strip()
                begin, has_body = number, False
            heading = headings[number]
        elif line.strip():
            has_body = True
    if has_body:
        yield heading, "\n".join(lines[begin:]).strip()


def _headings(text: str) -> dict[int, str]:
    """Return the headings by the numbers of their lines."""
    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])  # what is within a line does not matter
    return {
        token.map[0]: content.content
        for token, content in itertools.pairwise(parser.parse(text))
        if token.type == "heading_open" and token.map and not token.level and token.markup[0] == "#"
    }


def _row_document(row: Mapping[str, Any], source: str, number: int) -> SourceDocument:
    if not isinstance(row.get("text"), str):
        raise CorpusError('has no "text"')
    title, origin, identity = (_label(row, key) for key in ("title", "source", "id"))
    split = row.get("split")
    if split is not None and split not in get_args(Split):
        known = ", ".join(get_args(Split))
        raise CorpusError(f'has the "split" {split!r}, which is none of {known}')
    return SourceDocument(
        text=row["text"],
        title=title or identity or f"{PurePosixPath(source).stem}, line {number}",
        source=origin or f"{source}:{number}",
        section_of=f"{source}#{identity}" if identity else None,
        split=split,
    )


def _label(row: Mapping[str, Any], key: str) -> str:
    """Return a field that names something; exports write a whole number as 3.0."""
    found = row.get(key)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, str | int | None):
        raise CorpusError(f'has a "{key}" that is neither text nor a whole number')
    return "" if found is None else str(found).strip()


def _json_object(line: bytes) -> dict[str, Any]:
    text = _decoded(line)
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise CorpusError(f"is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise CorpusError("is no JSON object")
    return value


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise CorpusError(f"cannot be read: {error.strerror}") from None


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"is not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}); convert the file: "
            "iconv -f ENCODING -t utf-8 FILE > NEW"
        ) from None


def _skip(place: str, line: int | None, problem: CorpusError, on_bad_row: str) -> Skipped:
    skipped = Skipped(place, line, str(problem))
    if on_bad_row != "skip":
        raise CorpusError(
            f'{skipped}; mend it, or pass --on-bad-row skip (in Python on_bad_row="skip")'
        ) from None
    return skipped
