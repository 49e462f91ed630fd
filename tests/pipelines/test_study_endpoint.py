import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from app.cli import main
from peer_cl.errors import StateError
from pipelines.corpora import SourceDocument
from pipelines.study.endpoint import KEY_VARIABLE, EndpointMaker, checked_pairs
from pipelines.study.making import passages_of, study, unknown_passages
from pipelines.study.questions import read_questions

TEXT = "Kiel was founded by Adolf IV of Holstein between 1233 and 1242."
REPLY = """Here they are:
```json
{"question": "Who founded Kiel?", "answer": "Adolf IV of Holstein"}
{"question": "who founded kiel", "answer": "Adolf IV"}
{"question": "Who does the passage name?", "answer": "Adolf IV"}
{"question": "Which city did Adolf IV found?", "answer": "Kiel"}
{"question": "What is Kiel's population?", "answer": "250,000"}
{"question": "Until when was Kiel founded?", "answer": 1242}
{"question": "broken
```"""
KEPT = [
    ("Who founded Kiel?", "Adolf IV of Holstein"),
    ("Which city did Adolf IV found?", "Kiel"),
    ("Until when was Kiel founded?", "1242"),
]


class Server(ThreadingHTTPServer):
    """A chat endpoint on loopback that keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.keys, self.statuses = [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body)["messages"][0]["content"])
        self.server.keys.append(self.headers["Authorization"])
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": REPLY},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }
        content = json.dumps(reply if status == 200 else {"error": {"message": "busy"}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def passages(*texts):
    return list(passages_of(SourceDocument(text, "Kiel", "kiel.txt") for text in texts))


def test_what_passes_the_checks_is_written(server, tmp_path):
    maker = EndpointMaker(server.url, "m")
    study(passages(TEXT), maker, tmp_path / "made.jsonl")
    questions, _ = read_questions(tmp_path / "made.jsonl")
    assert [(one.question, one.answer) for one in questions] == KEPT
    assert {(one.document, one.source) for one in questions} == {("Kiel", "endpoint:m")}
    assert (maker.num_prompt_tokens, maker.num_answer_tokens) == (100, 50)


def test_the_text_and_its_title_are_in_the_prompt(server):
    EndpointMaker(server.url, "m").questions(TEXT, "The town of Kiel")
    assert TEXT in server.asked[0]
    assert "The town of Kiel" in server.asked[0]


def test_a_text_with_braces_is_sent_as_it_is(server):
    EndpointMaker(server.url, "m").questions("A set {0} of {1, 2}.", "{2}")
    assert "A set {0} of {1, 2}." in server.asked[0]


def test_a_stopped_run_goes_on_where_it_was(server, tmp_path):
    server.statuses = [200, 400]
    out, both = tmp_path / "made.jsonl", passages(TEXT, f"{TEXT} It is a port.")
    maker = EndpointMaker(server.url, "m")
    with pytest.raises(StateError, match=r"does not answer: .*busy.*; run it again to go on"):
        study(both, maker, out)
    assert unknown_passages(both, maker, out) == both[1:]
    study(both, maker, out)
    assert len(server.asked) == 3
    study(both, maker, out)
    assert len(server.asked) == 3


def test_another_model_is_asked_anew(server, tmp_path):
    study(passages(TEXT), EndpointMaker(server.url, "m"), tmp_path / "made.jsonl")
    study(passages(TEXT), EndpointMaker(server.url, "n"), tmp_path / "made.jsonl")
    assert len(server.asked) == 2


def test_the_key_is_the_projects_own_variable(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "for-another-address")
    EndpointMaker(server.url, "m").questions(TEXT, "Kiel")
    monkeypatch.setenv(KEY_VARIABLE, "for-this-one")
    EndpointMaker(server.url, "m").questions(TEXT, "Kiel")
    assert server.keys == ["Bearer none", "Bearer for-this-one"]


def test_the_cost_grows_with_the_texts():
    maker = EndpointMaker("http://127.0.0.1:1/v1", "m")
    one, two = maker.cost([TEXT]), maker.cost([TEXT, TEXT])
    assert (one.num_calls, two.num_calls) == (1, 2)
    assert two.num_prompt_tokens >= 2 * one.num_prompt_tokens > 0


def test_an_answer_of_many_words_is_left_out():
    text = "one two three four five six seven eight nine ten eleven twelve thirteen"
    assert checked_pairs([("What are the numbers?", text)], text) == []


def test_the_verb_shows_the_cost_first_and_asks_once(server, tmp_path, capsys):
    (tmp_path / "kiel.txt").write_text(TEXT)
    out = tmp_path / "made.jsonl"
    words = ["study", str(tmp_path / "kiel.txt"), "--out", str(out)]
    assert main([*words, "--endpoint", server.url, "--model", "m"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(f"1 call of m at {server.url}: about ")
    assert "3 questions on 1 passage\n100 tokens read, 50 written" in printed.out
    assert main([*words, "--endpoint", server.url, "--model", "m"]) == 0
    assert "0 questions on 0 passages; 1 passage known" in capsys.readouterr().out
    assert len(server.asked) == 1


def test_the_verb_without_an_endpoint_uses_the_rules(tmp_path, capsys):
    (tmp_path / "kiel.txt").write_text(TEXT)
    out = tmp_path / "made.jsonl"
    assert main(["study", str(tmp_path), "--out", str(out)]) == 0
    assert {one.source for one in read_questions(out)[0]} == {"built-in"}


def test_an_endpoint_needs_a_model(tmp_path, capsys):
    assert main(["study", str(tmp_path), "--out", "x", "--endpoint", "http://h"]) == 2
    assert "--endpoint URL and --model NAME go together" in capsys.readouterr().err
