"""What reaches a terminal: users' words, and nothing that it would obey."""

import errno
import json
import math
import os
import shlex
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import typer

from app import entry
from app.cli import main
from app.output import print_json, print_table, printable, say
from app.request import fail, one_line_errors
from peer_cl.errors import StateError

EVIL = "\x1b[31mred\x1b]0;title\x07 \r over \x9b2J \u202e turned"


def is_harmless(text):
    return not set(text) & set("\x1b\x07\r\x9b\u202e")


def test_titles_do_not_command_the_terminal(capsys):
    print_table(f"of {EVIL}", ("title", "source"), [(EVIL, f"notes{EVIL}.txt")])
    print_table(f"of {EVIL}", ("title",), [])
    say(EVIL)
    with pytest.raises(typer.Exit):
        fail(f"no document {EVIL}", 2)
    told = capsys.readouterr()
    assert is_harmless(told.out + told.err)
    assert told.out.count("?[31mred?]0;title? ? over ?2J ? turned") == 5
    assert told.err.startswith("error: no document ?[31mred")


@pytest.mark.parametrize("width", [60, 25])
def test_an_id_stays_whole_where_texts_give_way_and_nothing_is_ever_cropped(
    capsys, monkeypatch, width
):
    monkeypatch.setattr("app.output.PIPE_WIDTH", width)
    long = "the harbour of a town whose name nobody remembers any more"
    print_table("held", ("document", "title", "made"), [("45c200096bd6", long, "2026-11-28")])
    told = capsys.readouterr().out
    assert ("45c200096bd6" in told and "2026-11-28" in told) == (width == 60)
    assert max(map(len, told.splitlines())) <= width
    letters = Counter("".join(told.split()))
    assert letters == Counter("".join(f"helddocumenttitlemade45c200096bd6{long}2026-11-28".split()))


def test_json_holds_no_number_that_is_none(capsys):
    print_json({"rows": ({"strength": math.nan, "weight": 0.5}, -math.inf), "n": 3})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "rows": [{"strength": None, "weight": 0.5}, None],
        "n": 3,
    }


def test_json_holds_all_of_it_escaped(capsys):
    print_json({"title": EVIL, "lone": "\ud800", "words": "größe, 法"})
    told = capsys.readouterr().out
    assert is_harmless(told)
    assert json.loads(told) == {"title": EVIL, "lone": "\ud800", "words": "größe, 法"}
    assert "größe, 法" in told


def test_what_belongs_to_texts_stays():
    text = "naïve\u00a0! 100\u202f% ziel\u00adgerichtet می\u200cخواهم\n\t法 👍"
    assert printable(text) == text


@pytest.mark.parametrize(
    "act",
    [
        lambda: say("a line"),
        lambda: print_json({"a": 1}),
        lambda: print_table("a title", ("a",), [("b",)]),
    ],
    ids=["line", "json", "table"],
)
def test_an_output_that_cannot_be_written_is_not_taken_for_the_store(monkeypatch, capsys, act):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.stdout, "write", full)
    with pytest.raises(typer.Exit) as ended, one_line_errors(debug=False):
        act()
    assert ended.value.exit_code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: the output cannot be written (No space left on device)")
    assert told.count("\n") == 1
    with pytest.raises(StateError):
        act()


WORDS = "é \U0001f642"
PRINT = f"""
import sys
from app import cli, entry, output
def main():
    output.say({WORDS!r})
    output.print_table("table", ["title"], [[{WORDS!r}]])
    output.print_json({{"title": {WORDS!r}}})
    return 0
cli.main = main
sys.exit(entry.main())
"""


@pytest.mark.parametrize(
    ("encoding", "shown", "in_json"),
    [
        ("utf-8", WORDS, WORDS),
        ("latin-1", "é \\U0001f642", "\\u00e9 \\ud83d\\ude42"),
    ],
)
def test_letters_that_the_output_lacks_are_told_by_their_numbers(encoding, shown, in_json):
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    told = done.stdout.decode(encoding)
    assert told.count(shown) == (3 if shown == in_json else 2), told
    assert json.loads(told[told.index("{") :]) == {"title": WORDS}
    assert f'"title": "{in_json}"' in told


def test_what_is_interrupted_before_it_began_ends_in_one_line(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "app.cli", SimpleNamespace(main=interrupted))
    assert entry.main() == 130
    assert capsys.readouterr().err == "error: interrupted; nothing was begun\n"


def test_what_is_interrupted_while_its_options_are_read_ends_in_one_line(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("app.request.store_folder", interrupted)
    assert main(["domains"]) == 130
    assert capsys.readouterr().err == "error: interrupted; nothing was begun\n"


def test_help_that_nobody_reads_ends_as_other_commands_do():
    python = shlex.quote(sys.executable)
    piped = f"{python} -m app --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_help_that_cannot_be_written_is_told_in_one_line(monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.stdout, "write", full)
    assert main(["--help"]) == 2
    assert capsys.readouterr().err == (
        "error: the output cannot be written (No space left on device)\n"
    )
