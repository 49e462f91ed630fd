"""What users get wrong, through the command line: one line, what to do, exit code 2, no change."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filled_store import portrait
from tiny_base import copy_store, make_tiny_base, make_tiny_store, write_corpus

from app.cli import main
from app.learning import print_left_out
from pipelines.corpora import Skipped
from stores import Registry

PROGRESS = ("reading", "training", "checking")
"""What progress lines begin with."""
SHAPE = ("--num-experts", "64", "--num-heads", "2", "--top-k", "4", "--passes", "1")
SMALL = (*SHAPE, "--least-steps", "1")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A store that learned law."""
    return make_tiny_store(tmp_path_factory.mktemp("bad-input"), domains=("law",))


@pytest.fixture
def place(good, tmp_path):
    return copy_store(good, tmp_path)


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "medicine.jsonl", "medicine")


def is_refused(result, *told, code=2):
    """Return whether a verb ended with one short line that says these things."""
    line = result.err.strip().splitlines()[-1]
    shown = [text for text in result.err.splitlines() if not text.startswith(PROGRESS)]
    return (
        result.code == code
        and len(shown) == 1
        and line.startswith("error: ")
        and len(line) < 500
        and all(text in line for text in told)
    )


# --- paths ----------------------------------------------------------------------------------------

ENDPOINT = ["--endpoint", "http://127.0.0.1:9", "--model", "m"]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["ingest", "law", "{}"], "PATH"),
        (["ingest", "law", "own.txt", "--facts", "{}"], "--facts"),
        (["ingest", "law", "own.txt", "--rewordings", "{}"], "--rewordings"),
        (["init", "--background", "{}"], "--background"),
        (["evaluate", "--general", "{}"], "--general"),
        (["reword", "{}", "--out", "o", *ENDPOINT], "PATH"),
        (["reword", "own.txt", "--out", "{}", *ENDPOINT], "--out"),
        (["dashboard", "--corpora", "{}"], "--corpora"),
        (["dashboard", "--secrets", "{}"], "--secrets"),
        (["domains", "--store", "{}"], "--store"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    tmp_path, monkeypatch, capsys, words, option, empty
):
    """Most often it is a variable that is not set; all that lies here would be read or sent."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("A private note.")
    assert main([word.replace("{}", empty) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert option in told
    assert f"{empty!r} names no file or folder; write . for the current folder" in told
    assert [path.name for path in tmp_path.iterdir()] == ["own.txt"]


# --- corpora --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.txt", b"", "has no text"),
        ("blank.md", b" \n\n", "has no text"),
        ("binary.txt", b"text\0text", "is binary (NUL at byte 4)"),
        ("latin.txt", "caf\u00e9".encode("latin-1"), "is not UTF-8: byte 3 is 0xe9"),
        ("notes.docx", b"text", "cannot read"),
        ("bad.jsonl", b'{"text": "one"}\n{"text": \n', "bad.jsonl:2 is no JSON"),
        ("other.jsonl", b'{"text": "one"}\n{"words": "two"}\n', 'other.jsonl:2 has no "text"'),
        ("list.jsonl", b"[1, 2]\n", "list.jsonl:1 is no JSON object"),
    ],
)
def test_a_corpus_that_cannot_be_learned(peer_cl, place, tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    before = portrait(place)
    result = peer_cl("ingest", "medicine", tmp_path / name, folder=place)
    assert is_refused(result, told), result.err
    assert portrait(place) == before


def test_a_corpus_that_is_missing(peer_cl, place, tmp_path):
    before = portrait(place)
    assert is_refused(
        peer_cl("ingest", "medicine", tmp_path / "none", folder=place), "no corpus at"
    )
    (tmp_path / "folder").mkdir()
    assert is_refused(peer_cl("ingest", "medicine", tmp_path / "folder", folder=place), "in folder")
    assert portrait(place) == before


def test_malformed_rows_can_be_skipped_and_are_counted(peer_cl, place, corpus):
    with corpus.open("a", encoding="utf-8") as file:
        file.write('{"text": \n[1]\n')
    before = portrait(place)
    stopped = peer_cl("ingest", "medicine", corpus, *SMALL, folder=place)
    assert is_refused(stopped, "medicine.jsonl:41", "--on-bad-row skip"), stopped.err
    assert portrait(place) == before
    result = peer_cl(
        "ingest", "medicine", corpus, *SMALL, "--on-bad-row", "skip", "--json", folder=place
    )
    assert result.code == 0, result.err
    assert (result.json["num_skipped"], result.json["num_skipped_files"]) == (2, 0)
    assert [told.split(" ")[0] for told in result.json["problems"]] == [
        f"{corpus}:{number}" for number in (41, 42)
    ]


def test_of_many_malformed_rows_the_first_are_named(capsys):
    skipped = sum((Skipped(1, (f"a.jsonl:{number} is bad",)) for number in range(7)), Skipped())
    print_left_out(skipped, ())
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "7 malformed rows skipped"
    assert told[1:6] == [f"skipped a.jsonl:{number} is bad" for number in range(5)]
    assert told[6:] == ["and 2 more"]


def test_malformed_facts_are_named_with_their_line(peer_cl, place, corpus, tmp_path):
    facts = tmp_path / "facts.jsonl"
    facts.write_text('{"subject": "fever"}\n', encoding="utf-8")
    before = portrait(place)
    result = peer_cl("ingest", "medicine", corpus, "--facts", facts, folder=place)
    assert is_refused(result, "facts.jsonl:1", "relation"), result.err
    assert portrait(place) == before


def test_a_corpus_that_is_known_already(peer_cl, place, good):
    before = portrait(place)
    result = peer_cl("ingest", "law", good.parent / "law.jsonl", folder=place)
    assert is_refused(result, "nothing new for 'law'"), result.err
    assert portrait(place) == before


# --- names and options ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "name is empty"),
        ("m" * 10_000, "has 10000 characters"),
        ("../../etc/passwd", "looks like a path"),
        ("Medicine!", "cannot be used"),
        ("a\nb", "cannot be used"),
    ],
)
def test_a_name_that_no_domain_can_have(peer_cl, place, corpus, name, told):
    before = portrait(place)
    assert is_refused(peer_cl("ingest", name, corpus, folder=place), told)
    assert portrait(place) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--passes", "0"], "--passes must be positive"),
        (["--passes", "nan"], "--passes must be finite, not nan"),
        (["--hold-out", "101"], "--hold-out must be at least 0"),
        (["--num-experts", "65"], "--num-experts must be a square, not 65; nearest: 64 or 81"),
        (["--key-width", "33"], "--key-width must be even and positive, not 33"),
        (["--top-k", "15"], "--top-k 15 is more than the 14 sub-keys"),
        (["--precision", "int4"], "precision must be"),
        (["--mode", "instead"], "mode must be"),
    ],
)
def test_a_run_that_cannot_be_trained(peer_cl, place, corpus, options, told):
    before = portrait(place)
    result = peer_cl("ingest", "medicine", corpus, *options, folder=place)
    assert is_refused(result, told), result.err
    assert portrait(place) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host-layers", "3,1"], "ascending"),
        (["--host-layers", "one"], "host layers are numbers"),
        (["--host-layers", "9"], "0..3"),
        (["--budget", "1.5"], "1.5"),
        (["--capacity", "0"], "0"),
        (["--background", "none.txt"], "no corpus at none.txt"),
        (["--name-odds", "-1"], "error: --name-odds must be 0 or more"),
        (["--objects-url", "objects"], "objects lie at a URL such as"),
        (["--database-url", "postgresql://ann:secret@host/x"], "leave it to PGPASSFILE"),
    ],
)
def test_a_store_that_cannot_be_made(peer_cl, good, tmp_path, options, told):
    folder = tmp_path / "new"
    ordinary = ["--base", good.parent / "base", "--background", good.parent / "law.jsonl"]
    result = peer_cl("init", *ordinary, *options, folder=folder)
    assert is_refused(result, told), result.err
    assert not folder.exists()


def test_a_base_that_is_none(peer_cl, tmp_path):
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "new"
    result = peer_cl("init", "--base", tmp_path / "empty", folder=folder)
    assert is_refused(result, "no base model can be loaded from", "give a folder"), result.err
    assert not folder.exists()


def test_a_base_whose_folder_is_mistyped(peer_cl, tmp_path):
    result = peer_cl("init", "--base", tmp_path / "bse", folder=tmp_path / "new")
    assert is_refused(result, f"there is no folder {tmp_path / 'bse'}"), result.err


def test_a_second_store_in_the_same_folder(peer_cl, place):
    before = portrait(place)
    assert is_refused(peer_cl("init", folder=place), "there is a store in")
    assert portrait(place) == before


def test_a_store_among_a_users_files(peer_cl, good, tmp_path):
    (tmp_path / "thesis.tex").write_text("a year of work", encoding="utf-8")
    ordinary = ["--base", good.parent / "base", "--background", good.parent / "law.jsonl"]
    result = peer_cl("init", *ordinary, folder=tmp_path)
    assert is_refused(result, "thesis.tex", "choose a new or empty folder"), result.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_base_in_a_relative_folder_is_found_from_elsewhere(peer_cl, good, tmp_path, monkeypatch):
    monkeypatch.chdir(good.parent)
    ordinary = ["--base", "base", "--background", good.parent / "law.jsonl"]
    made = peer_cl("init", *ordinary, "--json", folder=tmp_path / "new")
    assert made.code == 0, made.err
    assert made.json["base_id"] == str(good.parent / "base")
    monkeypatch.chdir(tmp_path)
    assert peer_cl("verify", folder=tmp_path / "new").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate", " "], "the prompt is empty"),
        (["generate", "a", "--sample", "--seed", "9" * 20], "seed must lie between 0 and"),
        (["generate", "a", "--sample", "--seed", "-1"], "seed must lie between 0 and"),
        (["generate", "a", "--seed", "5"], "--seed 5 is of a draw, and nothing is drawn: add --sa"),
        (["generate", "a", "--domain", "lav"], "Did you mean 'law'"),
        (["generate", "a", "--guidance-scale", "0"], "error: --guidance-scale must be positive"),
        (["generate", "a", "--force"], "--force lets one pool speak alone: name one domain"),
    ],
)
def test_a_text_that_cannot_be_written(peer_cl, place, words, told):
    assert is_refused(peer_cl(*words, folder=place), told)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (None, "", "no set in"),
        ("stream.jsonl", '{"domain": "law", "text": "a"}', "stream.jsonl:1 has the fields domain"),
        ("own.jsonl", '{"context": "a", "continuation": ""}', 'own.jsonl:1 has no text in "conti'),
    ],
)
def test_general_ability_without_a_set(peer_cl, place, tmp_path, name, content, told):
    folder = tmp_path / "sets"
    folder.mkdir()
    if name is not None:
        (folder / name).write_text(content + "\n", encoding="utf-8")
    result = peer_cl("evaluate", "--general", folder, folder=place)
    assert is_refused(result, told), result.err
    assert is_refused(peer_cl("evaluate", "--general", folder / "x", folder=place), "no set at")
    few = peer_cl("evaluate", "--general", folder, "--general-items", "0", folder=place)
    assert few.code == 2
    assert "--general-items" in few.err


BAD = "caf\udce9"
"""What Python makes of `caf` and a byte of Latin-1 on a command line."""


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["ingest", "medicine", "{corpus}", "--why", BAD], "--why"),
        (["ingest", BAD, "{corpus}"], "DOMAIN"),
        (["freeze", "law", "--why", BAD], "--why"),
        (["freeze", "law", "--who", BAD], "--who"),
        (["show", BAD], "DOMAIN"),
        (["history", "--domain", BAD], "--domain"),
        (["document", BAD], "ID"),
        (["erase", "--masked", "abcdef", BAD], "DOCUMENT"),
        (["erase", "--exact", "--search", BAD], "--search"),
        (["generate", BAD], "PROMPT"),
        (["trace", BAD], "TEXT"),
        (["search", BAD], "TEXT"),
    ],
    ids=lambda item: " ".join(item[:1]) if isinstance(item, list) else item,
)
def test_a_byte_that_is_not_utf_8(peer_cl, place, corpus, words, option):
    before = portrait(place)
    result = peer_cl(*(corpus if word == "{corpus}" else word for word in words), folder=place)
    told = f"error: {option}", r"'caf\udce9' holds a byte that is not UTF-8 (character 4)"
    assert is_refused(result, *told), result.err
    assert "reading" not in result.err, "told before anything is read or trained"
    assert portrait(place) == before


def test_a_store_whose_folder_is_not_utf_8_can_be_used(peer_cl, place):
    moved = place.rename(place.with_name(BAD))
    assert peer_cl("domains", folder=moved).code == 0


# --- stores ---------------------------------------------------------------------------------------

VERBS = [
    ["domains"],
    ["show", "law"],
    ["history"],
    ["doctor"],
    ["freeze", "law"],
    ["rollback", "law"],
    ["bring-back", "law"],
    ["evaluate"],
    ["generate", "a"],
    ["verify"],
    ["ingest", "law", "none.txt"],
]


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_no_store(peer_cl, tmp_path, words):
    folder = tmp_path / "none"
    assert is_refused(peer_cl(*words, folder=folder), "no store at", "peer-cl init")
    assert not folder.exists()


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_store_of_a_newer_format(peer_cl, place, words):
    toml = place / "store.toml"
    text = toml.read_text(encoding="utf-8")
    toml.write_text(text.replace("format_version = 1", "format_version = 99"), encoding="utf-8")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert is_refused(peer_cl(*words, folder=place), "99", "1")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", ["weights", "tokenizer"])
def test_a_store_of_another_base(peer_cl, place, corpus, what):
    base = place.parent / "base"
    if what == "weights":
        make_tiny_base(base, seed=1)
    else:
        tokenizer = base / "tokenizer.json"
        text = tokenizer.read_text(encoding="utf-8")
        tokenizer.write_text(text.replace('"ignore_merges": false', '"ignore_merges": true'))
        assert tokenizer.read_text(encoding="utf-8") != text
    before = portrait(place)
    for words in (["ingest", "medicine", corpus], ["generate", "a"], ["evaluate"]):
        assert is_refused(peer_cl(*words, folder=place), f"whose {what} hash to"), words
    verified = peer_cl("verify", folder=place)
    assert verified.code == 1
    assert f"whose {what} hash to" in verified.out
    assert portrait(place) == before


def test_a_store_that_a_live_writer_holds(peer_cl, place, corpus):
    before = portrait(place)
    with Registry.open(place) as other, other.writing("bob"):
        for words in (
            ["freeze", "law"],
            ["rollback", "law", "--out"],
            ["ingest", "medicine", corpus],
            ["doctor", "--repair"],
        ):
            result = peer_cl(*words, folder=place)
            assert is_refused(result, "the store is being written by bob", "try again"), words
        assert peer_cl("domains", folder=place).code == 0, "reading needs no lease"
        assert peer_cl("doctor", folder=place).code == 0
    assert portrait(place) == before
    assert peer_cl("freeze", "law", folder=place).code == 0


def test_a_prompt_to_a_domain_that_is_disabled_or_out(peer_cl, place):
    words = ["generate", "a", "--domain", "law"]
    for act, told in (
        (["disable", "law"], "'law' is disabled and not asked; `peer-cl enable law` first"),
        (["rollback", "law", "--out"], "`peer-cl bring-back law` puts it back"),
    ):
        assert peer_cl(*act, folder=place).code == 0
        result = peer_cl(*words, folder=place)
        assert is_refused(result, told), result.err


def test_a_frozen_domain_learns_nothing(peer_cl, place, corpus):
    assert peer_cl("freeze", "law", folder=place).code == 0
    before = portrait(place)
    result = peer_cl("ingest", "law", corpus, folder=place)
    assert is_refused(result, "'law' is frozen", "unfreeze"), result.err
    assert portrait(place) == before


def test_a_small_corpus_is_read_more_often(peer_cl, place, tmp_path):
    corpus = write_corpus(tmp_path / "notes.jsonl", "medicine", num=4)
    often = json.loads(peer_cl("ingest", "often", corpus, *SHAPE, "--json", folder=place).out)
    once = json.loads(peer_cl("ingest", "once", corpus, *SMALL, "--json", folder=place).out)
    assert once["num_steps"] < 3
    assert 30 <= often["num_steps"] < 33
    assert often["num_tokens"] > 10 * once["num_tokens"]
    assert often["last_loss_nats"] < once["last_loss_nats"]


@pytest.mark.parametrize(
    "point", ["while training", "while storing objects", "objects stored", "in the transaction"]
)
def test_an_ingest_that_was_killed(peer_cl, place, corpus, point):
    before = portrait(place)
    words = ["--store", place, "ingest", "medicine", corpus, *SMALL, "--tokens-per-step", "256"]
    killed = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "killed_verb.py"), point, *map(str, words)],
        capture_output=True,
        check=False,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    after = portrait(place)
    assert after[1:] == before[1:], "the live snapshot and the history are as they were"
    assert before[0].items() <= after[0].items(), "no object is lost or changed"
    told = peer_cl("doctor", folder=place)
    assert told.code == 0, told.out
    assert "ended without giving its lease back" in told.out
    if point == "in the transaction":
        assert peer_cl("verify", folder=place).code == 0
    assert peer_cl("doctor", "--repair", folder=place).code == 0
    assert portrait(place) == before
    result = peer_cl("ingest", "medicine", corpus, *SMALL, folder=place)
    assert result.code == 0, result.err
    assert peer_cl("doctor", folder=place).code == 0


def test_the_next_ingest_needs_no_doctor(peer_cl, place, corpus):
    words = ["--store", place, "ingest", "medicine", corpus, *SMALL]
    child = [sys.executable, str(Path(__file__).parent / "killed_verb.py"), "objects stored"]
    assert (
        subprocess.run([*child, *map(str, words)], capture_output=True, check=False).returncode
        == -signal.SIGKILL
    )
    assert peer_cl("ingest", "medicine", corpus, *SMALL, folder=place).code == 0


def test_a_damaged_pool(peer_cl, place):
    with Registry.open(place) as registry:
        path = registry.objects.path(registry.domain("law").chain[0].pool_object)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    result = peer_cl("generate", "a", folder=place)
    assert is_refused(result, "domain law, version v1", "peer-cl doctor", code=1), result.err
    verified = peer_cl("verify", "--json", folder=place)
    assert verified.code == 1
    assert not verified.json["is_good"]
    failed = {check["what"] for check in verified.json["checks"] if check["verdict"] == "failed"}
    assert {"object damaged", "pool of law v1"} <= failed
