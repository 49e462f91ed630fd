"""The Python face: each act is one event by the store's author, and what it says holds."""

import pytest
import torch
from tiny_store import SETTINGS, documents, store_logits

from peer_cl.errors import FrozenError, StateError, StoreFormatError, UnknownError
from pipelines import open_store

TEXT = "The court of appeal held that the contract was void"


def states(store):
    live = store.registry.queries.live()
    return {one.domain: (one.label, one.is_frozen, one.is_enabled) for one in live.domains}


def test_each_act_is_recorded_with_author_and_message(store):
    store.freeze("law", "enough")
    store.disable("law", "wrong")
    store.enable("law", "right")
    store.unfreeze("law", "more")
    store.remove("law", "not ours")
    store.restore("law", "ours")
    events = store.registry.queries.events(6)
    assert [(e.action, e.message) for e in reversed(events)] == [
        ("freeze", "enough"),
        ("disable", "wrong"),
        ("enable", "right"),
        ("unfreeze", "more"),
        ("remove", "not ours"),
        ("restore", "ours"),
    ]
    assert {event.author for event in events} == {"ann"}
    assert states(store)["law"] == ("v1", False, True)


def test_a_frozen_domain_learns_nothing(store):
    store.freeze("law")
    with pytest.raises(FrozenError, match="domain 'law' is frozen"):
        store.ingest("law", documents("law", 4, 9), settings=SETTINGS)


def test_a_domain_goes_one_version_back_and_the_store_to_a_snapshot(store):
    before = store_logits(store, TEXT)
    full = store.registry.queries.live().id
    store.ingest("law", documents("law", 8, 9), settings=SETTINGS)
    assert states(store)["law"][0] == "v2"
    assert not torch.equal(store_logits(store, TEXT), before)
    assert store.roll_back("law").state("law").label == "v1"
    assert torch.equal(store_logits(store, TEXT), before)
    with pytest.raises(StateError, match="law is at v1"):
        store.roll_back("law")
    store.remove("medicine")
    assert (
        store.roll_back_to(full, "all again").domains
        == store.registry.queries.snapshot(full).domains
    )
    assert torch.equal(store_logits(store, TEXT), before)


def test_a_purged_domain_is_gone_for_good(store):
    full = store.registry.queries.live().id
    store.remove("law")
    assert store.purge("law", "asked for").num_segments == 1
    with pytest.raises(StateError, match="purged"):
        store.restore("law")
    with pytest.raises(StateError, match="purged"):
        store.roll_back_to(full)
    assert not [found for found in store.doctor() if found.severity == "error"]


def test_a_loaded_model_is_of_its_snapshot(store):
    first = store.registry.queries.ancestry(store.registry.queries.live().id)[1].id
    store.disable("medicine")
    assert store.load()[0].active_pools == ("law",)
    assert store.load(with_disabled=True)[0].active_pools == ("law", "medicine")
    assert store.load(first)[0].active_pools == ("law",)
    assert store.load_base()[0].active_pools == ()


def test_unknown_names_and_folders_are_refused(store, tmp_path):
    with pytest.raises(UnknownError, match="Did you mean 'law'"):
        store.freeze("lwa")
    with pytest.raises(StoreFormatError, match="no store"):
        open_store(tmp_path / "nothing")
