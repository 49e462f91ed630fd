"""Which files a corpus has: paths, globs, folders, and what lies in compressed files."""

from __future__ import annotations

import glob
import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
    member: str | None = None
    """Its name within the archive at that path."""

    @property
    def name(self) -> PurePosixPath:
        """Its path without the suffix of compression."""
        name = PurePosixPath(self.source)
        return name.with_suffix("") if self.is_packed and self.member is None else name

    @property
    def suffix(self) -> str:
        """Its format."""
        return self.name.suffix.lower()

    @property
    def is_packed(self) -> bool:
        """Whether its bytes have to be unpacked first."""
        return self.path.suffix.lower() in COMPRESSED

    def content(self) -> bytes:
        """Return its bytes, unpacked; CorpusError "is ..." where that fails."""
        try:
            content = self._read()
        except RuntimeError as error:  # zipfile's, about a password
            raise CorpusError(f"is encrypted ({error})") from None
        except OSError as error:
            raise CorpusError(f"cannot be read: {error.strerror or error}") from None
        except (EOFError, zlib.error, zipfile.BadZipFile, zstandard.ZstdError) as error:
            raise CorpusError(f"is broken ({error})") from None
        if self.is_packed and len(content) > _LIMIT:
            raise CorpusError(f"unpacks to more than {MAX_GIGABYTES} GB; unpack it first")
        return content

    def _read(self) -> bytes:
        if self.member is not None:
            with zipfile.ZipFile(self.path) as archive:  # reads no more than `find_files` added up
                return archive.read(self.member)
        with self.path.open("rb") as file:
            if self.path.suffix.lower() == ".gz":
                return gzip.GzipFile(fileobj=file).read(_LIMIT + 1)
            if self.path.suffix.lower() == ".zst":
                frames = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
                return frames.read(_LIMIT + 1)
            return file.read()


@dataclass(frozen=True)
class FoundFiles:
    """The files of a corpus."""

    folders: list[Path]
    """Of the paths that were given."""
    files: list[FoundFile] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Archives that cannot be opened, and why."""
    others: list[tuple[str, str]] = field(default_factory=list)
    """Files that are not read, and why."""


def find_files(given: Sequence[str | Path]) -> FoundFiles:
    """Return the files at some paths, which may be globs, in the sorted order of their names.

    Files are named from the folder that all paths have in common. Hidden files and folders, and
    links to folders, are left out.

    Raises: CorpusError: when there is nothing at a path, or a folder cannot be read.
    """
    roots = [root for one in given for root in _roots(one)]
    found, paths = FoundFiles([one for one in roots if one.is_dir()]), dict[Path, None]()
    for root in roots:
        paths |= dict.fromkeys(_walk(root) if root.is_dir() else [root])
    common = Path(os.path.commonpath([one if one.is_dir() else one.parent for one in roots]))
    for path in sorted(paths):
        source = path.relative_to(common).as_posix()
        candidates = [FoundFile(source, path)] if path.is_file() else []
        if path.suffix.lower() == ".zip":
            try:
                candidates = _members(path, source)
            except CorpusError as problem:
                found.problems.append((source, str(problem)))
                continue
        elif not candidates:
            what = "a folder" if path.is_dir() else "nothing"
            found.others.append((source, f"is a link to {what}"))
        for one in candidates:
            if one.suffix in SUFFIXES:
                found.files.append(one)
            else:
                found.others.append((one.source, "is of no format that is read"))
    return found


def _roots(given: str | Path) -> list[Path]:
    if not str(given).strip():  # an unset shell variable would stand for the current folder
        raise CorpusError(f"{str(given)!r} names no file or folder; write . for the current folder")
    path = Path(given).expanduser()
    found = [str(path)] if path.exists() else []
    if not found and glob.has_magic(str(path)):
        # Path.glob takes no absolute patterns, and finds hidden files.
        found = glob.glob(str(path), recursive=True)  # noqa: PTH207
    if not found:
        raise CorpusError(f"no corpus at {given}; give files, folders or globs")
    # In one form however it is written: files are known again by their paths. A link to a file
    # keeps its own name.
    return [
        one.resolve() if one.is_dir() else one.parent.resolve() / one.name
        for one in map(Path, found)
    ]


def _walk(root: Path) -> Iterator[Path]:
    """Yield files, and links to folders, which are not followed."""

    def refuse(error: OSError) -> NoReturn:
        raise CorpusError(f"cannot read folder {error.filename}: {error.strerror}")

    for folder, inner, names in os.walk(root, onerror=refuse):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (path for name in inner if (path := Path(folder, name)).is_symlink())
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _members(path: Path, source: str) -> list[FoundFile]:
    """Return the files in a zip archive; those of archives within it are not looked for."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise CorpusError(f"is no zip archive that can be opened ({error})") from None
    if sum(one.file_size for one in members) > _LIMIT:
        raise CorpusError(f"unpacks to more than {MAX_GIGABYTES} GB; unpack it and give the folder")
    return [
        FoundFile(f"{source}/{name}", path, name)
        for name in sorted(one.filename for one in members)
        if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    ]
