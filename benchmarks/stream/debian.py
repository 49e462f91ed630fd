"""Files out of Debian packages: downloaded once by apt-get, checked by hash, never installed.

Debian carries corpora that the Python package index lacks. A package is only ever read: its files
come out of the archive into memory, and none of its scripts run. A mirror serves one version of a
package, so that a pin may be out of date one day; this is then told in one line.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from peer_cl.durable import file_sha256
from peer_cl.errors import CorpusError, DamageError, unknown_name
from pipelines.packages import Report, cache_folder, report_to_stderr


@dataclass(frozen=True)
class DebianPackage:
    """One package of Debian, pinned to its exact bytes; `version` has its epoch, e.g. 1:1.24-1."""

    name: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def label(self) -> str:
        """Return name and version in one."""
        return f"{self.name} {self.version}"


def fetch_deb(
    package: DebianPackage, cache_dir: Path | None = None, report: Report = report_to_stderr
) -> Path:
    """Return the path of the package's .deb, downloaded only if the cache does not have it.

    Args:
        package: which package.
        cache_dir: where packages are kept; the user's cache by default.
        report: told name, version and size before a download; nothing where none is needed.

    Raises:
        CorpusError: when apt-get is missing, brings nothing or brings another version.
        DamageError: when the bytes that came are not those that were pinned.
    """
    folder = (cache_dir or cache_folder()) / "debs"
    kept = folder / f"{package.name}-{package.sha256[:12]}.deb"
    if kept.exists() and file_sha256(kept) == package.sha256:
        return kept
    _check_tools(package)
    folder.mkdir(parents=True, exist_ok=True)
    report(f"downloading {package.label} ({package.size_bytes / 1e6:.1f} MB), once")
    # The temporary folder lies beside the target: a rename is atomic only within a file system.
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
        came = _download(package, Path(temporary))
        _check(package, came)
        came.replace(kept)
    return kept


def read_members(package: DebianPackage, members: Collection[str]) -> dict[str, bytes]:
    """Return the bytes of files inside the package, by their paths from the root.

    Raises:
        UnknownError: when the package has no such file.
    """
    with tarfile.open(fileobj=io.BytesIO(_archive(package)), mode="r:") as archive:
        paths = {item.name.removeprefix("./"): item for item in archive if item.isfile()}
        found = {}
        for member in members:
            if member not in paths:
                raise unknown_name(f"file in {package.label}", member, paths)
            file = archive.extractfile(paths[member])
            found[member] = file.read() if file else b""
    return found


def _archive(package: DebianPackage) -> bytes:
    """Return the package's files as an uncompressed tar."""
    command = ["dpkg-deb", "--fsys-tarfile", str(fetch_deb(package))]
    finished = subprocess.run(command, capture_output=True, check=False)
    if finished.returncode != 0:
        raise CorpusError(f"cannot read {package.label}: {_last_line(finished.stderr.decode())}")
    return finished.stdout


def _check_tools(package: DebianPackage) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CorpusError(
                f"cannot download {package.label}: there is no {tool} here; "
                "it is read on Debian and its kin only"
            )


def _download(package: DebianPackage, folder: Path) -> Path:
    # Without a version: where the archive has moved on, apt would only say that it finds nothing.
    command = ["apt-get", "download", "--quiet", package.name]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.deb"))
    if finished.returncode != 0 or len(found) != 1:
        said = _last_line(finished.stderr)
        raise CorpusError(
            f"cannot download {package.label}: apt-get said {said!r}; "
            "run `apt-get update`, check the network, then try again"
        )
    return found[0]


def _check(package: DebianPackage, came: Path) -> None:
    version = unquote(came.name.split("_")[1])
    if version != package.version:
        raise CorpusError(
            f"{package.label} was pinned, {version} came; "
            "look at what changed in it, then pin the new version and its sha256"
        )
    found = file_sha256(came)
    if found != package.sha256:
        raise DamageError(
            f"{package.label} came with sha256 {found}, expected {package.sha256}; "
            "check the mirror that apt-get uses, then try again"
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines or ["no message"]
    return errors[-1][:200]
