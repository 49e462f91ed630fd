import math
import re

import pytest

from peer_cl.errors import DamageError, InputError, StoreFormatError
from stores import StoreConfig


def test_read_returns_what_was_written(make, tmp_path):
    for changes in (
        {},
        {"objects_url": "s3://bucket/x", "keep_text": False, "host_layers": (0,)},
        {"base_id": 'a "quoted" \\ name\nin two lines', "budget": math.nextafter(0.02, 1)},
    ):
        config = make.config(**changes)
        config.write(tmp_path / "store.toml")
        assert StoreConfig.read(tmp_path / "store.toml") == config
    assert [path.name for path in tmp_path.iterdir()] == ["store.toml"]


def test_no_store_says_how_to_make_one(tmp_path):
    for path in (tmp_path / "store.toml", tmp_path / "no" / "store.toml"):
        with pytest.raises(StoreFormatError, match=r"no store at .*; make one with `peer-cl init"):
            StoreConfig.read(path)


def test_a_newer_format_is_refused_with_both_numbers(make, tmp_path):
    path = tmp_path / "store.toml"
    make.config(format_version=7).write(path)
    path.write_text(path.read_text() + "\nfrom_the_future = 1\n")
    with pytest.raises(StoreFormatError, match="format 7; this version reads up to 1"):
        StoreConfig.read(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text.replace("width =", "breadth ="), "missing keys: .'width'"),
        (lambda text: text[: len(text) // 2] + '"', "damaged"),
        (lambda text: "budget = 1\n", "format_version is None"),
        (lambda text: text.replace("budget = 0.02", "budget = 2.0"), "between 0 and 1"),
        (
            lambda text: re.sub("capacity = .*", "capacity = 1.5", text),
            "capacity must be a whole number, not 1.5",
        ),
        (lambda text: f"{text}objects_url = 5\n", "objects_url must be a str, not int"),
        (lambda text: f'{text}objects_url = "file:///a\\u0000"\n', "holds a NUL character"),
        (
            lambda text: re.sub("base_id = .*", "base_id = 5", text),
            "base_id must be a str, not int",
        ),
    ],
)
def test_a_damaged_file_is_named(make, tmp_path, spoil, words):
    path = tmp_path / "store.toml"
    make.config().write(path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(DamageError, match=words):
        StoreConfig.read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": 0.0},
        {"budget": 1.0},
        {"capacity": 0},
        {"capacity": 1.5},
        {"capacity": 2.0},
        {"capacity": True},
        {"capacity": "4"},
        {"budget": "0.02"},
        {"host_layers": ()},
        {"host_layers": (9, 3)},
        {"host_layers": (3, 3)},
        {"host_layers": (3, 30)},
        {"signature_layer": 30},
        {"signature_layer": -1},
    ],
)
def test_values_that_cannot_be_are_refused(make, changes):
    with pytest.raises(InputError):
        make.config(**changes)


def test_the_tap_is_the_first_host_layer(make):
    assert make.config().tap == 3
