"""The demo's proofs on a tiny store; .ci/run runs the demo itself on the real model."""

from collections import Counter

import pytest
from tiny_base import SUBJECTS

from peer_cl.errors import StateError
from pipelines import demo
from pipelines.demo_corpora.asking import DemoAnswer, DemoQuestion, demo_questions
from pipelines.units import units_of


@pytest.fixture
def lines():
    return []


@pytest.fixture
def face(lines):
    return demo.DemoFace(lines.append, lambda *_: None)


@pytest.fixture
def asked(store):
    """A question that is answered rightly, as the demo asks it."""
    queries = store.registry.queries
    learned = queries.documents("law", split="train")
    text = next(queries.document_text(one) for one in learned if one.kind == "text")
    answer = store.ask(units_of(text)[0])
    return [DemoAnswer(DemoQuestion("passage", answer.question, (answer.text,)), answer)]


def test_what_is_taken_out_comes_back_and_is_proved_once(store, face, lines, asked):
    queries = store.registry.queries
    before = queries.live()
    assert asked[0].is_right
    demo._prove(store, "medicine", asked, face)
    live = queries.live()
    assert live.domains == before.domains
    assert sum("bit for bit" in line for line in lines) == 3
    title = asked[0].answer.sources[0].title
    assert any(f"{title!r} erased" in line for line in lines)
    acts = [(event.action, event.message) for event in queries.events(4)]
    assert acts == [
        ("rollback-store", demo.DONE),
        ("erase", demo.ERASED),
        ("rollback-store", demo.ROLLED_BACK),
        ("remove", demo.REMOVED),
    ]


def test_a_proof_that_fails_is_an_error(store, face, monkeypatch, asked):
    hashes = iter("abc")
    monkeypatch.setattr(demo, "look", lambda *_: next(hashes))
    with pytest.raises(StateError, match="the logits differ from snapshot"):
        demo._prove(store, "medicine", asked, face)


def test_bits_tell_one_snapshot_from_another(store):
    live, first = store.registry.queries.live().id, demo._before(store, "medicine").id
    texts = [SUBJECTS["law"], SUBJECTS["medicine"]]
    assert demo.look(store, texts) == demo.look(store, texts, live)
    assert demo.look(store, texts) != demo.look(store, texts, first)


def test_a_store_that_a_demo_did_not_make_is_refused(store, face, monkeypatch):
    with pytest.raises(StateError, match=r"was made with base .* name another folder"):
        demo.run_demo(store.registry.folder, face)
    config = store.registry.config
    monkeypatch.setattr(demo, "SMOLLM2", config.base_id)
    monkeypatch.setattr(demo, "CAPACITY", config.capacity)
    with pytest.raises(StateError, match="a domain 'law' that `demo` did not learn"):
        demo._check_own(store, demo.DemoSize({"law": 1}, 0), "demo")
    demo._check_own(store, demo.DemoSize({"security": 1}, 0), "demo")


@pytest.mark.parametrize("domain", demo.FULL.tokens)
def test_each_domain_is_asked_about_facts_texts_and_nothing(domain):
    asked = demo_questions(domain)
    assert Counter(one.kind for one in asked) == {"fact": 10, "passage": 5, "none": 5}
    assert len({one.question for one in asked}) == len(asked)
    assert all(bool(one.answers) == (one.kind != "none") for one in asked)
