"""Immutable objects, named by the sha256 of their bytes and verified at every read.

Local objects lie at objects/ab/abcd...; other places are reached by fsspec URL, of few kinds: the
URL stands in store.toml, which another person may have written, and some of fsspec's file systems
run code or fetch pages. An object that a committed row names was durable before that row was: put
returns only then.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from peer_cl.durable import file_sha256, read_chunks, sync_folder, write_temporary
from peer_cl.errors import DamageError, InputError, StateError, UnsupportedError

_OBJECT_ID = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{2}")
MARK = "peer-cl.json"
_AGAIN = "see to the connection, then run it again"
SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "file")
"""Of the URLs at which objects may lie: buckets, which are asked with the user's own settings."""
MEMORY = "memory"
"""Of the URLs at which objects may lie for as long as one process: no store is made there."""
_MOVE = (
    "copy them to such a place, or to a folder, and write that into the store's store.toml "
    "(objects_url)"
)


def check_object_id(object_id: str) -> str:
    """Return the id when it is a sha256 in hex, the only thing that may name a file.

    Raises: InputError: for everything else ("../../etc/passwd").
    """
    if not isinstance(object_id, str) or not _OBJECT_ID.fullmatch(object_id):
        raise InputError(f"not an object's id (64 hex digits): {str(object_id)[:80]!r}")
    return object_id


