"""`serve`: other programs ask through OpenAI's own client."""

import socket
import threading
from contextlib import contextmanager
from dataclasses import asdict

import openai
import pytest
import uvicorn
from tiny_base import SUBJECTS

from app.cli import main
from app.report import BASE_SPOKE, answer_lines
from app.server import make_app
from pipelines import open_store
from pipelines.units import units_of

NONSENSE = "Do penguins like jazz?"


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
    with open_store(tiny_store) as store:
        queries = store.registry.queries
        learned = queries.documents("law", split="train")
        text = next(queries.document_text(one) for one in learned if one.kind == "text")
        expected = store.ask(units_of(text)[0])
    said = ask(client, expected.question, temperature=0.7)
    assert said.choices[0].message.content == "\n".join(answer_lines(expected))
    assert said.peer_cl["kind"] == expected.kind == "known"
    assert said.peer_cl["sources"] == [asdict(one) for one in expected.sources]
    assert said.usage.total_tokens > 0


def test_a_stream_says_the_same_in_pieces_and_its_sources_last(client):
    whole = ask(client, SUBJECTS["law"])
    pieces = list(ask(client, SUBJECTS["law"], stream=True))
    told = "".join(one.choices[0].delta.content or "" for one in pieces)
    assert told == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert pieces[-1].peer_cl == whole.peer_cl


def test_where_nothing_is_known_the_base_answers_only_if_asked_to(client):
    before = [{"role": "system", "content": "Be short."}]
    said = ask(client, NONSENSE, before=before)
    assert (said.peer_cl["kind"], said.peer_cl["base"]) == ("not known", None)
    assert said.choices[0].message.content.startswith("not known; nearest:")
    said = ask(client, NONSENSE, before=before, extra_body={"base": True})
    assert said.peer_cl["kind"] == "base"
    assert said.choices[0].message.content == f"{said.peer_cl['base']}\n\n{BASE_SPOKE}"


def test_each_active_domain_is_a_model_that_answers_alone(client):
    assert [one.id for one in client.models.list()] == [
        "peer-cl",
        "peer-cl/law",
        "peer-cl/medicine",
    ]
    sources = ask(client, SUBJECTS["law"], "peer-cl/medicine").peer_cl["sources"]
    assert {one["domain"] for one in sources} == {"medicine"}


def test_the_live_snapshot_is_followed(store):
    with serving(store) as address, openai.OpenAI(base_url=address, api_key="secret") as client:
        assert ask(client, SUBJECTS["law"]).peer_cl["sources"][0]["domain"] == "law"
        store.remove("law")
        assert ask(client, SUBJECTS["law"]).peer_cl["sources"][0]["domain"] == "medicine"


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
