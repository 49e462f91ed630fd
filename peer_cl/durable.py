"""Writing files that survive a crash: temporary file, fsync, rename, fsync of the folder.

Neither safetensors, torch.save nor FAISS calls fsync, and a writer that opens the final name first
destroys the good file when the disk is full. Everything that a store or a saved model writes goes
through here.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

if sys.platform == "darwin":
    import fcntl

CHUNK_BYTES = 1 << 20


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, one MiB at a time."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    for chunk in read_chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def sync_descriptor(descriptor: int) -> None:
    """Make an open file durable; macOS's own fsync leaves the bytes in the drive's cache."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: without it a rename may be lost with the power."""
    if os.name == "nt":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def write_temporary(chunks: Iterable[bytes], folder: Path) -> tuple[Path, str]:
    """Write chunks into a new file of `folder`, fsync it, and return its path and sha256.

    On any error (a full disk) the file is removed again and nothing else was touched.
    """
    path = folder / f"{uuid.uuid4().hex}.part"
    digest = hashlib.sha256()
    try:
        with path.open("xb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            sync_descriptor(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, digest.hexdigest()


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader sees the old bytes or the new ones, never a part."""
    temporary, _ = write_temporary([data], path.parent)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
