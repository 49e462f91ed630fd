"""What an evaluation reports, against the model itself: two ways to the same figures."""

import pytest
import torch
from measured_store import BACKGROUND
from tiny_base import sentences
from tiny_store import SETTINGS, documents

from peer_cl.errors import StateError
from peer_cl.metrics import efficiency
from peer_cl.read import read
from pipelines.batches import tokenise
from pipelines.corpora import SourceDocument
from pipelines.facts import Fact
from pipelines.report import EvaluationReport

DOMAINS = ("law", "medicine", "minerals")


@pytest.fixture(scope="module")
def loaded(measured):
    return measured[0].load()


def unseen(store, tokenizer, domain):
    queries = store.registry.queries
    found = queries.documents(domain, split="test", kind="text")
    return tokenise(tokenizer, [queries.document_text(one) for one in found])


def readings(model, rows, **how):
    return [read(model, torch.tensor([row]), **how) for row in rows]


def nats(found, branch=None, start=0):
    """Return the summed loss of a branch, or of the mixture (None), from a token on."""
    total = 0.0
    for one in found:
        own = one.mixture_BT if branch is None else one.log_probs_QBT[branch]
        total -= float(torch.where(one.evidence_BT, own, 0.0)[:, start:].sum())
    return total


def num_tokens(found):
    return sum(int(one.evidence_BT.sum()) for one in found)


def routing_of(report, domain):
    return next(row for row in report.routing if row.domain == domain)


@pytest.mark.parametrize("domain", DOMAINS)
def test_losses_are_those_of_the_model_with_every_domain_active(measured, loaded, domain):
    (store, report), (model, tokenizer) = measured, loaded
    row = routing_of(report, domain)
    found = readings(model, unseen(store, tokenizer, domain), routing="all")
    own, num = 1 + model.active_pools.index(domain), num_tokens(found)
    losses = [nats(found, branch) / num for branch in (0, own, None)]
    assert row.documents == len(found)
    assert [row.base_loss_nats, row.oracle_loss_nats, row.loss_nats] == pytest.approx(losses)
    assert row.efficiency == pytest.approx(efficiency(*losses), rel=1e-3)
    assert row.max_added_nats == pytest.approx(
        max(float(one.added_nats_B) for one in found), abs=1e-5
    )
    for other, reduction in {domain: row.reduction, **row.reduction_by_other_domains}.items():
        branch = 1 + model.active_pools.index(other)
        assert reduction == pytest.approx(1 - nats(found, branch) / nats(found, 0), abs=1e-6)
    last = report.domains.index(domain)
    assert report.matrix.loss_nats[-1][last] == pytest.approx(row.loss_nats)
    assert report.matrix.loss_nats[0][last] == pytest.approx(row.base_loss_nats)


@pytest.mark.parametrize("domain", DOMAINS)
def test_found_and_continuation_are_those_of_the_models_own_router(measured, loaded, domain):
    (store, report), (model, tokenizer) = measured, loaded
    rows, row = unseen(store, tokenizer, domain), routing_of(report, domain)
    whole = readings(model, rows, routing="prompt")
    assert row.found == sum(domain in one.domains for one in whole) / len(rows)
    base = oracle = mixture = 0.0
    for ids in rows:
        half = 1 + (len(ids) - 1) // 2
        found = readings(model, [ids], routing="prompt", prompt_lengths=torch.tensor([half]))
        base, mixture = base + nats(found, 0, half), mixture + nats(found, None, half)
        oracle += nats(readings(model, [ids], domains=[domain]), 1, half)
    expected = efficiency(base, oracle, mixture)
    assert row.efficiency_continuation == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("domain", DOMAINS)
def test_stock_words_stand_in_more_than_a_fifth_of_what_was_learned(measured, loaded, domain):
    (store, report), (model, tokenizer) = measured, loaded
    queries = store.registry.queries
    learned = queries.documents(domain, split="train", kind="text")
    texts = tokenise(tokenizer, [queries.document_text(one) for one in learned])
    stock = {t for t in range(len(tokenizer)) if sum(t in ids for ids in texts) > len(texts) / 5}
    base = oracle = 0.0
    for ids in unseen(store, tokenizer, domain):
        (one,) = readings(model, [ids], domains=[domain])
        is_rare = one.evidence_BT[0] & torch.tensor([token not in stock for token in ids])
        base -= float(one.log_probs_QBT[0, 0, is_rare].sum())
        oracle -= float(one.log_probs_QBT[1, 0, is_rare].sum())
    reduction = routing_of(report, domain).reduction_without_stock_words
    assert reduction == pytest.approx(1 - oracle / base, abs=1e-6)


