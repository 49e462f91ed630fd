"""What an unfinished run is known again by."""

from dataclasses import replace

import pytest
from tiny_base import make_tiny_store, sentences, tiny_settings

from pipelines import growing
from pipelines.documents import SourceDocument
from pipelines.loading import load_store_base
from pipelines.preparing import prepare, read_chain


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("grown"), domains=())


def test_a_checkpoint_is_gone_on_from_only_where_the_same_documents_are_held_out(store):
    registry, base = store.registry, load_store_base(store.registry)
    chain = read_chain(registry, "minerals", (), base)
    texts = sentences("minerals", 30, seed=3)
    apart = [SourceDocument(text, "a title", "m.jsonl") for text in texts]
    tied = [replace(one, section_of=f"m.jsonl#{n // 6}") for n, one in enumerate(apart)]
    one, again, two = (prepare(chain, it, (), base) for it in (apart, apart, tied))
    assert one.splits == again.splits != two.splits
    assert [d.document_id for d in one.documents] == [d.document_id for d in two.documents]
    paths = [growing._checkpoint(registry, chain, it, tiny_settings()) for it in (one, again, two)]
    assert paths[0] == paths[1] != paths[2]
