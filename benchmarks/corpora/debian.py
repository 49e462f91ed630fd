"""Files out of Debian packages: downloaded once by apt-get, checked by hash, never installed.

Debian carries corpora that the Python package index lacks. A package is only read: none of its
scripts run. A mirror serves one version of a package, so a pin may be out of date one day.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from peer_cl.errors import CorpusError, DamageError, unknown_name
from pipelines.packages import cache_folder, report_to_stderr


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


def fetch_deb(package: DebianPackage) -> Path:
    """Return the path of the package's .deb, downloaded where the user's cache does not have it.

    Raises:
        CorpusError: when apt-get is missing, brings nothing or brings another version.
        DamageError: when the bytes that came are not those that were pinned.
    """
    folder = cache_folder() / "debs"
    kept = folder / f"{package.name}-{package.sha256[:12]}.deb"
    if kept.exists() and _sha256(kept) == package.sha256:
        return kept
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise CorpusError(f"cannot download {package.label}: it needs apt-get and dpkg-deb")
    folder.mkdir(parents=True, exist_ok=True)
    report_to_stderr(f"downloading {package.label} ({package.size_bytes / 1e6:.1f} MB), once")
    # The temporary folder lies beside the target: a rename is atomic only within a file system.
    with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
        came = _download(package, Path(temporary))
        version, found = unquote(came.name.split("_")[1]), _sha256(came)
        if version != package.version:
            raise CorpusError(
                f"{package.label} was pinned, {version} came; look at what changed in it, then pin "
                "the new version and its sha256"
            )
        if found != package.sha256:
            raise DamageError(
                f"{package.label} came with sha256 {found}, expected {package.sha256}; check the "
                "mirror that apt-get uses, then try again"
            )
        came.replace(kept)
    return kept


def read_members(package: DebianPackage, members: Collection[str]) -> dict[str, bytes]:
    """Return the bytes of files inside the package, by their paths from the root.

    Raises:
        UnknownError: when the package has no such file.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(fetch_deb(package))]
    finished = subprocess.run(command, capture_output=True, check=False)
    if finished.returncode != 0:
        raise CorpusError(f"cannot read {package.label}: {_last_line(finished.stderr.decode())}")
    with tarfile.open(fileobj=io.BytesIO(finished.stdout), mode="r:") as archive:
        paths = {item.name.removeprefix("./"): item for item in archive if item.isfile()}
        found = {}
        for member in members:
            if member not in paths:
                raise unknown_name(f"file in {package.label}", member, paths)
            file = archive.extractfile(paths[member])
            found[member] = file.read() if file else b""
    return found


def _download(package: DebianPackage, folder: Path) -> Path:
    # Without a version: where the archive has moved on, apt would only say that it finds nothing.
    command = ["apt-get", "download", "--quiet", package.name]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.deb"))
    if finished.returncode != 0 or len(found) != 1:
        raise CorpusError(
            f"cannot download {package.label}: {_last_line(finished.stderr)}; run `apt-get "
            "update`, check the network, then try again"
        )
    return found[0]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")] or lines or ["no message"]
    return errors[-1][:200]
