"""The demo's acts around a store; the demo itself is run by .ci/run on the real model."""

import pytest
from tiny_base import copy_store, make_tiny_store

from peer_cl.errors import StateError
from pipelines import demo
from pipelines.store import open_store


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return make_tiny_store(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def store(good, tmp_path):
    with open_store(copy_store(good, tmp_path)) as opened:
        yield opened


@pytest.fixture
def told():
    return []


@pytest.fixture
def face(told):
    return demo.DemoFace(say=told.append, show_report=lambda _: None, show_writings=lambda *_: None)


def domains(store):
    return tuple(state.domain for state in store.registry.live().domains)


def test_taking_back_and_restoring_leaves_the_store_as_it_was(store, face, told):
    before = store.registry.live()
    demo._take_back(store, domains(store), face)
    assert store.registry.live().domains == before.domains
    assert any("bit for bit" in line for line in told)
    acts = [(event.action, event.why) for event in store.registry.history(3)]
    assert acts == [
        ("rollback", demo.BROUGHT_BACK),
        ("rollback", demo.TOOK),
        ("freeze", demo.FROZE),
    ]


@pytest.mark.parametrize("after", ["freeze", "roll_back"])
def test_a_demo_stopped_in_its_proofs_goes_on(store, face, told, monkeypatch, after):
    before = store.registry.live()
    store.registry.put_evaluation(before.id, {"snapshot": before.id, "acc": -4.0})
    act = getattr(type(store), after)

    def stop(self, *arguments, **options):
        act(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(store), after, stop)
        with pytest.raises(KeyboardInterrupt):
            demo._take_back(store, domains(store), face)
    assert store.registry.live().domains != before.domains
    demo._undo_stopped(store, face)
    assert store.registry.live().domains == before.domains
    assert f"snapshot {before.id} is restored" in told[-1]
    live = store.registry.live().id
    assert store.registry.evaluation(live) == {"snapshot": live, "acc": -4.0}
    demo._undo_stopped(store, face)  # nothing is left to undo
    assert store.registry.live().id == live
    demo._take_back(store, domains(store), face)
    assert store.registry.live().domains == before.domains


def test_a_domain_that_is_frozen_already_stays_so(store, face, told):
    first = domains(store)[0]
    store.freeze(first, "mine")
    before = store.registry.live()
    demo._take_back(store, domains(store), face)
    assert store.registry.live().domains == before.domains
    assert told[-1].endswith(f"{first} is as it was there, frozen")


def test_a_proof_that_fails_is_told(store, face, monkeypatch):
    answers = iter("abc")
    monkeypatch.setattr(demo, "probe_bits", lambda *_: next(answers))
    with pytest.raises(StateError, match="the logits differ from snapshot"):
        demo._take_back(store, domains(store), face)


def test_a_store_on_another_base_is_refused(store, face):
    before = store.registry.live()
    with pytest.raises(StateError, match=r"was made with base .* name another folder"):
        demo.run_demo(store.registry.layout.folder, face)
    assert store.registry.live() == before


def test_a_store_whose_domain_came_otherwise_is_refused(store, monkeypatch):
    monkeypatch.setattr(demo, "SMOLLM2", store.registry.config.base_id)
    monkeypatch.setattr(demo, "CAPACITY", store.registry.config.capacity)
    monkeypatch.setattr(demo, "NAME_ODDS", store.registry.config.name_odds)
    for why in (demo.LEARNED, demo.LEARNED_QUICK):
        with pytest.raises(StateError, match=f"a domain 'law' that `{why}` did not learn; name"):
            demo._check_own(store, ("security", "law"), why)
        demo._check_own(store, ("security",), why)
