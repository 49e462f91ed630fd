import hashlib
import shutil
import subprocess

import pytest

from benchmarks.stream import debian
from benchmarks.stream.debian import DebianPackage, fetch_deb, read_members
from peer_cl.errors import CorpusError, DamageError, UnknownError

MEMBER = "usr/share/tiny/data.txt"
CONTROL = (
    "Package: tiny\nVersion: 1:1.0-1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: a\n"
)
APT_GET = """#!/bin/sh
# Stands in for apt-get: brings what lies on the shelf, as the package index would.
for file in {shelf}/*.deb; do
  test -e "$file" || {{ echo "E: Unable to locate package $3" >&2; exit 100; }}
  cp "$file" .
done
"""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder from which a stand-in for apt-get brings packages; the true one is out of reach."""
    tools, folder = tmp_path / "bin", tmp_path / "shelf"
    tools.mkdir()
    folder.mkdir()
    apt_get = tools / "apt-get"
    apt_get.write_text(APT_GET.format(shelf=folder))
    apt_get.chmod(0o755)
    (tools / "dpkg-deb").symlink_to(shutil.which("dpkg-deb") or "/bin/false")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("PEER_CL_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def package(shelf, tmp_path):
    deb = shelf / "tiny_1%3a1.0-1_all.deb"
    if shutil.which("dpkg-deb"):
        tree = tmp_path / "tree"
        (tree / MEMBER).parent.mkdir(parents=True)
        (tree / MEMBER).write_text("Quartz is hard.\n")
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(CONTROL)
        subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, capture_output=True)
    else:
        deb.write_bytes(b"a package")
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    return DebianPackage("tiny", "1:1.0-1", digest, 1_500_000)


def test_a_package_is_downloaded_once_and_told_before(package, shelf):
    told = []
    kept = fetch_deb(package, report=told.append)
    assert told == ["downloading tiny 1:1.0-1 (1.5 MB), once"]
    next(shelf.iterdir()).unlink()
    assert fetch_deb(package, report=told.append) == kept
    assert len(told) == 1
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_other_bytes_than_the_pinned_ones_are_refused_and_not_kept(package, tmp_path):
    wrong = DebianPackage("tiny", "1:1.0-1", "0" * 64, 0)
    with pytest.raises(DamageError, match=f"{package.sha256}, expected {'0' * 64}"):
        fetch_deb(wrong)
    assert list((tmp_path / "cache/debs").iterdir()) == []


def test_a_damaged_cached_package_is_replaced(package):
    kept = fetch_deb(package)
    kept.write_bytes(b"damaged")
    assert hashlib.sha256(fetch_deb(package).read_bytes()).hexdigest() == package.sha256


def test_an_archive_that_has_moved_on_is_told_in_one_line(package):
    pinned = DebianPackage("tiny", "1:0.9-2", package.sha256[::-1], 0)
    with pytest.raises(CorpusError, match=r"tiny 1:0\.9-2 was pinned, 1:1\.0-1 came; ") as got:
        fetch_deb(pinned)
    assert "\n" not in str(got.value)


def test_what_apt_get_says_is_passed_on(package, shelf):
    next(shelf.iterdir()).unlink()
    with pytest.raises(CorpusError, match=r"Unable to locate package.*apt-get update"):
        fetch_deb(package)


def test_a_machine_without_apt_get_is_told_so(package, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CorpusError, match="there is no apt-get here"):
        fetch_deb(package)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this machine")
def test_members_are_read_out_of_the_package_and_a_missing_one_is_named(package):
    assert read_members(package, [MEMBER]) == {MEMBER: b"Quartz is hard.\n"}
    with pytest.raises(UnknownError, match=f"Did you mean '{MEMBER}'"):
        read_members(package, ["usr/share/tiny/date.txt"])


def test_the_last_error_is_the_one_that_counts():
    assert debian._last_line("W: a\nE: b\nN: c\n") == "E: b"
    assert debian._last_line("") == "no message"
