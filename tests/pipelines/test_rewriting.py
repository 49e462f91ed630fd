"""Rewordings by another model: a real server on loopback answers, fails, and goes away."""

import json
import os
import re

import pytest
from rewording_server import rewording_server

from peer_cl.errors import InputError
from pipelines import rewriting
from pipelines.corpora import read_corpus
from pipelines.documents import SourceDocument
from pipelines.rewordings import read_rewordings
from pipelines.rewriting import STYLES, reword

DOCUMENTS = [SourceDocument(f"Fact {n} about Chad.", f"Chad {n}", "chad.txt") for n in range(3)]
NOWHERE = "http://127.0.0.1:9/v1"
CORPUS = '{"text": "One doc here."}\n{"text": "Second doc"}'
OWN_LINE = json.dumps({"document": "a" * 64, "made_by": "b", "rewordings": ["c"]}) + "\n"


@pytest.fixture
def server():
    with rewording_server() as served:
        yield served


def test_every_document_is_asked_for_in_every_style(server, tmp_path, monkeypatch):
    monkeypatch.setenv(rewriting.KEY_VARIABLE, "a key")
    out = tmp_path / "r.jsonl"
    done = reword(DOCUMENTS, out, endpoint=server.url, model="some model")
    assert (done.num_asked, done.num_known, done.num_empty) == (3, 0, 0)
    assert done.num_tokens == 11 * 9
    assert {path for path, _ in server.asked} == {"/v1/chat/completions"}
    assert {asked["model"] for _, asked in server.asked} == {"some model"}
    assert server.keys == {"Bearer a key"}
    contents = [asked["messages"][0]["content"] for _, asked in server.asked]
    assert contents[:3] == [f"{style}\n\nChad 0\n\nFact 0 about Chad." for style in STYLES]
    found, _ = read_rewordings(out)
    assert found == {
        d.document_id: tuple(f"Said anew: {d.text} ({3 * n + k})" for k in range(3))
        for n, d in enumerate(DOCUMENTS)
    }


def test_a_title_that_was_made_of_a_files_name_is_not_sent(server, tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("Text alone.")
    (folder / "b.md").write_text("Before.\n# Heading\nBelow it.")
    rows = [
        {"text": "Titled.", "title": "Quartz"},
        {"text": "Untitled."},
        {"text": "Known by its id.", "id": "q7"},
        {"text": "Nulled.", "title": None, "id": "q8"},
        {"text": "Emptied.", "title": ""},
        {"text": "Zero.", "title": 0},
    ]
    (folder / "c.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    documents = read_corpus(folder).documents
    assert [d.title for d in documents] == [
        *("a", "b", "b: Heading", "Quartz", "c, line 2", "q7", "c, line 4", "c, line 5", "0"),
    ]
    reword(documents, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert [
        asked["messages"][0]["content"].removeprefix(f"{STYLES[0]}\n\n")
        for _, asked in server.asked
    ] == [
        *("Text alone.", "Before.", "# Heading\nBelow it.", "Quartz\n\nTitled.", "Untitled."),
        *("Known by its id.", "Nulled.", "Emptied.", "0\n\nZero."),
    ]


def test_what_is_there_is_not_asked_again(server, tmp_path):
    out = tmp_path / "r.jsonl"
    reword(DOCUMENTS[:2], out, endpoint=server.url, model="m", num=1)
    before = out.read_bytes()
    out.write_bytes(before + b'{"document": "0ff')
    done = reword([*DOCUMENTS, DOCUMENTS[2]], out, endpoint=server.url, model="m", num=1)
    assert (done.num_asked, done.num_known) == (1, 2)
    assert len(server.asked) == 3
    assert out.read_bytes().startswith(before)
    assert len(read_rewordings(out)[0]) == 3
    done = reword(DOCUMENTS, out, endpoint=server.url, model="another", num=1)
    assert (done.num_asked, done.num_known) == (3, 0)


def test_an_empty_answer_is_told_and_asked_again(server, tmp_path):
    out = tmp_path / "r.jsonl"
    server.say = lambda _, number: " \n" if number == 0 else "x"
    done = reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1)
    assert (done.num_asked, done.num_empty) == (3, 1)
    assert reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1).num_asked == 1


def test_an_answer_that_was_cut_off_is_left_out(server, tmp_path):
    out = tmp_path / "r.jsonl"
    server.finish = lambda _, number: "length" if number in (0, 2, 3) else "stop"
    done = reword(DOCUMENTS, out, endpoint=server.url, model="m", num=2)
    assert (done.num_asked, done.num_written, done.num_cut, done.num_empty) == (3, 2, 3, 1)
    found, _ = read_rewordings(out)
    assert [len(found.get(d.document_id, ())) for d in DOCUMENTS] == [1, 0, 2]
    assert found[DOCUMENTS[0].document_id] == ("Said anew: Fact 0 about Chad. (1)",)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("<think>\nWhat is asked?\n\nSo.\n</think>\n\nIt is said anew.", "It is said anew."),
        ("\n <think></think>It is said anew.", "It is said anew."),
        ("<think>a</think>The tag </think> ends <think>.", "The tag </think> ends <think>."),
        ("It tells of <think>tags</think>.", "It tells of <think>tags</think>."),
    ],
)
def test_what_a_reasoning_model_thought_is_no_part_of_its_answer(server, tmp_path, said, kept):
    out = tmp_path / "r.jsonl"
    server.say = lambda *_: said
    done = reword(DOCUMENTS[:1], out, endpoint=server.url, model="m", num=1)
    assert (done.num_written, done.num_cut) == (1, 0)
    assert read_rewordings(out)[0] == {DOCUMENTS[0].document_id: (kept,)}


