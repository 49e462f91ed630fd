"""The model of the live snapshot: loaded once, in the background, changed where domains change."""

import threading
import time

import pytest
import torch
from tiny_base import SUBJECTS, copy_store, make_tiny_store

from app.dashboard.model import ModelKeeper
from app.dashboard.page import view
from peer_cl.errors import ChangedError, DamageError, StateError
from pipelines import open_store

TEXT = SUBJECTS["law"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("model"))


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    folder = copy_store(made, tmp_path)
    monkeypatch.setenv("PEER_CL_STORE", str(folder))
    monkeypatch.setattr("sys.argv", ["streamlit"])
    return folder


def wait(keeper, seen):
    """Return what the keeper has at last."""
    until = time.monotonic() + 120
    while (kept := keeper.loaded(seen)) is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    return kept


def test_it_loads_in_the_background_once_for_all(place):
    keeper, seen = ModelKeeper(), view()
    assert keeper.loaded(seen) is None
    assert keeper.is_loading
    model, tokenizer = wait(keeper, seen)
    assert set(model.active_pools) == {"law", "medicine"}
    assert keeper.loaded(view()) == (model, tokenizer)
    with keeper.borrowed(view()) as kept:
        assert kept == (model, tokenizer)


def test_before_it_is_loaded_nobody_can_borrow_it(place):
    with pytest.raises(StateError, match="not loaded yet"), ModelKeeper().borrowed(view()):
        pass


def test_where_domains_changed_the_same_base_says_what_a_new_model_says(place):
    keeper = ModelKeeper()
    model, tokenizer = wait(keeper, view())
    with open_store(place) as store:
        version = store.registry.live().state("law").version
        store.roll_back("law", out=True)
        store.disable("medicine")
    assert wait(keeper, view())[0] is model
    assert model.active_pools == ()
    with open_store(place) as store:
        store.enable("medicine")
        store.restore(2)
        assert store.registry.live().state("law").version == version
        fresh, _ = store.load()
    moved, _ = wait(keeper, view())
    assert moved is model
    ids = torch.tensor([tokenizer(TEXT).input_ids])
    with torch.no_grad():
        for ask in ("all", "context"):
            assert torch.equal(moved(ids, ask=ask).logits, fresh(ids, ask=ask).logits)
    asked = [store.trace(TEXT, model=m, tokenizer=tokenizer).weights for m in (moved, fresh)]
    assert asked[0] == asked[1] != {}


def test_freezing_changes_no_model(place):
    keeper = ModelKeeper()
    model, _ = wait(keeper, view())
    with open_store(place) as store:
        store.freeze("law")
    kept = keeper.loaded(view())
    assert kept is not None
    assert kept[0] is model


def test_who_sees_an_older_snapshot_is_told(place):
    keeper, old = ModelKeeper(), view()
    with open_store(place) as store:
        store.disable("law")
    wait(keeper, view())
    with pytest.raises(ChangedError, match="is loaded, not"):
        keeper.loaded(old)


def test_what_goes_wrong_is_told_to_all_and_tried_again_later(place, monkeypatch):
    keeper, seen = ModelKeeper(), view()
    (segment,) = seen.store.registry.domain("law").chain
    path = seen.store.registry.objects.path(segment.pool_object)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamageError, match="domain law"):
        wait(keeper, seen)
    with pytest.raises(DamageError, match="domain law"):
        keeper.loaded(view())
    path.write_bytes(whole)
    monkeypatch.setattr("app.dashboard.model.KEPT_ERROR_S", 0.0)
    assert "law" in wait(keeper, seen)[0].active_pools


def test_another_store_s_model_takes_its_place(made, place, tmp_path, monkeypatch):
    keeper = ModelKeeper()
    first, _ = wait(keeper, view())
    monkeypatch.setenv("PEER_CL_STORE", str(made))
    second, _ = wait(keeper, view())
    assert second is not first
    with keeper.borrowed(view()) as (model, _):
        assert model is second


def test_one_at_a_time(place):
    keeper, seen = ModelKeeper(), view()
    wait(keeper, seen)
    order = []

    def use():
        with keeper.borrowed(seen):
            order.append("second")

    with keeper.borrowed(seen):
        other = threading.Thread(target=use)
        other.start()
        time.sleep(0.2)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
