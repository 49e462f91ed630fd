"""What is reported of experts comes from the record of use, and both directions agree."""

import pytest
import torch

from peer_cl.errors import StateError, UnknownError
from pipelines.experts import parse_expert
from pipelines.provenance import document_experts


@pytest.fixture(scope="module")
def law(measured):
    model, tokenizer = measured[0].load()
    return measured[0].experts("law", model=model, tokenizer=tokenizer)


def test_use_by_layer_counts_every_expert(law):
    report = law.report(num=3)
    assert [layer.host_layer for layer in report.layers] == list(law.chain[0].host_layers)
    for layer in report.layers:
        assert layer.num_experts == 64
        assert layer.usage == pytest.approx(1 - layer.num_dead / 64)
        assert 1 <= layer.effective_documents <= layer.num_documents
    assert [layer.host_layer for layer in law.report(host_layer=2).layers] == [2]


def test_the_busiest_have_the_most_weight_and_the_most_specific_the_fewest_documents(law):
    report = law.report(num=5)
    shares = [expert.weight_share for expert in report.busiest]
    assert shares == sorted(shares, reverse=True)
    effective = [expert.effective_documents for expert in report.most_specific]
    assert effective == sorted(effective)
    assert effective[0] < report.busiest[0].effective_documents


def test_an_expert_promotes_what_it_writes_and_names_its_neighbours(law):
    expert = law.report(num=1).busiest[0]
    model = law.model
    up_D = model.pool("law").chain()[0].layer(expert.host_layer).experts.up_ND[expert.expert]
    raised_V = model.base.get_output_embeddings().weight @ up_D
    best = raised_V.topk(5).indices.tolist()
    assert expert.promotes == [law.tokenizer.decode([token]) for token in best]
    assert {near.domain for near in expert.near} <= {"medicine", "minerals"}
    similarities = [near.similarity for near in expert.near]
    assert similarities == sorted(similarities, reverse=True)


def test_documents_of_an_expert_and_experts_of_a_document_agree(measured, law):
    busiest = law.report(num=1).busiest[0]
    held = law.expert(busiest.host_layer, busiest.expert).held
    assert sum(held.shares) == pytest.approx(1.0, abs=1e-3)
    for document, share in zip(held.documents[:3], held.shares, strict=False):
        found = document_experts(measured[0].registry, document.document_id, [busiest.segment_id])
        (own,) = [
            one
            for one in found
            if (one.host_layer, one.expert) == (busiest.host_layer, busiest.expert)
        ]
        assert own.share == pytest.approx(share, abs=2e-3)
        assert own.num_documents == busiest.num_documents == len(held.documents)
        order = [one.specificity for one in found]
        assert order == sorted(order, reverse=True)


def test_an_expert_that_adds_nothing_promotes_nothing(store):
    law = store.experts("law")
    law._loaded[law.chain[0].id].layer(1).experts.up_ND[5] = torch.zeros(32)
    expert = law.expert(1, 5).expert
    assert (expert.is_zero, expert.promotes) == (True, [])


def test_mistakes_are_refused(store, law):
    with pytest.raises(UnknownError, match="no experts at layer 9; its host layers are 0, 1, 2, 3"):
        law.report(host_layer=9)
    with pytest.raises(UnknownError, match="no expert 64 at layer 1 of law; it has 0 to 63"):
        law.expert(1, 64)
    with pytest.raises(UnknownError, match="no live version 'v7' with shared experts; it has v1"):
        law.expert(1, 1, "v7")
    with pytest.raises(UnknownError, match="LAYER:EXPERT"):
        parse_expert("9/4")
    store.disable("law")
    with pytest.raises(StateError, match="disabled"):
        store.experts("law")