def test_an_answer_that_does_not_come_to_the_end_of_its_thoughts_is_cut_off(server, tmp_path):
    out = tmp_path / "r.jsonl"
    server.say = lambda _, number: "<think>\nWhat is" if number in (0, 2, 3) else f"Anew {number}."
    done = reword(DOCUMENTS, out, endpoint=server.url, model="m", num=2)
    assert (done.num_written, done.num_cut, done.num_empty) == (2, 3, 1)
    assert read_rewordings(out)[0][DOCUMENTS[0].document_id] == ("Anew 1.",)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_document_that_is_refused_is_passed_over_and_named(server, tmp_path, status):
    out = tmp_path / "r.jsonl"
    book = SourceDocument("word " * 3000, "book", "b.txt")
    server.refuse = lambda asked: (
        (status, "maximum context\nlength is 8192 tokens")
        if len(asked["messages"][0]["content"]) > 3000
        else None
    )
    documents = [DOCUMENTS[0], book, *DOCUMENTS[1:]]
    done = reword(documents, out, endpoint=server.url, model="m", num=2)
    assert (done.num_asked, done.num_written, done.num_empty) == (4, 3, 0)
    (told,) = done.refused
    assert told.startswith(f"'book': answered {status}, ")
    assert "maximum context" in told
    assert "\n" not in told
    assert set(read_rewordings(out)[0]) == {d.document_id for d in DOCUMENTS}
    again = reword(documents, out, endpoint=server.url, model="m", num=2)
    assert (again.num_asked, len(again.refused)) == (1, 1)
    assert set(read_rewordings(out)[0]) == {d.document_id for d in DOCUMENTS}


