"""Which files a corpus has: paths, globs, folders, and what lies in compressed files."""

from __future__ import annotations

import glob
import gzip
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

import zstandard

from peer_cl.errors import CorpusError
from pipelines.files.parsers import PARSERS
from pipelines.files.plain import TEXT_READERS

SUFFIXES = tuple(sorted({".jsonl", *TEXT_READERS, *PARSERS}))
"""Of the files that are read, each also as .gz, .zst or within a .zip."""
COMPRESSED = (".gz", ".zip", ".zst")
MAX_GIGABYTES = 1
"""Of what is in one compressed file: a few kilobytes can hold petabytes."""
_LIMIT = MAX_GIGABYTES << 30


@dataclass(frozen=True)
class FoundFile:
    """A file to read."""

    source: str
    """How its documents name it: its path below what was given, and its name within an archive."""
    path: Path
    content: Callable[[], bytes]
    """Reads it, unpacked; CorpusError "is ..." where that fails."""

    @property
    def name(self) -> PurePosixPath:
        """Its path without the suffix of compression."""
        name = PurePosixPath(self.source)
        return name.with_suffix("") if name.suffix.lower() in COMPRESSED else name

    @property
    def suffix(self) -> str:
        """Its format."""
        return self.name.suffix.lower()

    @property
    def is_packed(self) -> bool:
        """Whether its bytes have to be unpacked first."""
        return self.path.suffix.lower() in COMPRESSED


@dataclass(frozen=True)
class FoundFiles:
    """The files of a corpus."""

    files: list[FoundFile]
    problems: list[tuple[str, str]]
    """Archives that cannot be opened, and why."""
    folders: list[Path]
    """Of the paths that were given."""
    others: Counter[str]
    """Numbers of files that are not read, by suffix or by what else is the matter."""


def find_files(given: Sequence[str | Path]) -> FoundFiles:
    """Return the files at some paths, which may be globs, in the sorted order of their names.

    Files are named from the folder that all paths have in common. Hidden files and folders, and
    links to folders, are left out.

    Raises: CorpusError: when there is nothing at a path, or a folder cannot be read.
    """
    roots = [root for one in given for root in _roots(one)]
    paths = dict[Path, None]()
    found = FoundFiles([], [], [root for root in roots if root.is_dir()], Counter())
    for root in roots:
        paths |= dict.fromkeys(_walk(root, found.others) if root.is_dir() else [root])
    common = Path(os.path.commonpath([one if one.is_dir() else one.parent for one in roots]))
    for path in sorted(paths):
        source = path.relative_to(common).as_posix()
        if path.suffix.lower() == ".zip":
            try:
                found.files.extend(_members(path, source, found.others))
            except CorpusError as problem:
                found.problems.append((source, str(problem)))
        else:
            one = FoundFile(source, path, lambda path=path: _unpacked(path))  # type: ignore[misc]
            if one.suffix in SUFFIXES and path.is_file():
                found.files.append(one)
            else:
                found.others[one.suffix or "no suffix"] += 1
    return found


def _roots(given: str | Path) -> list[Path]:
    if not str(given).strip():  # an unset shell variable would stand for the current folder
        raise CorpusError(f"{str(given)!r} names no file or folder; write . for the current folder")
    path = Path(given).expanduser()
    if path.exists():
        return [path.absolute()]
    # Path.glob takes no absolute patterns, and finds hidden files.
    found = glob.glob(str(path), recursive=True) if glob.has_magic(str(path)) else []  # noqa: PTH207
    if not found:
        raise CorpusError(f"no corpus at {given}; give files, folders or globs")
    return [Path(one).absolute() for one in found]


def _walk(root: Path, others: Counter[str]) -> Iterator[Path]:
    def refuse(error: OSError) -> NoReturn:
        raise CorpusError(f"cannot read folder {error.filename}: {error.strerror}")

    for folder, inner, names in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        if linked := sum(Path(folder, name).is_symlink() for name in inner):
            others["linked folder"] += linked
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _members(path: Path, source: str, others: Counter[str]) -> Iterator[FoundFile]:
    """Yield the files in a zip archive; archives within it are not opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise CorpusError(f"is no zip archive that can be opened ({error})") from None
    if sum(one.file_size for one in members) > _LIMIT:
        raise CorpusError(f"unpacks to more than {MAX_GIGABYTES} GB; unpack it and give the folder")

    def read(name: str) -> bytes:
        with zipfile.ZipFile(path) as archive:  # no more is read than the size that was added up
            return archive.read(name)

    for member in sorted(members, key=lambda one: one.filename):
        name = PurePosixPath(member.filename)
        if any(part.startswith((".", "__MACOSX")) for part in name.parts):
            continue
        one = FoundFile(
            f"{source}/{name}",
            path,
            lambda name=member.filename: _reading(lambda: read(name)),  # type: ignore[misc]
        )
        if name.suffix.lower() in SUFFIXES:
            yield one
        else:
            others[name.suffix.lower() or "no suffix"] += 1


def _unpacked(path: Path) -> bytes:
    def read() -> bytes:
        suffix = path.suffix.lower()
        if suffix == ".gz":
            with gzip.open(path) as file:
                content = file.read(_LIMIT + 1)
        elif suffix == ".zst":
            with path.open("rb") as packed:
                frames = zstandard.ZstdDecompressor()
                content = frames.stream_reader(packed, read_across_frames=True).read(_LIMIT + 1)
        else:
            return path.read_bytes()
        if len(content) > _LIMIT:
            raise CorpusError(f"unpacks to more than {MAX_GIGABYTES} GB; unpack it first")
        return content

    return _reading(read)


def _reading(read: Callable[[], bytes]) -> bytes:
    """Return what is read; CorpusError where that fails."""
    try:
        return read()
    except RuntimeError as error:  # zipfile's, about a password
        raise CorpusError(f"is encrypted ({error})") from None
    except OSError as error:
        raise CorpusError(f"cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, zipfile.BadZipFile, zstandard.ZstdError) as error:
        raise CorpusError(f"is broken ({error})") from None
