"""Rewordings by another model: a real server on loopback answers, fails, and goes away."""

import pytest
from rewording_server import rewording_server

from peer_cl.errors import InputError
from pipelines import rewriting
from pipelines.documents import SourceDocument
from pipelines.rewordings import read_rewordings
from pipelines.rewriting import STYLES, reword

DOCUMENTS = [SourceDocument(f"Fact {n} about Chad.", f"Chad {n}", "chad.txt") for n in range(3)]


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


def test_what_is_there_is_not_asked_again(server, tmp_path):
    out = tmp_path / "r.jsonl"
    reword(DOCUMENTS[:2], out, endpoint=server.url, model="m", num=1)
    before = out.read_bytes()
    out.write_bytes(before + b'{"document": "cut of')
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


@pytest.mark.parametrize("content", ["notes of mine\n", "[1]\n", '{"made_by": 1}\nmy notes'])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    out = tmp_path / "notes.txt"
    out.write_text(content)
    with pytest.raises(InputError, match=r"notes.txt.* name another file"):
        reword(DOCUMENTS, out, endpoint="http://127.0.0.1:9/v1", model="m")
    assert out.read_text() == content


@pytest.mark.parametrize(
    "endpoint",
    ["http://ann:secret@127.0.0.1:9/v1", "https://secret@host/v1", "ann:secret@host"],
)
def test_a_key_in_the_endpoint_is_refused_and_not_repeated(endpoint, tmp_path):
    with pytest.raises(InputError, match="leave the key to OPENAI_API_KEY") as told:
        reword(DOCUMENTS, tmp_path / "out.jsonl", endpoint=endpoint, model="m")
    assert "secret" not in str(told.value)
    assert not (tmp_path / "out.jsonl").exists()