def test_where_every_document_is_refused_the_call_is(server, tmp_path):
    server.refuse = lambda _: (400, "no model of that name")
    many = [SourceDocument(f"Fact {n}.", f"Fact {n}", "f.txt") for n in range(9)]
    with pytest.raises(InputError, match="refused the first 5 documents; the last, 'Fact 4': ans"):
        reword(many, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert len(server.asked) == 5


@pytest.mark.parametrize("unknown", ["max_completion_tokens", "max_tokens", None])
def test_the_most_tokens_are_told_in_the_words_that_the_endpoint_knows(server, tmp_path, unknown):
    server.refuse = lambda asked: (
        (400, f"Unsupported parameter: '{unknown}'") if unknown in asked else None
    )
    done = reword(DOCUMENTS, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert (done.num_written, done.refused) == (3, ())
    told = [{name for name in asked if name.startswith("max")} for _, asked in server.asked]
    if unknown == "max_tokens":
        assert told == [{unknown}, *[{"max_completion_tokens"}] * 3], "it is tried once"
    else:
        assert told == [{"max_tokens"}] * 3
    assert {asked[name] for _, asked in server.asked for name in asked if "max" in name} == {1024}


def test_a_refusal_that_only_names_the_limit_does_not_change_how_others_are_told(server, tmp_path):
    book = SourceDocument("word " * 3000, "book", "b.txt")
    server.refuse = lambda asked: (
        (400, "too long: shorten the messages or lower max_tokens")
        if len(asked["messages"][0]["content"]) > 3000
        else None
    )
    documents = [book, *DOCUMENTS]
    done = reword(documents, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert (done.num_written, len(done.refused)) == (3, 1)
    told = [{name for name in asked if name.startswith("max")} for _, asked in server.asked]
    assert told == [{"max_tokens"}, {"max_completion_tokens"}, *[{"max_tokens"}] * 3]


def test_a_passing_failure_is_waited_out(server, tmp_path):
    server.fail_at = {0: 503}
    done = reword(DOCUMENTS[:1], tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert (done.num_asked, done.num_empty, len(server.asked)) == (1, 0, 2)


def test_a_refusal_is_one_line_and_what_was_written_stays(server, tmp_path):
    out = tmp_path / "r.jsonl"
    server.fail_at = {1: 404}
    with pytest.raises(InputError, match=r"answered 404 for 'Chad 1': .*no such model.* is kept"):
        reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1)
    assert len(read_rewordings(out)[0]) == 1


def test_an_endpoint_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(rewriting, "RETRIES", 0)
    out = tmp_path / "r.jsonl"
    with pytest.raises(InputError, match=r"cannot reach http://127.0.0.1:9/v1"):
        reword(DOCUMENTS, out, endpoint="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(InputError, match="an endpoint is a URL"):
        reword(DOCUMENTS, out, endpoint="localhost:9", model="m")
    for num in (0, 4):
        with pytest.raises(InputError, match=f"between 1 and 3, not {num}"):
            reword(DOCUMENTS, out, endpoint="http://127.0.0.1:9/v1", model="m", num=num)


@pytest.mark.parametrize(
    "content",
    [
        "notes of mine\n",
        "[1]\n",
        '{"made_by": 1}\nmy notes',
        CORPUS,
        CORPUS + "\n",
        '{"text": "One doc alone."}',
        '{"document": "of my own", "text": "cut of',
        OWN_LINE + CORPUS,
        OWN_LINE + "my notes",
        OWN_LINE.replace('"made_by"', '"by"'),
        OWN_LINE.replace('["c"]', '"c"'),
        OWN_LINE.replace('"b"', "1"),
        OWN_LINE.replace(f'"{"a" * 64}"', "null"),
        "[" * 100_000 + "\n",
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    out = tmp_path / "notes.txt"
    out.write_text(content)
    with pytest.raises(InputError, match=r"notes.txt.* name another file"):
        reword(DOCUMENTS, out, endpoint=NOWHERE, model="m")
    assert out.read_text() == content


@pytest.mark.parametrize("num_bytes", [1, 7, 14, 20, 60, 78, 90, 120])
def test_a_line_that_was_cut_off_is_taken_away_wherever_it_was(server, tmp_path, num_bytes):
    out = tmp_path / "r.jsonl"
    reword(DOCUMENTS[:2], out, endpoint=server.url, model="m", num=1)
    first, second = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(first + second[:num_bytes])
    done = reword(DOCUMENTS[:2], out, endpoint=server.url, model="m", num=1)
    assert (done.num_known, done.num_written) == (1, 1)
    assert out.read_bytes().startswith(first)
    assert len(read_rewordings(out)[0]) == 2


def test_a_last_line_that_is_whole_stays_though_an_editor_took_its_end(server, tmp_path):
    out = tmp_path / "r.jsonl"
    reword(DOCUMENTS[:2], out, endpoint=server.url, model="m", num=1)
    before = out.read_bytes()
    out.write_bytes(before.rstrip(b"\n"))
    done = reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1)
    assert (done.num_known, done.num_written) == (2, 1)
    assert out.read_bytes().startswith(before)
    assert len(read_rewordings(out)[0]) == 3


def test_rewordings_do_not_go_into_the_corpus(tmp_path):
    folder, alone = tmp_path / "corpus", tmp_path / "c.jsonl"
    (folder / "below").mkdir(parents=True)
    alone.write_text(CORPUS)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "link.jsonl").symlink_to(alone)
    os.link(alone, tmp_path / "same.jsonl")
    for out, corpus in (
        (alone, alone),
        (tmp_path / "link.jsonl", alone),
        (alone, tmp_path / "link.jsonl"),
        (tmp_path / "same.jsonl", alone),
        (folder, folder),
        (folder / "new.jsonl", folder),
        (folder / "below" / "new.jsonl", tmp_path / "link"),
        (tmp_path / "link" / "none" / "new.jsonl", folder),
        (tmp_path / "else" / ".." / "corpus" / "new.jsonl", folder),
    ):
        with pytest.raises(InputError, match=r"is, or lies in, the corpus .*; name a file outside"):
            rewriting.check_out(out, corpus)
    for out in ("new.jsonl", "corpus.jsonl", "corpus2/new.jsonl"):
        rewriting.check_out(tmp_path / out, folder)
        rewriting.check_out(tmp_path / out, alone)
    rewriting.check_out(tmp_path / "new.jsonl", tmp_path / "no corpus")


@pytest.mark.parametrize("odd", ["half \ud800 a character", "a \0 character"])
def test_an_answer_that_cannot_be_kept_is_no_whole_answer(server, tmp_path, odd):
    out = tmp_path / "r.jsonl"
    server.say = lambda text, number: odd if number in (0, 2, 3) else f"Said anew {number}."
    done = reword(DOCUMENTS, out, endpoint=server.url, model="m", num=2)
    assert (done.num_asked, done.num_written, done.num_empty, done.num_cut) == (3, 2, 1, 0)
    found, _ = read_rewordings(out)
    assert [found.get(d.document_id) for d in DOCUMENTS] == [
        ("Said anew 1.",),
        None,
        ("Said anew 4.", "Said anew 5."),
    ]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"<html>\n<h1>Sign in</h1>" + b" please" * 500, r"with '<html> <h1>Sign in</h1> pl"),
        (b'{"choices": [{"mess', r"""with '{"choices": \[{"mess'"""),
        (b'"a text"', "with '\"a text\"'"),
        (b"[" * 100_000, r"with '\[\[\["),
        (b"", "with ''"),
        (b"\xff\xfe\xff", "with '"),
        (b"{}", "with '{}'"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b'{"choices": "none"}', "none"),
        (b'{"choices": [7]}', "7"),
        (b'{"choices": [{"text": "An older protocol."}]}', "An older protocol"),
        (b'{"choices": [{"message": null}]}', "null"),
        (b'{"choices": [{"message": {"content": ["a"]}}]}', "content"),
    ],
)
def test_what_is_no_completion_is_told_in_one_line(server, tmp_path, sent, told):
    out = tmp_path / "r.jsonl"
    server.send = lambda number: sent if number else None
    with pytest.raises(InputError, match=r"does not answer in OpenAI's protocol") as error:
        reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1)
    line = str(error.value)
    assert line.startswith(server.url)
    assert "'Chad 1'" in line
    assert re.search(told, line)
    assert "\n" not in line
    assert len(line) < 500
    assert len(read_rewordings(out)[0]) == 1, "what was written so far is kept"


