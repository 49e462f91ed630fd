"""What reaches a terminal: users' words, and nothing that it would obey."""

import json
from collections import Counter

import pytest
import typer

from app.output import print_json, print_table, printable, say
from app.request import fail

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


def test_json_holds_all_of_it_escaped(capsys):
    print_json({"title": EVIL, "lone": "\ud800", "words": "größe, 法"})
    told = capsys.readouterr().out
    assert is_harmless(told)
    assert json.loads(told) == {"title": EVIL, "lone": "\ud800", "words": "größe, 法"}
    assert "größe, 法" in told


def test_what_belongs_to_texts_stays():
    text = "naïve\u00a0! 100\u202f% ziel\u00adgerichtet می\u200cخواهم\n\t法 👍"
    assert printable(text) == text
