"""What the store that a demo left must hold. .ci/run runs a demo and then this."""

import math
import os

import pytest

from pipelines import open_store
from stores import Registry

pytestmark = pytest.mark.demo

NUM_DOMAINS = 2
"""A shortened demo learns at least this many."""


@pytest.fixture(scope="module")
def registry():
    folder = os.environ.get("PEER_CL_DEMO_STORE")
    if not folder:
        pytest.skip("PEER_CL_DEMO_STORE (the store that a demo left) is not set")
    with Registry.open(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(registry):
    """The evaluation of the newest snapshot that has one."""
    past = registry.ancestry(registry.live().id)
    reports = [registry.evaluation(snapshot.id) for snapshot in past]
    return [found for found in reports if found is not None][-1]


def test_learned_documents_are_traced_to_themselves(registry):
    """Among the first ten, four times in five: some entries of a domain are nearly the same."""
    learned = [
        document
        for state in registry.live().domains
        for document in registry.documents(state.domain, split="train", kind="text")[:5]
    ]
    with open_store(registry.folder) as store:
        model, tokenizer = store.load()
        for verb in (store.trace, store.search):
            places = []
            for document in learned:
                text = registry.document_text(document)[:800]
                found = verb(text, domains=[document.domain], model=model, tokenizer=tokenizer)
                ids = [one.document_id for one in found.documents[:10]]
                places.append(document.document_id in ids)
            assert sum(places) >= 0.8 * len(places), (verb.__name__, places)
        model.detach()


def test_every_learned_document_says_what_it_gained(registry):
    for state in registry.live().domains:
        learned = registry.documents(state.domain, split="train")
        assert all(document.base_nats is not None for document in learned)
        gained = [d.base_nats - d.nats for d in learned]
        assert sum(gained) > 0
        assert registry.num_learned(state.version) == len(learned)


def test_all_domains_are_live_again(registry, report):
    live = {state.domain for state in registry.live().domains}
    assert live == set(report["domains"])
    assert len(live) >= NUM_DOMAINS


def test_a_domain_was_frozen_and_one_rolled_back(registry):
    acts = [event.action for event in registry.history(1000)]
    assert acts.count("ingest") >= NUM_DOMAINS
    assert "freeze" in acts
    assert "rollback" in acts


def test_the_store_is_sound(registry):
    assert [found for found in registry.doctor() if found.severity == "error"] == []


def test_each_domain_was_learned(report):
    """The matrix holds a row for the base and one after each domain."""
    losses = report["matrix"]["loss_nats"]
    assert len(losses) == len(report["domains"]) + 1
    assert all(len(row) == len(report["domains"]) for row in losses)
    for domain in report["mixture"]:
        assert domain["documents"] > 0
        assert domain["forced_loss_nats"] < domain["base_loss_nats"]
        assert domain["loss_nats"] < domain["base_loss_nats"]


def test_no_text_was_hurt(report):
    bound = -math.log1p(-report["budget"])
    worst = [entry["max_added_nats"] for entry in report["mixture"] + report["background"]]
    assert len(worst) > len(report["mixture"])
    assert max(worst) <= bound + 1e-9


def test_nothing_was_forgotten(report):
    assert report["metrics"]["bwt"] >= -0.001
    assert all(math.isfinite(value) for value in report["metrics"].values())


def test_facts_in_seen_wording_are_recalled_by_the_pool(report):
    seen = [entry for entry in report["recall"] if entry["wording"] == "seen"]
    assert {entry["domain"] for entry in seen} == set(report["domains"])
    assert all(entry["forced"] > entry["base"] for entry in seen)