def test_identical_is_the_share_in_which_nothing_is_found(measured, loaded):
    (_, report), (model, tokenizer) = measured, loaded
    for source, row in zip(BACKGROUND, report.background, strict=True):
        found = readings(model, tokenise(tokenizer, source.documents), routing="prompt")
        inactive = [not one.domains for one in found]
        assert row.identical == sum(inactive) / len(inactive)
        assert (row.source, row.kind, row.documents) == (source.name, source.kind, 6)
    prose, near = report.background
    assert prose.identical > near.identical, "the law's own words activate it, and prose does not"


def test_the_matrix_has_each_domain_from_where_it_came(measured, loaded):
    (store, report), (model, tokenizer) = measured, loaded
    assert report.domains == DOMAINS
    for num, row in enumerate(report.matrix.loss_nats):
        model.set_pool(DOMAINS[:num])
        for domain, loss in zip(DOMAINS, row, strict=True):
            found = readings(model, unseen(store, tokenizer, domain), routing="all")
            assert loss == pytest.approx(nats(found) / num_tokens(found))
    model.set_pool(None)
    assert report.matrix.before_nats == report.matrix.loss_nats[:-1]
    assert report.matrix.coming_nats == report.matrix.loss_nats[-1]
    assert report.metrics.acc == pytest.approx(-sum(report.matrix.loss_nats[-1]) / 3)
    assert report.metrics.retention == pytest.approx(1.0, abs=0.1)


def test_facts_are_asked_in_both_wordings(measured):
    asked = {(row.domain, row.wording): row for row in measured[1].recall}
    assert set(asked) == {("minerals", "taught"), ("minerals", "paraphrase")}
    assert asked["minerals", "taught"].num == 3
    assert asked["minerals", "taught"].oracle > asked["minerals", "taught"].base


def test_the_report_is_stored_and_the_run_recorded(measured):
    store, report = measured
    queries = store.registry.queries
    stored = queries.evaluation(report.snapshot)
    assert EvaluationReport.from_json(stored.report) == report
    run = next(run for run in queries.runs() if run.kind == "evaluate")
    assert (run.state, run.snapshot_id, run.author) == ("done", report.snapshot, "ann")


def test_evaluated_again_it_is_the_same_and_nothing_is_scored(store):
    first = store.evaluate(background=False)
    scored = []
    second = store.evaluate(lambda what, *_: scored.append(what), background=False)
    assert first == second
    assert "scoring documents" not in scored


def test_of_background_so_many_documents_are_read_so_far(store):
    report = store.evaluate(background=BACKGROUND, max_documents=2, max_background_tokens=5)
    assert [(row.documents, row.cut_documents) for row in report.background] == [(2, 2), (2, 2)]


def test_a_disabled_domain_is_measured_and_not_active(store):
    before = store.evaluate(background=False)
    store.disable("law")
    report = store.evaluate(background=False)
    row = routing_of(report, "law")
    assert row.loss_nats > routing_of(before, "law").loss_nats
    assert row.oracle_loss_nats == routing_of(before, "law").oracle_loss_nats
    assert report.matrix.coming_nats == before.matrix.coming_nats
    assert report.matrix.loss_nats[:-1] == before.matrix.loss_nats[:-1]


def test_a_text_that_was_learned_since_or_nearly_is_unseen_no_more(store):
    queries = store.registry.queries
    before = routing_of(store.evaluate(background=False), "law").documents
    held_out = queries.documents("law", split="test", kind="text")
    copied, stated = (queries.document_text(one) for one in held_out[:2])
    answer = stated.split()[-1].rstrip(".")
    fact = Fact("it", "end", answer, stated, stated.rstrip(".").removesuffix(answer))
    near = SourceDocument(copied.upper(), "near copy", "notes.txt", split="train")
    store.ingest("minerals", [near, *documents("minerals", 12, 3)], facts=[fact], settings=SETTINGS)
    report = store.evaluate(background=False)
    assert set(report.near_learned["law"]) == {held_out[0].document_id}
    assert routing_of(report, "law").documents == before - 2, "a fact's statement counts too"


def test_a_domain_without_unseen_documents_is_listed(store):
    texts = sentences("minerals", 10, seed=8)
    corpus = [SourceDocument(text, text, "m.txt", split="train") for text in texts]
    store.ingest("minerals", corpus, settings=SETTINGS)
    report = store.evaluate(background=False)
    assert report.unmeasured == ("minerals",)
    assert report.domains == ("law", "medicine")


def test_without_anything_to_measure_on_it_is_refused(store):
    for domain in ("law", "medicine"):
        store.remove(domain)
    with pytest.raises(StateError, match="no domain is live: ingest one first"):
        store.evaluate()
    corpus = [SourceDocument(text, text, "m.txt", split="train") for text in sentences("law", 10)]
    store.ingest("notes", corpus, settings=SETTINGS)
    with pytest.raises(StateError, match="there is nothing to measure a live domain on"):
        store.evaluate()
    assert store.registry.queries.runs()[0].state == "failed"
