import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.cli import main
from app.request import Request, one_line_errors, verb
from peer_cl.errors import DamageError, InputError, StateError, unknown_name

HEAVY = ("torch", "transformers", "lightning", "datasets", "faiss")
PROBE = """
import sys
from app.cli import app
try:
    app(sys.argv[1:])
except SystemExit as left:
    code = left.code
print("loaded:", *(name for name in {heavy} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def run(*words, folder):
    environment = {key: value for key, value in os.environ.items() if key != "PEER_CL_STORE"}
    return subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), "--store", str(folder), *words],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("ingest", "--help"),
        ("--version",),
        ("domains",),
        ("show", "law", "--json"),
        ("history",),
        ("doctor",),
        ("freeze", "law"),
        ("disable", "law"),
        ("rollback", "law"),
        ("rollback", "--to", "3"),
    ],
    ids=" ".join,
)
def test_reading_and_a_domains_life_load_nothing_heavy(folder, words):
    result = run(*words, folder=folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr.strip() == "loaded:", "nothing heavy, and nothing else on stderr"


def test_the_version_is_the_packages(peer_cl):
    assert peer_cl("--version").out.startswith("peer-cl 0.")


def test_no_verb_shows_the_help(peer_cl):
    told = peer_cl()
    assert "ingest" in told.out + told.err


def test_an_unknown_verb_or_option_exits_with_two(peer_cl, folder):
    assert peer_cl("domain", folder=folder).code == 2
    assert peer_cl("domains", "--jsn", folder=folder).code == 2
    assert peer_cl("history", "--limit", "0", folder=folder).code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a\nb"), 2),
        (StateError("a\nb"), 2),
        (unknown_name("domain", "a\nb", ["law"]), 2),
        (DamageError("a\nb"), 1),
        (PermissionError(errno.EACCES, "a\nb", "store.toml"), 2),
        (OSError(errno.ENOSPC, "No space left\non device"), 2),
        (OSError(errno.EFBIG, "File too large"), 2),
        (OSError("a\nb"), 1),
        (KeyError("a\nb"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_is_one_line_with_its_exit_code(capsys, error, code):
    with pytest.raises(Exception) as left, one_line_errors(debug=False):
        raise error
    assert left.value.exit_code == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1


def test_ctrl_c_says_where_it_leaves_the_store(folder, capsys):
    left = pytest.raises(typer.Exit)
    with left as found, one_line_errors(debug=False), Request(folder).store():
        raise KeyboardInterrupt
    assert found.value.exit_code == 130
    told = "error: interrupted; the store is whole, at snapshot 4; the same command goes on from"
    assert capsys.readouterr().err.startswith(told)


def test_debug_shows_where_it_happened(peer_cl, tmp_path):
    for words in (["--debug", "domains"], ["domains", "--debug"]):
        result = peer_cl(*words, folder=tmp_path / "none")
        assert "Traceback" in result.err
        assert result.err.splitlines()[-1].startswith("error: no store at")
        assert result.code == 2


def test_a_verb_takes_only_the_options_of_its_kind():
    @verb("json")
    def look(request: Request) -> None:
        """Look."""

    @verb("who", "why")
    def act(request: Request) -> None:
        """Act."""

    assert {"store", "debug", "as_json"} == set(look.__annotations__) - {"ctx"}
    assert {"store", "debug", "who", "why"} == set(act.__annotations__) - {"ctx"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["domain"], "No such command 'domain'"),
        (["domains", "--jsn"], "--jsn"),
        (["history", "--limit", "0"], "--limit"),
        (["ingest"], "DOMAIN"),
        (["ingest", "law", "x", "--passes", "many"], "--passes"),
    ],
    ids=" ".join,
)
def test_words_that_cannot_be_read_are_one_line(capsys, words, told):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.count("\n") == 1


def test_main_returns_the_verbs_exit_code(capsys, tmp_path):
    assert main(["--version"]) == 0
    assert main([]) == 0
    assert "ingest" in capsys.readouterr().out
    assert main(["domains", "--store", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no store at")


def test_python_m_app_is_the_command_line():
    ran = subprocess.run(
        [sys.executable, "-m", "app", "--version"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout.split()[0]) == (0, "peer-cl"), ran.stderr
    wrong = subprocess.run(
        [sys.executable, "-m", "app", "nothing"], capture_output=True, check=False
    )
    assert wrong.returncode == 2


def test_a_disks_error_without_a_path_names_the_store(capsys):
    with pytest.raises(typer.Exit), one_line_errors(debug=False, folder=Path("notes")):
        raise OSError(errno.EFBIG, "File too large")
    told = "File too large (at work on the store in notes); let your user write larger files"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["experts", "law", "--version", "v1"], "--version v1 is of one row: add --row LAYER:ROW"),
        (["experts", "law", "--row", "3:4", "--layer", "5"], "leave out --layer 5"),
        (["rollback", "law", "--out", "--with-erased"], "leave out --with-erased"),
        (["init", "--on-bad-row", "skip"], "--on-bad-row skip is of a corpus: add --background"),
        (["evaluate", "--general-items", "5"], "--general-items 5 is of sets: add --general PATH"),
        (["evaluate", "--no-background", "--max-documents", "3"], "leave out --no-background"),
    ],
)
def test_options_that_say_nothing_together_are_refused(peer_cl, folder, words, told):
    result = peer_cl(*words, folder=folder)
    assert result.code == 2
    assert told in result.err


@pytest.mark.parametrize("verb", ["generate", "trace", "search"])
def test_a_text_that_begins_with_a_dash_is_told_how_to_be_given(capsys, verb):
    assert main([verb, "- a list item"]) == 2
    assert "; put -- before a text that begins with a dash" in capsys.readouterr().err
    assert main(["history", "-x"]) == 2
    assert "put --" not in capsys.readouterr().err


def test_a_command_that_is_offered_can_be_copied(peer_cl, tmp_path, monkeypatch):
    told = peer_cl("domains", folder=tmp_path / "my store").err
    assert f"`peer-cl init --store '{tmp_path}/my store'`" in told
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEER_CL_STORE", "  ")
    assert f"no store at {tmp_path}/knowledge; make one with" in peer_cl("domains").err
