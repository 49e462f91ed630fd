"""The demo's proofs on a tiny store; .ci/run runs the demo itself on the real model."""

from dataclasses import replace

import pytest

from peer_cl.errors import StateError
from pipelines import demo
from pipelines.report import EvaluationReport


@pytest.fixture
def lines():
    return []


@pytest.fixture
def face(lines):
    return demo.DemoFace(lines.append, lambda _: None, lambda *_: None)


def test_removing_and_rolling_back_leaves_the_store_as_it_was(store, face, lines):
    queries = store.registry.queries
    before, report = queries.live(), store.evaluate(background=False)
    demo._prove(store, ("law", "medicine"), face)
    live = queries.live()
    assert live.domains == before.domains
    kept = EvaluationReport.from_json(queries.evaluation(live.id).report)
    assert kept == replace(report, snapshot=live.id)
    assert sum("bit for bit" in line for line in lines) == 2
    acts = [(event.action, event.message) for event in queries.events(3)]
    assert acts == [
        ("rollback-store", demo.ROLLED_BACK),
        ("remove", demo.REMOVED),
        ("freeze", demo.FROZE),
    ]
    demo._prove(store, ("law", "medicine"), face)
    assert queries.live() == live, "given once, the proofs are not given again"


def test_a_proof_that_fails_is_an_error(store, face, monkeypatch):
    answers = iter("abc")
    monkeypatch.setattr(demo, "look", lambda *_: (next(answers), ""))
    with pytest.raises(StateError, match="the logits differ from snapshot"):
        demo._prove(store, ("law", "medicine"), face)


def test_bits_tell_one_snapshot_from_another(store):
    live, first = store.registry.queries.live().id, demo._before(store, "medicine").id
    assert demo.look(store) == demo.look(store, live)
    assert demo.look(store)[0] != demo.look(store, first)[0]


def test_a_store_that_a_demo_did_not_make_is_refused(store, face, monkeypatch):
    with pytest.raises(StateError, match=r"was made with base .* name another folder"):
        demo.run_demo(store.registry.folder, face)
    config = store.registry.config
    monkeypatch.setattr(demo, "SMOLLM2", config.base_id)
    monkeypatch.setattr(demo, "CAPACITY", config.capacity)
    with pytest.raises(StateError, match="a domain 'law' that `demo` did not learn"):
        demo._check_own(store, demo.DemoSize(tokens={"law": 1}), "demo")
    demo._check_own(store, demo.DemoSize(tokens={"security": 1}), "demo")
