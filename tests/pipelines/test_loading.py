"""A model is loaded beside others' acts: what they purged is no damage. An index is no truth."""

import pytest
import torch
from tiny_base import SUBJECTS, make_tiny_store

from peer_cl.errors import StateError
from pipelines import loading, open_store
from stores.vector_index import SignatureIndex


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("loading"))


@pytest.fixture
def purge_beside(store, monkeypatch):
    """While the store's base is loaded, another process takes law out and purges it."""
    load_base = loading.load_store_base

    def slowly(registry):
        base = load_base(registry)
        with open_store(registry.folder, who="bob") as other:
            if other.registry.live().state("law") is not None:
                other.roll_back("law", out=True)
                other.purge("law")
        return base

    monkeypatch.setattr(loading, "load_store_base", slowly)


@pytest.mark.usefixtures("purge_beside")
def test_a_domain_that_is_purged_while_the_base_loads_is_not_loaded(store):
    model, _ = store.load()
    assert model.active_pools == ("medicine",)
    assert loading.snapshot_of(store.registry, model) == store.registry.live()


@pytest.mark.usefixtures("purge_beside")
def test_a_snapshot_that_is_named_and_was_purged_meanwhile_is_refused(store):
    with pytest.raises(StateError, match=r"law v1 was purged: its bytes are gone; name a snapshot"):
        store.load(store.registry.live().id)


def test_an_index_with_other_vectors_silences_no_domain(store):
    found = store.search(SUBJECTS["law"])
    folder, tag = store.registry.layout.index, store.registry.live().index_tag
    saved = SignatureIndex.load(folder, tag)
    far = {name: torch.full((3, store.registry.config.width), 1e3).numpy() for name in saved.names}
    SignatureIndex.build(far).save(folder, tag)
    assert store.search(SUBJECTS["law"]) == found
    model, _ = store.load()
    centroids = {name: model.pool(name).signature.centroids_CD.numpy() for name in saved.names}
    assert SignatureIndex.load(folder, tag).holds(centroids), "it is made anew"
