import json

import pytest

from benchmarks.results import Figure, at_least, at_most, read_results, reported, write_results
from peer_cl.errors import InputError

COMMAND = "python -m benchmarks demo"


def figures():
    return [
        at_least("kept (share)", 0.91, 0.88, COMMAND),
        at_most("worst | added (nats)", 0.03, 0.0203, COMMAND),
        reported("pool (bytes)", 27_000_000, COMMAND),
    ]


def test_what_is_written_is_read_again(tmp_path):
    path = write_results("demo", figures(), tmp_path / "results")
    assert read_results(path) == tuple(figures())
    assert [set(row) for row in json.loads(path.read_text())] == [
        {"figure", "value", "goal", "holds", "command"}
    ] * 3


def test_the_table_says_what_holds(tmp_path):
    path = write_results("demo", figures(), tmp_path)
    lines = path.with_suffix(".md").read_text().splitlines()
    assert lines[2:5] == [
        "| kept (share) | 0.91 | >= 0.88 | yes |",
        "| worst \\| added (nats) | 0.03 | <= 0.0203 | **no** |",
        "| pool (bytes) | 27,000,000 |  |  |",
    ]


@pytest.mark.parametrize("chosen", [[], [figures()[0]] * 2])
def test_no_figures_and_doubled_ones_are_refused(chosen, tmp_path):
    with pytest.raises(InputError, match="differ in name"):
        write_results("demo", chosen, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "values",
    [
        {"figure": ""},
        {"command": ""},
        {"value": float("nan")},
        {"value": float("inf")},
        {"goal": None},
        {"holds": None},
    ],
)
def test_a_figure_must_be_whole(values):
    whole = {"figure": "a", "value": 1.0, "goal": ">= 1", "holds": True, "command": COMMAND}
    with pytest.raises(InputError):
        Figure(**{**whole, **values})


def test_a_file_with_other_fields_is_refused(tmp_path):
    path = tmp_path / "demo.json"
    path.write_text('[{"figure": "a", "value": 1}]')
    with pytest.raises(InputError, match="fields"):
        read_results(path)
