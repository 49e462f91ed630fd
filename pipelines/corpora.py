"""Corpora on disk: txt, md and jsonl files, and folders of them, as documents."""

from __future__ import annotations

import codecs
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peer_cl.errors import CorpusError
from pipelines.bad_rows import BadRowPolicy, check_policy
from pipelines.documents import (
    SAID,
    SourceDocument,
    line_label,
    normalised_text,
    section_label,
    several,
)
from pipelines.markdown_sections import sections
from stores import texts

__all__ = ["Corpus", "check_storable", "read_corpus", "read_object"]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NUM_PROBLEMS = 5
_BROKEN, _ODD = "broken links", "pipes or devices"
_UNREADABLE = {_BROKEN, _ODD}
"""What a folder may hold and no program converts."""
_MOST_WHOLE = 2**53
"""From here on a float no longer tells whole numbers apart."""
CONVERT = "iconv -f windows-1252 -t utf-8 FILE > NEW"
"""How a file's encoding is changed; which one it has, only its owner knows."""

Row = dict[str, str | None]
"""text, title, source and section_of of a document, and its `label`, made up, where it has no title
of its own beside its text; or a `problem` in place of one, and the `file` that it is of as a whole;
or no text at all, for a file without any."""


@dataclass(frozen=True)
class Skipped:
    """Malformed rows that were left out, and files that could not be read."""

    num: int = 0
    problems: tuple[str, ...] = ()
    """Of the first of them: the file, the line, and what is wrong."""
    num_files: int = 0
    """Of these, whole files."""

    def __add__(self, other: Skipped) -> Skipped:
        """Return these and others."""
        problems = (*self.problems, *other.problems)[:_NUM_PROBLEMS]
        return Skipped(self.num + other.num, problems, self.num_files + other.num_files)

    @property
    def counted(self) -> str:
        """What was skipped, such as "2 malformed rows, 1 file"; empty where nothing was."""
        nums = ((self.num - self.num_files, "malformed row"), (self.num_files, "file"))
        return ", ".join(several(num, what) for num, what in nums if num)

    def __str__(self) -> str:
        """Return what is said where nothing else was found; empty where none was skipped."""
        return f" ({self.counted} skipped, the first: {self.problems[0]})" if self.num else ""


@dataclass(frozen=True)
class Corpus:
    """The documents of a corpus, and what was left out."""

    documents: tuple[SourceDocument, ...]
    skipped: Skipped = Skipped()
    left_out: tuple[tuple[str, int], ...] = ()
    """What files of a folder were not read for, and how many: their suffix, or what they lack."""


def read_corpus(
    path: str | Path, on_bad_row: BadRowPolicy = "stop", *, name: str | None = None
) -> Corpus:
    """Return the documents of a file, or of all files in a folder and its folders.

    A .txt file is one document; a .md or .markdown file one a section (its sections stay together
    when documents are divided into training and test); a .jsonl file one a line, an object with
    "text" and maybe "title", "source" and "id". Links are followed, each folder read once. Hidden
    files and folders are passed over; other kinds of files, and those without text, are counted.
    The order is the sorted order of paths, so it is the same on every machine.

    Args:
        path: The file or folder.
        on_bad_row: What a malformed line of a .jsonl file, or another file that cannot be read,
            does: stop with an error, or be counted. Malformed is also a line that is not UTF-8, or
            has half a character or NUL in what is kept; and so is a text of more than 256 MB.
        name: What a single file is called in titles, sources and messages; default: by its own
            name. An uploaded file lies under another one.

    Raises:
        CorpusError: when the corpus is missing, empty, binary, wrongly encoded or malformed, or the
            path is empty.
    """
    check_named(path)
    check_policy(on_bad_row)
    # datasets takes seconds to import, which commands that only check a name should not pay.
    from datasets import IterableDataset
    from datasets.iterable_dataset import ExamplesIterable

    root = Path(path)
    files, left_out = _files(root)
    about = {"root": str(root), "files": files, "name": name}
    # Its from_generator would leave a lock file for each corpus in the user's Hugging Face cache.
    rows = IterableDataset(ExamplesIterable(_rows, about))
    documents: list[SourceDocument] = []
    skipped = Skipped()
    for row in rows:
        if row["text"] is not None:
            documents.append(_document(row))
        elif row["problem"] is None:
            left_out["without text"] += 1
        elif on_bad_row == "stop":
            raise CorpusError(f"{row['problem']}; mend it, or pass --on-bad-row skip")
        else:
            skipped += Skipped(1, (row["problem"],), int(row["file"] is not None))
    if not documents:
        shown = name or root
        raise CorpusError(f"corpus {shown} has no text{skipped}; give a file or folder with text")
    return Corpus(tuple(documents), skipped, tuple(sorted(left_out.items())))


