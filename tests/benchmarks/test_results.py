import json

import pytest

from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.results import Figure, write_results
from peer_cl.errors import InputError

FIGURES = [
    Figure("recall (share)", 0.9, least=0.95),
    Figure("worst added loss (nats)", 0.01, most=0.0202),
    Figure("machine", "2 cores"),
]


def test_figures_are_kept_with_their_goals_and_the_command(tmp_path):
    path = write_results("demo", FIGURES, "make demo", tmp_path)
    rows = json.loads(path.read_text())
    assert list(rows[0]) == ["figure", "value", "goal", "holds", "command"]
    assert [row["goal"] for row in rows] == [">= 0.95", "<= 0.0202", None]
    assert [row["holds"] for row in rows] == [False, True, None]
    text = path.with_suffix(".md").read_text()
    assert "| recall (share) | 0.9 | >= 0.95 | **no** |" in text
    assert text.endswith("Measured with `make demo`.\n")


def test_two_figures_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="differ in name"):
        write_results("demo", [FIGURES[0], FIGURES[0]], "make demo", tmp_path)


def test_an_unknown_benchmark_names_the_nearest(capsys):
    assert main(["strem"]) == 2
    assert "stream" in capsys.readouterr().err
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in BENCHMARKS)
