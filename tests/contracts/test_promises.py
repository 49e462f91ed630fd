"""The promises of docs/guide.md, each measured on trained tiny stores."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measured_store import BACKGROUND
from tiny_base import SUBJECTS, sentences
from tiny_store import FACTS, SETTINGS, documents

from peer_cl.mixture import answer_bound_nats, worst_added_nats
from peer_cl.read import read
from pipelines.bare_logits import equal_to_bare
from pipelines.batches import pad, tokenise

DOMAINS = ("law", "medicine", "minerals")


@pytest.fixture(scope="module")
def loaded(measured):
    return measured[0].load()


# 1. No scored document is hurt


def test_no_document_of_the_evaluation_loses_more_than_the_bound(measured):
    report = measured[1]
    assert report.bound_nats == worst_added_nats(report.budget)
    assert report.answer_bound_nats == answer_bound_nats(report.budget)
    assert report.is_within_bound
    assert len([*report.background, *report.routing]) == len(BACKGROUND) + len(DOMAINS)


@given(st.lists(st.integers(1, 399), min_size=1, max_size=60), st.sampled_from(["all", "causal"]))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_text_whatever_loses_more_than_the_bound(loaded, ids, routing):
    model, _ = loaded
    reading = read(model, torch.tensor([[0, *ids]]), routing=routing)
    assert float(reading.added_nats_B) <= worst_added_nats(model.budget) + 1e-9


def test_the_bound_holds_of_every_beginning_of_a_text(loaded):
    model, tokenizer = loaded
    for text in [*SUBJECTS.values(), *sentences("law", 5, seed=31)]:
        reading = read(model, torch.tensor(tokenise(tokenizer, [text])), routing="all")
        added_T = (reading.base_BT - reading.mixture_BT)[0].cumsum(0)
        assert float(added_T.max()) <= worst_added_nats(model.budget) + 1e-9


def test_no_answer_loses_more_than_its_bound_and_no_text_that_names_a_fact_more_than_a_texts(
    loaded,
):
    model, tokenizer = loaded
    worst = {"prompt": answer_bound_nats(model.budget), "causal": worst_added_nats(model.budget)}
    for fact in FACTS:
        (prompt,) = tokenise(tokenizer, [fact.taught_prompt])
        for answer in SUBJECTS.values():
            ids = torch.tensor(tokenise(tokenizer, [f"{fact.taught_prompt} {answer}"]))
            for routing, bound in worst.items():
                reading = read(
                    model, ids, routing=routing, prompt_lengths=torch.tensor([len(prompt)])
                )
                assert "minerals" in reading.domains
                assert float(reading.added_nats_B) <= bound + 1e-9


# 2. Where nothing is found, nothing changes


def test_where_nothing_is_found_all_bits_are_the_bare_models(measured, loaded):
    model, tokenizer = loaded
    rows = tokenise(tokenizer, [*sentences("prose", 6, seed=41), *sentences("law", 2, seed=42)])
    found = [bool(read(model, torch.tensor([row]), routing="prompt").domains) for row in rows]
    assert True in found
    assert False in found
    equal = equal_to_bare(model, measured[0].registry.config.base_id, rows)
    assert equal == [not one for one in found]


# 3. Removal is exact, in any order


def log_probs(store, texts):
    """Return what base, domains and mixture make of texts, by branch."""
    model, tokenizer = store.load()
    ids_BT, mask_BT = pad(tokenise(tokenizer, texts), 0)
    reading = read(model, ids_BT, mask_BT, routing="all")
    return dict(zip(("base", *reading.domains), reading.log_probs_QBT, strict=True))


def logits(store, texts):
    model, tokenizer = store.load()
    ids_BT, mask_BT = pad(tokenise(tokenizer, texts), 0)
    return [model(ids_BT, mask_BT, routing=how).logits for how in ("all", "prompt", "causal")]


TEXTS = [*SUBJECTS.values(), *sentences("medicine", 3, seed=51)]


def test_removing_a_domain_leaves_the_others_scores(store):
    store.ingest("minerals", documents("minerals", 20, 5), settings=SETTINGS)
    before = log_probs(store, TEXTS)
    for removed in ("law", "minerals"):
        store.remove(removed)
        after = log_probs(store, TEXTS)
        assert set(after) == set(before) - {removed}
        for branch, own in after.items():
            assert torch.equal(own, before[branch]), branch
        store.restore(removed)
    assert all(torch.equal(own, before[name]) for name, own in log_probs(store, TEXTS).items())


@pytest.mark.parametrize("order", [("law", "medicine"), ("medicine", "law")])
def test_domains_removed_and_restored_in_any_order_leave_the_same_bits(store, order):
    full = logits(store, TEXTS)
    for domain in order:
        store.remove(domain)
    for domain in order:
        store.restore(domain)
    assert all(map(torch.equal, logits(store, TEXTS), full))


def test_a_removed_domain_leaves_the_bits_of_a_store_that_never_had_it(store):
    before = logits(store, TEXTS)
    scores = store.evaluate(background=False).routing
    store.ingest("minerals", documents("minerals", 20, 5), settings=SETTINGS)
    store.remove("minerals")
    assert all(map(torch.equal, logits(store, TEXTS), before))
    assert store.evaluate(background=False).routing == scores


def test_learning_a_domain_changes_no_byte_of_another_or_of_the_base(store):
    queries = store.registry.queries
    before = {s.domain: queries.chain(s.version) for s in queries.live().domains}
    base = store.load()[0].identity
    store.ingest("minerals", documents("minerals", 20, 5), settings=SETTINGS)
    assert store.load()[0].identity == base
    for domain, chain in before.items():
        state = queries.live().state(domain)
        assert queries.chain(state.version) == chain
        for segment in chain:
            assert all(map(store.registry.objects.read, segment.objects.values()))


# 4. Nothing is forgotten


def test_a_later_domain_takes_nothing_from_an_earlier_one(measured):
    report = measured[1]
    matrix = report.matrix.loss_nats
    for place in range(len(DOMAINS)):
        for row in matrix[place + 1 :]:
            # Only priors move: b / capacity of each further domain.
            assert row[place] == pytest.approx(matrix[place + 1][place], abs=2e-3)
    assert report.metrics.bwt >= -1e-3