class ObjectStore:
    """Objects in a local folder, or at an fsspec URL.

    Args:
        place: A folder's Path, whatever is in its name, or text: a URL such as
            "s3://bucket/knowledge", or a folder.
        staging: A local folder for files in the making; on the same disk as a local `place`.

    Raises:
        InputError: when the URL cannot be read.
        UnsupportedError: when it is not of `SCHEMES` or `MEMORY`, is a chain ("zip::..."), or its
            file system is not installed.
    """

    def __init__(self, place: str | Path, staging: Path) -> None:
        self.place = str(place)
        self._staging = Path(staging)
        # A folder may be called "notes:law", which reads as a URL.
        scheme = "" if isinstance(place, Path) else url_scheme(place)
        self._folder = Path(place) if len(scheme) <= 1 else None  # one letter: a Windows drive
        self._files: Any = None
        if scheme == "file":
            self._folder = url_folder(self.place)
        elif self._folder is None:
            self._files, self._root = _open_remote(self.place)

    def put_bytes(self, data: bytes) -> str:
        """Store bytes durably and return their id; what is there already is left alone."""
        return self._put([data], sync=True)

    def put_file(self, path: Path) -> str:
        """Store a copy of a file durably and return its id."""
        return self._put(read_chunks(Path(path)), sync=True)

    def put_many(self, blobs: Iterable[bytes]) -> list[str]:
        """Store many objects and return their ids; each folder is synced once, at the end."""
        ids = [self._put([data], sync=False) for data in blobs]
        self._sync(ids)
        return ids

    def read(self, object_id: str) -> bytes:
        """Return an object's bytes, verified.

        Raises: DamageError: when it is missing or its bytes have another hash (both are named).
        """
        check_object_id(object_id)
        try:
            if self._folder is not None:
                data = self._local(object_id).read_bytes()
            else:
                with self._reached() as files:
                    data = bytes(files.cat_file(self._remote(object_id)))
        except FileNotFoundError:
            raise _missing(object_id, self.place) from None
        _check_hash(object_id, hashlib.sha256(data).hexdigest(), self.place)
        return data

    def path(self, object_id: str) -> Path | None:
        """Return the file of a local object after verifying it, or None when it is elsewhere."""
        check_object_id(object_id)
        if self._folder is None:
            return None
        path = self._local(object_id)
        if not path.is_file():
            raise _missing(object_id, self.place)
        _check_hash(object_id, file_sha256(path), self.place)
        return path

    def check_disk(self) -> None:
        """Raise a StateError where a local place is on another disk than its staging.

        Files are staged and then renamed, which no file system does to another.
        """
        if self._folder is not None and disk_of(self._folder) != disk_of(self._staging):
            raise StateError(
                f"{self.place} is on another disk than {self._staging.parent}: what lies there can "
                "be read and nothing be written; put both on one disk"
            )

    def verify(self, object_id: str) -> None:
        """Raise DamageError unless the object is there with the right bytes."""
        if self.path(object_id) is None:
            self.read(object_id)

    def exists(self, object_id: str) -> bool:
        """Return whether the object is there (its bytes are not read)."""
        check_object_id(object_id)
        if self._folder is not None:
            return self._local(object_id).is_file()
        with self._reached() as files:
            return bool(files.exists(self._remote(object_id)))

    def missing(self, object_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that are not there."""
        wanted = {check_object_id(object_id) for object_id in object_ids}
        if self._folder is None and len(wanted) > 8:
            return wanted - set(self.ids())  # one listing beats thousands of requests
        return {object_id for object_id in wanted if not self.exists(object_id)}

    def size(self, object_id: str) -> int:
        """Return an object's size in bytes."""
        check_object_id(object_id)
        if self._folder is not None:
            return self._local(object_id).stat().st_size
        with self._reached() as files:
            return int(files.size(self._remote(object_id)))

    def sizes(self, object_ids: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of those of the ids that are there; no bytes are read."""
        wanted = [check_object_id(object_id) for object_id in object_ids]
        if self._folder is None:
            there = self.listed()
            return {object_id: there[object_id] for object_id in wanted if object_id in there}
        return _local_sizes(self._folder, wanted)

    def delete(self, object_id: str) -> bool:
        """Delete an object durably; return whether it was there."""
        if not self.exists(object_id):
            return False
        if self._folder is None:
            try:
                with self._reached() as files:
                    files.rm_file(self._remote(object_id))
            except FileNotFoundError:  # another was quicker
                return False
            return True
        path = self._local(object_id)
        path.unlink()
        sync_folder(path.parent)
        return True

    def ids(self) -> Iterator[str]:
        """Yield the ids of all objects, sorted."""
        yield from sorted(self.listed())

    def listed(self) -> dict[str, int]:
        """Return the ids of all objects and their sizes in bytes, by one listing."""
        # Elsewhere lies a user's file: what `delete` cannot reach is no object.
        if self._folder is not None:
            paths = [path for path in self._folder.glob("??/*") if _is_object(path)]
            return {path.name: path.stat().st_size for path in paths}
        with self._reached() as files:
            found = files.find(self._root, detail=True)
        sizes: dict[str, int] = {}
        for name, about in found.items():
            last = str(name).rsplit("/", 1)[-1]
            is_in_place = str(name).strip("/") == self._remote(last).strip("/")
            if is_in_place and _OBJECT_ID.fullmatch(last):
                sizes[last] = int(about["size"])
        return sizes

    def read_mark(self) -> bytes | None:
        """Return the mark that `write_mark` left among the objects, or None."""
        try:
            if self._folder is not None:
                return (self._folder / MARK).read_bytes()
            with self._reached() as files:
                return bytes(files.cat_file(f"{self._root}/{MARK}"))
        except FileNotFoundError:
            return None

    def write_mark(self, data: bytes) -> None:
        """Put a mark among the objects, in place of the one that is there: see stores.claims."""
        self._staging.mkdir(parents=True, exist_ok=True)
        staged, _ = write_temporary([data], self._staging)
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
                staged.replace(self._folder / MARK)
                sync_folder(self._folder)
                return
            with self._reached() as files:
                files.makedirs(self._root, exist_ok=True)
                files.put_file(str(staged), f"{self._root}/{MARK}")
        finally:
            staged.unlink(missing_ok=True)

    def count_others(self) -> int:
        """Return how many files lie at the place that are no objects; the mark is one of them."""
        if self._folder is not None:
            return len(foreign_to_objects(self._folder))
        with self._reached() as files:
            num_files = len(files.find(self._root))
        return num_files - len(self.listed())

    def _put(self, chunks: Iterable[bytes], *, sync: bool) -> str:
        """Stage the bytes, then move them to the name that their hash gives."""
        self._staging.mkdir(parents=True, exist_ok=True)
        staged, object_id = write_temporary(chunks, self._staging)
        try:
            if not self._holds_good(object_id):
                self._publish(staged, object_id)
        finally:
            staged.unlink(missing_ok=True)
        if sync:
            self._sync([object_id])
        return object_id

    def _sync(self, object_ids: Sequence[str]) -> None:
        """Make the names of local objects durable, and those of their folders.

        Of all of them: whoever put an object, or made its folder, may have died before that.
        """
        if self._folder is not None and object_ids:
            for prefix in sorted({object_id[:2] for object_id in object_ids}):
                sync_folder(self._folder / prefix)
            sync_folder(self._folder)

    def _holds_good(self, object_id: str) -> bool:
        """Return whether the right bytes are there already; damaged ones are to be replaced."""
        try:
            self.verify(object_id)
        except (DamageError, OSError):  # a bad sector, or another's permissions
            return False
        return True

    def _publish(self, staged: Path, object_id: str) -> None:
        """Move a staged file to its final name."""
        if self._folder is None:
            # A half-uploaded object is not named by any row, and the next put replaces it.
            with self._reached() as files:
                files.makedirs(f"{self._root}/{object_id[:2]}", exist_ok=True)
                files.put_file(str(staged), self._remote(object_id))
            return
        target = self._local(object_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged.chmod(0o444)
        staged.replace(target)

    @contextmanager
    def _reached(self) -> Iterator[Any]:
        """Yield the file system of a remote place, and turn its own errors into ours.

        What it remembers of listings is forgotten: another process may have changed them, and some
        never ask again. What is not there is told by the caller.
        """
        try:
            self._files.invalidate_cache()
            yield self._files
        except FileNotFoundError:
            raise
        except Exception as error:  # each of fsspec's file systems has errors of its own
            words = " ".join(str(error).split()) or type(error).__name__
            raise StateError(f"cannot reach objects at {self.place}: {words}; {_AGAIN}") from error

    def _local(self, object_id: str) -> Path:
        """Return where a local object lies."""
        return Path(self._folder or self.place, object_id[:2], object_id)

    def _remote(self, object_id: str) -> str:
        """Return where an object lies in the fsspec file system."""
        return f"{self._root}/{object_id[:2]}/{object_id}"


def _local_sizes(folder: Path, object_ids: Iterable[str]) -> dict[str, int]:
    """Return the sizes of those objects that are there, by one listing of each folder."""
    by_prefix: dict[str, set[str]] = {}
    for object_id in object_ids:
        by_prefix.setdefault(object_id[:2], set()).add(object_id)
    found: dict[str, int] = {}
    for prefix, wanted in by_prefix.items():
        if (folder / prefix).is_dir():
            with os.scandir(folder / prefix) as entries:
                there = [entry for entry in entries if entry.name in wanted and entry.is_file()]
                found |= {entry.name: entry.stat().st_size for entry in there}
    return found


def foreign_to_objects(folder: Path) -> list[Path]:
    """Return what lies in a local folder of objects but is neither an object nor a folder of them.

    Args:
        folder: `objects/` of a store; where it is missing, nothing lies there.
    """
    found: list[Path] = []
    for prefix in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not (prefix.is_dir() and _PREFIX.fullmatch(prefix.name)):
            found.append(prefix)
            continue
        found += [path for path in sorted(prefix.iterdir()) if not _is_object(path)]
    return found


def _is_object(path: Path) -> bool:
    """Return whether a file is named as an object in its folder is."""
    is_named = _OBJECT_ID.fullmatch(path.name) and path.name.startswith(path.parent.name)
    return bool(is_named) and path.is_file()


def url_scheme(url: str, advice: str = _MOVE) -> str:
    """Return the scheme of the URL of a store's objects; "" or one letter: it is a folder's path.

    Args:
        url: fsspec's, or a folder's path.
        advice: told where objects may not lie there; default: to whoever has such a store.

    Raises:
        InputError: when the URL cannot be read, or may mean two folders.
        UnsupportedError: when objects may not lie there, whoever asks for it.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise InputError(f"the objects' URL {url!r} cannot be read: {error}; mend it") from None
    if len(scheme) <= 1:
        return scheme
    # As fsspec splits it: urlsplit takes line breaks out, and does not know of chains.
    reached = (*SCHEMES, MEMORY)
    is_named = scheme == "file" or url.partition("://")[0] in reached
    if "::" in url or scheme not in reached or not is_named:
        raise UnsupportedError(
            f"cannot reach objects at {url}: a store's objects lie at a plain URL of one of "
            f"{', '.join(SCHEMES)}; {advice}"
        )
    if scheme == "file":
        url_folder(url)
    return scheme


def disk_of(path: Path) -> int:
    """Return the disk on which a path lies, or will once it is made."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path.stat().st_dev


def url_folder(url: str) -> Path:
    """Return the folder of a file URL: its path as it is written, with blanks and no escapes.

    Raises: InputError: when another reader would take it for another folder.
    """
    path = urlsplit(url).path
    extra = re.search(r"[?#].*", url, re.DOTALL)
    if extra:
        raise InputError(
            f"the objects' URL {url!r} has {extra[0]!r} after the folder {path}; leave it out, and "
            "choose a folder without ? and # in its name"
        )
    if unquote(path) != path:
        raise InputError(
            f"the objects' URL {url!r} may mean {unquote(path)} or {path}; write the folder as it "
            "is named, blanks and all, and choose one whose name has no escapes like %20; a store "
            "that lies there has the folder's path alone in its store.toml (objects_url)"
        )
    return Path(path)


def _open_remote(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it."""
    import fsspec.core  # only stores outside the folder pay for it

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UnsupportedError(f"cannot reach objects at {url}: {error}") from None
    remembered = getattr(files, "dircache", None)
    if remembered is not None:  # as the option of that name does, which not all of them take
        remembered.use_listings_cache = False
    return files, str(root).rstrip("/")


def _missing(object_id: str, place: str) -> DamageError:
    return DamageError(
        f"object {object_id} is missing from {place}; restore it from a copy, or see "
        "`peer-cl doctor`"
    )


def _check_hash(object_id: str, found: str, place: str) -> None:
    """Raise DamageError naming both hashes when they differ."""
    if found != object_id:
        raise DamageError(
            f"object {object_id} in {place} is damaged: its bytes have sha256 {found}; restore it "
            "from a copy, or see `peer-cl doctor`"
        )
