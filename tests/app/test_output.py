import math
from types import SimpleNamespace

from app.output import make_console, print_json, print_objects, show_progress


def test_json_has_no_infinity_and_no_nan(capsys):
    print_json({"é": (math.nan, [-math.inf])})
    printed = capsys.readouterr().out
    assert (printed.count("null"), "é" in printed) == (2, True)


def test_a_table_of_a_pipe_keeps_each_row_in_one_line(capsys):
    one = SimpleNamespace(name="x" * 150, size_bytes=2000, made_at="2026-01-02T03:04:05.6")
    print_objects("lines", [one], "name big_size=size_bytes made_at twice", twice=lambda x: 2)
    title, headings, row = capsys.readouterr().out.splitlines()
    assert (title, headings.split()) == ("lines", ["name", "big", "size", "made", "at", "twice"])
    assert row.split()[1:] == ["2.0", "kB", "2026-01-02", "03:04:05", "2"]
    assert make_console().width == 200


def test_progress_is_a_few_plain_lines_where_there_is_no_terminal(capsys):
    with show_progress() as report:
        report("loading", 0, 0, "")
        for done in range(101):
            report("training", done, 100, f"loss {done}")
    out, err = capsys.readouterr()
    first, *_, last = lines = err.splitlines()
    assert (out, len(lines)) == ("", 7)
    assert (first, last) == ("loading", "training: 100 of 100, loss 100")
