"""Stored scores: what they are found by when a domain is purged."""

import pytest
from sqlalchemy import select
from tiny_base import make_tiny_store, sentences

from pipelines import tokenise
from pipelines.background import BackgroundSource
from pipelines.token_scores import Item
from stores.schema import ScoreRow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("scores"), domains=("law",))


def scores_of(store, text):
    """Return the documents that the scores of a text are of."""
    _, tokenizer = store.load_base()
    item = Item(tuple(tokenise(tokenizer, [text])[0]))
    query = select(ScoreRow.document_id)
    query = query.where(ScoreRow.document_key.in_([item.key, item.ask_key]))
    with store.registry._database.reading() as session:
        return list(session.scalars(query))


def test_a_background_text_that_is_a_held_out_document_goes_with_it(store):
    document, *_ = store.registry.documents("law", split="test", kind="text")
    text = store.registry.document_text(document)
    source = BackgroundSource("letters", "prose", [text, *sentences("prose", 3, seed=3)])
    store.evaluate(background=[source], with_recall=False)
    assert scores_of(store, text) == [document.document_id] * 3  # the base's, and two of law's
    store.roll_back("law", out=True)
    store.purge("law")
    assert scores_of(store, text) == []
