"""URLs that are no endpoint's, or may hold a key, are refused before anything is written."""

import pytest

from peer_cl.errors import InputError
from pipelines.documents import SourceDocument
from pipelines.rewriting import reword

DOCUMENTS = [SourceDocument("A fact about Chad.", "Chad", "chad.txt")]
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://[::1", "http://", "http:///v1", "http://host:port/v1", "http://host:99999/v1"),
        *("http://a..b/v1", f"http://{'a' * 64}/v1", "http://ho\nst/v1", "http://\N{SNOWMAN}/v1"),
    ],
)
def test_what_is_no_url_is_refused_in_one_line(endpoint, tmp_path):
    with pytest.raises(InputError, match="an endpoint is a URL such as http://127") as told:
        reword(DOCUMENTS, tmp_path / "out.jsonl", endpoint=endpoint, model="m")
    assert "\n" not in str(told.value)
    assert repr(endpoint) in str(told.value)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "endpoint",
    ["http://ann:secret@127.0.0.1:9/v1", "https://secret@host/v1", "ann:secret@host"],
)
def test_a_key_in_the_endpoint_is_refused_and_not_repeated(endpoint, tmp_path):
    with pytest.raises(InputError, match="leave the key to OPENAI_API_KEY") as told:
        reword(DOCUMENTS, tmp_path / "out.jsonl", endpoint=endpoint, model="m")
    assert "secret" not in str(told.value)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    "endpoint",
    [f"{NOWHERE}{end}" for end in ("?key=secret", "/?key=secret", "#secret", "?", "/#")]
    + ["host/v1?key=secret", "http://[::1?key=secret"],
)
def test_a_query_or_a_fragment_of_the_endpoint_is_refused_and_not_repeated(endpoint, tmp_path):
    with pytest.raises(InputError, match=r"leave out what begins with \? or #.* OPENAI_") as told:
        reword(DOCUMENTS, tmp_path / "out.jsonl", endpoint=endpoint, model="m")
    assert "secret" not in str(told.value)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("end", ["/chat/completions", "/chat/completions/"])
def test_the_url_of_the_call_itself_is_refused(end, tmp_path):
    with pytest.raises(InputError, match=r"give the URL that ends before /chat/completions, e\.g"):
        reword(DOCUMENTS, tmp_path / "out.jsonl", endpoint=NOWHERE + end, model="m")
    assert not (tmp_path / "out.jsonl").exists()
