import json

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.results import at_least, at_most, read_results, reported, table, write_results
from peer_cl.errors import InputError

FIGURES = [
    at_least("recall (share)", 0.9, 0.95, "make demo"),
    at_most("worst added loss (nats)", 0.01, 0.0202, "make demo"),
    reported("machine", "2 cores", "make demo"),
]


def test_figures_come_back_as_they_were_written(tmp_path):
    path = write_results("demo", FIGURES, tmp_path)
    assert read_results(path) == tuple(FIGURES)
    assert list(json.loads(path.read_text())[0]) == ["figure", "value", "goal", "holds", "command"]
    assert path.with_suffix(".md").read_text() == table(FIGURES)


def test_a_missed_goal_is_shown():
    assert "| recall (share) | 0.9 | >= 0.95 | **no** |" in table(FIGURES)


def test_two_figures_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="differ in name"):
        write_results("demo", [FIGURES[0], FIGURES[0]], tmp_path)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="nan is no result"):
        reported("loss", float("nan"), "make demo")


def test_an_unknown_benchmark_names_the_nearest(capsys):
    assert main(["strem"]) == 2
    assert "stream" in capsys.readouterr().err
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHMARKS)
