"""`serve`: other programs ask through OpenAI's own client."""

import socket
import threading
from contextlib import contextmanager

import openai
import pytest
import uvicorn
from tiny_base import SUBJECTS

from app.cli import main
from app.server import make_app
from pipelines import open_store


@contextmanager
def serving(store):
    """Yield the address of a server of a store, on loopback."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(store, "secret"), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def address(tiny_store):
    with open_store(tiny_store) as store, serving(store) as found:
        yield found


@pytest.fixture
def client(address):
    with openai.OpenAI(base_url=address, api_key="secret", max_retries=0) as one:
        yield one


def ask(client, content, model="peer-cl", **more):
    messages = [*more.pop("before", []), {"role": "user", "content": content}]
    return client.chat.completions.create(model=model, messages=messages, **more)


def test_an_answer_carries_its_sources(client, tiny_store):
    said = ask(client, SUBJECTS["law"], temperature=0.7)
    with open_store(tiny_store) as store:
        expected = store.ask(SUBJECTS["law"])
    assert said.choices[0].message.content == expected.text
    assert said.peer_cl["domain"] == expected.domain == "law"
    assert said.peer_cl["sources"][0]["document_id"] == expected.sources[0].document_id
    assert said.usage.total_tokens > 0


def test_a_stream_says_the_same_in_pieces_and_its_sources_last(client):
    whole = ask(client, SUBJECTS["law"])
    pieces = list(ask(client, SUBJECTS["law"], stream=True))
    told = "".join(one.choices[0].delta.content or "" for one in pieces)
    assert told.strip() == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert pieces[-1].peer_cl == whole.peer_cl


def test_where_nothing_is_found_the_base_answers_and_that_is_told(client):
    said = ask(client, "zebra quay voyage", before=[{"role": "system", "content": "Be short."}])
    assert (said.peer_cl["domain"], said.peer_cl["way"]) == (None, "base")


def test_each_active_domain_is_a_model_that_answers_alone(client):
    assert [one.id for one in client.models.list()] == [
        "peer-cl",
        "peer-cl/law",
        "peer-cl/medicine",
    ]
    assert ask(client, SUBJECTS["law"], "peer-cl/medicine").peer_cl["domain"] == "medicine"


def test_the_live_snapshot_is_followed(store):
    with serving(store) as address, openai.OpenAI(base_url=address, api_key="secret") as client:
        assert ask(client, SUBJECTS["law"]).peer_cl["domain"] == "law"
        store.remove("law")
        assert ask(client, SUBJECTS["law"]).peer_cl["domain"] != "law"


def test_without_the_key_nothing_is_told(address):
    with (
        openai.OpenAI(base_url=address, api_key="guess", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError, match="send the key"),
    ):
        ask(client, "Who?")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("content", "model", "error", "said"),
    [
        (" ", "peer-cl", openai.BadRequestError, "empty"),
        ("Who?", "gpt", openai.NotFoundError, "no model 'gpt'"),
        ("Who?", "peer-cl/nobody", openai.NotFoundError, "nobody"),
        (
            [{"type": "image_url", "image_url": {"url": "x"}}],
            "peer-cl",
            openai.BadRequestError,
            "messages.0",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_in_the_protocols_form(
    client, content, model, error, said, stream
):
    with pytest.raises(error, match=said):
        ask(client, content, model, stream=stream)


def test_a_port_that_is_taken_is_named(tiny_store, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--store", str(tiny_store)]) == 2
    assert f"cannot listen at port {port}" in capsys.readouterr().err
