"""The verb reword: what it refuses is one line, exit code 2, and changes nothing that is there."""

import json

import pytest
from rewording_server import rewording_server

CORPUS = '{"text": "One doc here."}\n{"text": "Second doc"}'


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus" / "c.jsonl"
    path.parent.mkdir()
    path.write_text(CORPUS, encoding="utf-8")
    return path


@pytest.fixture
def server():
    with rewording_server() as served:
        yield served


def is_refused(result, *told):
    """Return whether a verb ended with one line that says these things."""
    shown = [text for text in result.err.splitlines() if not text.startswith("rewording")]
    return (
        result.code == 2
        and len(shown) == 1
        and shown[0].startswith("error: ")
        and all(text in shown[0] for text in told)
    )


@pytest.mark.parametrize("end", ["", "\n"])
def test_no_document_of_a_corpus_is_lost_to_rewordings(peer_cl, server, corpus, tmp_path, end):
    other = tmp_path / "c2.jsonl"
    for path in (corpus, other):
        path.write_text(CORPUS + end, encoding="utf-8")
    asked = ("--endpoint", server.url, "--model", "m")
    for source, out, told in (
        (corpus, other, f"{other}:1 is no line that reword wrote"),
        (corpus, corpus, f"{corpus} is, or lies in, the corpus {corpus}"),
        (corpus.parent, corpus, f"{corpus} is, or lies in, the corpus {corpus.parent}"),
        (corpus.parent, corpus.parent / "new.jsonl", "name a file outside it"),
    ):
        assert is_refused(peer_cl("reword", source, "--out", out, *asked), told)
    assert server.asked == [], "nothing is paid for that cannot be kept"
    assert {path.read_text(encoding="utf-8") for path in (corpus, other)} == {CORPUS + end}
    assert [path.name for path in corpus.parent.iterdir()] == ["c.jsonl"]


def test_a_wrong_name_of_a_model_is_told_though_there_are_two_documents(
    peer_cl, server, corpus, tmp_path
):
    words = ("reword", corpus, "--out", tmp_path / "r.jsonl", "--endpoint", server.url)
    server.refuse = lambda asked: None if asked["model"] == "m" else (400, "no model gpt-x")
    assert is_refused(peer_cl(*words, "--model", "gpt-x"), "reworded none", "no model gpt-x")
    server.send = lambda _: b'{"error": "model gpt-x is not loaded"}'
    assert is_refused(peer_cl(*words, "--model", "gpt-x", "--json"), "400, model gpt-x is not lo")
    assert is_refused(peer_cl(*words, "--model", "m"), "model gpt-x is not loaded")
    server.send = lambda _: None
    assert peer_cl(*words, "--model", "m", "--json").json["num_written"] == 2
    again = peer_cl(*words, "--model", "m")
    assert again.code == 0, "all is known already"
    assert "2 stood there already" in again.out


def test_odd_answers_and_urls_are_no_fault_of_peer_cl(peer_cl, server, corpus, tmp_path):
    out = tmp_path / "r.jsonl"
    words = ("reword", corpus, "--out", out, "--model", "m", "--num", "1")
    bad = peer_cl(*words, "--endpoint", "http://[::1")
    assert is_refused(bad, "an endpoint is a URL such as http://127.0.0.1:8000/v1, not 'http://[")
    server.send = lambda _: b"<html>Sign in</html>"
    page = peer_cl(*words, "--endpoint", server.url)
    assert is_refused(page, f"{server.url} does not answer in OpenAI's protocol", "Sign in")
    server.send = lambda _: None
    server.say = lambda text, number: "half \ud800" if "Second doc" in text else "Said anew."
    done = peer_cl(*words, "--endpoint", server.url)
    assert done.code == 0, done.err
    assert "1 got no whole answer; the next run asks them again" in done.out
    (line,) = out.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["rewordings"] == ["Said anew."]


def test_what_is_skipped_is_told_and_a_wrong_number_before_anything_else(
    peer_cl, server, corpus, tmp_path
):
    corpus.write_text(CORPUS + "\n{", encoding="utf-8")
    (corpus.parent / "table.csv").write_text("a,b")
    words = ["reword", corpus.parent, "--out", tmp_path / "r.jsonl", "--on-bad-row", "skip"]
    asked = [*words, "--endpoint", server.url, "--model", "m"]
    wrong = peer_cl(*asked, "--num", "9")
    assert wrong.code == 2
    assert "go to" not in wrong.out
    (corpus.parent / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    told = peer_cl(*asked, "--num", "1").out.splitlines()
    assert told[0] == "1 malformed row, 1 file skipped"
    assert told[1].startswith(f"skipped {corpus}:3 is no JSON")
    assert told[2].startswith(f"skipped {corpus.parent / 'latin.txt'} is not UTF-8")
    assert told[3] == "1 file left out: .csv 1"
    assert told[4].startswith("2 documents go to")
    said = peer_cl(*asked, "--num", "1", "--json").json
    assert (said["num_skipped"], said["num_skipped_files"], len(said["problems"])) == (2, 1, 2)
