"""Immutable objects, named by the sha256 of their bytes, which every read verifies.

Local objects lie at objects/ab/abcd...; other places are reached by fsspec URL. An object that a
committed row names was durable before that row: put_bytes returns only then.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zstandard

from peer_cl.errors import DamageError, StateError, UnsupportedError

SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file", "memory")
"""Buckets and folders alone: some of fsspec's file systems run code or fetch pages, and the URL
stands in store.toml, which another person may have written."""
_OBJECT_ID = re.compile(r"[0-9a-f]{64}")


class ObjectStore:
    """Objects in a local folder (a Path), or at an fsspec URL such as "s3://bucket/knowledge".

    Raises: UnsupportedError: when the URL is of none of SCHEMES, or its file system (s3fs, ...) is
        not installed.
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        self._folder = place if isinstance(place, Path) else None
        if isinstance(place, Path):
            return
        scheme, found, _ = place.partition("://")
        if not found or scheme not in SCHEMES or "::" in place:
            raise UnsupportedError(
                f"cannot keep objects at {place!r}: use a URL of one of {', '.join(SCHEMES)}, for "
                "example s3://bucket/name or file:///absolute/folder"
            )
        if scheme == "file":
            self._folder = Path(urlsplit(place).path)
            return
        import fsspec.core  # only stores outside the folder pay for it

        try:
            self._files, root = fsspec.core.url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise UnsupportedError(
                f"cannot reach objects at {place}: {error}; install the file system of {scheme}://"
            ) from None
        self._root = str(root).rstrip("/")

    def put_bytes(self, data: bytes) -> str:
        """Store bytes durably and return their id; what is there already is left alone."""
        return self._put_many([data])[0]

    def put_texts(self, texts: Iterable[str]) -> list[str]:
        """Store texts (UTF-8, zstandard) and return their objects' ids, in order."""
        compressor = zstandard.ZstdCompressor(level=10)
        return self._put_many(compressor.compress(text.encode()) for text in texts)

    def read(self, object_id: str) -> bytes:
        """Return an object's bytes, or raise DamageError: missing, or of another hash."""
        try:
            if self._folder is not None:
                data = self.path(object_id).read_bytes()
            else:
                with self._reached() as files:
                    data = bytes(files.cat_file(self._remote(object_id)))
        except FileNotFoundError:
            fault = f"is missing from {self.place}"
        else:
            found = hashlib.sha256(data).hexdigest()
            if found == object_id:
                return data
            fault = f"in {self.place} is damaged: its bytes have sha256 {found}"
        raise DamageError(
            f"object {object_id} {fault}; restore it from a copy, or run `peer-cl doctor`"
        )

    def local_file(self, object_id: str) -> Path | None:
        """Return the file of an object, its bytes verified, without holding them in memory; None
        where objects lie elsewhere. DamageError as for `read`.
        """
        if self._folder is None:
            return None
        path = self.path(object_id)
        with suppress(FileNotFoundError), path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == object_id:
                return path
        self.read(object_id)  # says what is wrong
        return None

    def read_text(self, object_id: str) -> str:
        """Return the text of an object that `put_texts` stored, verified."""
        data = self.read(object_id)
        try:
            return zstandard.ZstdDecompressor().decompress(data).decode()
        except (zstandard.ZstdError, UnicodeDecodeError) as error:
            raise DamageError(f"object {object_id} holds no document's text: {error}") from None

    def path(self, object_id: str) -> Path:
        """Return the file of a local object."""
        return Path(self._folder or "", object_id[:2], object_id)

    def exists(self, object_id: str) -> bool:
        """Return whether the object is there (its bytes are not read)."""
        if self._folder is not None:
            return self.path(object_id).is_file()
        with self._reached() as files:
            return bool(files.exists(self._remote(object_id)))

    def size(self, object_id: str) -> int:
        """Return the object's size in bytes; it is there."""
        if self._folder is not None:
            return self.path(object_id).stat().st_size
        with self._reached() as files:
            return int(files.size(self._remote(object_id)))

    def sizes(self) -> dict[str, int]:
        """Return the ids of all objects with their sizes in bytes, by one listing."""
        if self._folder is not None:
            return {
                path.name: path.stat().st_size
                for path in self._folder.glob("??/*")
                if _OBJECT_ID.fullmatch(path.name) and path.name.startswith(path.parent.name)
            }
        with self._reached() as files:
            found = files.find(self._root, detail=True)
        sizes = {str(name).rsplit("/", 1)[-1]: int(about["size"]) for name, about in found.items()}
        return {name: size for name, size in sizes.items() if _OBJECT_ID.fullmatch(name)}

    def missing(self, object_ids: Iterable[str]) -> list[str]:
        """Return those objects that are not there: of a remote place, by one listing."""
        if self._folder is not None:
            return [one for one in object_ids if not self.path(one).is_file()]
        stored = self.sizes()
        return [one for one in object_ids if one not in stored]

    def delete(self, object_id: str) -> None:
        """Delete an object durably, if it is there."""
        if not self.exists(object_id):
            return
        if self._folder is not None:
            self.path(object_id).unlink()
            sync_folder(self.path(object_id).parent)
            return
        with self._reached() as files:
            files.rm_file(self._remote(object_id))

    def leftovers(self) -> list[Path]:
        """Return local files that a crash left half-written."""
        return sorted(self._folder.glob("??/*.part")) if self._folder is not None else []

    def _put_many(self, blobs: Iterable[bytes]) -> list[str]:
        """Store many objects; each local folder is synced once, at the end."""
        ids = [self._put(data) for data in blobs]
        if self._folder is not None and ids:
            for prefix in sorted({object_id[:2] for object_id in ids}):
                sync_folder(self._folder / prefix)
            sync_folder(self._folder)
        return ids

    def _put(self, data: bytes) -> str:
        """Store bytes under the name that their hash gives; damaged ones there are replaced."""
        object_id = hashlib.sha256(data).hexdigest()
        try:
            self.read(object_id)
        except (DamageError, OSError):
            if self._folder is None:
                with self._reached() as files:
                    files.makedirs(f"{self._root}/{object_id[:2]}", exist_ok=True)
                    files.pipe_file(self._remote(object_id), data)
            else:
                target = self.path(object_id)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = write_temporary(data, target.parent)
                temporary.chmod(0o444)
                temporary.replace(target)
        return object_id

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        """Yield the file system of a remote place, and turn its own errors into ours."""
        try:
            self._files.invalidate_cache()  # another process may have changed what it listed
            yield self._files
        except FileNotFoundError:
            raise
        except Exception as error:  # each of fsspec's file systems has errors of its own
            words = " ".join(str(error).split()) or type(error).__name__
            raise StateError(
                f"cannot reach objects at {self.place}: {words}; check the connection and try again"
            ) from error

    def _remote(self, object_id: str) -> str:
        return f"{self._root}/{object_id[:2]}/{object_id}"


if sys.platform == "darwin":
    import fcntl


def write_temporary(data: bytes, folder: Path) -> Path:
    """Write bytes into a new file of `folder`, durably, and return its path; whole or not."""
    path = folder / f"{uuid.uuid4().hex}.part"
    try:
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            _sync_descriptor(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`; a reader sees the old bytes or the new ones, never a part."""
    temporary = write_temporary(data, path.parent)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it, a power failure may undo a rename."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _sync_descriptor(descriptor: int) -> None:
    """Make an open file durable; macOS's own fsync leaves the bytes in the drive's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