def files_left_out(counts: Sequence[tuple[str, int]]) -> str:
    """Return how many files were left out, and why.

    Example:
        >>> files_left_out([(".csv", 2), ("without text", 1)])
        '3 files left out: .csv 2, without text 1'
    """
    return f"{several(sum(count for _, count in counts), 'file')} left out: {_counted(counts)}"


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts)


def check_named(path: str | Path) -> None:
    """Refuse an empty path: Python takes it for the current folder, which nobody named.

    Raises:
        CorpusError: when it is empty or blank.
    """
    if not str(path).strip():  # a Path is never empty: it stands for "." already
        raise CorpusError(f"{str(path)!r} names no file or folder; write . for the current folder")


def whole_path(named: str | Path) -> Path:
    """Return the absolute path that a person named, `~` and links followed.

    Raises:
        CorpusError: when `~` stands for nobody's home, links lead in a circle, or it holds a NUL.
    """
    try:
        return Path(named).expanduser().resolve()
    except (RuntimeError, ValueError) as error:
        raise CorpusError(f"{named} names no place: {str(error).rstrip('.')}") from None


def _files(root: Path) -> tuple[list[str], Counter[str]]:
    """Return the files to read, sorted, and what others are left out for."""
    known = ", ".join(sorted(_READERS))
    if not root.exists():
        raise CorpusError(f"no corpus at {root}; give a {known} file or a folder of them")
    if root.is_file():
        if root.suffix.lower() not in _READERS:
            raise CorpusError(f"cannot read {root}; a corpus is a {known} file or a folder of them")
        return [_named(root, root.name)], Counter()
    if not root.is_dir():  # a pipe, which would be waited for without an end, or a device
        raise CorpusError(f"{root} is neither a file nor a folder; give a {known} file or a folder")
    found, left_out = list[Path](), Counter[str]()
    for file in _below(root):
        reason = _reason_against(file)
        if reason is None:
            found.append(file)
        else:
            left_out[reason] += 1
    if not found:
        told = f"only {_counted(sorted(left_out.items()))}: " if left_out else ""
        advice = "convert them" if left_out.keys() - _UNREADABLE else "give one that has some"
        raise CorpusError(f"no {known} file in folder {root}; {told}{advice}")
    return [_named(file, file.relative_to(root).as_posix()) for file in sorted(found)], left_out


def _below(root: Path) -> Iterator[Path]:
    """Yield what is no folder below one, hidden names left out, each folder once.

    Links come last, so that what they lead to is called by its own name where it has one here.
    """
    own, linked, seen = [root], list[Path](), set[tuple[int, int]]()
    while own or linked:
        folder = own.pop() if own else linked.pop(0)
        try:
            about, entries = folder.stat(), sorted(folder.iterdir())
        except OSError as error:
            raise CorpusError(f"cannot read folder {folder}: {error.strerror}") from None
        if (about.st_dev, about.st_ino) in seen:  # a link back would lead round for ever
            continue
        seen.add((about.st_dev, about.st_ino))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else own).append(entry)
            else:
                yield entry


def _reason_against(file: Path) -> str | None:
    """Return for what a file of a folder is left out; None: it is read."""
    if not file.is_file():
        return _BROKEN if file.is_symlink() else _ODD
    if file.suffix.lower() in _READERS:
        return None
    return ascii(file.suffix.lower())[1:-1] or "no suffix"


def _named(file: Path, source: str) -> str:
    """Return the path of a file whose name can be kept as the source of its documents."""
    try:
        source.encode()
    except UnicodeEncodeError:
        raise CorpusError(f"the name of {str(file)!a} is not UTF-8; rename the file") from None
    return str(file)


