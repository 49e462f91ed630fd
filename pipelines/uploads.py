"""Files that people upload: looked at before they are kept, then staged under their hash.

A name that a user gave is shown and written beside documents, and never becomes a path.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from peer_cl.durable import replace_file
from peer_cl.errors import CorpusError, StateError
from pipelines.corpora import CONVERT, SUFFIXES, check_no_binary, whole_path
from stores import StoreLayout

_MAX_CHARACTERS = 200


@dataclass(frozen=True)
class Upload:
    """A file as it came: what its sender calls it, and its bytes.

    Raises:
        CorpusError: when it is no text: empty, of another kind, binary or not UTF-8.
    """

    name: str
    data: bytes

    def __post_init__(self) -> None:
        shown = self.shown
        if self.suffix not in SUFFIXES:
            raise CorpusError(f"cannot read {shown}; upload a {', '.join(SUFFIXES)} file")
        if not self.data.strip():
            raise CorpusError(f"{shown} is empty; upload a file with text")
        check_no_binary(self.data, shown)
        try:
            self.data.decode()
        except UnicodeDecodeError as error:
            if self.suffix == ".jsonl":
                return  # a line that is not UTF-8 may be skipped like any malformed one
            raise CorpusError(
                f"{shown} is not UTF-8: byte {error.start} is 0x{self.data[error.start]:02x}; it "
                f"may be another kind of file, or is to be converted, e.g. with {CONVERT}"
            ) from None

    @property
    def shown(self) -> str:
        """The last part of the name, as far as it can be shown and kept.

        Example:
            >>> Upload("C:\\\\papers\\\\law.txt", b"A contract.").shown
            'law.txt'
        """
        last = PureWindowsPath(PurePosixPath(self.name).name).name
        plain = last.encode(errors="replace").decode()
        return "".join(c if c.isprintable() else "?" for c in plain)[-_MAX_CHARACTERS:]

    @property
    def suffix(self) -> str:
        """What kind of file it says it is."""
        return PurePosixPath(self.shown).suffix.lower()

    @functools.cached_property
    def sha256(self) -> str:
        """Of its bytes."""
        return hashlib.sha256(self.data).hexdigest()

    def path(self, layout: StoreLayout) -> Path:
        """Return where it lies once it is staged."""
        return layout.upload(self.sha256, self.suffix)

    def stage(self, layout: StoreLayout) -> Path:
        """Write it into a store's staging folder and return its path."""
        target = self.path(layout)
        replace_file(target, self.data)
        return target


def unnamed_place(layout: StoreLayout, suffix: str) -> Path:
    """Return where a file may lie in staging that no job names."""
    return layout.upload(uuid.uuid4().hex * 2, suffix)


Source = Upload | str | Path
"""Where text comes from: a file that was uploaded, or a file or folder of this machine."""


def check_within(source: Source, folders: Sequence[Path] | None) -> None:
    """Refuse a path that lies in none of some folders; what is uploaded is its sender's own.

    Args:
        source: an upload, or a file or folder of this machine, there or not.
        folders: whole paths; None: it may lie anywhere.

    Raises: CorpusError: when it lies elsewhere, which links are followed to find out.
    """
    if folders is None or isinstance(source, Upload):
        return
    path = whole_path(source)
    if any(path.is_relative_to(folder.resolve()) for folder in folders):
        return
    below = f" outside {', '.join(map(str, folders))}" if folders else ""
    raise CorpusError(
        f"{source} may not be read: nothing on the server is offered{below}; upload it"
    )


def describe_source(source: Source, layout: StoreLayout) -> dict[str, Any]:
    """Return what a job's request says of a source: where it is, without a word of it."""
    if isinstance(source, Upload):
        return {"upload": source.path(layout).name, "name": source.shown}
    return {"path": str(whole_path(source))}


def find_source(about: dict[str, Any], layout: StoreLayout) -> tuple[Path, str | None]:
    """Return the path of a described source, and the name that it is to be called by.

    Raises:
        StateError: when an upload is there no more.
    """
    if "path" in about:
        return Path(about["path"]), None
    path = layout.staging / about["upload"]
    if not path.is_file():
        raise StateError(f"the upload {about['name']} is not kept any more; upload it again")
    return path, str(about["name"])


@contextmanager
def readable(source: Source, layout: StoreLayout) -> Iterator[tuple[Path, str | None]]:
    """Yield a source as a path and the name that it is to be called by, to look at it.

    An upload is staged for that time alone, under a name that no job shares.

    Raises:
        StateError: when a repair or a purge, which leave nothing in staging that no job needs, took
            it away meanwhile.
    """
    if not isinstance(source, Upload):
        yield whole_path(source), None
        return
    path = unnamed_place(layout, source.suffix)
    replace_file(path, source.data)
    try:
        yield path, source.shown
    except (CorpusError, OSError) as error:
        if path.exists():
            raise
        raise StateError(
            f"{source.shown} was removed while it was looked at: a repair or a purge cleared the "
            "store's staging; look at it again"
        ) from error
    finally:
        path.unlink(missing_ok=True)