@pytest.mark.parametrize(
    "sent",
    [
        {"choices": [{"message": {"content": "Anew."}}]},
        {"choices": [{"message": {"content": "Anew."}, "finish_reason": None}], "usage": None},
        {"choices": [{"message": {"content": "Anew."}}], "usage": {"total_tokens": None}},
        {"choices": [{"message": {"content": "Anew."}}], "error": None, "usage": 7},
    ],
)
def test_a_completion_may_lack_what_is_not_needed(server, tmp_path, sent):
    server.send = lambda number: json.dumps(sent).encode()
    done = reword(DOCUMENTS, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert (done.num_written, done.num_tokens) == (3, 0)


@pytest.mark.parametrize("error", ["the model\nis busy", {"message": "the model is busy"}])
def test_an_error_in_place_of_a_completion_is_a_refusal_in_its_words(server, tmp_path, error):
    server.send = lambda number: json.dumps({"error": error}).encode() if number == 1 else None
    done = reword(DOCUMENTS, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert done.num_written == 2
    assert done.refused == ("'Chad 1': answered with an error, the model is busy",)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"error": {"message": "no such\nmodel"}}, "no such model"),
        ({"error": "no such model"}, "no such model"),
        ({"message": "no such model", "object": "error"}, "no such model"),
        ({"detail": "no such model"}, '{"detail": "no such model"}'),
        ({"error": {"code": 3}}, '{"code": 3}'),
        ({}, "Error code: 400"),
    ],
)
def test_a_refusal_is_told_in_its_words_wherever_they_stand(server, tmp_path, sent, told):
    server.fail_at = {1: 400}
    server.send = lambda number: json.dumps(sent).encode() if number == 1 else None
    done = reword(DOCUMENTS, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert done.refused == (f"'Chad 1': answered 400, {told}",)


def test_the_limits_second_name_is_tried_too_where_the_refusal_has_no_message(server, tmp_path):
    server.refuse = lambda asked: (400, "") if "max_tokens" in asked else None
    server.send = lambda number: None if number else b'{"detail": "max_tokens is not known"}'
    done = reword(DOCUMENTS, tmp_path / "r.jsonl", endpoint=server.url, model="m", num=1)
    assert (done.num_written, len(server.asked)) == (3, 4)


def refused(server):
    server.refuse = lambda _: (400, "no model\nof that name" + " at all" * 500)


def answered_with_errors(server):
    server.send = lambda _: b'{"error": "no model of that name"}'


def silent(server):
    server.say = lambda *_: " "


def cut(server):
    server.finish = lambda *_: "length"


def thinking(server):
    server.say = lambda *_: "<think>What is asked?"


def thinking_alone(server):
    server.say = lambda *_: "<think>What is asked?</think>"


def half(server):
    server.say = lambda *_: "\ud800"


def declined(server):
    sent = {"choices": [{"message": {"content": None, "refusal": "I will not."}}]}
    server.send = lambda _: json.dumps(sent).encode()


def without_choices(server):
    server.send = lambda _: b'{"choices": []}'


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (refused, "answered 400, .*no model of that name"),
        (answered_with_errors, "answered with an error, no model of that name"),
        (silent, "an empty answer"),
        (without_choices, "an empty answer"),
        (cut, "an answer that was cut off at 1,024 tokens"),
        (thinking, "an answer that was cut off before the </think> of its thoughts"),
        (thinking_alone, "an empty answer"),
        (half, "an answer that has half a character"),
        (declined, "I will not."),
    ],
)
def test_a_run_that_achieved_nothing_is_told_in_the_endpoints_words(server, tmp_path, fail, told):
    out = tmp_path / "r.jsonl"
    fail(server)
    with pytest.raises(
        InputError, match=rf"reworded none of .*\(2\); the last, 'Chad 1': {told}"
    ) as e:
        reword(DOCUMENTS[:2], out, endpoint=server.url, model="m", num=1)
    assert str(e.value).startswith(server.url)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 600
    assert out.read_bytes() == b""


def test_a_run_that_asked_nothing_is_no_failure(server, tmp_path):
    out = tmp_path / "r.jsonl"
    reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1)
    refused(server)
    done = reword(DOCUMENTS, out, endpoint=server.url, model="m", num=1)
    assert (done.num_asked, done.num_known, done.num_written) == (0, 3, 0)
