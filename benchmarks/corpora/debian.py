"""Files out of Debian packages: downloaded once by apt-get, checked by hash, never installed.

Debian carries corpora that the Python package index lacks. A mirror serves one version of a
package, so a pin may be out of date one day.
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

from peer_cl.errors import CorpusError
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
    """Return the path of the package's .deb, downloaded where the user's cache does not have it."""
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
        # Without a version: where the archive has moved on, apt would only say that it finds none.
        command = ["apt-get", "download", "--quiet", package.name]
        finished = subprocess.run(
            command, cwd=temporary, capture_output=True, text=True, check=False
        )
        came = sorted(Path(temporary).glob("*.deb"))
        if finished.returncode != 0 or len(came) != 1:
            raise CorpusError(
                f"cannot download {package.label}: {finished.stderr.strip()[-200:]}; run `apt-get "
                "update`, check the network, then try again"
            )
        if _sha256(came[0]) != package.sha256:
            raise CorpusError(
                f"{package.label} was pinned, {came[0].name} came with another sha256; look at "
                "what changed in it, then pin the new version and its sha256"
            )
        came[0].replace(kept)
    return kept


def read_members(package: DebianPackage, members: Collection[str]) -> dict[str, bytes]:
    """Return the bytes of files inside the package, by their paths from the root."""
    command = ["dpkg-deb", "--fsys-tarfile", str(fetch_deb(package))]
    unpacked = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
        for item in archive:
            path = item.name.removeprefix("./")
            if path in members and (file := archive.extractfile(item)):
                found[path] = file.read()
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
