"""Which tokens of a text use a row, on a tiny base."""

import pytest
from tiny_base import SUBJECTS, make_tiny_store

from peer_cl.errors import InputError, StateError, UnknownError
from pipelines import open_store
from pipelines.row_tokens import row_tokens

TEXT = SUBJECTS["law"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_store(make_tiny_store(tmp_path_factory.mktemp("made")), who="ann") as opened:
        yield opened


@pytest.fixture(scope="module")
def loaded(store):
    model, tokenizer = store.load()
    return {"model": model, "tokenizer": tokenizer, "snapshot": store.registry.live()}


def test_tokens_agree_with_the_trace(store, loaded):
    options = {**loaded, "domains": ["law"], "num_rows": 9999}
    traced = store.trace(TEXT, **options).tokens
    strongest = max(
        (row for token in traced for row in token.rows["law"]), key=lambda row: row.strength
    )
    place = {
        "domain": "law",
        "segment_id": strongest.segment_id,
        "host_layer": strongest.host_layer,
        "row": strongest.row,
    }
    found = row_tokens(store, TEXT, **place, **loaded)
    assert "".join(token.text for token in found[1:]) == TEXT
    assert [token.following for token in found] == [*(token.text for token in traced), ""]
    for token, predicted in zip(found, traced, strict=False):
        own = [
            row
            for row in predicted.rows["law"]
            if (row.host_layer, row.row) == (strongest.host_layer, strongest.row)
        ]
        assert token.weight == pytest.approx(sum(row.weight for row in own), abs=1e-6)
        assert token.strength == pytest.approx(sum(row.strength for row in own), abs=1e-6)


def test_what_is_not_there_is_told(store, loaded):
    version = store.registry.live().state("law").version
    layer = store.registry.config.host_layers[0]
    place = {"domain": "law", "segment_id": version, "host_layer": layer, "row": 0}
    with pytest.raises(UnknownError, match="no rows at layer 99"):
        row_tokens(store, TEXT, **(place | {"host_layer": 99}), **loaded)
    with pytest.raises(UnknownError, match="in segment"):
        row_tokens(store, TEXT, **(place | {"segment_id": "f" * 32}), **loaded)
    with pytest.raises(UnknownError, match="no domain"):
        row_tokens(store, TEXT, **(place | {"domain": "nothing"}), **loaded)
    with pytest.raises(InputError, match="context"):
        row_tokens(store, TEXT * 200, **place, **loaded)


def test_a_disabled_domain_is_refused(store, loaded):
    version = store.registry.live().state("law").version
    store.disable("law")
    with pytest.raises(StateError, match="disabled"):
        row_tokens(
            store,
            TEXT,
            domain="law",
            segment_id=version,
            host_layer=store.registry.config.host_layers[0],
            row=0,
            **(loaded | {"snapshot": store.registry.live()}),
        )
    store.enable("law")