def read_object(line: bytes) -> dict[str, Any]:
    """Return the object on a line of a jsonl file.

    Raises:
        CorpusError: when there is none; the message begins with what the line is or has, and the
            caller puts file and line before it.

    Example:
        >>> read_object(b'{"text": "Quartz is hard."}')
        {'text': 'Quartz is hard.'}
    """
    try:
        value: Any = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"is not UTF-8 (byte {error.start} of the line is 0x{line[error.start]:02x}; "
            f"{CONVERT} converts a file)"
        ) from None
    except json.JSONDecodeError as error:
        raise CorpusError(f"is no JSON ({error.msg})") from None
    except RecursionError:
        raise CorpusError("is no JSON (nested too deeply)") from None
    except ValueError:  # Python reads whole numbers of some thousand digits alone
        most = sys.get_int_max_str_digits()
        raise CorpusError(f"is no JSON (a number has more than {most} digits)") from None
    if not isinstance(value, dict):
        raise CorpusError("is no JSON object")
    return value


def check_storable(key: str, text: str) -> None:
    """Refuse what JSON can write and no file or database can keep: half a character, and NUL.

    Raises:
        CorpusError: naming the key; the caller puts file and line before it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CorpusError(f'has half a character (a lone surrogate) in "{key}"') from None
    if "\0" in text:
        raise CorpusError(f'has a NUL character in "{key}"')


def check_length(text: str) -> None:
    """Refuse a text that is longer than any that a store keeps, before it is trained on.

    Raises:
        CorpusError: with its size and the most; the caller puts before it where it stands.
    """
    size = len(text.encode())
    if size > texts.MOST_BYTES:
        raise CorpusError(
            f"has a text of {size:,} bytes, and the most is {texts.MOST_BYTES:,}: divide it"
        )


def check_document(document: Any) -> None:
    """Refuse what cannot be learned or kept as a document: the wrong types, and texts without text.

    Raises:
        CorpusError: saying what is wrong; the caller puts before it which one it is.
    """
    if not isinstance(document, SourceDocument):
        raise CorpusError(f"is a {type(document).__name__}, not a SourceDocument")
    if document.kind not in SAID:  # questions are made here, of facts
        raise CorpusError(f"is of kind {document.kind!r}, not one of {', '.join(SAID)}")
    check_text("text", document.text)
    for key, label in (("title", document.title), ("source", document.source)):
        check_text(key, label, may_be_empty=True)
    if document.section_of is not None:
        check_text("section_of", document.section_of, may_be_empty=True)


def check_text(key: str, text: Any, *, may_be_empty: bool = False) -> None:
    """Refuse what is no text, or cannot be kept.

    Args:
        key: names it in messages.
        text: as it was given.
        may_be_empty: it is a label, not a text that is learned.

    Raises:
        CorpusError: naming the key; the caller puts before it where it stands.
    """
    if not isinstance(text, str):
        raise CorpusError(f'has a "{key}" that is a {type(text).__name__}, not a text')
    check_storable(key, text)
    if may_be_empty:
        return
    kept = normalised_text(text)
    if not kept:
        raise CorpusError(f'has no "{key}" with something in it')
    check_length(kept)


def _document(row: Row) -> SourceDocument:
    return SourceDocument(
        text=row["text"] or "",
        title=row["title"] or row["label"] or "",
        source=row["source"] or "",
        section_of=row["section_of"],
        has_own_title=row["title"] is not None,
    ).normalised()


def _rows(root: str, files: list[str], name: str | None) -> Iterator[tuple[str, Row]]:
    """Yield the rows of files one after the other, with keys; module-level, so that it pickles."""
    for path in files:
        file = Path(path)
        source = file.name if file == Path(root) else file.relative_to(root).as_posix()
        number = 0
        try:
            content = _content(file, name or path)
            for row in _READERS[file.suffix.lower()](content, name or source, name or path):
                yield f"{path}:{number}", row
                number += 1
        except CorpusError as error:
            yield f"{path}:{number}", _problem(str(error), file=path)
        else:
            if not number:
                yield f"{path}:{number}", _row(None, source)


def _read_text(content: bytes, source: str, shown: str) -> Iterator[Row]:
    text = normalised_text(_decoded(content, shown))
    if text:
        try:
            check_length(text)
        except CorpusError as problem:  # of the file as a whole, which a section's is not
            raise CorpusError(f"{shown} {problem}") from None
        yield _row(text, source, label=Path(source).stem)


def _read_markdown(content: bytes, source: str, shown: str) -> Iterator[Row]:
    for heading, section in sections(normalised_text(_decoded(content, shown))):
        label = section_label(source, heading)  # the heading's line is in the section
        try:
            check_length(section)
        except CorpusError as problem:
            yield _problem(f"{shown} {problem}")
        else:
            yield _row(section, source, label=label, section_of=source)


def _read_json_lines(content: bytes, source: str, shown: str) -> Iterator[Row]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            try:
                row = _json_document(read_object(line), source, number)
            except CorpusError as problem:
                row = _problem(f"{shown}:{number} {problem}")
            yield row


def _json_document(value: dict[str, Any], source: str, number: int) -> Row:
    """Return the row of an object; a problem is a CorpusError that does not name the place yet."""
    text = value.get("text")
    if not isinstance(text, str) or not normalised_text(text):
        raise CorpusError('has no "text" with something in it')
    for key in ("title", "source", "id"):
        if not _is_label(_label(value, key)):
            raise CorpusError(f'has a "{key}" that is neither text nor a whole number')
    for key in ("text", "title", "source", "id"):
        check_storable(key, str(value.get(key)))
    text = normalised_text(text)
    check_length(text)
    identity = _label(value, "id")
    if not str(identity).strip():  # so some exports write that there is none
        identity = None
    title = _label(value, "title")
    label = identity if "title" not in value else None
    return _row(
        text,
        str(_label(value, "source") or f"{source}:{number}"),
        title=str(title) if title not in (None, "") else None,
        label=str(label) if label is not None else line_label(source, number),
        # Rows that share an id are parts of one document.
        section_of=None if identity is None else f"{source}#{identity}",
    )


def _label(value: dict[str, Any], key: str) -> Any:
    """Return a field that names something; a whole number may be written as 3.0, as exports do."""
    found = value.get(key)
    if isinstance(found, float) and found.is_integer() and abs(found) < _MOST_WHOLE:
        return int(found)
    return found


def _is_label(found: Any) -> bool:
    """Return whether a field can name something; to Python true is a number."""
    return isinstance(found, str | int | None) and not isinstance(found, bool)


def _row(
    text: str | None,
    source: str,
    *,
    title: str | None = None,
    label: str | None = None,
    section_of: str | None = None,
) -> Row:
    return {
        "text": text,
        "title": title,
        "label": label,
        "source": source,
        "section_of": section_of,
        "problem": None,
        "file": None,
    }


def _problem(message: str, *, file: str | None = None) -> Row:
    return {**_row(None, ""), "problem": message, "file": file}


def _content(file: Path, shown: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise CorpusError(f"cannot read {shown}: {error.strerror}") from None
    # Overwritten by blanks rather than cut off, so that reported byte offsets stay true.
    return content.replace(_BYTE_ORDER_MARK, b"   ", 1) if _has_mark(content) else content


def _has_mark(content: bytes) -> bool:
    return content.startswith(_BYTE_ORDER_MARK)


def check_no_binary(content: bytes, shown: str) -> None:
    """Refuse bytes that are no text in any encoding that is read.

    Raises:
        CorpusError: when there is a NUL in them; UTF-16, which has many, is told by its mark.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError(f"{shown} is UTF-16; convert it: iconv -f utf-16 -t utf-8 FILE > NEW")
    nul = content.find(b"\0")
    if nul >= 0:
        raise CorpusError(f"{shown} is binary (NUL at byte {nul}); a corpus is UTF-8 text")


def _decoded(content: bytes, shown: str) -> str:
    check_no_binary(content, shown)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{shown} is not UTF-8: byte {error.start} is "
            f"0x{content[error.start]:02x}; convert it, e.g. with {CONVERT}"
        ) from None


_READERS = {
    ".txt": _read_text,
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".jsonl": _read_json_lines,
}
SUFFIXES = tuple(_READERS)
"""Of the files that are read."""
