"""Corpora as documents: files in many formats, rows of tables and datasets, or documents."""

from __future__ import annotations

import hashlib
import itertools
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, get_args

from peer_cl.errors import CorpusError
from pipelines.files import Part, Row
from pipelines.files.finding import COMPRESSED, SUFFIXES, FoundFile, find_files
from pipelines.files.named import PREFIX, load_rows
from pipelines.files.plain import TEXT_READERS, decoded, json_rows
from pipelines.files.tables import Columns, choose_columns, whole_rows
from pipelines.files.worker import Worker
from pipelines.progress import Progress, no_progress
from pipelines.words import several

DocumentKind = Literal["text", "fact", "question"]
"""A text; the statement of a fact; or a fact as JSON, kept to be asked and never learned."""
Split = Literal["train", "validation", "test"]
LEARNED_KINDS: tuple[DocumentKind, ...] = ("text", "fact")


SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


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
    file: str | None = None
    """The path of the file that it was read from, by which a later ingest knows what changed."""

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
        file=checked_text("file", document.file or "") or None,
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


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, a line being one at most."""
    return [one.strip() for one in SENTENCE_END.split(text) if one.strip()]


if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

T = TypeVar("T")
BadRowPolicy = Literal["stop", "skip"]
_SAMPLE_ROWS = 100
"""Of a table, by which its columns are chosen."""


@dataclass(frozen=True)
class Skipped:
    """A malformed row, or a whole file, that was not read."""

    place: str
    """A file, or a row of it: "notes.jsonl:3"."""
    reason: str

    def __str__(self) -> str:
        """Return place and reason, such as "notes.jsonl:3 is no JSON"."""
        return f"{self.place} {self.reason}"


@dataclass(frozen=True)
class Corpus:
    """The documents of a corpus, and what was not read."""

    documents: tuple[SourceDocument, ...]
    skipped: tuple[Skipped, ...] = ()
    other_files: tuple[Skipped, ...] = ()
    """Files in which there is nothing to read: empty ones, and those of other formats."""
    notes: tuple[str, ...] = ()
    """What was guessed, in words: columns of tables, encodings."""
    files: frozenset[str] = frozenset()
    """The paths of the files that were read; of an archive, if all in it could be."""
    folders: tuple[Path, ...] = ()
    """Of those files, folders that were given as a whole."""


CorpusSource: TypeAlias = (
    "str | Path | Dataset | IterableDataset | Corpus"
    " | Iterable[str | Path | SourceDocument | Mapping[str, Any]]"
)
"""What can be learned: paths, a dataset or its name, rows, documents, or a corpus that was read."""


def read_corpus(
    corpus: CorpusSource,
    on_bad_row: BadRowPolicy = "stop",
    *,
    columns: Columns | None = None,
    split: str | None = None,
    progress: Progress = no_progress,
) -> Corpus:
    """Return the documents of files, of a dataset, or of rows that Python holds.

    A txt file is one document; so is each section of an md, html, docx or epub file, each page of a
    pdf, each slide of a pptx (the parts of a file stay in one split), and each row of a jsonl, csv,
    tsv, xlsx or parquet file or a dataset. A row's text is in the column "text" or one that is like
    it, below a line with the others; in a table of short values some ten rows are a document, a
    line each. A row may have a title, "source", an id (rows with one id are sections of one
    document) and "split" (train, validation or test). Files may be compressed
    (.gz, .zst) or in a .zip archive. They are read in the sorted order of their paths, the same on
    every machine. Hidden files and folders are ignored; other files are named.

    A file that cannot be read is reported in `skipped`, and the rest is read.

    Args:
        corpus: a path or glob, "hf:NAME" (`load_dataset` with that name or folder), or several of
            these; or one split of a dataset, such as `load_dataset("imdb")["train"]`; or rows as
            dicts; or documents.
        on_bad_row: "stop" with an error at a malformed row, or "skip" it.
        columns: of tables, where they should not be guessed.
        split: of a dataset by name, maybe only its beginning: "train[:100]".

    Raises:
        CorpusError: when the corpus is missing or has no text, or a row is malformed ("stop").
    """
    if isinstance(corpus, Corpus):
        return corpus
    if isinstance(corpus, Mapping):
        raise CorpusError(f"the dataset has the splits {', '.join(corpus)}: give one of them")
    given = [corpus] if isinstance(corpus, str | Path) else [*corpus]
    places = [one for one in given if isinstance(one, str | Path)]
    names = [one for one in places if isinstance(one, str) and one.startswith(PREFIX)]
    paths = [one for one in places if one not in names]
    if split is not None and not names:
        raise CorpusError(f"a split is one of a dataset by name ({PREFIX}NAME), and none is given")
    reading = _Reading(on_bad_row, columns or Columns())
    info = getattr(corpus, "info", None)
    reading.rows_of_python(given, getattr(info, "dataset_name", None) or "dataset")
    for name in names:
        reading.named(name, split)
    if paths:
        reading.files(paths, progress)
    if places and not reading.documents:
        problems = [*reading.skipped, *reading.others]
        about = [f" ({several(len(problems), 'problem')}, the first: {one})" for one in problems]
        raise CorpusError(
            f"corpus {', '.join(map(str, places))} has no text{''.join(about[:1])}; formats that "
            f"are read: {', '.join(SUFFIXES)}, also as {', '.join(COMPRESSED)}"
        )
    return Corpus(
        documents=tuple(reading.documents),
        skipped=tuple(reading.skipped),
        other_files=tuple(reading.others),
        notes=tuple(reading.notes),
        files=frozenset(reading.paths),
        folders=tuple(reading.folders),
    )


def read_json_lines(
    path: Path, make: Callable[[Mapping[str, Any]], T], on_bad_row: BadRowPolicy
) -> tuple[list[T], list[Skipped]]:
    """Return what is made of each line's object, and the malformed lines that were skipped.

    `make` gets the object and raises a CorpusError "has ..." for a malformed one.
    """
    made: list[T] = []
    skipped: list[Skipped] = []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from None
    for row in json_rows(content):
        try:
            made.append(make(_values(row)))
        except CorpusError as problem:
            skipped.append(_skip(f"{path}{row.place}", problem, on_bad_row))
    return made, skipped


@dataclass
class _Reading:
    """A corpus while it is read."""

    on_bad_row: BadRowPolicy
    columns: Columns
    documents: list[SourceDocument] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    others: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)
    folders: list[Path] = field(default_factory=list)

    def rows_of_python(self, given: Iterable[Any], name: str) -> None:
        """Add documents, and rows with the columns that all of them have."""
        rows = list[Row]()
        for number, one in enumerate(given):
            if isinstance(one, Mapping):
                rows.append(Row(f":{number}", one))
            elif isinstance(one, SourceDocument):
                try:
                    self.documents.append(checked(one))
                except CorpusError as problem:
                    self.skipped.append(_skip(f"corpus[{number}]", problem, self.on_bad_row))
        self._rows(rows, self._choose(rows, name), name)

    def files(self, paths: Sequence[str | Path], progress: Progress) -> None:
        """Add what is in files."""
        found = find_files(paths)
        self.folders += found.folders
        self.others += [Skipped(*other) for other in found.others]
        self.skipped += [Skipped(*problem) for problem in found.problems]
        failed = set[Path]()
        with Worker() as worker:
            for number, file in enumerate(found.files):
                progress("reading files", number, len(found.files), "")
                try:
                    content = [*self._content(file, worker)]
                    documents = _part_documents(file, content)
                    rows = [one for one in content if isinstance(one, Row)]
                    tables = [
                        (f"{file.source}{table}", [*own])
                        for table, own in itertools.groupby(rows, key=lambda row: row.table)
                    ]
                    chosen = [self._choose(own, source) for source, own in tables]
                except CorpusError as problem:
                    self.skipped.append(Skipped(file.source, str(problem)))
                    failed.add(file.path)
                    continue
                if not documents and not tables:
                    self.others.append(Skipped(file.source, "holds no text"))
                self.documents += documents
                for (source, own), columns in zip(tables, chosen, strict=True):
                    self._rows(own, columns, source, str(file.path))
        self.paths = {str(file.path) for file in found.files if file.path not in failed}

    def _content(self, file: FoundFile, worker: Worker) -> Iterable[Part | Row]:
        """Return what is in a file; CorpusError "is ..." where it cannot be read."""
        if file.suffix == ".jsonl":
            return json_rows(file.content())
        if file.suffix in TEXT_READERS:
            text, encoding = decoded(file.content())
            if not encoding.startswith("utf"):
                self.notes.append(f"{file.source}: not in UTF-8; read as {encoding}")
            return TEXT_READERS[file.suffix](composed_text(text))
        if not file.is_packed:
            return worker.read(file.path, file.suffix)
        with tempfile.NamedTemporaryFile(suffix=file.suffix) as unpacked:
            unpacked.write(file.content())
            unpacked.flush()
            return worker.read(Path(unpacked.name), file.suffix)

    def named(self, name: str, split: str | None) -> None:
        """Add the rows of a dataset by its name."""
        found, source = load_rows(name, split)
        rows = [Row(f":{number}", row) for number, row in enumerate(found)]
        self._rows(rows, self._choose(rows, source), source)

    def _choose(self, rows: Sequence[Row], source: str) -> Columns:
        samples = [row.values for row in rows[:_SAMPLE_ROWS] if not row.problem]
        if not samples:
            return Columns()
        chosen, why = choose_columns(samples, self.columns)
        self.notes.append(f"{source}: {why}")
        return chosen

    def _rows(
        self, rows: Iterable[Row], columns: Columns, source: str, file: str | None = None
    ) -> None:
        if columns.text is None:
            rows, columns = whole_rows(rows), Columns("text")
        for row in rows:
            try:
                made = _row_document(_values(row), columns, source, row.place)
                self.documents.append(checked(replace(made, file=file)))
            except CorpusError as problem:
                self.skipped.append(_skip(f"{source}{row.place}", problem, self.on_bad_row))


def _part_documents(file: FoundFile, found: Iterable[Part | Row]) -> list[SourceDocument]:
    """Return the parts of a file as documents."""
    stem = file.name.stem
    return [
        checked(
            SourceDocument(
                part.text,
                f"{stem}: {part.heading}" if part.heading else stem,
                f"{file.source}{part.place}",
                section_of=None if file.suffix == ".txt" else file.source,
                file=str(file.path),
            )
        )
        for part in found
        if isinstance(part, Part) and part.text.strip()
    ]


def _values(row: Row) -> Mapping[str, Any]:
    if row.problem:
        raise CorpusError(row.problem)
    return row.values


def _row_document(
    row: Mapping[str, Any], columns: Columns, source: str, place: str
) -> SourceDocument:
    """Return a row as a document; `source` is its table and `place` where it stands there."""
    text = row.get(columns.text or "")
    if not isinstance(text, str):
        raise CorpusError(f'has no "{columns.text}"')
    title, identity = (_label(row, key) if key else "" for key in (columns.title, columns.id))
    origin, split = _label(row, "source"), row.get("split")
    if split is not None and split not in get_args(Split):
        known = ", ".join(get_args(Split))
        raise CorpusError(f'has the "split" {split!r}, which is none of {known}')
    where = f"{'lines' if '-' in place else 'line'} {place.removeprefix(':')}"
    return SourceDocument(
        text=f"{columns.heading(row)}\n\n{text}" if text.strip() else "",
        title=title or identity or f"{PurePosixPath(source).stem}, {where}",
        source=origin or f"{source}{place}",
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


def _skip(place: str, problem: CorpusError, on_bad_row: str) -> Skipped:
    skipped = Skipped(place, str(problem))
    if on_bad_row != "skip":
        raise CorpusError(
            f'{skipped}; mend it, or pass --on-bad-row skip (in Python on_bad_row="skip")'
        ) from None
    return skipped
