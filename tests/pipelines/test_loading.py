"""From a snapshot to a model, and from one snapshot to another in place."""

import pytest
import torch
from tiny_base import make_tiny_base
from tiny_store import SETTINGS, documents, store_logits
from transformers import pipeline

from peer_cl.errors import BaseMismatchError, DamageError, StateError, UnknownError
from peer_cl.router import nearest_distances
from pipelines.batches import tokenise
from pipelines.loading import (
    check_loaded,
    load_pool,
    set_snapshot,
    snapshot_of,
)

TEXT = "The court of appeal held that the fever was void"


def logits(model, tokenizer):
    with torch.no_grad():
        return model(torch.tensor(tokenise(tokenizer, [TEXT])), routing="all").logits


def test_a_model_in_place_has_the_bits_of_one_that_was_loaded(store):
    queries = store.registry.queries
    model, tokenizer = store.load()
    store.ingest("law", documents("law", 6, 9), settings=SETTINGS)
    store.disable("medicine")
    for snapshot_id in (queries.live().id, queries.live().id - 1, 2, 3):
        set_snapshot(model, store.registry, queries.snapshot(snapshot_id))
        assert snapshot_of(store.registry, model).id == snapshot_id
        loaded, _ = store.load(snapshot_id)
        assert model.active_pools == loaded.active_pools
        assert torch.equal(logits(model, tokenizer), logits(loaded, tokenizer))


def test_a_model_knows_its_snapshot_and_others_are_refused(store):
    registry = store.registry
    model, _ = store.load()
    snapshot = registry.queries.live()
    check_loaded(registry, model, snapshot, ["law", "medicine"])
    store.ingest("law", documents("law", 6, 9), settings=SETTINGS)
    live = registry.queries.live()
    assert snapshot_of(registry, model) == snapshot
    assert snapshot_of(registry, None) == live
    check_loaded(registry, model, live, ["medicine"])
    with pytest.raises(StateError, match="of 'law', snapshot 4 has"):
        check_loaded(registry, model, live, ["law"])
    with pytest.raises(UnknownError, match="minerals"):
        check_loaded(registry, model, live, ["minerals"])


def test_a_pipeline_of_transformers_writes_with_the_experts(store):
    model, tokenizer = store.load()
    written = pipeline("text-generation", model=model, tokenizer=tokenizer)
    text = store.registry.queries.document_text(
        next(one for one in store.registry.queries.documents("law") if one.kind == "text")
    )
    how = {"max_new_tokens": 8, "do_sample": False, "domains": "law", "oracle": True}
    (said,) = written(text, **how)
    ids = tokenise(tokenizer, [text])
    own = model.generate(torch.tensor(ids)[:, 1:], **how)
    assert said["generated_text"] == tokenizer.decode(own[0], skip_special_tokens=True)
    with pytest.raises(UnknownError, match="nobody"):
        written(text, domains="nobody")


def test_search_by_index_gives_the_bits_of_search_without(store):
    model, _ = store.load()
    keys = [model.pool(name).key.centroids_CD for name in ("medicine", "law")]
    vectors_TD = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    expected = nearest_distances(vectors_TD, keys)
    assert torch.equal(model.search(vectors_TD, keys), expected)
    by_hand = [keys[0], keys[1].clone()]
    assert torch.equal(model.search(vectors_TD, by_hand), expected)


def test_another_base_is_refused(store):
    make_tiny_base(store.registry.folder.parent / "base", seed=1)
    with pytest.raises(BaseMismatchError, match="weights hash"):
        store.load()


def test_a_base_that_is_gone_is_named(store):
    base = store.registry.folder.parent / "base"
    base.rename(base.with_name("elsewhere"))
    with pytest.raises(StateError, match="put the same model there again"):
        store.load()


def test_a_damaged_pool_names_the_domain_and_what_to_do(store):
    registry = store.registry
    version = registry.queries.live().state("law").version
    path = registry.objects.path(registry.queries.chain(version)[0].objects["shared.1"])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(DamageError, match=r"domain law, version v1: .*peer-cl doctor"):
        store.load()


def test_a_purged_version_is_refused(store):
    version = store.registry.queries.live().state("law").version
    before = store.registry.queries.live().id
    store.remove("law")
    store.purge("law")
    with pytest.raises(StateError, match="law v1 was purged"):
        load_pool(store.registry, "law", version)
    with pytest.raises(StateError, match="was purged"):
        store_logits(store, TEXT, before)
